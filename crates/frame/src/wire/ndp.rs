//! Neighbour discovery messages inside ICMPv6 (RFC 4861 section 4).

use core::iter::FusedIterator;
use std::net::Ipv6Addr;

use super::field::{array, put};
use super::{Icmpv6Packet, Icmpv6Type, Malformed};
use crate::MacAddr;
use crate::checksum::Addresses;

const TYPE: usize = 0;
const FLAGS: usize = 4;
const TARGET: usize = 8;
const REDIRECT_DESTINATION: usize = 24;

const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// A view of a neighbour discovery message, its ICMPv6 header included.
///
/// The caller has to check that the message is to be believed: hop limit 255, code 0 and the checksum.
#[derive(Debug, Clone, Copy)]
pub struct NdpMessage<T> {
    octets: T,
}

impl<T: AsRef<[u8]>> NdpMessage<T> {
    /// Checks the type and that the fixed part of that message is there; the options are checked as they are walked.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] if the fixed part is cut off, [`Malformed::Format`] for another type.
    #[inline]
    pub fn new_checked(octets: T) -> Result<Self, Malformed> {
        let message = octets.as_ref();
        let kind = Icmpv6Type(*message.first().ok_or(Malformed::Truncated)?);
        let fixed = fixed_len(kind).ok_or(Malformed::Format)?;
        if message.len() < fixed {
            return Err(Malformed::Truncated);
        }
        Ok(NdpMessage { octets })
    }

    /// The octets back.
    #[inline]
    pub fn into_inner(self) -> T {
        self.octets
    }

    /// Which of the five messages it is.
    #[inline]
    pub fn message_type(&self) -> Icmpv6Type {
        Icmpv6Type(self.octets.as_ref()[TYPE])
    }

    /// The target address of a solicitation, advertisement (of neighbours) or redirect.
    #[inline]
    pub fn target(&self) -> Option<Ipv6Addr> {
        match self.message_type() {
            Icmpv6Type::NEIGHBOR_SOLICITATION | Icmpv6Type::NEIGHBOR_ADVERTISEMENT | Icmpv6Type::REDIRECT => {
                Some(array::<16>(self.octets.as_ref(), TARGET).into())
            }
            _ => None,
        }
    }

    /// The destination address of a redirect.
    #[inline]
    pub fn redirected(&self) -> Option<Ipv6Addr> {
        match self.message_type() {
            Icmpv6Type::REDIRECT => Some(array::<16>(self.octets.as_ref(), REDIRECT_DESTINATION).into()),
            _ => None,
        }
    }

    /// True if a neighbour advertisement comes from a router.
    #[inline]
    pub fn is_router(&self) -> bool {
        self.has_flag(ROUTER)
    }

    /// True if a neighbour advertisement answers a solicitation.
    #[inline]
    pub fn is_solicited(&self) -> bool {
        self.has_flag(SOLICITED)
    }

    /// True if a neighbour advertisement replaces a cached link-layer address.
    #[inline]
    pub fn is_override(&self) -> bool {
        self.has_flag(OVERRIDE)
    }

    /// Walks the options.
    #[inline]
    pub fn options(&self) -> NdpOptions<'_> {
        let octets = self.octets.as_ref();
        let offset = fixed_len(self.message_type()).map_or(octets.len(), |fixed| fixed.min(octets.len()));
        NdpOptions { message: octets, offset }
    }

    #[inline]
    fn has_flag(&self, flag: u8) -> bool {
        self.message_type() == Icmpv6Type::NEIGHBOR_ADVERTISEMENT && self.octets.as_ref()[FLAGS] & flag != 0
    }
}

/// Octets before the options.
#[inline]
const fn fixed_len(message_type: Icmpv6Type) -> Option<usize> {
    match message_type {
        Icmpv6Type::ROUTER_SOLICITATION => Some(8),
        Icmpv6Type::ROUTER_ADVERTISEMENT => Some(16),
        Icmpv6Type::NEIGHBOR_SOLICITATION | Icmpv6Type::NEIGHBOR_ADVERTISEMENT => Some(24),
        Icmpv6Type::REDIRECT => Some(40),
        _ => None,
    }
}

/// One option of a neighbour discovery message (RFC 4861 section 4.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NdpOption<'a> {
    /// The kind of the option.
    pub kind: u8,
    /// Where its value starts, in octets from the start of the ICMPv6 message: for changing it in place.
    pub offset: usize,
    /// Its value, without kind and length: 6, 14, 22, … octets.
    pub data: &'a [u8],
}

impl NdpOption<'_> {
    /// Source link-layer address.
    pub const SOURCE_LINK_LAYER: u8 = 1;
    /// Target link-layer address.
    pub const TARGET_LINK_LAYER: u8 = 2;
    /// Prefix information.
    pub const PREFIX: u8 = 3;
    /// The packet that a redirect is about.
    pub const REDIRECTED_HEADER: u8 = 4;
    /// The link's MTU.
    pub const MTU: u8 = 5;

    /// The MAC address of a source or target link-layer address option of 8 octets, else nothing.
    #[inline]
    pub fn link_layer_address(&self) -> Option<MacAddr> {
        match self.kind {
            Self::SOURCE_LINK_LAYER | Self::TARGET_LINK_LAYER => Some(MacAddr(self.data.try_into().ok()?)),
            _ => None,
        }
    }
}

/// Walks the options of a neighbour discovery message.
///
/// An option of length 0, or one that reaches beyond the message, is yielded once as [`Malformed::Length`] and ends
/// the walk: the whole message is then to be discarded (RFC 4861 sections 6.1 and 7.1).
#[derive(Debug, Clone)]
pub struct NdpOptions<'a> {
    message: &'a [u8],
    offset: usize,
}

