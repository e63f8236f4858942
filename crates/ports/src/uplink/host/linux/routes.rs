//! The kernel's routes, as its files have them.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::overlap::Reached;

/// Octets of a file that are read: some thousand routes.
const LONGEST: u64 = 1 << 20;

/// The networks that this host has routes to, without what is for everything.
pub(super) fn routes() -> Vec<Reached> {
    let read = |path: &str| {
        let mut text = Vec::new();
        // Without the file there are no routes of this family.
        let _ = std::fs::File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    };
    let v4 = read("/proc/net/route").lines().filter_map(route4).collect::<Vec<_>>();
    let v6 = read("/proc/net/ipv6_route").lines().filter_map(route6).collect::<Vec<_>>();
    [v4, v6].concat()
}

/// A line of `/proc/net/route`: the interface, then numbers as the machine has the octets of the packet.
fn route4(line: &str) -> Option<Reached> {
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    let address =
        |at: usize| Some(Ipv4Addr::from(u32::from_str_radix(words.get(at)?, 16).ok()?.to_ne_bytes()));
    let bits = address(7)?.to_bits().leading_ones() as u8;
    (bits > 0).then_some(Reached { address: address(1)?.into(), bits, by: words[0].to_owned() })
}

/// A line of `/proc/net/ipv6_route`: the destination, its length, and at the end the interface.
fn route6(line: &str) -> Option<Reached> {
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    let address = Ipv6Addr::from(u128::from_str_radix(words.first()?, 16).ok()?);
    let bits = u8::from_str_radix(words.get(1)?, 16).ok()?;
    let is_global = !address.is_multicast() && !address.is_unicast_link_local() && !address.is_loopback();
    (bits > 0 && is_global).then_some(Reached {
        address: IpAddr::V6(address),
        bits,
        by: (*words.get(9)?).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn lines_of_the_kernels_files() {
        let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";
        let default = "eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0";
        let lan = "eth0\t0045D50A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0";
        let found: Vec<_> = [head, default, lan, "", "x y"].into_iter().filter_map(route4).collect();
        let expected = Reached { address: [10, 213, 69, 0].into(), bits: 24, by: "eth0".into() };
        assert_eq!(found, [expected]);

        let line = |destination: &str, bits: &str| {
            let none = "0".repeat(32);
            format!("{destination} {bits} {none} 00 {none} 00000100 00000001 00000000 00000001     eth0")
        };
        let lines = [
            line("fd4e1f309b2200050000000000000000", "40"),
            line("fe800000000000000000000000000000", "40"),
            line(&"0".repeat(32), "00"),
            line("ff000000000000000000000000000000", "08"),
        ];
        let found: Vec<_> = lines.iter().filter_map(|line| route6(line)).collect();
        let address = "fd4e:1f30:9b22:5::".parse().expect("an address");
        assert_eq!(found, [Reached { address, bits: 64, by: "eth0".into() }]);
    }
}
