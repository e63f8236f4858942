use std::os::fd::BorrowedFd;

use frame::{Batch, DropReason, SharedBuf, Sides, Size};
use link::Context;
use rustix::io::Errno;

use super::records::{Piece, split};
use super::{Losses, fault};
use crate::queue::{Fault, Outbox, Progress};

/// What is received from.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) fd: BorrowedFd<'a>,
    pub(super) losses: &'a Losses,
}

/// The receiving half of a device.
pub(super) struct Receiver {
    /// Octets that a read has to ask for.
    buffer: usize,
    /// Where frames come from.
    sides: Sides,
    /// The last read, while not all frames in it were given out.
    read: Option<SharedBuf>,
    /// The frames in it.
    pieces: Vec<Piece>,
    /// How many of them were given out.
    given: usize,
    /// What the kernel had lost when it was asked last.
    lost: u32,
}

impl Receiver {
    pub(super) fn new(buffer: usize, sides: Sides) -> Receiver {
        Receiver { buffer, sides, read: None, pieces: Vec::new(), given: 0, lost: 0 }
    }

    pub(super) fn receive(
        &mut self,
        source: Source<'_>,
        cx: &Context<'_>,
        outbox: &Outbox,
        batch: &mut Batch,
    ) -> Result<Progress, Fault> {
        if self.read.is_none() {
            self.read(source, cx, outbox)?;
        }
        Ok(self.give(batch))
    }

    /// Reads once and finds the frames.
    fn read(&mut self, source: Source<'_>, cx: &Context<'_>, outbox: &Outbox) -> Result<(), Fault> {
        // Without a buffer the device stays ready, and is tried again in the next round.
        let Some(mut buffer) = cx.pool.take(Size::Bulk) else { return Ok(()) };
        let came = match rustix::io::read(source.fd, &mut buffer[..self.buffer]) {
            Ok(came) => came,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => return Err(fault(error.into())),
        };
        if came >= self.buffer / 2 {
            self.count_losses(source, outbox);
        }
        self.pieces.clear();
        self.given = 0;
        let found = split(&mut buffer[..came], &mut self.pieces);
        let malformed = |count: usize, octets: usize| {
            let (reason, count, octets) = (DropReason::Malformed, count as u64, octets as u64);
            outbox.counters.received_and_dropped(outbox.worker, reason, count, octets);
        };
        if found.cut > 0 {
            malformed(found.cut, found.cut_octets);
        }
        if found.bad_octets > 0 {
            malformed(1, found.bad_octets);
        }
        self.read = Some(buffer.share());
        Ok(())
    }

    /// Counts what the kernel lost since it was asked last.
    fn count_losses(&mut self, source: Source<'_>, outbox: &Outbox) {
        // An error: the device is about to fail in a way that is told.
        let lost = (source.losses)().unwrap_or(self.lost);
        let more = lost.wrapping_sub(self.lost);
        self.lost = lost;
        outbox.counters.received_and_dropped(outbox.worker, DropReason::InputQueue, more.into(), 0);
    }

    /// Gives out frames of the last read, as many as fit.
    fn give(&mut self, batch: &mut Batch) -> Progress {
        let Some(read) = &self.read else { return Progress::Done };
        let count = batch.room().min(self.pieces.len() - self.given);
        for piece in &self.pieces[self.given..self.given + count] {
            let mut frame = read.frame(piece.range.clone());
            frame.meta.tag = piece.tag;
            frame.meta.sides = self.sides;
            batch.push(frame);
        }
        self.given += count;
        if self.given < self.pieces.len() {
            return Progress::Again;
        }
        self.read = None;
        Progress::Done
    }
}
