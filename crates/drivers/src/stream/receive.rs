use std::io;
use std::ops::Range;
use std::time::Duration;

use rustix::net::RecvFlags;
use vmlan_frame::{Batch, Context, Instant, Pool, SharedBuf, Size};

use super::framing::{self, BadLength, Piece};
use crate::peer::PeerSocket;
use crate::queue::{Fault, Progress};

/// How long a peer may take from the first to the last octet of a frame.
const PATIENCE: Duration = Duration::from_secs(5);

/// The receiving half of a stream.
///
/// Frames are found a batch at a time, when they are given out: a read of many thousands of tiny ones costs no more at
/// once than one of large ones.
#[derive(Default)]
pub(super) struct Receiver {
    /// The beginning of a frame whose rest has not come yet.
    carry: Vec<u8>,
    /// When it came.
    since: Option<Instant>,
    /// The last read, while not all of it was given out.
    read: Option<Read>,
    /// The frames that are given out; empty between calls, kept for its memory.
    pieces: Vec<Piece>,
}

/// Octets that came at once.
struct Read {
    buffer: SharedBuf,
    /// Those that were not given out yet.
    left: Range<usize>,
    came: Instant,
    /// True if there was a whole frame among the octets.
    has_frame: bool,
}

impl Receiver {
    pub(super) fn receive(
        &mut self,
        socket: &PeerSocket,
        cx: &Context<'_>,
        batch: &mut Batch,
    ) -> Result<Progress, Fault> {
        if self.read.is_none() {
            self.check_patience(cx.now)?;
            self.read(socket, cx)?;
        }
        self.give(cx, batch)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        // What was read already may have the rest.
        self.since.filter(|_| self.read.is_none()).map(|since| since + PATIENCE)
    }

    fn check_patience(&self, now: Instant) -> Result<(), Fault> {
        match self.since {
            Some(since) if now.since(since) > PATIENCE => Err(Fault::Violation(format!(
                "the peer left a frame half sent for {} s ({} octets of it came)",
                PATIENCE.as_secs(),
                self.carry.len()
            ))),
            _ => Ok(()),
        }
    }

    /// Reads once.
    fn read(&mut self, socket: &PeerSocket, cx: &Context<'_>) -> Result<(), Fault> {
        let Some(mut buffer) = cx.pool.take(Size::Bulk).or_else(|| cx.pool.take(Size::Large)) else {
            // The descriptor stays ready: it is tried again in the next round.
            return Ok(());
        };
        let carried = self.carry.len();
        buffer[..carried].copy_from_slice(&self.carry);
        let came = match socket.receive(&mut buffer[carried..], RecvFlags::empty()) {
            Ok(message) if message.len == 0 => return Err(Fault::Closed),
            Ok(message) => message.len,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(error) => return Err(Fault::of_socket(error)),
        };
        let left = 0..carried + came;
        self.read = Some(Read { buffer: buffer.share(), left, came: cx.now, has_frame: false });
        Ok(())
    }

    /// Gives out frames of the last read, as many as fit.
    fn give(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<Progress, Fault> {
        let Some(read) = &mut self.read else {
            return Ok(Progress::Done);
        };
        let room = batch.room();
        self.pieces.clear();
        let Some((start, result)) = read.split(cx.pool, room, &mut self.pieces) else {
            // Frames that were given out before are still held, and no other buffer is free.
            return Ok(Progress::Again);
        };
        for piece in &self.pieces {
            let mut frame = read.buffer.frame(start + piece.range.start..start + piece.range.end);
            frame.meta.tag = piece.tag;
            batch.push(frame);
        }
        read.has_frame |= !self.pieces.is_empty();
        match result {
            Ok(taken) => read.left.start += taken,
            Err(error) => {
                self.read = None;
                return Err(Fault::Violation(error.to_string()));
            }
        }
        if self.pieces.len() == room && !read.left.is_empty() {
            return Ok(Progress::Again);
        }
        self.carry.clear();
        self.carry.extend_from_slice(&read.buffer.octets()[read.left.clone()]);
        if self.carry.is_empty() {
            self.since = None;
        } else if self.since.is_none() || read.has_frame {
            self.since = Some(read.came);
        }
        self.read = None;
        Ok(Progress::Done)
    }
}

impl Read {
    /// Finds at most `most` frames in what was not given out yet, which begins at the place that it answers. Goes on in
    /// another buffer where frames of this one are still held, for tags are taken off in place; `None` without one.
    fn split(
        &mut self,
        pool: &Pool,
        most: usize,
        pieces: &mut Vec<Piece>,
    ) -> Option<(usize, Result<usize, BadLength>)> {
        if self.buffer.octets_mut().is_none() {
            let rest = &self.buffer.octets()[self.left.clone()];
            let mut other = pool.take(Size::for_octets(rest.len())?)?;
            other[..rest.len()].copy_from_slice(rest);
            self.left = 0..rest.len();
            self.buffer = other.share();
        }
        let octets = self.buffer.octets_mut()?;
        Some((self.left.start, framing::split(&mut octets[self.left.clone()], most, pieces)))
    }
}
