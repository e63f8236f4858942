//! Frames out of a ring and into one, whatever its layout.

use std::sync::Arc;

use vmlan_frame::{Batch, DropReason, Entry, Offload, Pool, Size, Takes, VlanTag};
use vmlan_sys::guest_memory::Span;

use super::Trouble;
use super::chain::{Chain, Piece, Way, outside};
use super::log::Log;
use super::memory::Memory;
use super::packed::Packed;
use super::split::Split;
use crate::parts::parts;
use crate::queue::Sent;
use crate::tap::checked;

/// Octets of one turn, more or less.
const TURN_OCTETS: usize = 512 << 10;

/// Descriptors of one turn, more or less, whatever comes of them; and of the chains that one frame is written to.
const TURN_DESCRIPTORS: usize = 1024;

/// Octets of the longest frame that a guest can send: the longest IP packet with a header that has two tags.
const LONGEST_FRAME: u64 = 65_535 + 22;

/// The most chains that one frame is written to.
const CHAINS: usize = 512;

/// Octets of the longest header.
const HEADER: usize = 12;

/// A chain that was taken.
#[derive(Clone, Copy)]
pub(crate) struct Taken {
    /// By which the guest knows it.
    pub(crate) id: u16,
    /// How many entries of the ring it has.
    pub(crate) entries: u16,
}

/// One layout of a ring.
pub(crate) trait Layout {
    /// A place in the ring.
    type Mark: Copy;

    /// Begins a turn; false if there is nothing.
    fn begin(&mut self, memory: &Memory, hint: &mut usize, way: Way) -> Result<bool, Trouble>;

    /// Takes the next chain, and adds it to `chain`; `None` when there is none.
    fn next(
        &mut self,
        chain: &mut Chain,
        memory: &Memory,
        hint: &mut usize,
        way: Way,
    ) -> Result<Option<Taken>, Trouble>;

    /// The place of the chain that is taken next.
    fn mark(&self) -> Self::Mark;

    /// Gives back what was taken since.
    fn rewind(&mut self, mark: Self::Mark);

    /// Completes the chain, into which `len` octets were written. Chains are completed in the order in which they were
    /// taken. Returns where it wrote that, in the area that the log of used entries is about, if it did.
    fn complete(&mut self, chain: Taken, len: u32) -> Option<(usize, usize)>;

    /// Shows the guest what was completed. True if the guest wants to be told.
    fn publish(&mut self) -> bool;

    /// Where the last publishing wrote, in the same area as [`Layout::complete`]: up to two places with their octets.
    fn published(&self) -> [(usize, usize); 2];

    /// The guest need not tell of more.
    fn disarm(&mut self);

    /// The guest is to tell of more. True if more came meanwhile.
    fn arm(&mut self) -> Result<bool, Trouble>;
}

/// True if going from `old` to `new` passed `event` (virtio 1.3, 2.7.10 `vring_need_event`).
#[inline]
pub(crate) const fn need_event(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

pub(crate) enum AnyLayout {
    Split(Split),
    Packed(Packed),
}

/// A started ring.
pub(crate) struct Ring {
    pub(crate) layout: AnyLayout,
    pub(crate) frames: Frames,
    pub(crate) enabled: bool,
    /// Its chains are commands.
    pub(crate) commands: bool,
}

/// The part that is common to both layouts: how frames lie in chains.
pub(crate) struct Frames {
    pub(crate) memory: Arc<Memory>,
    hint: usize,
    pub(crate) log: Option<Arc<Log>>,
    /// The guest address of the area that the log of used entries is about, if there is to be such a log.
    used: Option<u64>,
    /// Octets in front of each frame.
    header: usize,
    /// A frame may be written to several chains.
    mergeable: bool,
    chain: Chain,
    /// The chains that a frame is written to when it is written to several, and the octets of each.
    several: Vec<(Taken, u64)>,
    /// Descriptors of the turn so far, in which frames are sent.
    walked: usize,
}

impl Frames {
    pub(crate) fn new(memory: Arc<Memory>, log: Option<Arc<Log>>, used: Option<u64>, form: Form) -> Frames {
        let Form { header, mergeable, .. } = form;
        let (chain, several) = (Chain::default(), Vec::new());
        Frames { memory, hint: 0, log, used, header, mergeable, chain, several, walked: 0 }
    }

    /// True if a file of the guest's memory, or its log, was cut short.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.memory.is_poisoned() || self.log.as_ref().is_some_and(|log| log.is_poisoned())
    }
}

