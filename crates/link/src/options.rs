//! What a link is made with.

use core::num::NonZeroU32;
use core::ops::BitOr;

use frame::Offload;

use crate::{InvalidName, Name};

/// The family of a link: together with the unique id it says which link this is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LinkFamily(pub NonZeroU32);

impl LinkFamily {
    /// Loopback.
    pub const LOOPBACK: LinkFamily = LinkFamily(NonZeroU32::new(1).expect("not zero"));
    /// Ethernet.
    pub const ETHERNET: LinkFamily = LinkFamily(NonZeroU32::new(2).expect("not zero"));
    /// User tunnel.
    pub const TUNNEL: LinkFamily = LinkFamily(NonZeroU32::new(17).expect("not zero"));
}

/// What kind of medium a link is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Kind {
    Ethernet,
    Loopback,
    Tunnel,
    Bridge,
    Vlan,
    Cellular,
    Other,
}

/// The largest payload of a frame in octets: without the Ethernet header, tags and FCS.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Mtu(u16);

/// The number is no MTU.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("an MTU of {0} octets cannot be used; use 68 to 65535")]
pub struct InvalidMtu(pub u64);

impl Mtu {
    /// What Ethernet has when nothing else is said.
    pub const ETHERNET: Mtu = Mtu(1500);
    /// What every IPv4 link carries (RFC 791 3.2).
    pub const MIN: Mtu = Mtu(68);
    /// What the length field of IP counts.
    pub const MAX: Mtu = Mtu(u16::MAX);

    /// Checks the range.
    ///
    /// # Errors
    /// [`InvalidMtu`] outside 68 to 65535.
    pub fn new(octets: impl Into<u64>) -> Result<Mtu, InvalidMtu> {
        let octets = octets.into();
        u16::try_from(octets).ok().map(Mtu).filter(|mtu| *mtu >= Mtu::MIN).ok_or(InvalidMtu(octets))
    }

    /// Octets.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0 as u32
    }
}

/// What the driver does without help, as a set.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Capabilities(u32);

impl Capabilities {
    /// Nothing.
    pub const NONE: Capabilities = Capabilities(0);
    /// Fills in IPv4 header checksums.
    pub const CHECKSUM_IPV4: Capabilities = Capabilities(1 << 0);
    /// Fills in TCP checksums.
    pub const CHECKSUM_TCP: Capabilities = Capabilities(1 << 1);
    /// Fills in UDP checksums.
    pub const CHECKSUM_UDP: Capabilities = Capabilities(1 << 2);
    /// Segments TCP over IPv4.
    pub const TSO4: Capabilities = Capabilities(1 << 3);
    /// Segments TCP over IPv6.
    pub const TSO6: Capabilities = Capabilities(1 << 4);
    /// Segments UDP into datagrams.
    pub const USO: Capabilities = Capabilities(1 << 5);
    /// Takes frames in several pieces.
    pub const MULTI_SEGMENT: Capabilities = Capabilities(1 << 6);
    /// Takes the VLAN tag beside the frame.
    pub const VLAN: Capabilities = Capabilities(1 << 7);
    /// Fragments UDP over IPv4, which old guests ask for.
    pub const UFO: Capabilities = Capabilities(1 << 8);
    /// Every kind of segmentation.
    pub const SEGMENTATION: Capabilities =
        Capabilities(Capabilities::TSO4.0 | Capabilities::TSO6.0 | Capabilities::USO.0 | Capabilities::UFO.0);
    /// Everything: the driver, or what stands before it, translates whatever its medium lacks.
    pub const ALL: Capabilities = Capabilities((1 << 9) - 1);

