//! Tags among a frame's octets, as those have to see them who judge what is behind.
//!
//! The outer customer tag is beside the frame. What is behind a provider's tag, or behind two tags with identifiers, is
//! in another network's VLAN. A tag behind a priority tag, or a priority tag among the octets, is seen by some
//! receivers and taken off by others.

use vmlan_frame::wire::EtherType;
use vmlan_frame::{Frame, VLAN_TAG};

use crate::vlan::{TPIDS, nested_vid};

/// How many tags are followed among the octets.
const MOST_TAGS: usize = 4;

/// The part of a frame behind the tags among its octets.
pub(super) enum Behind<'a> {
    /// It ends within a tag.
    Nothing,
    /// There are more tags than are followed.
    TooDeep,
    /// A packet.
    Packet {
        ethertype: EtherType,
        payload: &'a [u8],
        /// How many tags there are.
        tags: usize,
    },
}

/// Looks behind the tags.
pub(super) fn behind_tags(octets: &[u8]) -> Behind<'_> {
    let mut tags = 0;
    loop {
        let at = 12 + VLAN_TAG * tags;
        let Some((ethertype, payload)) = octets.get(at..).and_then(|rest| rest.split_first_chunk()) else {
            return Behind::Nothing;
        };
        let ethertype = u16::from_be_bytes(*ethertype);
        if !TPIDS.contains(&ethertype) {
            return Behind::Packet { ethertype: EtherType(ethertype), payload, tags };
        }
        if tags == MOST_TAGS {
            return Behind::TooDeep;
        }
        tags += 1;
    }
}

/// True if what is behind the tags among the octets, of which there are some, is in another network's VLAN for every
/// receiver.
pub(super) fn is_elsewhere(frame: &Frame) -> bool {
    let is_priority = |vid: Option<u16>| vid == Some(0);
    let outer = frame.meta.tag.map(|tag| tag.vid());
    !is_priority(outer) && !is_priority(nested_vid(frame.octets()))
}
