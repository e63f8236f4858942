//! The interfaces that lead outside, and the kernel's variables that let packets through.

use std::collections::BTreeSet;
use std::fs;

use super::sysctl;

/// The variables that the kernel forwards by, each with its value: of the device, and of the interfaces of the default
/// routes.
///
/// IPv4 asks the interface that a packet comes in by. IPv6 asks one variable for all interfaces, unless it has
/// `force_forwarding` (Linux 6.17). An interface that forwards takes no router's advertisements unless `accept_ra` is 2
/// (Documentation/networking/ip-sysctl.rst).
pub(super) fn variables(device: &str, has_ipv6: bool) -> Vec<(String, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let v4 = default_routes4(&read("/proc/thread-self/net/route"));
    let v6 = default_routes6(&read("/proc/thread-self/net/ipv6_route"));
    let mut wanted = Vec::new();
    for interface in v4.iter().map(String::as_str).chain([device]) {
        wanted.push((format!("net/ipv4/conf/{interface}/forwarding"), "1".to_owned()));
    }
    if !has_ipv6 || sysctl::get("net/ipv6/conf/all/forwarding").is_none() {
        return wanted;
    }
    let forced = |interface: &str| format!("net/ipv6/conf/{interface}/force_forwarding");
    let can_be_forced = sysctl::get(&forced(device)).is_some();
    if can_be_forced {
        for interface in v6.iter().map(String::as_str).chain([device]) {
            wanted.push((forced(interface), "1".to_owned()));
        }
        return wanted;
    }
    for interface in &v6 {
        let accept = format!("net/ipv6/conf/{interface}/accept_ra");
        // Before forwarding is on, or the route goes.
        if sysctl::get(&accept).as_deref().is_some_and(|value| value != "0") {
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
