use std::io;
use std::os::fd::OwnedFd;

use uring::{Reader, Writer};
use vmlan_sys::Poller;

use super::{BATCH, Move, READABLE};

/// Buffers of a TAP that are with the kernel. More fall out of the processor's cache and are slower.
const BUFFERS: u16 = 64;

// One call writes a whole batch.
const _: () = assert!(BATCH <= Writer::LIMIT);

pub(super) struct Mover<'a> {
    taps: &'a [OwnedFd; 2],
    readers: [Reader; 2],
    writer: Writer,
    batch: Vec<(Box<[u8]>, usize)>,
}

impl<'a> Mover<'a> {
    pub(super) fn new(taps: &'a [OwnedFd; 2], buffer: usize) -> io::Result<Self> {
        let mut readers = [Reader::new(BUFFERS)?, Reader::new(BUFFERS)?];
        for reader in &mut readers {
            for _ in 0..reader.places() {
                reader.provide(vec![0; buffer].into()).expect("there is a place");
            }
        }
        Ok(Mover { taps, readers, writer: Writer::new()?, batch: Vec::with_capacity(BATCH) })
    }
}

impl Move for Mover<'_> {
    fn watch(&self, poller: &Poller) -> io::Result<()> {
        for (token, reader) in (0..).zip(&self.readers) {
            poller.add(reader, token, READABLE)?;
        }
        Ok(())
    }

    fn relay(&mut self, from: usize) -> io::Result<()> {
        let Mover { taps, readers, writer, batch } = self;
        let reader = &mut readers[from];
        reader.reap(BATCH, |buffer, len| batch.push((buffer, len)))?;
        if !batch.is_empty() {
            // What the other does not take, because it is down or full, is lost as on any wire.
            let mut results = [0; Writer::LIMIT];
            let frame = |i: usize| [&batch[i].0[..batch[i].1], &[], &[], &[]];
            writer.write(&taps[1 - from], batch.len(), frame, &mut results)?;
        }
        for (buffer, _) in batch.drain(..) {
            reader.provide(buffer).expect("a buffer returns to its place");
        }
        reader.arm(&taps[from])
    }
}
