//! One system call a frame.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use frame::{Batch, Entry, Pool, Size, WriteBuf};
use rustix::io::Errno;

use super::{Mover, NOTHING_TO_DO, parts};

pub(super) struct Plain {
    fd: Arc<OwnedFd>,
    receives: bool,
}

impl Plain {
    pub(super) fn new(fd: Arc<OwnedFd>, receives: bool) -> Plain {
        Plain { fd, receives }
    }
}

impl Mover for Plain {
    fn receive(
        &mut self,
        pool: &Pool,
        size: Size,
        limit: usize,
        mut deliver: impl FnMut(WriteBuf, usize),
    ) -> io::Result<()> {
        if !self.receives {
            return Ok(());
        }
        for _ in 0..limit {
            let Some(mut buffer) = pool.take(size) else { break };
            match rustix::io::read(&self.fd, &mut buffer[..]) {
                Ok(len) => deliver(buffer, len),
                Err(Errno::AGAIN | Errno::INTR) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn wants_attention(&self) -> bool {
        false
    }

    fn transmit(&mut self, chunk: &[Entry<'_>], results: &mut [Result<(), Errno>; Batch::LIMIT]) {
        for (entry, result) in chunk.iter().zip(results) {
            let mut tag = [0; 4];
            let [first, middle, last] = parts(entry, &mut tag);
            let slices = [&NOTHING_TO_DO, first, middle, last].map(IoSlice::new);
            let used = if middle.is_empty() { 2 } else { 4 };
            *result = rustix::io::retry_on_intr(|| rustix::io::writev(&self.fd, &slices[..used])).map(drop);
        }
    }
}

impl AsFd for Plain {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
