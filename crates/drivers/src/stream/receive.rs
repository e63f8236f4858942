use std::io;
use std::time::Duration;

use frame::{Batch, Instant, SharedBuf, Size};
use link::Context;
use rustix::net::RecvFlags;

use super::framing::{self, Piece};
use crate::peer::PeerSocket;
use crate::queue::{Fault, Progress};

/// How long a peer may take from the first to the last octet of a frame.
const PATIENCE: Duration = Duration::from_secs(5);

/// The receiving half of a stream.
#[derive(Default)]
pub(super) struct Receiver {
    /// The beginning of a frame whose rest has not come yet.
    carry: Vec<u8>,
    /// When it came.
    since: Option<Instant>,
    /// The last read, while not all frames in it were given out.
    read: Option<SharedBuf>,
    /// The frames in it.
    pieces: Vec<Piece>,
    /// How many of them were given out.
    given: usize,
    /// What was wrong behind the last of them.
    fault: Option<Fault>,
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
        self.give(batch)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.since.map(|since| since + PATIENCE)
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

    /// Reads once and finds the frames.
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
        self.pieces.clear();
        self.given = 0;
        let filled = carried + came;
        match framing::split(&mut buffer[..filled], &mut self.pieces) {
            Ok(taken) => {
                self.carry.clear();
                self.carry.extend_from_slice(&buffer[taken..filled]);
                if self.carry.is_empty() {
                    self.since = None;
                } else if self.since.is_none() || taken > 0 {
                    self.since = Some(cx.now);
                }
            }
            Err(error) => self.fault = Some(Fault::Violation(error.to_string())),
        }
        self.read = Some(buffer.share());
        Ok(())
    }

    /// Gives out frames of the last read, as many as fit.
    fn give(&mut self, batch: &mut Batch) -> Result<Progress, Fault> {
        let Some(read) = &self.read else {
            return Ok(Progress::Done);
        };
        let count = batch.room().min(self.pieces.len() - self.given);
        for piece in &self.pieces[self.given..self.given + count] {
            let mut frame = read.frame(piece.range.clone());
            frame.meta.tag = piece.tag;
            batch.push(frame);
        }
        self.given += count;
        if self.given < self.pieces.len() {
            return Ok(Progress::Again);
        }
        self.read = None;
        match self.fault.take() {
            Some(fault) => Err(fault),
            None => Ok(Progress::Done),
        }
    }
}
