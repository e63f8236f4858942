use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, sendmsg};
use vmlan_frame::{Batch, Entry};
use vmlan_sys::socket::SEND_NOW;

use super::framing::PREFIX;
use super::gather::Gathered;
use crate::parts::parts;
use crate::queue::Sent;

thread_local! {
    /// The memory that this thread's writes are laid out in.
    static GATHERED: RefCell<Gathered> = RefCell::default();
}

/// The sending half of a stream.
#[derive(Default)]
pub(super) struct Sender {
    /// The rest of a frame that the last write cut in two.
    rest: Vec<u8>,
}

impl Sender {
    pub(super) fn is_finished(&self) -> bool {
        self.rest.is_empty()
    }

    /// Writes the rest of a frame that was cut in two; false while some of it is left.
    pub(super) fn finish(&mut self, fd: BorrowedFd<'_>) -> io::Result<bool> {
        if !self.rest.is_empty() {
            let wrote = write(fd, &[IoSlice::new(&self.rest)])?;
            self.rest.drain(..wrote);
        }
        Ok(self.rest.is_empty())
    }

    /// Writes the frames of `chunk` with one call, as far as the socket takes them. Of the last one that it took it
    /// may have taken only a part: the rest is kept.
    pub(super) fn send(&mut self, fd: BorrowedFd<'_>, chunk: &[Entry<'_>]) -> io::Result<Sent> {
        debug_assert!(self.rest.is_empty());
        let mut left = GATHERED.with_borrow_mut(|gathered| {
            gathered.lay_out(chunk);
            let mut slices = [IoSlice::new(&[]); 2 * Batch::LIMIT + 1];
            write(fd, gathered.slices(chunk, &mut slices))
        })?;
        for (i, entry) in chunk.iter().enumerate() {
            let len = PREFIX
                + entry.octets.len()
                + if entry.meta.tag.is_some() { vmlan_frame::VLAN_TAG } else { 0 };
            if left < len {
                if left > 0 {
                    self.keep_rest(entry, left);
                }
                return Ok(Sent { taken: i + usize::from(left > 0), full: true, ..Sent::default() });
            }
            left -= len;
        }
        Ok(Sent { taken: chunk.len(), ..Sent::default() })
    }

    /// Keeps what follows the first `wrote` octets of `entry` on the wire.
    fn keep_rest(&mut self, entry: &Entry<'_>, wrote: usize) {
        let mut tag = [0; 4];
        let pieces = parts(entry, &mut tag);
        let len = pieces.iter().map(|piece| piece.len()).sum::<usize>() as u32;
        self.rest.extend_from_slice(&len.to_be_bytes());
        pieces.iter().for_each(|piece| self.rest.extend_from_slice(piece));
        self.rest.drain(..wrote);
    }
}

/// Writes without waiting; 0 when the socket takes nothing now.
fn write(fd: BorrowedFd<'_>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    match sendmsg(fd, slices, &mut SendAncillaryBuffer::default(), SEND_NOW) {
        Ok(wrote) => Ok(wrote),
        Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => Ok(0),
        Err(error) => Err(error.into()),
    }
}
