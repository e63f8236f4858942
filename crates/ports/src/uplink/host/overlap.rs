//! Networks of the host's that have addresses of the guests' subnets: guests do not reach them.

use std::net::IpAddr;

use nix::ifaddrs::InterfaceAddress;
use vmlan_frame::ip::begin_alike;

use super::super::Rooms;

/// A network that the host reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reached {
    /// An address of it.
    pub(super) address: IpAddr,
    /// Bits that its addresses have in common.
    pub(super) bits: u8,
    /// The interface.
    pub(super) by: String,
}

/// The network of an interface's address.
pub(super) fn of_interface(interface: &InterfaceAddress) -> Option<Reached> {
    let (address, mask) = (interface.address.as_ref()?, interface.netmask.as_ref()?);
    let v4 = || {
        let bits = mask.as_sockaddr_in()?.ip().to_bits().leading_ones();
        Some((IpAddr::V4(address.as_sockaddr_in()?.ip()), bits))
    };
    let v6 = || {
        let bits = mask.as_sockaddr_in6()?.ip().to_bits().leading_ones();
        Some((IpAddr::V6(address.as_sockaddr_in6()?.ip()), bits))
    };
    let (address, bits) = v4().or_else(v6)?;
    Some(Reached { address, bits: bits as u8, by: interface.interface_name.clone() })
}

/// The warning that a network of the host's overlaps the guests' subnets.
pub(super) fn overlap(rooms: &Rooms, reached: &[Reached]) -> Option<String> {
    let v6 = rooms.subnet6.map(|subnet| (IpAddr::V6(subnet.host(0)), 64, "ipv6"));
    let subnets = [(IpAddr::V4(rooms.subnet.host(0)), rooms.subnet.prefix, "subnet")].into_iter().chain(v6);
    subnets.flat_map(|subnet| reached.iter().map(move |reached| (subnet, reached))).find_map(
        |((subnet, bits, key), reached)| {
            let is_same = reached.bits > 0 && begin_alike(subnet, reached.address, bits.min(reached.bits));
            is_same.then(|| {
                let Reached { address, bits: of_host, by } = reached;
                format!(
                    "the guests' subnet {subnet}/{bits} overlaps {address}/{of_host} at {by} of this host, which \
                     guests do not reach; set another `{key}`, unless {by} is in this network"
                )
            })
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uplink::tests::rooms;

    #[test]
    fn addresses_and_routes_of_the_host_are_compared_with_both_subnets() {
        let rooms = rooms("10.213.69.0", Some("fd00:0:0:5::"));
        for (address, bits, overlaps) in [
            ("10.213.69.5", 24, true),
            ("10.213.0.0", 16, true),
            ("10.213.69.128", 25, true),
            ("10.213.68.0", 24, false),
            ("10.213.68.0", 23, true),
            ("0.0.0.0", 0, false),
            ("127.0.0.1", 8, false),
            ("fd00:0:0:5::7", 128, true),
            ("fd00:0:0:6::", 64, false),
            ("fd00::", 48, true),
        ] {
            let address = address.parse().expect("an address");
            let note = overlap(&rooms, &[Reached { address, bits, by: "eth0".into() }]);
            assert_eq!(note.is_some(), overlaps, "{address}/{bits}: {note:?}");
        }
        let reached = [Reached { address: [10, 213, 69, 5].into(), bits: 24, by: "eth0".into() }];
        let note = overlap(&rooms, &reached).expect("an overlap");
        assert_eq!(
            note,
            "the guests' subnet 10.213.69.0/24 overlaps 10.213.69.5/24 at eth0 of this host, which guests do not \
             reach; set another `subnet`, unless eth0 is in this network"
        );
    }
}
