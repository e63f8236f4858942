//! The rings of a socket: one side puts entries in, the other takes them out, and neither waits (Documentation/
//! networking/af_xdp.rst, "Rings").
//!
//! Theory of operation. A ring has two counts that only grow, modulo 2³²: entries that were put in, and entries that
//! were taken out. Each is written by one side. The side that puts in writes entries first and then its count, with
//! release; the other one reads that count, with acquire, before the entries. How many there are is the difference of
//! the counts; more than there are places means that the counts are wrong, and is taken for none.

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use crate::linux::memory::Memory;

/// Where things are in a ring's memory, in octets from its start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offsets {
    pub(super) producer: u64,
    pub(super) consumer: u64,
    pub(super) flags: u64,
    pub(super) entries: u64,
}

/// The memory of a ring that both sides see.
struct Shared<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    /// Places, a power of two.
    size: u32,
    _memory: Arc<Memory>,
}

// SAFETY: the pointers lead into the mapping, which belongs to no thread and lives as long as they do.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T: Copy> Shared<T> {
    fn new(memory: &Arc<Memory>, offsets: Offsets, size: u32) -> io::Result<Shared<T>> {
        if !size.is_power_of_two() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a ring's size is a power of two"));
        }
        Ok(Shared {
            producer: memory.place(offsets.producer, 1)?,
            consumer: memory.place(offsets.consumer, 1)?,
            flags: memory.place(offsets.flags, 1)?,
            entries: memory.place(offsets.entries, size as usize)?,
            size,
            _memory: memory.clone(),
        })
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: `place` has checked bounds and alignment, the memory lives as long as this, and whoever else
        // has it accesses these octets atomically.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { self.consumer.as_ref() }
    }

    fn flags(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { self.flags.as_ref() }
    }

    fn entry(&self, count: u32) -> NonNull<T> {
        // SAFETY: the entry is one of `size`, for which `place` has checked the bounds.
        unsafe { self.entries.add((count & (self.size - 1)) as usize) }
    }
}

/// The side of a ring that puts in.
pub(super) struct Producer<T> {
    shared: Shared<T>,
    /// Entries that were put in, told or not.
    put: u32,
    /// Entries that the other side had taken out when it was asked last.
    taken: u32,
}

impl<T: Copy> Producer<T> {
    pub(super) fn new(memory: &Arc<Memory>, offsets: Offsets, size: u32) -> io::Result<Producer<T>> {
        let shared = Shared::new(memory, offsets, size)?;
        let (put, taken) =
            (shared.producer().load(Ordering::Relaxed), shared.consumer().load(Ordering::Acquire));
        Ok(Producer { shared, put, taken })
    }

    /// How many more fit.
    pub(super) fn room(&mut self) -> usize {
        let free = |taken: u32| self.shared.size.saturating_sub(self.put.wrapping_sub(taken));
        if free(self.taken) == 0 {
            self.taken = self.shared.consumer().load(Ordering::Acquire);
        }
        free(self.taken) as usize
    }

    /// Puts an entry in, which the other side sees after [`Producer::submit`]; false when there is no room.
    pub(super) fn put(&mut self, entry: T) -> bool {
        if self.room() == 0 {
            return false;
        }
        // SAFETY: the place is within the memory, and the other side does not read it before it is told.
        unsafe { self.shared.entry(self.put).write_volatile(entry) };
        self.put = self.put.wrapping_add(1);
        true
    }

    /// Tells what was put in.
    pub(super) fn submit(&mut self) {
        self.shared.producer().store(self.put, Ordering::Release);
    }

    /// How many the other side has not taken out yet.
    pub(super) fn left(&mut self) -> usize {
        self.taken = self.shared.consumer().load(Ordering::Acquire);
        self.put.wrapping_sub(self.taken).min(self.shared.size) as usize
    }

