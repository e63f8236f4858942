//! Merging plain segments of one flow into segmentation frames: software GRO.
//!
//! Theory of operation. A batch is gone through twice.
//!
//! 1. Headers only. Consecutive segments of a flow whose headers differ in nothing but what [`segment`] would
//!    number again form a *run*. A table of 64 slots holds the run that each flow may continue. Whatever else comes of
//!    the flow ends its run, so that the order within a flow stays; so does a flow with the same slot, which only
//!    costs a merge. Frames too short to begin a run pass with one comparison while there is no run to continue.
//! 2. Payload, of runs with at least two frames. They are copied one behind the other to a large buffer, several runs
//!    to a buffer, since there are few. A merged frame goes out with its checksum partial, which would make a wrong one
//!    right; so each frame's checksums are verified on the way, and one that is wrong stays as it is and ends the run.
//!
//! A merged frame stands where the first of its frames stood. What [`segment`] makes of it are the frames that it was
//! made of, octet for octet: this is the rule from which all conditions follow.
//!
//! Frames with tags inside, IPv4 options or IPv6 extension headers, and frames with a request of their own, stay as
//! they are.
//!
//! [`segment`]: super::segment

mod merge;
mod packet;

use self::merge::Merger;
use self::packet::{Look, Packet};
use super::Takes;
use crate::{Batch, Frame, Pool};

/// Fewest payload octets of a segment that begins a run: to merge smaller ones takes as long as to pass them on.
const MIN_SEGMENT: usize = 512;

/// Most segments that are merged into one frame; of the smallest, so many fill a packet.
const MAX_MERGED: usize = 128;

/// Most datagrams that are merged into one frame: what all kernels take that know such frames.
const MAX_DATAGRAMS: usize = 64;

/// The shortest frame that can begin a run: UDP over IPv4.
const MIN_FIRST: usize = 14 + 20 + 8 + MIN_SEGMENT;

/// Most octets of an IP packet.
const MAX_PACKET: usize = 65_535;

const SLOTS: usize = 64;

/// Merges the segments of flows in a batch. It keeps nothing from one batch to the next but memory.
pub struct Coalescer {
    runs: Vec<Run>,
    /// For each frame of the batch the next one of its run.
    next: Vec<u32>,
    slots: [Slot; SLOTS],
    /// The generation whose `slots` count: adding 1 forgets every run.
    generation: u64,
    merger: Merger,
}

/// The run that a flow may continue.
#[derive(Clone, Copy, Default)]
struct Slot {
    generation: u64,
    flow: u64,
    run: u32,
}

/// Consecutive segments of a flow.
struct Run {
    first: u32,
    last: u32,
    count: usize,
    /// Octets of the merged frame.
    len: usize,
    /// The first frame, as the first pass read it.
    packet: Packet,
    /// The next segment's sequence number.
    sequence: u32,
    /// The next segment's IPv4 identification.
    identification: u16,
}

impl Default for Coalescer {
    fn default() -> Self {
        Coalescer::new()
    }
}

impl Coalescer {
    /// A coalescer, to be used for one batch after the other.
    pub fn new() -> Coalescer {
        Coalescer {
            runs: Vec::with_capacity(Batch::LIMIT),
            next: Vec::with_capacity(Batch::LIMIT),
            slots: [Slot::default(); SLOTS],
            generation: 0,
            merger: Merger::new(),
        }
    }

    /// Merges frames of `batch`, in place, into frames that a medium takes as they are that has `takes`; the rest
    /// passes unchanged. Answers how many frames fewer there are.
    ///
    /// The merged frames have validated requests, and lie in large buffers of `pool`; without free ones nothing more is
    /// merged. All frames of the batch are for one port.
    pub fn coalesce(&mut self, batch: &mut Batch, pool: &Pool, takes: Takes) -> usize {
        let kinds = packet::Kinds::of(takes);
        if kinds.is_empty() || batch.len() < 2 {
            return 0;
        }
        self.find_runs(batch.as_slice(), kinds);
        let mut fewer = 0;
        for run in &self.runs {
            if run.count > 1 {
                fewer += self.merger.merge(run, &self.next, batch.as_mut_slice(), pool);
            }
        }
        self.merger.finish(batch.as_mut_slice());
        if fewer > 0 {
            batch.retain(|frame| frame.has_buffer());
        }
        fewer
    }

