//! The flows that went through a network last, and where their frames go.
//!
//! Theory of operation. What becomes of a frame to one receiver follows from the port that it came in by, its
//! addresses, its type and its tag, as long as ports and FDB stay as they are and its source needs nothing more in
//! this second. So what was found out for one frame of a flow holds for the next: that it is admitted, that its source
//! is learnt, and who gets it. [`Memo`](super::memo::Memo) forgets all flows when one of these changes. What depends on
//! more of a frame is asked for each: its length, the budget for octets, the stages of its port.
//!
//! A flow has one place, where it takes the place of another. So guests whose flows share a place cost each other as
//! much as if nothing were remembered, and no more.

use vmlan_frame::{Frame, Sides};

use super::Pass;
use super::admission::Header;
use crate::PortId;
use crate::egress::{Room, Way};
use crate::fdb::Key;
use crate::port::Port;
use crate::vlan::TPIDS;

/// The part of a frame, beside the port that it came in by, that its way follows from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Start {
    /// Octets 0 to 7, and 6 to 13: addresses and type.
    octets: [u64; 2],
    /// The tag's, or [`Start::UNTAGGED`].
    tci: u32,
}

impl Start {
    const UNTAGGED: u32 = u32::MAX;

    /// The start of a frame; `None` for one that is shorter.
    #[inline]
    pub(super) fn of(frame: &Frame) -> Option<Start> {
        let octets: &[u8; 14] = frame.octets().first_chunk()?;
        let [first, last] = [octets.first_chunk(), octets.last_chunk()];
        Some(Start {
            octets: [u64::from_le_bytes(*first?), u64::from_le_bytes(*last?)],
            tci: frame.meta.tag.map_or(Start::UNTAGGED, |tag| tag.tci.into()),
        })
    }

    /// True if another tag follows: then the way follows from more of the frame.
    fn has_nested_tag(&self) -> bool {
        let [.., high, low] = self.octets[1].to_le_bytes();
        TPIDS.contains(&u16::from_be_bytes([high, low]))
    }

    #[inline]
    fn place(&self) -> usize {
        // The multiplier of Fibonacci hashing, 2^64 divided by the golden ratio.
        let mixed = (self.octets[0] ^ self.octets[1]).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> (u64::BITS - PLACES.ilog2())) as usize
    }
}

const PLACES: usize = 32;

#[derive(Clone, Copy)]
struct Flow {
    start: Start,
    from: PortId,
    way: Way,
}

/// The flows that are remembered.
pub(super) struct Flows {
    places: [Flow; PLACES],
    /// A bit for each place that is filled.
    filled: u32,
}

impl Default for Flows {
    fn default() -> Flows {
        let nobody = PortId::new(0, 0);
        let way = Way { to: nobody, tag: None, sides: Sides::NONE, ingress: 0 };
        let empty = Flow { start: Start { octets: [0; 2], tci: 0 }, from: nobody, way };
        Flows { places: [empty; PLACES], filled: 0 }
    }
}

impl Flows {
    #[inline]
    pub(super) fn forget(&mut self) {
        self.filled = 0;
    }

    /// The way of frames from the port `from` that start so, if it is remembered.
    #[inline]
    pub(super) fn find(&self, from: PortId, start: &Start) -> Option<&Way> {
        let place = start.place();
        let flow = &self.places[place];
        let is_it = self.filled & 1 << place != 0 && flow.start == *start && flow.from == from;
        is_it.then_some(&flow.way)
    }

    pub(super) fn remember(&mut self, from: PortId, start: Start, way: Way) {
        if !start.has_nested_tag() {
            let place = start.place();
            self.places[place] = Flow { start, from, way };
            self.filled |= 1 << place;
        }
    }
}

impl Pass<'_> {
    /// Takes the first of `frames` and forwards them, as long as their flows are known, their receivers have room, and
    /// nothing else has to be asked about them. Returns how many these are. The one behind is for [`Pass::frame`],
    /// unless the egress allows no other.
    // A call, so that its loop has the processor's registers for itself.
    #[inline(never)]
    pub(super) fn hand_on(&mut self, frames: &mut [Frame]) -> usize {
        let (from, limit) = (self.from, self.ports.frame_limit);
        let mut flow: Option<(Start, &Way, Room<'_>)> = None;
        for (count, frame) in frames.iter_mut().enumerate() {
            let Some(start) = Start::of(frame) else { return count };
            if flow.as_ref().is_none_or(|(known, ..)| *known != start) {
                let Some(way) = self.memo.flows.find(from.id, &start) else { return count };
                let Some(room) = self.egress.room(way.to) else { return count };
                flow = Some((start, way, room));
            }
            let Some((_, way, room)) = &mut flow else { return count };
            let is_asked_about = frame.len() > limit || !from.stages.is_empty() && from.stages.concern(frame);
            if is_asked_about || !room.is_free() || !self.allowance.octets(frame) {
                return count;
            }
            room.take(frame, way);
        }
        frames.len()
    }

    /// Sends a frame to its only receiver, as further ones of its flow will be.
    #[inline]
    pub(super) fn send_alone(&mut self, to: &Port, frame: Frame, header: &Header, sides: Sides) {
        let way = self.way(to, &frame, header, sides);
        // A source that could not be learnt yet is looked at again.
        let key = Key::new(header.source, header.vlan);
        if self.from.guard || self.memo.knows_source(key, self.from.id, self.now) {
            Start::of(&frame).inspect(|start| self.memo.flows.remember(self.from.id, *start, way));
        }
        self.egress.push(self.cx, (&way, &to.account), frame);
    }
}