/// The form of frames that guest and device have agreed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Form {
    pub(crate) header: usize,
    pub(crate) mergeable: bool,
    pub(crate) takes: Takes,
}

/// Where frames of a turn go to.
pub(crate) struct Intake<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) batch: &'a mut Batch,
    /// Counts a frame that is refused, with its octets.
    pub(crate) refuse: &'a dyn Fn(DropReason, usize),
    /// Octets of the turn.
    pub(crate) octets: usize,
    /// Descriptors of the turn.
    pub(crate) descriptors: usize,
}

impl Intake<'_> {
    /// True if the turn takes no more.
    pub(crate) fn is_over(&self) -> bool {
        self.batch.room() == 0 || self.octets >= TURN_OCTETS || self.descriptors >= TURN_DESCRIPTORS
    }
}

/// The end of a turn.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Turned {
    /// Chains that were completed.
    pub(crate) any: bool,
    /// The guest wants to be told.
    pub(crate) call: bool,
    /// No buffer was free for what comes next.
    pub(crate) left: bool,
}

impl Ring {
    /// Takes what the guest sent, as much as a turn does.
    #[inline]
    pub(crate) fn receive(&mut self, intake: &mut Intake<'_>) -> Result<Turned, Trouble> {
        let enabled = self.enabled;
        match &mut self.layout {
            AnyLayout::Split(layout) => self.frames.receive(layout, enabled, intake),
            AnyLayout::Packed(layout) => self.frames.receive(layout, enabled, intake),
        }
    }

    /// Begins a turn of sending.
    pub(crate) fn begin(&mut self) {
        self.frames.walked = 0;
    }

    /// Sends `entries`, as many as the ring has room for and a turn takes.
    #[inline]
    pub(crate) fn transmit(&mut self, entries: &[Entry<'_>]) -> Result<(Sent, Turned), Trouble> {
        match &mut self.layout {
            AnyLayout::Split(layout) => self.frames.transmit(layout, entries),
            AnyLayout::Packed(layout) => self.frames.transmit(layout, entries),
        }
    }

    /// Answers the guest's commands: all are done.
    pub(crate) fn answer(&mut self) -> Result<Turned, Trouble> {
        match &mut self.layout {
            AnyLayout::Split(layout) => self.frames.answer(layout),
            AnyLayout::Packed(layout) => self.frames.answer(layout),
        }
    }

    /// The guest is to tell of more. True if more came meanwhile.
    pub(crate) fn arm(&mut self) -> Result<bool, Trouble> {
        match &mut self.layout {
            AnyLayout::Split(layout) => layout.arm(),
            AnyLayout::Packed(layout) => layout.arm(),
        }
    }

    /// The answer of GET_VRING_BASE.
    pub(crate) fn base(&self) -> u32 {
        match &self.layout {
            AnyLayout::Split(split) => split.position().into(),
            AnyLayout::Packed(packed) => {
                let position = u32::from(packed.position().bits());
                position << 16 | position
            }
        }
    }
}

impl Frames {
    #[inline]
    fn receive<L: Layout>(
        &mut self,
        layout: &mut L,
        enabled: bool,
        intake: &mut Intake<'_>,
    ) -> Result<Turned, Trouble> {
        if !layout.begin(&self.memory, &mut self.hint, Way::Out)? {
            return Ok(Turned::default());
        }
        layout.disarm();
        let mut turned = Turned::default();
        let result = self.receive_all(layout, enabled, intake, &mut turned);
        // Also what was taken before a fault: its frames are on their way.
        turned.call = self.publish(layout, turned.any)?;
        result.map(|()| turned)
    }