    fn find_runs(&mut self, frames: &[Frame], kinds: packet::Kinds) {
        self.runs.clear();
        self.next.resize(frames.len(), 0);
        self.forget_all();
        let mut any_open = false;
        for (index, frame) in frames.iter().enumerate() {
            if !any_open && frame.len() < MIN_FIRST {
                continue;
            }
            match packet::look(frame, kinds) {
                Look::Aside => {}
                Look::Unclear => {
                    self.forget_all();
                    any_open = false;
                }
                Look::Ends(flow) => self.forget(flow),
                Look::Segment(flow, packet) => {
                    any_open |= self.add(frames, index, flow, packet);
                }
            }
        }
    }

    /// Adds a segment to its flow's run, or begins one. Answers whether there is one now.
    #[inline]
    fn add(&mut self, frames: &[Frame], index: usize, flow: u64, packet: Packet) -> bool {
        let slot = &mut self.slots[slot(flow)];
        if slot.generation == self.generation && slot.flow == flow {
            let run = &mut self.runs[slot.run as usize];
            if run.continues_with(frames, index, &packet) {
                self.next[run.last as usize] = index as u32;
                run.add(index, &packet);
                if packet.ends_run || packet.payload < run.packet.payload {
                    slot.generation = 0;
                }
                return true;
            }
        }
        if packet.payload < MIN_SEGMENT || packet.ends_run {
            // It belongs to the flow, so what comes after it must not get before it.
            slot.generation = 0;
            return false;
        }
        *slot = Slot { generation: self.generation, flow, run: self.runs.len() as u32 };
        self.runs.push(Run::new(index, frames[index].len(), packet));
        true
    }

    #[inline]
    fn forget(&mut self, flow: u64) {
        self.slots[slot(flow)].generation = 0;
    }

    fn forget_all(&mut self) {
        self.generation += 1;
    }
}

#[inline]
fn slot(flow: u64) -> usize {
    (flow >> 58) as usize
}

impl Run {
    fn new(index: usize, len: usize, packet: Packet) -> Run {
        Run {
            first: index as u32,
            last: index as u32,
            count: 1,
            len,
            packet,
            sequence: packet.sequence.wrapping_add(packet.payload as u32),
            identification: packet.identification.wrapping_add(packet.identification_step),
        }
    }

    /// True if the segment is the next one that [`segment`](super::segment) would make of the merged frame.
    #[inline]
    fn continues_with(&self, frames: &[Frame], index: usize, packet: &Packet) -> bool {
        let first = &frames[self.first as usize];
        let limit = if packet.is_tcp() { MAX_MERGED } else { MAX_DATAGRAMS };
        packet.kind == self.packet.kind
            && (!packet.is_tcp() || packet.sequence == self.sequence)
            && packet.identification == self.identification
            && packet.payload <= self.packet.payload
            && !packet.begins_run
            && self.count < limit
            && self.len + packet.payload - crate::ETHERNET_HEADER <= MAX_PACKET
            && frames[index].meta == first.meta
            && self.packet.has_same_headers(first.octets(), packet, frames[index].octets())
    }

    #[inline]
    fn add(&mut self, index: usize, packet: &Packet) {
        self.last = index as u32;
        self.count += 1;
        self.len += packet.payload;
        self.sequence = self.sequence.wrapping_add(packet.payload as u32);
        self.identification = self.identification.wrapping_add(self.packet.identification_step);
    }
}
