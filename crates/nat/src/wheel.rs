//! Timers of many flows: a hashed wheel in two rounds.
//!
//! Theory of operation. A timer is due at a tick of 10 ms. The near round has a place for each of the next 256 ticks,
//! the far round one for each of the next 512 rounds of the near one, about 22 minutes; a later timer is put at the end
//! and looks again there. Places are lists through the entries themselves, so that setting, moving and stopping a timer
//! takes the same time whatever there is, and allocates nothing.

use std::time::Duration;

use vmlan_frame::Instant;

const NEAR: u64 = 256;
const FAR: u64 = 512;
const TICK: u64 = 10_000_000;
/// No entry.
const NONE: u32 = u32::MAX;
/// The timer is not in the wheel.
const NOWHERE: u16 = u16::MAX;

/// The links of one timer.
#[derive(Debug, Clone, Copy)]
struct Entry {
    tick: u64,
    next: u32,
    previous: u32,
    place: u16,
}

/// Timers by number.
#[derive(Debug)]
pub(crate) struct Wheel {
    entries: Vec<Entry>,
    heads: Vec<u32>,
    /// Places that have entries, as bits.
    taken: [u64; ((NEAR + FAR) / 64) as usize],
    /// Everything before this tick has been told.
    tick: u64,
}

impl Wheel {
    pub(crate) fn new(now: Instant) -> Wheel {
        Wheel {
            entries: Vec::new(),
            heads: vec![NONE; (NEAR + FAR) as usize],
            taken: Default::default(),
            tick: now.as_nanos() / TICK,
        }
    }

    /// Sets the timer with this number to `at`, rounded up to the next tick.
    pub(crate) fn set(&mut self, number: u32, at: Instant) {
        let slot = number as usize;
        if slot >= self.entries.len() {
            let vacant = Entry { tick: 0, next: NONE, previous: NONE, place: NOWHERE };
            self.entries.resize(slot + 1, vacant);
        }
        let tick = (at.as_nanos() / TICK + 1).max(self.tick + 1);
        if self.entries[slot].place != NOWHERE {
            if self.entries[slot].tick == tick {
                return;
            }
            self.stop(number);
        }
        self.entries[slot].tick = tick;
        self.insert(number);
    }

    fn insert(&mut self, number: u32) {
        let tick = self.entries[number as usize].tick;
        let place = if tick - self.tick < NEAR {
            tick % NEAR
        } else {
            // One round less than there are: the one that is being told keeps its place.
            NEAR + (tick / NEAR).min(self.tick / NEAR + FAR - 1) % FAR
        };
        let head = std::mem::replace(&mut self.heads[place as usize], number);
        if head != NONE {
            self.entries[head as usize].previous = number;
        }
        let entry = &mut self.entries[number as usize];
        (entry.next, entry.previous, entry.place) = (head, NONE, place as u16);
        self.taken[place as usize / 64] |= 1 << (place % 64);
    }

    /// Stops the timer with this number, if it runs.
    pub(crate) fn stop(&mut self, number: u32) {
        let Some(&Entry { next, previous, place, .. }) = self.entries.get(number as usize) else { return };
        if place == NOWHERE {
            return;
        }
        match previous {
            NONE => self.heads[usize::from(place)] = next,
            previous => self.entries[previous as usize].next = next,
        }
        if next != NONE {
            self.entries[next as usize].previous = previous;
        }
        if self.heads[usize::from(place)] == NONE {
            self.taken[usize::from(place) / 64] &= !(1 << (place % 64));
        }
        self.entries[number as usize].place = NOWHERE;
    }