impl<'a> Iterator for NdpOptions<'a> {
    type Item = Result<NdpOption<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.offset;
        let rest = self.message.get(start..).filter(|rest| !rest.is_empty())?;
        // In units of 8 octets, kind and length included.
        let len = 8 * rest.get(1).copied().map_or(0, usize::from);
        if len == 0 || len > rest.len() {
            self.offset = self.message.len();
            return Some(Err(Malformed::Length));
        }
        self.offset = start + len;
        Some(Ok(NdpOption { kind: rest[0], offset: start + 2, data: &rest[2..len] }))
    }
}

impl FusedIterator for NdpOptions<'_> {}

/// Octets of a link-layer address option for Ethernet.
const LINK_LAYER_OPTION: usize = 8;

/// Octets of a neighbour solicitation or advertisement before its options.
const NEIGHBOR_MESSAGE: usize = 24;

/// The fields of a neighbour solicitation (RFC 4861 section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighborSolicitRepr {
    /// Whose link-layer address is asked for.
    pub target: Ipv6Addr,
    /// The sender's; absent when it looks for duplicates of its address (RFC 4862 section 5.4.2).
    pub source_link_layer: Option<MacAddr>,
}

impl NeighborSolicitRepr {
    /// Reads the fields; nothing if it is another message.
    pub fn parse<T: AsRef<[u8]>>(message: &NdpMessage<T>) -> Option<Self> {
        if message.message_type() != Icmpv6Type::NEIGHBOR_SOLICITATION {
            return None;
        }
        Some(NeighborSolicitRepr {
            target: message.target()?,
            source_link_layer: link_layer(message, NdpOption::SOURCE_LINK_LAYER),
        })
    }

    /// Octets that [`NeighborSolicitRepr::emit`] writes.
    pub fn message_len(&self) -> usize {
        NEIGHBOR_MESSAGE + self.source_link_layer.map_or(0, |_| LINK_LAYER_OPTION)
    }

    /// Writes the ICMPv6 message with its checksum to all of `octets`.
    ///
    /// # Panics
    /// If `octets` is not [`NeighborSolicitRepr::message_len`] long.
    pub fn emit(&self, octets: &mut [u8], addresses: &Addresses) {
        assert_eq!(octets.len(), self.message_len(), "the message fills the octets");
        let option = self.source_link_layer.map(|mac| (NdpOption::SOURCE_LINK_LAYER, mac));
        emit(octets, Icmpv6Type::NEIGHBOR_SOLICITATION, 0, self.target, option, addresses);
    }
}

/// The fields of a neighbour advertisement (RFC 4861 section 4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighborAdvertRepr {
    /// The sender is a router.
    pub router: bool,
    /// It answers a solicitation.
    pub solicited: bool,
    /// It replaces a cached link-layer address.
    pub replaces: bool,
    /// Whose link-layer address is told.
    pub target: Ipv6Addr,
    /// That link-layer address; may be absent in an answer to a unicast solicitation.
    pub target_link_layer: Option<MacAddr>,
}

impl NeighborAdvertRepr {
    /// Reads the fields; nothing if it is another message.
    pub fn parse<T: AsRef<[u8]>>(message: &NdpMessage<T>) -> Option<Self> {
        if message.message_type() != Icmpv6Type::NEIGHBOR_ADVERTISEMENT {
            return None;
        }
        Some(NeighborAdvertRepr {
            router: message.is_router(),
            solicited: message.is_solicited(),
            replaces: message.is_override(),
            target: message.target()?,
            target_link_layer: link_layer(message, NdpOption::TARGET_LINK_LAYER),
        })
    }

    /// Octets that [`NeighborAdvertRepr::emit`] writes.
    pub fn message_len(&self) -> usize {
        NEIGHBOR_MESSAGE + self.target_link_layer.map_or(0, |_| LINK_LAYER_OPTION)
    }

    /// Writes the ICMPv6 message with its checksum to all of `octets`.
    ///
    /// # Panics
    /// If `octets` is not [`NeighborAdvertRepr::message_len`] long.
    pub fn emit(&self, octets: &mut [u8], addresses: &Addresses) {
        assert_eq!(octets.len(), self.message_len(), "the message fills the octets");
        let flags = if self.router { ROUTER } else { 0 }
            | if self.solicited { SOLICITED } else { 0 }
            | if self.replaces { OVERRIDE } else { 0 };
        let option = self.target_link_layer.map(|mac| (NdpOption::TARGET_LINK_LAYER, mac));
        emit(octets, Icmpv6Type::NEIGHBOR_ADVERTISEMENT, flags, self.target, option, addresses);
    }
}

/// The address of the first well-formed option of that kind.
fn link_layer<T: AsRef<[u8]>>(message: &NdpMessage<T>, kind: u8) -> Option<MacAddr> {
    message
        .options()
        .flatten()
        .filter(|option| option.kind == kind)
        .find_map(|option| option.link_layer_address())
}

fn emit(
    octets: &mut [u8],
    message_type: Icmpv6Type,
    flags: u8,
    target: Ipv6Addr,
    option: Option<(u8, MacAddr)>,
    addresses: &Addresses,
) {
    put(octets, TYPE, &[message_type.0, 0, 0, 0, flags, 0, 0, 0]);
    put(octets, TARGET, &target.octets());
    if let Some((kind, mac)) = option {
        put(octets, NEIGHBOR_MESSAGE, &[kind, 1]);
        put(octets, NEIGHBOR_MESSAGE + 2, &mac.0);
    }
    Icmpv6Packet::new_checked(octets)
        .expect("the message is longer than its header")
        .fill_checksum(addresses);
}

#[cfg(test)]
mod tests;
