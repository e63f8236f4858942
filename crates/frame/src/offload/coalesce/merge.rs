//! The second pass: copies the frames of a run one behind the other.

use super::super::Offload;
use super::Run;
use super::packet::Packet;
use crate::checksum::Sum;
use crate::wire::field::put_u16;
use crate::wire::{TCP_CHECKSUM, TcpFlags, UDP_CHECKSUM};
use crate::{Batch, ETHERNET_HEADER, Frame, Meta, Pool, Size, WriteBuf};

/// Where a merged frame begins in its buffer is a multiple of this: a cache line.
const ALIGNMENT: usize = 64;

/// Fills buffers with merged frames.
pub(super) struct Merger {
    buffer: Option<WriteBuf>,
    /// Octets of the buffer that hold merged frames.
    used: usize,
    /// The merged frames in the buffer.
    merged: Vec<Merged>,
    /// The frames of which copies stand one behind the other after what is used.
    part: Vec<usize>,
    /// Octets of these copies.
    part_len: usize,
}

struct Merged {
    /// Whose place in the batch it takes.
    index: usize,
    start: usize,
    len: usize,
    meta: Meta,
}

impl Merger {
    pub fn new() -> Merger {
        Merger {
            buffer: None,
            used: 0,
            merged: Vec::with_capacity(Batch::LIMIT),
            part: Vec::with_capacity(Batch::LIMIT),
            part_len: 0,
        }
    }

    /// Merges the frames of a run, or of each part between those that are not intact. The frames that are merged into
    /// a part's first leave empty places; answers how many.
    pub fn merge(&mut self, run: &Run, next: &[u32], frames: &mut [Frame], pool: &Pool) -> usize {
        if !self.make_room(run.len, frames, pool) {
            return 0;
        }
        let mut fewer = 0;
        let mut index = run.first as usize;
        for _ in 1..run.count {
            fewer += self.take(index, run, frames);
            index = next[index] as usize;
        }
        fewer + self.take(index, run, frames) + self.close_part(run, frames)
    }

    /// Gives the frames in the buffer their places in the batch.
    pub fn finish(&mut self, frames: &mut [Frame]) {
        let Some(buffer) = self.buffer.take() else { return };
        self.used = 0;
        if let [merged] = &self.merged[..] {
            frames[merged.index] = buffer.into_frame(merged.start..merged.start + merged.len);
            frames[merged.index].meta = merged.meta;
        } else {
            let shared = buffer.share();
            for merged in &self.merged {
                frames[merged.index] = shared.frame(merged.start..merged.start + merged.len);
                frames[merged.index].meta = merged.meta;
            }
        }
        self.merged.clear();
    }

    /// Provides a buffer with room for `len` octets; true if there is one now.
    fn make_room(&mut self, len: usize, frames: &mut [Frame], pool: &Pool) -> bool {
        if self.buffer.as_ref().is_some_and(|buffer| buffer.len() - self.used >= len) {
            return true;
        }
        self.finish(frames);
        self.buffer = pool.take(Size::Large).or_else(|| pool.take(Size::Bulk));
        self.buffer.is_some()
    }

    /// Adds a frame to the part; one that cannot be ends it. Answers how many places that emptied.
    fn take(&mut self, index: usize, run: &Run, frames: &mut [Frame]) -> usize {
        let octets = frames[index].octets();
        if !run.packet.is_intact(octets) || self.part.is_empty() && !run.packet.may_begin(octets) {
            return self.close_part(run, frames);
        }
        let new = if self.part.is_empty() { octets } else { &octets[run.packet.headers..] };
        let buffer = self.buffer.as_mut().expect("there is room for the run");
        buffer[self.used + self.part_len..][..new.len()].copy_from_slice(new);
        self.part_len += new.len();
        self.part.push(index);
        0
    }

    /// Makes a merged frame of the part, if it has several frames. Answers how many places that emptied.
    fn close_part(&mut self, run: &Run, frames: &mut [Frame]) -> usize {
        let (part_len, count) = (self.part_len, self.part.len());
        self.part_len = 0;
        let [first, others @ ..] = &self.part[..] else { return 0 };
        if let Some(last) = others.last() {
            let buffer = self.buffer.as_mut().expect("the part is in it");
            let octets = &mut buffer[self.used..][..part_len];
            let request = seal(octets, frames[*last].octets(), &run.packet);
            let meta = Meta { offload: request, ..frames[*first].meta };
            self.merged.push(Merged { index: *first, start: self.used, len: part_len, meta });
            self.used = (self.used + part_len).next_multiple_of(ALIGNMENT);
            for index in others {
                frames[*index] = Frame::default();
            }
        }
        self.part.clear();
        count - 1
    }
}

/// Completes the headers of a merged frame, whose last segment was `last`, and makes its request.
fn seal(octets: &mut [u8], last: &[u8], packet: &Packet) -> Offload {
    let transport = packet.transport();
    // An IP packet has at most 64 KiB.
    let length = (octets.len() - transport) as u16;
    let pseudo = packet.pseudo_header(octets).add_word(length).fold();
    let (ip, upper) = octets.split_at_mut(transport);
    if packet.kind.is_v4() {
        put_u16(ip, 16, length + (transport - ETHERNET_HEADER) as u16);
        put_u16(ip, 24, 0);
        let checksum = Sum::new().add_octets(&ip[ETHERNET_HEADER..]).checksum();
        put_u16(ip, 24, checksum);
    } else {
        put_u16(ip, 18, length);
    }
    let mut gso_type = packet.kind.gso_type();
    let checksum_offset = if packet.is_tcp() {
        // PSH is in the low octet of the flags.
        upper[13] |= last[transport + 13] & TcpFlags::PSH.0 as u8;
        if upper[13] & TcpFlags::CWR.0 as u8 != 0 {
            gso_type |= Offload::ECN;
        }
        TCP_CHECKSUM
    } else {
        put_u16(upper, 4, length);
        UDP_CHECKSUM
    };
    put_u16(upper, checksum_offset, pseudo);
    Offload {
        flags: Offload::NEEDS_CHECKSUM,
        gso_type,
        header_len: packet.headers as u16,
        gso_size: packet.payload as u16,
        checksum_start: transport as u16,
        checksum_offset: checksum_offset as u16,
    }
}