    /// True if the kernel wants a system call that tells it of submitted entries.
    pub(super) fn wants_call(&self) -> bool {
        // What was submitted is to be seen before the flag is looked at, which the kernel raises before it
        // looks a last time.
        fence(Ordering::SeqCst);
        self.shared.flags().load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

/// The side of a ring that takes out.
pub(super) struct Consumer<T> {
    shared: Shared<T>,
    /// Entries that were taken out, told or not.
    taken: u32,
    /// Entries that the other side had put in when it was asked last.
    put: u32,
}

impl<T: Copy> Consumer<T> {
    pub(super) fn new(memory: &Arc<Memory>, offsets: Offsets, size: u32) -> io::Result<Consumer<T>> {
        let shared = Shared::new(memory, offsets, size)?;
        let (put, taken) =
            (shared.producer().load(Ordering::Acquire), shared.consumer().load(Ordering::Relaxed));
        Ok(Consumer { shared, taken, put })
    }

    /// The next entry, which stays the next one until [`Consumer::take`].
    pub(super) fn peek(&mut self) -> Option<T> {
        if self.put == self.taken {
            self.put = self.shared.producer().load(Ordering::Acquire);
        }
        let there = self.put.wrapping_sub(self.taken);
        if there == 0 || there > self.shared.size {
            return None;
        }
        // SAFETY: the place is within the memory, and the other side does not write to it before it is released.
        Some(unsafe { self.shared.entry(self.taken).read_volatile() })
    }

    /// Takes the next entry out.
    pub(super) fn take(&mut self) -> Option<T> {
        let entry = self.peek()?;
        self.taken = self.taken.wrapping_add(1);
        Some(entry)
    }

    /// Lets the other side use the places of what was taken out.
    pub(super) fn release(&mut self) {
        self.shared.consumer().store(self.taken, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFSETS: Offsets = Offsets { producer: 0, consumer: 64, flags: 128, entries: 192 };

    /// Both sides of a ring of four places whose counts begin at `start`.
    fn ring(start: u32) -> (Producer<u64>, Consumer<u64>, Arc<Memory>) {
        let memory = Arc::new(Memory::zeroed(4096).unwrap());
        for offset in [OFFSETS.producer, OFFSETS.consumer] {
            let count: NonNull<AtomicU32> = memory.place(offset, 1).unwrap();
            // SAFETY: the place was checked, and nobody else has the memory.
            unsafe { count.as_ref() }.store(start, Ordering::Relaxed);
        }
        let producer = Producer::new(&memory, OFFSETS, 4).unwrap();
        (producer, Consumer::new(&memory, OFFSETS, 4).unwrap(), memory)
    }

    #[test]
    fn entries_come_out_in_order_once_they_are_told() {
        for start in [0, u32::MAX - 5] {
            let (mut producer, mut consumer, _) = ring(start);
            for round in 0..10 {
                assert!(producer.put(round) && producer.put(round + 1));
                assert_eq!(consumer.peek(), None, "not told yet");
                producer.submit();
                assert_eq!(
                    (consumer.take(), consumer.take(), consumer.take()),
                    (Some(round), Some(round + 1), None)
                );
                assert_eq!(producer.left(), 2);
                consumer.release();
                assert_eq!(producer.left(), 0);
            }
        }
    }

    #[test]
    fn a_full_ring_takes_no_more_until_something_is_released() {
        let (mut producer, mut consumer, _) = ring(u32::MAX);
        assert_eq!((0..6).filter(|entry| producer.put(*entry)).count(), 4);
        producer.submit();
        assert_eq!(consumer.take(), Some(0));
        assert_eq!(producer.room(), 0, "taken, not released");
        consumer.release();
        assert_eq!(producer.room(), 1);
    }

    #[test]
    fn counts_that_are_wrong_give_nothing() {
        let (mut producer, mut consumer, memory) = ring(0);
        let count: NonNull<AtomicU32> = memory.place(OFFSETS.producer, 1).unwrap();
        // SAFETY: the place was checked, and everybody accesses it atomically.
        unsafe { count.as_ref() }.store(5, Ordering::Release);
        assert_eq!((consumer.peek(), consumer.take()), (None, None));

        let count: NonNull<AtomicU32> = memory.place(OFFSETS.consumer, 1).unwrap();
        // SAFETY: as above.
        unsafe { count.as_ref() }.store(7, Ordering::Release);
        assert_eq!((0..6).filter(|entry| producer.put(*entry)).count(), 4);
        assert_eq!(producer.room(), 0);
    }

    #[test]
    fn a_ring_lies_within_its_memory() {
        let memory = Arc::new(Memory::zeroed(4096).unwrap());
        assert!(Producer::<u64>::new(&memory, OFFSETS, 488).is_err(), "no power of two");
        assert!(Producer::<u64>::new(&memory, OFFSETS, 512).is_err(), "too long");
        assert!(Consumer::<u64>::new(&memory, Offsets { producer: 4094, ..OFFSETS }, 4).is_err());
        assert!(Consumer::<u64>::new(&memory, Offsets { entries: u64::MAX, ..OFFSETS }, 4).is_err());
        assert!(Consumer::<u64>::new(&memory, Offsets { flags: 130, ..OFFSETS }, 4).is_err());
    }
}
