//! The options that a link is made with.

use core::num::NonZeroU32;

use vmlan_frame::Takes;

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

/// The kind of a link's medium.
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
    /// The MTU of Ethernet when nothing else is said.
    pub const ETHERNET: Mtu = Mtu(1500);
    /// The length that every IPv4 link carries (RFC 791 3.2).
    pub const MIN: Mtu = Mtu(68);
    /// The largest length that the length field of IP counts.
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

/// The options that a link is acquired with.
#[derive(Clone, Debug)]
pub struct LinkOptions {
    /// Base name and unit.
    pub name: Name,
    /// The family.
    pub family: LinkFamily,
    /// The kind of the link's medium.
    pub kind: Kind,
    /// The id that makes a link that goes and comes back the same link; at most [`LinkOptions::MAX_UNIQUE_ID`] octets.
    pub unique_id: Option<Vec<u8>>,
    /// The MTU.
    pub mtu: Mtu,
    /// Octets of the link header.
    pub header_len: u16,
    /// Bits a second; 0 when it means nothing.
    pub baud_rate: u64,
    /// Offload requests that the driver takes as they are.
    pub capabilities: Takes,
    /// True if input gives received frames their traffic class; see
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
            header_len: vmlan_frame::ETHERNET_HEADER as u16,
            baud_rate: 0,
            capabilities: Takes::NONE,
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
