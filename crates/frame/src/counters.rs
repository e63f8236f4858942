//! The counters of a port, or of a link.
//!
//! Counters are split into one shard a worker, each on cache lines of its own, so that workers never write the same
//! line; a reader adds the shards up. A worker counts once a batch, not once a frame ([`Tally`]).

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::{Batch, DropReason, Frame, Meta, PerReason, TrafficClass, VLAN_TAG};

/// The counters of one port, or of one link.
pub struct Counters {
    shards: Box<[Shard]>,
}

#[derive(Default)]
#[repr(align(128))]
struct Shard {
    rx: Direction,
    tx: Direction,
    copies: AtomicU64,
    segmented: AtomicU64,
    coalesced: AtomicU64,
    queued: AtomicU64,
    drops: PerReason<AtomicU64>,
}

#[derive(Default)]
struct Direction {
    frames: AtomicU64,
    octets: AtomicU64,
    multicasts: AtomicU64,
    errors: AtomicU64,
    /// Segmentation frames, and the segments that they stand for.
    large: [AtomicU64; 2],
    classes: [[AtomicU64; 2]; 3],
}

/// The increments of the counters for one direction of a batch.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tally {
    /// Frames.
    pub frames: u64,
    /// Octets as on the medium: with header and tag, without FCS.
    pub octets: u64,
    /// Frames to a group address, broadcast too.
    pub multicasts: u64,
    /// Segmentation frames among them, and the segments that those stand for.
    pub large: [u64; 2],
    /// Frames and octets by class: background, video, voice. Best effort is not counted by class.
    pub classes: [[u64; 2]; 3],
}

/// The sums of all shards of [`Counters`] at one time.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Snapshot {
    /// Frames received, those dropped afterwards too.
    pub rx_frames: u64,
    /// Octets received: with header and tag, without FCS.
    pub rx_octets: u64,
    /// Frames received for a group address.
    pub rx_multicasts: u64,
    /// Failures to receive.
    pub rx_errors: u64,
    /// Segmentation frames received, and the segments that they stand for.
    pub rx_large: [u64; 2],
    /// Frames sent.
    pub tx_frames: u64,
    /// Octets sent.
    pub tx_octets: u64,
    /// Frames sent to a group address.
    pub tx_multicasts: u64,
    /// Failures to send.
    pub tx_errors: u64,
    /// Segmentation frames sent, and the segments that they stand for.
    pub tx_large: [u64; 2],
    /// Copies of received frames that were made for other links: the fan-out.
    pub copies: u64,
    /// Frames that were made of copies on their way out by cutting segmentation frames: one less than the segments.
    pub segmented: u64,
    /// Copies that went into others on their way out.
    pub coalesced: u64,
    /// Frames that wait for the medium now.
    pub queued: u64,
    /// Frames and octets received, by class: background, video, voice.
    pub rx_classes: [[u64; 2]; 3],
    /// Frames and octets sent, by class: background, video, voice.
    pub tx_classes: [[u64; 2]; 3],
    /// Drops by reason.
    pub drops: PerReason<u64>,
}

impl Snapshot {
    /// How many frames were dropped for `reason`.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason]
    }

    /// All drops on one side of the link.
    pub fn dropped_on(&self, side: crate::Direction) -> u64 {
        let on_side = |reason: &&DropReason| reason.direction() == side;
        DropReason::ALL.iter().filter(on_side).map(|reason| self.dropped(*reason)).sum()
    }
}

impl Tally {
    /// Adds one frame.
    #[inline]
    pub fn add(&mut self, frame: &Frame) {
        self.add_parts(frame.octets(), &frame.meta);
    }

    /// Counts every frame of a batch.
    #[inline]
    pub fn of(batch: &Batch) -> Tally {
        let (mut octets, mut multicasts, mut is_marked) = (0, 0, false);
        for frame in batch {
            octets += frame.wire_len() as u64;
            multicasts += u64::from(is_to_group(frame.octets()));
            is_marked |=
                frame.meta.offload.is_segmentation() | (frame.meta.class != TrafficClass::BestEffort);
        }
        let mut tally = Tally { frames: batch.len() as u64, octets, multicasts, ..Tally::default() };
        if is_marked {
            batch.iter().for_each(|frame| tally.add_marks(frame.octets(), &frame.meta));
        }
        tally
    }