    /// Stops one timer that is due at `now`, and returns its number. To be called until it returns `None`.
    pub(crate) fn due(&mut self, now: Instant) -> Option<u32> {
        let end = now.as_nanos() / TICK;
        loop {
            let head = self.heads[(self.tick % NEAR) as usize];
            if head != NONE {
                self.stop(head);
                return Some(head);
            }
            let next = self.next_tick().unwrap_or(end).min(end);
            if self.tick >= end {
                return None;
            }
            let round = self.tick / NEAR;
            // Nothing is due before; the far round's place is opened when its first tick comes.
            self.tick = next.max(self.tick + 1).min((round + 1) * NEAR);
            if self.tick / NEAR != round {
                self.open();
            }
        }
    }

    /// Spreads what is due in the round that begins.
    fn open(&mut self) {
        let place = (NEAR + self.tick / NEAR % FAR) as usize;
        let mut number = self.heads[place];
        while number != NONE {
            let next = self.entries[number as usize].next;
            self.stop(number);
            self.insert(number);
            number = next;
        }
    }

    /// The earliest tick at which something may be due, or has to be spread.
    fn next_tick(&self) -> Option<u64> {
        const NEAR_WORDS: usize = (NEAR / 64) as usize;
        let near = ahead(&self.taken[..NEAR_WORDS], self.tick).map(|ahead| self.tick + ahead);
        let round = self.tick / NEAR;
        let far = ahead(&self.taken[NEAR_WORDS..], round + 1).map(|ahead| (round + 1 + ahead) * NEAR);
        [near, far].into_iter().flatten().min()
    }

    /// Returns when [`Wheel::due`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.next_tick().map(|tick| Instant::ZERO + Duration::from_nanos(tick * TICK))
    }
}

/// How many places behind place `from` of a round the first one is that has entries.
fn ahead(taken: &[u64], from: u64) -> Option<u64> {
    let places = taken.len() as u64 * 64;
    let (word, bit) = ((from % places / 64) as usize, from % 64);
    // The first word twice: what is behind the place at first, what is before it at last.
    (0..=taken.len()).find_map(|step| {
        let mut bits = taken[(word + step) % taken.len()];
        if step == 0 {
            bits &= u64::MAX << bit;
        } else if step == taken.len() {
            bits &= !(u64::MAX << bit);
        }
        (bits != 0).then(|| step as u64 * 64 + u64::from(bits.trailing_zeros()) - bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    proptest! {
        #[test]
        fn timers_are_due_once_and_in_time(times in proptest::collection::vec(0u64..1_000_000, 1..50), step in 1u64..100_000) {
            let mut wheel = Wheel::new(at(5_000));
            for (number, time) in times.iter().enumerate() {
                wheel.set(number as u32, at(5_000 + time));
            }
            let mut fired = vec![None; times.len()];
            let mut now = 5_000;
            while wheel.deadline().is_some() {
                now += step;
                while let Some(number) = wheel.due(at(now)) {
                    prop_assert!(fired[number as usize].replace(now).is_none());
                }
            }
            for (time, fired) in times.iter().zip(fired) {
                let fired = fired.expect("every timer is due");
                prop_assert!(fired >= 5_000 + time && fired <= 5_000 + time + 20 + step, "{time} {fired}");
            }
        }
    }

    #[test]
    fn a_stopped_timer_is_not_due_and_one_set_anew_is_due_once() {
        let mut wheel = Wheel::new(Instant::ZERO);
        for number in 0..3 {
            wheel.set(number, at(100));
        }
        wheel.stop(1);
        wheel.set(2, at(5_000));
        assert_eq!((wheel.due(at(200)), wheel.due(at(200))), (Some(0), None));
        assert!(wheel.deadline().is_some_and(|deadline| deadline <= at(5_020)));
        assert_eq!((wheel.due(at(4_999)), wheel.due(at(5_021)), wheel.deadline()), (None, Some(2), None));
    }

    #[test]
    fn a_timer_beyond_the_wheel_is_due_in_time() {
        let mut wheel = Wheel::new(Instant::ZERO);
        wheel.set(0, Instant::from_secs(10_000));
        assert_eq!(
            (wheel.due(Instant::from_secs(9_999)), wheel.due(Instant::from_secs(10_001))),
            (None, Some(0))
        );
    }
}