    #[inline]
    fn receive_all<L: Layout>(
        &mut self,
        layout: &mut L,
        enabled: bool,
        intake: &mut Intake<'_>,
        turned: &mut Turned,
    ) -> Result<(), Trouble> {
        // Those that are dropped count as well.
        for _ in 0..intake.batch.room() {
            if intake.is_over() {
                break;
            }
            let mark = layout.mark();
            self.chain.clear();
            let next = layout.next(&mut self.chain, &self.memory, &mut self.hint, Way::Out)?;
            let Some(id) = next else { break };
            intake.descriptors += self.chain.pieces.len();
            if !self.take(enabled, intake)? {
                layout.rewind(mark);
                turned.left = true;
                break;
            }
            let written = layout.complete(id, 0);
            self.mark_used(written)?;
            turned.any = true;
        }
        Ok(())
    }

    /// Makes a frame of the chain in hand, or counts why it is none. False without a buffer for it.
    #[inline]
    fn take(&mut self, enabled: bool, intake: &mut Intake<'_>) -> Result<bool, Trouble> {
        let Some(octets) = self.chain.octets.checked_sub(self.header as u64) else {
            (intake.refuse)(DropReason::Malformed, 0);
            return Ok(true);
        };
        if octets > LONGEST_FRAME {
            (intake.refuse)(DropReason::Oversize, octets.min(u32::MAX.into()) as usize);
            return Ok(true);
        }
        let len = octets as usize;
        intake.octets += len;
        if !enabled {
            (intake.refuse)(DropReason::NotAttached, len);
            return Ok(true);
        }
        let size = if len <= Size::Small.octets() { Size::Small } else { Size::Large };
        let Some(mut buffer) = intake.pool.take(size) else { return Ok(false) };
        let mut header = [0; HEADER];
        let body = &mut buffer[..len];
        match *self.chain.pieces {
            // A length that is known here is one move or two.
            [piece] if self.header == HEADER => {
                let span = look_up(&self.memory, &mut self.hint, piece)?;
                span.read(0, &mut header);
                span.read(HEADER, body);
            }
            _ => {
                let head = &mut header[..self.header];
                gather(&self.memory, &mut self.hint, &self.chain.pieces, head, body)?;
            }
        }
        let (start, tag) = VlanTag::take(body);
        // The number of buffers is ours.
        let is_plain = header[..10] == [0; 10];
        if is_plain && tag.is_none() {
            // Nothing is written to a new frame, so that it is moved in one go.
            intake.batch.push(buffer.into_frame(0..len));
            return Ok(true);
        }
        let mut offload = Offload::NONE;
        if !is_plain {
            let request = Offload::from_virtio(&header);
            let Some(valid) = checked(request, start, &buffer[start..len]) else {
                (intake.refuse)(DropReason::BadOffload, len);
                return Ok(true);
            };
            offload = valid;
        }
        let mut frame = buffer.into_frame(start..len);
        frame.meta.tag = tag;
        frame.meta.offload = offload;
        intake.batch.push(frame);
        Ok(true)
    }

