//! The interfaces that lead outside, and the kernel's variables that let packets through.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;

use crate::uplink::Rooms;

/// The variables that the kernel forwards by, each with its value: of the device, and of the interfaces of the default
/// routes.
///
/// IPv4 asks the interface that a packet comes in by. IPv6 asks one variable for all interfaces, unless it has
/// `force_forwarding` (Linux 6.17). An interface that forwards takes no router's advertisements unless `accept_ra` is 2
/// (Documentation/networking/ip-sysctl.rst).
pub(super) fn variables(
    device: &str,
    has_ipv6: bool,
    get: impl Fn(&str) -> Option<String>,
) -> Vec<(String, String)> {
    let ways = (default_routes4(&read(ROUTES4)), default_routes6(&read(ROUTES6)));
    needed(device, &ways, has_ipv6, get)
}

const ROUTES4: &str = "/proc/thread-self/net/route";
const ROUTES6: &str = "/proc/thread-self/net/ipv6_route";

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Checks that no route of the host leads to the guests' subnet already.
pub(super) fn check(rooms: &Rooms) -> Result<(), String> {
    match overlap(&read(ROUTES4), (rooms.subnet.network, rooms.subnet.prefix)) {
        Some((interface, network, prefix)) => Err(format!(
            "the subnet {} overlaps with the host's route to {network}/{prefix} by {interface}; set `subnet` in the \
             uplink to another one",
            rooms.subnet
        )),
        None => Ok(()),
    }
}

/// The first route of /proc/net/route, but for default routes, that a subnet overlaps with.
fn overlap(table: &str, (network, prefix): (Ipv4Addr, u8)) -> Option<(String, Ipv4Addr, u32)> {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        // The octets as they are in memory.
        let number = |at: usize| Some(u32::from_str_radix(fields.get(at)?, 16).ok()?.to_ne_bytes());
        let (to, its) = (Ipv4Addr::from(number(1)?), u32::from_be_bytes(number(7)?));
        let both = mask & its;
        let is_same = its != 0 && to.to_bits() & both == network.to_bits() & both;
        is_same.then(|| (fields[0].to_owned(), to, its.leading_ones()))
    })
}

fn needed(
    device: &str,
    (v4, v6): &(BTreeSet<String>, BTreeSet<String>),
    has_ipv6: bool,
    get: impl Fn(&str) -> Option<String>,
) -> Vec<(String, String)> {
    let mut wanted = Vec::new();
    for interface in v4.iter().map(String::as_str).chain([device]) {
        wanted.push((format!("net/ipv4/conf/{interface}/forwarding"), "1".to_owned()));
    }
    if !has_ipv6 || get("net/ipv6/conf/all/forwarding").is_none() {
        return wanted;
    }
    let forced = |interface: &str| format!("net/ipv6/conf/{interface}/force_forwarding");
    let can_be_forced = get(&forced(device)).is_some();
    if can_be_forced {
        for interface in v6.iter().map(String::as_str).chain([device]) {
            wanted.push((forced(interface), "1".to_owned()));
        }
        return wanted;
    }
    for interface in v6 {
        let accept = format!("net/ipv6/conf/{interface}/accept_ra");
        // Before forwarding is on, or the route goes.
        if get(&accept).as_deref().is_some_and(|value| value != "0") {
            wanted.push((accept, "2".to_owned()));
        }
    }
    wanted.push(("net/ipv6/conf/all/forwarding".to_owned(), "1".to_owned()));
    wanted
}

/// The interfaces of IPv4's default routes, by what /proc/net/route says.
fn default_routes4(table: &str) -> BTreeSet<String> {
    const UP: u32 = 1;
    let default = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (interface, to, flags, mask) = (fields.first()?, fields.get(1)?, fields.get(3)?, fields.get(7)?);
        let is_up = u32::from_str_radix(flags, 16).ok()? & UP != 0;
        (is_up && *to == "00000000" && *mask == "00000000").then(|| name(interface)).flatten()
    };
    table.lines().skip(1).filter_map(default).collect()
}

