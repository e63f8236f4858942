//! The host as an uplink has to know it: its addresses, its way to IPv6 and its limits.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};

mod overlap;
#[cfg(target_os = "linux")]
#[path = "host/linux/routes.rs"]
mod routes;
#[cfg(target_os = "macos")]
#[path = "host/macos/routes.rs"]
mod routes;

use nix::ifaddrs::getifaddrs;
use rustix::process::{Resource, getrlimit};

use super::Rooms;

/// The host's own addresses, as they were at the last look.
#[derive(Debug, Default)]
pub(super) struct HostAddresses {
    known: Option<(BTreeSet<IpAddr>, bool)>,
    /// Looks since that for networks that overlap.
    looks: u32,
}

/// Every so many looks at the addresses, routes are looked at too.
const ROUTES: u32 = 30;

impl HostAddresses {
    /// Looks again. Answers with the addresses and whether IPv6 leads to the internet, when either has changed.
    pub(super) fn look(&mut self) -> io::Result<Option<(Vec<IpAddr>, bool)>> {
        let interfaces = getifaddrs()?;
        let address = |interface: nix::ifaddrs::InterfaceAddress| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
        };
        let now = (interfaces.filter_map(address).collect::<BTreeSet<_>>(), has_ipv6());
        if self.known.as_ref() == Some(&now) {
            return Ok(None);
        }
        let told = (now.0.iter().copied().collect(), now.1);
        self.known = Some(now);
        // Another address is another route.
        self.looks = 0;
        Ok(Some(told))
    }

    /// The warning that a network of the host's overlaps the guests' subnets, and whether it was time to look for one.
    /// The uplink's `own` interface does not count.
    pub(super) fn overlap(&mut self, rooms: &Rooms, own: Option<&str>) -> (bool, Option<String>) {
        let is_time = self.looks.is_multiple_of(ROUTES);
        self.looks = self.looks.wrapping_add(1);
        if !is_time {
            return (false, None);
        }
        let interfaces = getifaddrs().into_iter().flatten();
        let mut reached: Vec<_> =
            interfaces.filter_map(|interface| overlap::of_interface(&interface)).collect();
        reached.extend(routes::routes());
        reached.retain(|reached| Some(&*reached.by) != own);
        (true, overlap::overlap(rooms, &reached))
    }
}

/// True if there is a route to the IPv6 internet. Nothing is sent.
pub(super) fn has_ipv6() -> bool {
    /// An address of the internet, of documentation: no host has it, and only a default route leads there.
    const THERE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))
        .and_then(|socket| socket.connect(SocketAddr::from((THERE, 9))))
        .is_ok()
}

/// Sockets that the flows of one uplink may have open: half of what the process may have.
pub(super) fn sockets() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(1 << 16);
    usize::try_from(limit / 2).unwrap_or(usize::MAX).max(16)
}

/// Random octets of the system.
pub(super) fn random_key() -> io::Result<[u64; 2]> {
    use std::io::Read as _;
    let mut octets = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut octets)?;
    let (one, two) = octets.split_at(8);
    Ok([one, two].map(|half| u64::from_ne_bytes(half.try_into().expect("eight octets"))))
}
