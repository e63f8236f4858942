use core::fmt;
use core::net::IpAddr;

use frame::MacAddr;

/// A protocol family. IPv4 and IPv6 have their numbers on macOS, which are also those in tunnel records.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct ProtocolFamily(pub u32);

impl ProtocolFamily {
    /// No family: of a frame that no demultiplexer knows.
    pub const UNSPECIFIED: ProtocolFamily = ProtocolFamily(0);
    /// IPv4, with ARP.
    pub const INET: ProtocolFamily = ProtocolFamily(2);
    /// IPv6.
    pub const INET6: ProtocolFamily = ProtocolFamily(30);

    /// The family of what stands after an EtherType: IPv4, IPv6, or one of its own for every other type.
    #[inline]
    pub const fn from_ethertype(ethertype: u16) -> ProtocolFamily {
        match ethertype {
            0x0800 | 0x0806 => ProtocolFamily::INET,
            0x86dd => ProtocolFamily::INET6,
            other => ProtocolFamily(1 << 16 | other as u32),
        }
    }
}

/// A link address of up to 20 octets; on Ethernet six, a MAC address.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkAddress {
    octets: [u8; LinkAddress::MAX],
    len: u8,
}

impl LinkAddress {
    /// Octets of the longest address.
    pub const MAX: usize = 20;

    /// The address in `octets`; `None` when there are more than [`LinkAddress::MAX`].
    pub fn new(octets: &[u8]) -> Option<LinkAddress> {
        let mut address = LinkAddress { octets: [0; LinkAddress::MAX], len: octets.len() as u8 };
        address.octets.get_mut(..octets.len())?.copy_from_slice(octets);
        Some(address)
    }

    /// Its octets in transmission order.
    pub fn octets(&self) -> &[u8] {
        &self.octets[..self.len as usize]
    }

    /// It as a MAC address, when it has six octets.
    pub fn mac(&self) -> Option<MacAddr> {
        self.octets().try_into().ok().map(MacAddr)
    }
}

impl From<MacAddr> for LinkAddress {
    fn from(mac: MacAddr) -> LinkAddress {
        LinkAddress::new(&mac.0).expect("six octets fit")
    }
}

impl fmt::Debug for LinkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, octet) in self.octets().iter().enumerate() {
            write!(f, "{}{octet:02x}", if i > 0 { ":" } else { "" })?;
        }
        Ok(())
    }
}

/// An address of a protocol or of the link.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Address {
    /// An IPv4 or IPv6 address.
    Ip(IpAddr),
    /// A link address.
    Link(LinkAddress),
}

impl Address {
    /// The protocol family that the address belongs to; unspecified for a link address.
    pub const fn family(&self) -> ProtocolFamily {
        match self {
            Address::Ip(IpAddr::V4(_)) => ProtocolFamily::INET,
            Address::Ip(IpAddr::V6(_)) => ProtocolFamily::INET6,
            Address::Link(_) => ProtocolFamily::UNSPECIFIED,
        }
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Address {
        Address::Ip(address)
    }
}
