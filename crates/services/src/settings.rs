//! The settings of a network's services, as its configuration gives them.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use vmlan_frame::MacAddr;
use vmlan_nat::envelope::{Subnet4, Subnet6};
use vmlan_nat::reach::Egress;

use crate::Name;

/// The settings of a network's services.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The gateway's link address.
    pub mac: MacAddr,
    /// Octets of the largest IP packet in the network.
    pub mtu: u16,
    /// The guests' IPv4 addresses; the gateway is number 1.
    pub subnet: Subnet4,
    /// The guests' IPv6 addresses, if they have any; the gateway is number 1.
    pub subnet6: Option<Subnet6>,
    /// True if there is a way out: guests are told a router.
    pub router: bool,
    /// True if guests that can do without IPv4 are to: option 108 and PREF64 are told.
    pub ipv6_only: bool,
    /// A number of the machine and the network, which names the DHCPv6 server.
    pub identity: [u8; 16],
    /// DHCP for both families; `None` is no DHCP.
    pub dhcp: Option<Dhcp>,
    /// Names; `None` is no DNS.
    pub dns: Option<Dns>,
    /// The egress policy of guests whose port has none.
    pub egress: Egress,
}

/// The settings of DHCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dhcp {
    /// The addresses for guests that have none set.
    pub pool: RangeInclusive<Ipv4Addr>,
    /// Seconds of a lease.
    pub lease: u32,
    /// Time servers.
    pub ntp: Vec<IpAddr>,
    /// Routes by the gateway beside the default one.
    pub routes: Vec<(Ipv4Addr, u8)>,
    /// The program that guests boot over the network.
    pub boot: Boot,
}

/// The program that guests boot over the network (RFC 2132 section 9.4 and 9.5, RFC 4578).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Boot {
    /// The server's name or address: option 66, and `siaddr` if it is an address.
    pub server: Option<String>,
    /// The file: option 67 and the field `file`.
    pub file: Option<String>,
    /// The file for clients of some architecture (option 93), instead of `file`.
    pub architectures: Vec<(u16, String)>,
    /// The file for clients that are iPXE already, instead of all others.
    pub ipxe: Option<String>,
    /// The file's length in units of 512 octets: option 13.
    pub blocks: Option<u16>,
    /// Octets for the client's vendor: option 43.
    pub vendor: Vec<u8>,
    /// Octets for iPXE: option 175.
    pub ipxe_options: Vec<u8>,
}

/// The settings of DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// The domain of the guests' names.
    pub domain: Name,
    /// Domains that guests try beside it.
    pub search: Vec<Name>,
    /// True if services of the host are open, so that it has a name.
    pub host: bool,
    /// True if AAAA records are taken out of answers, for networks without IPv6.
    pub filter_aaaa: bool,
}

impl Settings {
    /// The gateway's IPv4 address.
    pub fn gateway(&self) -> Ipv4Addr {
        self.subnet.host(1)
    }

    /// The domains that guests try, the network's own first.
    pub fn search(&self) -> impl Iterator<Item = &Name> {
        self.dns.iter().flat_map(|dns| std::iter::once(&dns.domain).chain(&dns.search))
    }
}
