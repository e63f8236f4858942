use rustix::io::Errno;
use vmlan_frame::{Batch, Context, DropReason, SharedBuf, Sides, Size};

use super::records::{Piece, split};
use super::{Shared, fault};
use crate::queue::{Fault, Outbox, Progress};

/// The receiving half of a device.
#[derive(Default)]
pub(super) struct Receiver {
    /// The last read, while not all frames in it were given out.
    read: Option<SharedBuf>,
    /// The frames in it.
    pieces: Vec<Piece>,
    /// How many of them were given out.
    given: usize,
    /// The kernel's count of losses when it was asked last.
    lost: u32,
}

impl Receiver {
    pub(super) fn receive(
        &mut self,
        device: &Shared,
        cx: &Context<'_>,
        outbox: &Outbox,
        batch: &mut Batch,
    ) -> Result<Progress, Fault> {
        if self.read.is_none() {
            self.read(device, cx, outbox)?;
        }
        Ok(self.give(device.sides, batch))
    }

    /// Reads once and finds the frames.
    fn read(&mut self, device: &Shared, cx: &Context<'_>, outbox: &Outbox) -> Result<(), Fault> {
        // Without a buffer the device stays ready, and is tried again in the next round.
        let Some(mut buffer) = cx.pool.take(Size::Bulk) else { return Ok(()) };
        let came = match rustix::io::read(&device.fd, &mut buffer[..device.buffer]) {
            Ok(came) => came,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => return Err(fault(error.into())),
        };
        if came >= device.buffer / 2 {
            self.count_losses(device, outbox);
        }
        self.pieces.clear();
        self.given = 0;
        let found = split(&mut buffer[..came], &mut self.pieces);
        if found.cut > 0 {
            outbox.refuse(DropReason::Malformed, found.cut as u64, found.cut_octets);
        }
        if found.bad_octets > 0 {
            outbox.refuse(DropReason::Malformed, 1, found.bad_octets);
        }
        self.read = Some(buffer.share());
        Ok(())
    }

    /// Counts what the kernel lost since it was asked last.
    fn count_losses(&mut self, device: &Shared, outbox: &Outbox) {
        // An error: the device is about to fail in a way that is told.
        let lost = (device.losses)().unwrap_or(self.lost);
        let more = lost.wrapping_sub(self.lost);
        self.lost = lost;
        outbox.refuse(DropReason::InputQueue, more.into(), 0);
    }

    /// Gives out frames of the last read, as many as fit.
    fn give(&mut self, sides: Sides, batch: &mut Batch) -> Progress {
        let Some(read) = &self.read else { return Progress::Done };
        let count = batch.room().min(self.pieces.len() - self.given);
        for piece in &self.pieces[self.given..self.given + count] {
            let mut frame = read.frame(piece.range.clone());
            frame.meta.tag = piece.tag;
            frame.meta.sides = sides;
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