/// The interfaces of IPv6's default routes, by what /proc/net/ipv6_route says.
fn default_routes6(table: &str) -> BTreeSet<String> {
    /// `RTF_REJECT`: where there is no other, unreachable.
    const REJECT: u32 = 0x200;
    let default = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (to, bits, flags, interface) = (fields.first()?, fields.get(1)?, fields.get(8)?, fields.get(9)?);
        let rejects = u32::from_str_radix(flags, 16).ok()? & REJECT != 0;
        let is_default = to.bytes().all(|digit| digit == b'0') && *bits == "00";
        (is_default && !rejects && *interface != "lo").then(|| name(interface)).flatten()
    };
    table.lines().filter_map(default).collect()
}

/// A name that can be part of a variable's path.
fn name(interface: &str) -> Option<String> {
    let is_plain = !interface.contains(['/', ' ']) && !matches!(interface, "." | ".." | "all" | "default");
    is_plain.then(|| interface.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_61_a_host_keeps_its_own_route_when_it_forwards() {
        let ways = (BTreeSet::from(["eth0".to_owned()]), BTreeSet::from(["eth0".to_owned()]));
        let wanted = |has: &[(&str, &str)]| {
            let has: Vec<(String, String)> =
                has.iter().map(|(key, value)| (format!("net/ipv6/conf/{key}"), value.to_string())).collect();
            let get = |key: &str| has.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
            let needed = needed("vmu-lab", &ways, true, get).split_off(2);
            needed.into_iter().map(|(key, value)| format!("{}={value}", &key[14..])).collect::<Vec<_>>()
        };
        assert_eq!(
            wanted(&[("all/forwarding", "0"), ("eth0/accept_ra", "1")]),
            ["eth0/accept_ra=2", "all/forwarding=1"]
        );
        assert_eq!(wanted(&[("all/forwarding", "0"), ("eth0/accept_ra", "0")]), ["all/forwarding=1"]);
        let forced = [("all/forwarding", "0"), ("vmu-lab/force_forwarding", "0"), ("eth0/accept_ra", "1")];
        assert_eq!(wanted(&forced), ["eth0/force_forwarding=1", "vmu-lab/force_forwarding=1"]);
        assert!(wanted(&[]).is_empty(), "a kernel without IPv6");
    }

    #[test]
    fn a_subnet_that_the_host_has_a_route_to_is_found() {
        let head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";
        let hex = |octets: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(octets));
        let route =
            |to, mask| format!("eth0\t{}\t00000000\t0001\t0\t0\t0\t{}\t0\t0\t0\n", hex(to), hex(mask));
        let table = [
            head.to_owned(),
            route([0; 4], [0; 4]),
            route([10, 0, 0, 0], [255, 240, 0, 0]),
            route([192, 168, 7, 0], [255, 255, 255, 0]),
        ]
        .concat();
        let found = |a, b, c, prefix| overlap(&table, (Ipv4Addr::new(a, b, c, 0), prefix));
        assert_eq!(found(10, 213, 5, 24), None);
        assert_eq!(found(10, 15, 5, 24), Some(("eth0".to_owned(), Ipv4Addr::new(10, 0, 0, 0), 12)));
        assert_eq!(found(192, 168, 0, 16).map(|it| it.2), Some(24));
    }

    #[test]
    fn default_routes_are_found() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                     ../x\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
        assert_eq!(default_routes4(table), BTreeSet::from(["eth0".to_owned()]));
        let zero = "0".repeat(32);
        let line = |bits: &str, flags: &str, interface: &str| {
            format!("{zero} {bits} {zero} 00 {zero} 00000400 00000001 00000000 {flags} {interface}\n")
        };
        let table =
            [line("00", "00000003", "wlan0"), line("00", "00200200", "lo"), line("40", "00000001", "eth1")];
        assert_eq!(default_routes6(&table.concat()), BTreeSet::from(["wlan0".to_owned()]));
        assert!(default_routes4("").is_empty() && default_routes6("nothing\n").is_empty());
    }
}