    #[inline]
    fn transmit<L: Layout>(
        &mut self,
        layout: &mut L,
        entries: &[Entry<'_>],
    ) -> Result<(Sent, Turned), Trouble> {
        let mut sent = Sent::default();
        // A guest that shows room and takes it away again does not keep us here.
        self.walked += 1;
        if !layout.begin(&self.memory, &mut self.hint, Way::In)? {
            sent.full = true;
            return Ok((sent, Turned::default()));
        }
        layout.disarm();
        let result = self.transmit_all(layout, entries, &mut sent);
        let any = sent.taken > 0;
        let call = self.publish(layout, any)?;
        result.map(|()| (sent, Turned { any, call, left: false }))
    }

    #[inline]
    fn transmit_all<L: Layout>(
        &mut self,
        layout: &mut L,
        entries: &[Entry<'_>],
        sent: &mut Sent,
    ) -> Result<(), Trouble> {
        for entry in entries {
            if self.walked >= TURN_DESCRIPTORS {
                sent.paused = true;
                return Ok(());
            }
            let mut tag = [0; 4];
            let parts = parts(entry, &mut tag);
            let Some(header) = header(entry.meta.offload, parts[1].len()) else {
                sent.refused = Some(DropReason::TooLong);
                return Ok(());
            };
            let needed = (self.header + parts.iter().map(|part| part.len()).sum::<usize>()) as u64;
            let mark = layout.mark();
            self.chain.clear();
            let next = layout.next(&mut self.chain, &self.memory, &mut self.hint, Way::In)?;
            let Some(id) = next else {
                sent.full = true;
                return Ok(());
            };
            if self.chain.octets >= needed {
                self.walked += self.chain.pieces.len();
                self.write(header, 1, parts)?;
                let written = layout.complete(id, needed as u32);
                self.mark_used(written)?;
                sent.taken += 1;
                continue;
            }
            let several = match self.mergeable {
                true => self.write_to_several(layout, id, needed, header, parts)?,
                false => Several::TooLong,
            };
            self.walked += self.chain.pieces.len();
            match several {
                Several::Written => sent.taken += 1,
                Several::Full => sent.full = true,
                Several::TooLong => sent.refused = Some(DropReason::TooLong),
            }
            if several != Several::Written {
                layout.rewind(mark);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Writes a frame to as many chains as it takes, the first of which is in hand (virtio 1.3, 5.1.6.4).
    fn write_to_several<L: Layout>(
        &mut self,
        layout: &mut L,
        first: Taken,
        needed: u64,
        header: [u8; HEADER],
        parts: [&[u8]; 3],
    ) -> Result<Several, Trouble> {
        self.several.clear();
        self.several.push((first, self.chain.octets));
        while self.chain.octets < needed {
            if self.several.len() == CHAINS || self.chain.pieces.len() > TURN_DESCRIPTORS {
                return Ok(Several::TooLong);
            }
            let before = self.chain.octets;
            let next = layout.next(&mut self.chain, &self.memory, &mut self.hint, Way::In)?;
            let Some(id) = next else { return Ok(Several::Full) };
            self.several.push((id, self.chain.octets - before));
        }
        self.write(header, self.several.len() as u16, parts)?;
        let mut left = needed;
        for number in 0..self.several.len() {
            let (id, octets) = self.several[number];
            let written = octets.min(left);
            left -= written;
            let written = layout.complete(id, written as u32);
            self.mark_used(written)?;
        }
        Ok(Several::Written)
    }

    /// Writes a frame behind its header to the chain in hand, which has room for both.
    #[inline]
    fn write(&mut self, mut header: [u8; HEADER], chains: u16, parts: [&[u8]; 3]) -> Result<(), Trouble> {
        header[10..].copy_from_slice(&chains.to_le_bytes());
        if let ([piece], HEADER) = (&*self.chain.pieces, self.header) {
            let piece = *piece;
            let span = look_up(&self.memory, &mut self.hint, piece)?;
            span.write(0, &header);
            span.write(HEADER, parts[0]);
            let mut at = HEADER + parts[0].len();
            // Those of a frame with a tag.
            for part in parts[1..].iter().filter(|part| !part.is_empty()) {
                span.write(at, part);
                at += part.len();
            }
            return self.log.as_ref().map_or(Ok(()), |log| log.mark(piece.guest, at as u64));
        }
        let mut to = Scatter {
            memory: &self.memory,
            hint: &mut self.hint,
            log: self.log.as_deref(),
            pieces: &self.chain.pieces,
            at: 0,
            span: None,
        };
        to.write(&header[..self.header])?;
        for part in parts {
            to.write(part)?;
        }
        Ok(())
    }

    /// Says of every command that it is done (`VIRTIO_NET_OK`, virtio 1.3, 5.1.6.5): how many pairs the guest uses is
    /// seen by its rings, and all other commands are a matter of the front end's.
    #[cold]
    fn answer<L: Layout>(&mut self, layout: &mut L) -> Result<Turned, Trouble> {
        let mut turned = Turned::default();
        if !layout.begin(&self.memory, &mut self.hint, Way::Commands)? {
            return Ok(turned);
        }
        layout.disarm();
        for _ in 0..Batch::LIMIT {
            self.chain.clear();
            let next = layout.next(&mut self.chain, &self.memory, &mut self.hint, Way::Commands)?;
            let Some(id) = next else { break };
            let room = self.chain.written.filter(|piece| piece.len > 0);
            if let Some(piece) = room {
                look_up(&self.memory, &mut self.hint, piece)?.write(0, &[0]);
                self.log.as_ref().map_or(Ok(()), |log| log.mark(piece.guest, 1))?;
            }
            let written = layout.complete(id, u32::from(room.is_some()));
            self.mark_used(written)?;
            turned.any = true;
        }
        turned.call = self.publish(layout, turned.any)?;
        Ok(turned)
    }

    #[inline]
    fn publish<L: Layout>(&self, layout: &mut L, any: bool) -> Result<bool, Trouble> {
        let call = layout.publish();
        if any && self.log.is_some() {
            for written in layout.published() {
                self.mark_used(Some(written))?;
            }
        }
        Ok(call)
    }

    /// Marks what was written to the area of used entries.
    #[inline]
    fn mark_used(&self, written: Option<(usize, usize)>) -> Result<(), Trouble> {
        match (&self.log, self.used, written) {
            (Some(log), Some(used), Some((offset, len))) => {
                log.mark(used.saturating_add(offset as u64), len as u64)
            }
            _ => Ok(()),
        }
    }
}

/// The header of a frame with this request and so many octets of a tag; `None` when a place in it is too far behind.
#[inline]
fn header(request: Offload, tag: usize) -> Option<[u8; HEADER]> {
    if request == Offload::NONE {
        return Some([0; HEADER]);
    }
    Some(request.shifted(tag as isize)?.to_virtio())
}

/// How writing to several chains went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Several {
    Written,
    /// There are not enough now.
    Full,
    /// There will never be.
    TooLong,
}

#[inline]
fn look_up<'m>(memory: &'m Memory, hint: &mut usize, piece: Piece) -> Result<Span<'m>, Trouble> {
    memory.find(hint, piece.guest, piece.len.into()).ok_or_else(|| outside(piece))
}

/// Reads pieces one after the other into `head` and then `body`, which are as long as these together.
fn gather(
    memory: &Memory,
    hint: &mut usize,
    pieces: &[Piece],
    mut head: &mut [u8],
    mut body: &mut [u8],
) -> Result<(), Trouble> {
    for piece in pieces {
        let span = look_up(memory, hint, *piece)?;
        let first = span.len().min(head.len());
        let (now, later) = head.split_at_mut(first);
        span.read(0, now);
        head = later;
        let (now, later) = body.split_at_mut(span.len() - first);
        span.read(first, now);
        body = later;
    }
    Ok(())
}

/// Writes to pieces one after the other.
struct Scatter<'a, 'm> {
    memory: &'m Memory,
    hint: &'a mut usize,
    log: Option<&'a Log>,
    pieces: &'a [Piece],
    /// Octets of the piece in hand that are written.
    at: usize,
    span: Option<Span<'m>>,
}

impl Scatter<'_, '_> {
    #[inline]
    fn write(&mut self, mut octets: &[u8]) -> Result<(), Trouble> {
        while !octets.is_empty() {
            let Some(piece) = self.pieces.first() else {
                return Err(Trouble("a frame is longer than its buffers".to_owned()));
            };
            let span = match self.span {
                Some(span) => span,
                None => look_up(self.memory, self.hint, *piece)?,
            };
            let count = octets.len().min(span.len() - self.at);
            let (now, later) = octets.split_at(count);
            span.write(self.at, now);
            if let Some(log) = self.log {
                log.mark(piece.guest + self.at as u64, count as u64)?;
            }
            octets = later;
            self.at += count;
            self.span = Some(span);
            if self.at == span.len() {
                (self.pieces, self.at, self.span) = (&self.pieces[1..], 0, None);
            }
        }
        Ok(())
    }
}