    /// Whether all of `others` are among these.
    #[inline]
    pub const fn contains(self, others: Capabilities) -> bool {
        self.0 & others.0 == others.0
    }

    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u32) -> Capabilities {
        Capabilities(bits & Capabilities::ALL.0)
    }

    /// True when a driver with these takes a frame with this request as it is. Segmentation includes the segments'
    /// checksums. For what no capability stands for (a checksum that is neither TCP's nor UDP's, a segmentation in a
    /// tunnel) all of them are needed.
    #[inline]
    pub(crate) const fn takes(self, request: Offload) -> bool {
        request.is_none() || self.contains(Capabilities::needed(request))
    }

    const fn needed(request: Offload) -> Capabilities {
        /// Where the checksum stands in a TCP header (RFC 9293 3.1) and a UDP header (RFC 768).
        const TCP: u16 = 16;
        const UDP: u16 = 6;
        match request.gso_type & !Offload::ECN {
            Offload::TCPV4 => Capabilities::TSO4,
            Offload::TCPV6 => Capabilities::TSO6,
            Offload::UDP => Capabilities::USO,
            Offload::UDP_FRAGMENTS => Capabilities::UFO,
            0 => match request.checksum_offset {
                _ if request.is_segmentation() => Capabilities::ALL,
                _ if !request.needs_checksum() => Capabilities::NONE,
                TCP => Capabilities::CHECKSUM_TCP,
                UDP => Capabilities::CHECKSUM_UDP,
                _ => Capabilities::ALL,
            },
            _ => Capabilities::ALL,
        }
    }
}

impl BitOr for Capabilities {
    type Output = Capabilities;

    fn bitor(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 | other.0)
    }
}

/// What a link is acquired with.
#[derive(Clone, Debug)]
pub struct LinkOptions {
    /// Base name and unit.
    pub name: Name,
    /// The family.
    pub family: LinkFamily,
    /// What kind of medium it is.
    pub kind: Kind,
    /// Makes a link that goes and comes back the same link; at most [`LinkOptions::MAX_UNIQUE_ID`] octets.
    pub unique_id: Option<Vec<u8>>,
    /// The MTU.
    pub mtu: Mtu,
    /// Octets of the link header.
    pub header_len: u16,
    /// Bits a second; 0 when it means nothing.
    pub baud_rate: u64,
    /// What the driver does without help.
    pub capabilities: Capabilities,
    /// Whether input gives received frames their traffic class; see
    /// [`Link::set_classifies`](crate::Link::set_classifies).
    pub classifies: bool,
}

impl LinkOptions {
    /// Octets of the longest unique id.
    pub const MAX_UNIQUE_ID: usize = 255;

    /// An Ethernet link whose unit the registry chooses: MTU 1500, no unique id, no capabilities, no traffic classes.
    ///
    /// # Errors
    /// [`InvalidName`] when `base` cannot name a link.
    pub fn ethernet(base: &str) -> Result<LinkOptions, InvalidName> {
        Ok(LinkOptions {
            name: Name::new(base, None)?,
            family: LinkFamily::ETHERNET,
            kind: Kind::Ethernet,
            unique_id: None,
            mtu: Mtu::ETHERNET,
            header_len: frame::ETHERNET_HEADER as u16,
            baud_rate: 0,
            capabilities: Capabilities::NONE,
            classifies: false,
        })
    }

    /// A user tunnel: records of a protocol family in four octets and a packet, without link addresses.
    ///
    /// # Errors
    /// [`InvalidName`] when `base` cannot name a link.
    pub fn tunnel(base: &str) -> Result<LinkOptions, InvalidName> {
        let family = LinkFamily::TUNNEL;
        Ok(LinkOptions { family, kind: Kind::Tunnel, header_len: 4, ..LinkOptions::ethernet(base)? })
    }

    /// A loopback link, with the same header as a tunnel's.
    ///
    /// # Errors
    /// [`InvalidName`] when `base` cannot name a link.
    pub fn loopback(base: &str) -> Result<LinkOptions, InvalidName> {
        let family = LinkFamily::LOOPBACK;
        Ok(LinkOptions { family, kind: Kind::Loopback, header_len: 4, ..LinkOptions::ethernet(base)? })
    }
}
