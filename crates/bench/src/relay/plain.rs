use std::io;
use std::os::fd::OwnedFd;

use rustix::io::{Errno, read, write};
use vmlan_sys::Poller;

use super::{BATCH, Move, READABLE};

pub(super) struct Mover<'a> {
    taps: &'a [OwnedFd; 2],
    buffer: Box<[u8]>,
}

impl<'a> Mover<'a> {
    pub(super) fn new(taps: &'a [OwnedFd; 2], buffer: usize) -> io::Result<Self> {
        Ok(Mover { taps, buffer: vec![0; buffer].into() })
    }
}

impl Move for Mover<'_> {
    fn watch(&self, poller: &Poller) -> io::Result<()> {
        for (token, tap) in (0..).zip(self.taps) {
            poller.add(tap, token, READABLE)?;
        }
        Ok(())
    }

    fn relay(&mut self, from: usize) -> io::Result<()> {
        for _ in 0..BATCH {
            let len = match read(&self.taps[from], &mut self.buffer[..]) {
                Ok(len) => len,
                Err(Errno::AGAIN | Errno::INTR) => break,
                Err(error) => return Err(error.into()),
            };
            // What the other does not take, because it is down or full, is lost as on any wire.
            let _ = write(&self.taps[1 - from], &self.buffer[..len]);
        }
        Ok(())
    }
}
