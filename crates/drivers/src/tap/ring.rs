//! Many frames a system call, by io_uring.
//!
//! A queue keeps a few of the pool's buffers with the kernel, which puts each frame into one of them as it comes; the
//! pool grows by as many while the queue is there, so that an idle device takes nothing from the others.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use frame::{Batch, Entry, Pool, Size, WriteBuf};
use rustix::io::Errno;
use sys::uring::{Reader, Writer};

use super::{Mover, NOTHING_TO_DO, parts};

/// Buffers of a queue that are with the kernel.
const LENT: u16 = 32;

pub(super) struct Ring {
    fd: Arc<OwnedFd>,
    receives: bool,
    reader: Reader,
    writer: Writer,
    /// Where the lent buffers come from, once some were.
    lender: Option<(Pool, Size)>,
}

impl Ring {
    pub(super) fn new(fd: Arc<OwnedFd>, receives: bool) -> io::Result<Ring> {
        Ok(Ring { fd, receives, reader: Reader::new(LENT)?, writer: Writer::new()?, lender: None })
    }

    /// Gives the kernel as many buffers as it has places for.
    fn provide(&mut self, pool: &Pool, size: Size) {
        if self.lender.is_none() {
            pool.grow(size, usize::from(LENT));
            self.lender = Some((pool.clone(), size));
        }
        for _ in 0..self.reader.places() {
            let Some(octets) = pool.lend(size) else { break };
            self.reader.provide(octets).expect("there is a place");
        }
    }
}

impl Mover for Ring {
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
        let result = self.reader.reap(limit, |octets, len| deliver(pool.redeem(octets), len));
        self.provide(pool, size);
        self.reader.arm(&self.fd)?;
        result
    }

    fn wants_attention(&self) -> bool {
        self.receives && !self.reader.is_armed()
    }

    fn transmit(&mut self, chunk: &[Entry<'_>], results: &mut [Result<(), Errno>; Batch::LIMIT]) {
        let mut tags = [[0; 4]; Batch::LIMIT];
        let mut pieces: [[&[u8]; 4]; Batch::LIMIT] = [[&[]; 4]; Batch::LIMIT];
        for ((entry, tag), pieces) in chunk.iter().zip(&mut tags).zip(&mut pieces) {
            let [first, middle, last] = parts(entry, tag);
            *pieces = [&NOTHING_TO_DO, first, middle, last];
        }
        let mut codes = [0; Writer::LIMIT];
        let wrote = self.writer.write(&self.fd, chunk.len(), |i| pieces[i], &mut codes);
        for (result, code) in results.iter_mut().zip(codes).take(chunk.len()) {
            *result = match (&wrote, code) {
                (Err(error), _) => Err(Errno::from_io_error(error).unwrap_or(Errno::IO)),
                (Ok(()), ..0) => Err(Errno::from_raw_os_error(-code)),
                (Ok(()), _) => Ok(()),
            };
        }
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let lent = self.reader.close();
        if let Some((pool, size)) = self.lender.take() {
            lent.into_iter().for_each(|octets| drop(pool.redeem(octets)));
            pool.shrink(size, usize::from(LENT));
        }
    }
}
