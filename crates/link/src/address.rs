use core::fmt;
use core::net::IpAddr;

use vmlan_frame::MacAddr;

/// A protocol family: the key under which a protocol is attached. IPv4 and IPv6 have their numbers on macOS, which
/// are also those in tunnel records; every other EtherType, pair of LLC addresses and SNAP identifier is a family of
/// its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct ProtocolFamily(pub u64);

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
            other => ProtocolFamily(1 << 16 | other as u64),
        }
    }

    /// The family of what two LLC service access points exchange (IEEE 802.2 3.2). The bit of `ssap` that tells
    /// commands from responses does not count.
    #[inline]
    pub const fn from_llc(dsap: u8, ssap: u8) -> ProtocolFamily {
        ProtocolFamily(LLC | (dsap as u64) << 8 | (ssap & !RESPONSE) as u64)
    }

    /// The family of what stands after a SNAP identifier: an organisation, and a type of its own (IEEE 802 9.5). It is
    /// never an EtherType's, also where the organisation is 0 and the type is one (RFC 1042): the frame's header is
    /// another, and a protocol that takes both is attached twice.
    #[inline]
    pub const fn from_snap(organisation: [u8; 3], protocol: u16) -> ProtocolFamily {
        let [a, b, c] = organisation;
        let [d, e] = protocol.to_be_bytes();
        ProtocolFamily(SNAP | u64::from_be_bytes([0, 0, 0, a, b, c, d, e]))
    }

    /// The LLC header of the family's frames, for those of [`ProtocolFamily::from_llc`] and
    /// [`ProtocolFamily::from_snap`]: 3 octets for unnumbered information, and 5 of SNAP behind them.
    pub(crate) fn llc_header(self) -> Option<([u8; LLC_HEADER + SNAP_HEADER], usize)> {
        let [.., a, b, c, d, e] = self.0.to_be_bytes();
        match self.0 & (LLC | SNAP) {
            LLC => Some(([d, e, UNNUMBERED_INFORMATION, 0, 0, 0, 0, 0], LLC_HEADER)),
            SNAP => {
                let header = [SNAP_SAP, SNAP_SAP, UNNUMBERED_INFORMATION, a, b, c, d, e];
                Some((header, LLC_HEADER + SNAP_HEADER))
            }
            _ => None,
        }
    }

    /// The family of an LLC frame, from its LLC header on and without padding.
    pub(crate) fn of_llc(pdu: &[u8]) -> Option<ProtocolFamily> {
        let ([dsap, ssap, control], rest) = pdu.split_first_chunk::<LLC_HEADER>()?;
        let is_snap = (*dsap, *ssap, *control) == (SNAP_SAP, SNAP_SAP, UNNUMBERED_INFORMATION);
        match rest.first_chunk::<SNAP_HEADER>() {
            Some([a, b, c, d, e]) if is_snap => {
                Some(ProtocolFamily::from_snap([*a, *b, *c], u16::from_be_bytes([*d, *e])))
            }
            _ => Some(ProtocolFamily::from_llc(*dsap, *ssap)),
        }
    }
}

/// Bits beyond those of a family in four octets, as tunnels and loopback have it.
const LLC: u64 = 1 << 40;
const SNAP: u64 = 1 << 41;

/// The bit of a source address that tells a response from a command (IEEE 802.2 3.3.1.2).
const RESPONSE: u8 = 1;
/// Both addresses of a frame with a SNAP header.
const SNAP_SAP: u8 = 0xaa;
/// The control field of a frame that belongs to no connection.
const UNNUMBERED_INFORMATION: u8 = 3;
/// Octets of the two addresses and the shortest control field.
const LLC_HEADER: usize = 3;
/// Octets of the organisation and its type.
const SNAP_HEADER: usize = 5;

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