    /// Adds one frame that is no longer a [`Frame`].
    #[inline]
    pub fn add_parts(&mut self, frame: &[u8], meta: &Meta) {
        self.frames += 1;
        self.octets += wire_len(frame, meta);
        self.multicasts += u64::from(is_to_group(frame));
        self.add_marks(frame, meta);
    }

    /// Adds what is counted of few frames: segments, and classes other than best effort.
    #[inline]
    fn add_marks(&mut self, frame: &[u8], meta: &Meta) {
        if meta.offload.is_segmentation() {
            self.large[0] += 1;
            self.large[1] += meta.offload.segments(frame.len()) as u64;
        }
        let class = match meta.class {
            TrafficClass::BestEffort => return,
            TrafficClass::Background => 0,
            TrafficClass::Video => 1,
            TrafficClass::Voice => 2,
        };
        self.classes[class][0] += 1;
        self.classes[class][1] += wire_len(frame, meta);
    }
}

#[inline]
fn wire_len(frame: &[u8], meta: &Meta) -> u64 {
    (frame.len() + if meta.tag.is_some() { VLAN_TAG } else { 0 }) as u64
}

#[inline]
fn is_to_group(frame: &[u8]) -> bool {
    frame.first().is_some_and(|octet| octet & 1 != 0)
}

impl Counters {
    /// Zeroed counters for `workers` workers.
    pub fn new(workers: usize) -> Counters {
        Counters { shards: Vec::from_iter((0..workers.max(1)).map(|_| Shard::default())).into() }
    }

    /// For how many workers they are.
    pub fn workers(&self) -> usize {
        self.shards.len()
    }

    #[inline]
    fn shard(&self, worker: usize) -> &Shard {
        &self.shards[worker % self.shards.len()]
    }

    /// Counts what was received.
    #[inline]
    pub fn received(&self, worker: usize, tally: &Tally) {
        self.shard(worker).rx.add(tally);
    }

    /// Counts what was sent.
    #[inline]
    pub fn sent(&self, worker: usize, tally: &Tally) {
        self.shard(worker).tx.add(tally);
    }

    /// Counts drops that are numbers and no frames to show: of what the kernel dropped, of what is no frame yet or no
    /// longer. A frame is lost by [`Account::lose`](crate::Account::lose).
    #[inline]
    pub fn dropped_unseen(&self, worker: usize, reason: DropReason, count: u64) {
        if count > 0 {
            self.shard(worker).drops[reason].fetch_add(count, Relaxed);
        }
    }

    /// Counts frames that came in, `octets` octets together, and were dropped before they entered the link: they count
    /// as received too, so that the books balance.
    #[inline]
    pub fn received_and_dropped(&self, worker: usize, reason: DropReason, frames: u64, octets: u64) {
        if frames > 0 {
            self.received(worker, &Tally { frames, octets, ..Tally::default() });
            self.dropped_unseen(worker, reason, frames);
        }
    }

    /// Counts copies of received frames made for other links.
    #[inline]
    pub fn copied(&self, worker: usize, count: u64) {
        if count > 0 {
            self.shard(worker).copies.fetch_add(count, Relaxed);
        }
    }

    /// Counts frames made by cutting segmentation frames on their way out.
    #[inline]
    pub fn segmented(&self, worker: usize, count: u64) {
        if count > 0 {
            self.shard(worker).segmented.fetch_add(count, Relaxed);
        }
    }

    /// Counts copies that went into others on their way out.
    #[inline]
    pub fn coalesced(&self, worker: usize, count: u64) {
        if count > 0 {
            self.shard(worker).coalesced.fetch_add(count, Relaxed);
        }
    }

    /// Says how many frames wait for the medium at this worker.
    #[inline]
    pub fn set_queued(&self, worker: usize, count: u64) {
        self.shard(worker).queued.store(count, Relaxed);
    }

