//! Notes about what an uplink lacks on this host, each with the cure.

use vmlan_api::UplinkMode;
use vmlan_sys::inet::{self, Version};

use super::{DnsServers, Rooms, UplinkSettings};

/// The host's means for what leaves an uplink.
#[derive(Debug, Clone, Copy)]
pub(super) struct Means {
    /// It has servers for names.
    pub(super) resolvers: bool,
    /// It has a way to the IPv6 internet.
    pub(super) ipv6: bool,
    /// This process may send echo requests.
    pub(super) echo: bool,
}

/// True if this process may send echo requests.
pub(super) fn may_echo() -> bool {
    inet::ping(Version::V4).or_else(|_| inet::raw(Version::V4)).is_ok()
}

/// The notes about what is not there and would be used.
pub(super) fn lacking(settings: &UplinkSettings, means: Means) -> Vec<String> {
    let asks_host = settings.dns.as_ref().is_some_and(|dns| dns.servers == DnsServers::Host);
    lacks(&settings.rooms, asks_host, means)
}

/// The same; `asks_host` says that names are asked of the host's servers.
fn lacks(rooms: &Rooms, asks_host: bool, means: Means) -> Vec<String> {
    if rooms.mode == UplinkMode::None {
        return Vec::new();
    }
    let notes = [
        (
            asks_host && !means.resolvers,
            "only names of this network resolve: /etc/resolv.conf of this host names no server; \
             name some there, or set `dns.servers`",
        ),
        (
            rooms.subnet6.is_some() && !means.ipv6,
            "IPv6 does not leave: this host has no route to the IPv6 internet; guests use IPv4 until it has one \
             (`ip -6 route`), and `ipv6 = \"off\"` leaves IPv6 out of the network",
        ),
        (
            !means.echo,
            "ping does not leave: this user may not make ping sockets; have root allow its group by \
             sysctl net.ipv4.ping_group_range",
        ),
    ];
    notes.into_iter().filter(|(lacks, _)| *lacks).map(|(_, note)| note.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uplink::tests::rooms;

    #[test]
    fn case_63_three_lines_say_what_a_machine_lacks() {
        let all = ["only names of this network resolve", "IPv6 does not leave", "ping does not leave"];
        let none = Means { resolvers: false, ipv6: false, echo: false };
        let everything = Means { resolvers: true, ipv6: true, echo: true };
        let both = rooms("10.0.0.0", Some("fd00::"));
        for (rooms, asks_host, means, expected) in [
            (both, true, none, &all[..]),
            (both, true, everything, &[]),
            (both, false, none, &all[1..]),
            (rooms("10.0.0.0", None), false, none, &all[2..]),
            (Rooms { mode: UplinkMode::None, ..both }, true, none, &[]),
        ] {
            let notes = lacks(&rooms, asks_host, means);
            let starts: Vec<_> = notes.iter().filter_map(|note| note.split(':').next()).collect();
            assert_eq!(starts, expected, "{rooms:?} {means:?}");
        }
    }
}