    /// Counts failures to receive.
    pub fn rx_errors(&self, worker: usize, count: u64) {
        self.shard(worker).rx.errors.fetch_add(count, Relaxed);
    }

    /// Counts failures to send.
    pub fn tx_errors(&self, worker: usize, count: u64) {
        self.shard(worker).tx.errors.fetch_add(count, Relaxed);
    }

    /// The sums of all shards. While traffic flows it is no exact cut through time.
    pub fn snapshot(&self) -> Snapshot {
        let mut sum = Snapshot::default();
        for shard in &self.shards {
            let get = |counter: &AtomicU64| counter.load(Relaxed);
            sum.rx_frames += get(&shard.rx.frames);
            sum.rx_octets += get(&shard.rx.octets);
            sum.rx_multicasts += get(&shard.rx.multicasts);
            sum.rx_errors += get(&shard.rx.errors);
            sum.tx_frames += get(&shard.tx.frames);
            sum.tx_octets += get(&shard.tx.octets);
            sum.tx_multicasts += get(&shard.tx.multicasts);
            sum.tx_errors += get(&shard.tx.errors);
            sum.copies += get(&shard.copies);
            sum.segmented += get(&shard.segmented);
            sum.coalesced += get(&shard.coalesced);
            sum.queued += get(&shard.queued);
            for unit in 0..2 {
                sum.rx_large[unit] += get(&shard.rx.large[unit]);
                sum.tx_large[unit] += get(&shard.tx.large[unit]);
            }
            for class in 0..3 {
                for unit in 0..2 {
                    sum.rx_classes[class][unit] += get(&shard.rx.classes[class][unit]);
                    sum.tx_classes[class][unit] += get(&shard.tx.classes[class][unit]);
                }
            }
            for (total, counter) in sum.drops.iter_mut().zip(shard.drops.iter()) {
                *total += get(counter);
            }
        }
        sum
    }

    /// Zeroes every counter, as an attach does.
    pub fn reset(&self) {
        for shard in &self.shards {
            for side in [&shard.rx, &shard.tx] {
                let plain = [&side.frames, &side.octets, &side.multicasts, &side.errors];
                plain
                    .into_iter()
                    .chain(&side.large)
                    .chain(side.classes.iter().flatten())
                    .for_each(|counter| counter.store(0, Relaxed));
            }
            shard
                .drops
                .iter()
                .chain([&shard.copies, &shard.segmented, &shard.coalesced])
                .for_each(|counter| counter.store(0, Relaxed));
        }
    }
}

impl Direction {
    #[inline]
    fn add(&self, tally: &Tally) {
        // Adding nothing still costs a locked instruction.
        let add = |counter: &AtomicU64, value: u64| {
            if value > 0 {
                counter.fetch_add(value, Relaxed);
            }
        };
        add(&self.frames, tally.frames);
        add(&self.octets, tally.octets);
        add(&self.multicasts, tally.multicasts);
        add(&self.large[0], tally.large[0]);
        add(&self.large[1], tally.large[1]);
        for (counters, values) in self.classes.iter().zip(&tally.classes) {
            add(&counters[0], values[0]);
            add(&counters[1], values[1]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Pool, PoolSizes};

    #[test]
    fn shards_add_up_and_reset() {
        let counters = Counters::new(2);
        let pool = Pool::new(PoolSizes::default());
        let mut tally = Tally::default();
        let mut frame = pool.copy(&[0xff; 60]).unwrap();
        tally.add(&frame);
        frame.meta.class = TrafficClass::Voice;
        tally.add(&frame);
        let both = Tally::of(&Batch::from_iter([pool.copy(&[0xff; 60]).unwrap(), frame]));
        counters.received(0, &tally);
        counters.received(1, &both);
        counters.dropped_unseen(1, DropReason::Runt, 3);
        let sum = counters.snapshot();
        assert_eq!((sum.rx_frames, sum.rx_octets, sum.rx_multicasts), (4, 240, 4));
        assert_eq!(sum.rx_classes, [[0, 0], [0, 0], [2, 120]]);
        assert_eq!(sum.dropped(DropReason::Runt), 3);
        counters.reset();
        assert_eq!(counters.snapshot(), Snapshot::default());
    }
}
