//! Gates: who is inside, and who is the last one out.
//!
//! Theory of operation. A gate is one word: how many are inside, and flags. It is closed, open, or closing. Entering
//! succeeds only while it is open, with one atomic exchange that checks the flags and raises the count together, so
//! a refused attempt leaves no trace. Once closing, the count only falls, and it reaches zero exactly once: either it
//! was zero when [`Gate::close`] was called, or one call of [`Gate::leave`] takes it there. That one call returns
//! true, and its caller does what has to be done when nobody is left inside. Nobody waits unless he wants to
//! ([`Done`]).
//!
//! A link's gate holds its I/O references, a filter's its running callbacks, a protocol's its uses in flight. The
//! upper flags belong to the owner and come back from [`Gate::enter`]: what a batch has to know about the link costs
//! no second load.

use super::sync::{AtomicU64, Condvar, Mutex, MutexGuard, Ordering, PoisonError};

const OPEN: u64 = 1 << 0;
const CLOSING: u64 = 1 << 1;
const ONE: u64 = 1 << 16;
/// The flags that belong to the gate's owner.
const OWNED: u64 = (ONE - 1) & !(OPEN | CLOSING);

/// Where a gate is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Closed,
    Open,
    Closing,
}

/// A door with a count of who is inside.
pub(crate) struct Gate {
    word: AtomicU64,
}

impl Gate {
    /// The first of the owner's flags.
    pub(crate) const FIRST_FLAG: u64 = CLOSING << 1;

    pub(crate) fn closed() -> Gate {
        Gate { word: AtomicU64::new(0) }
    }

    pub(crate) fn opened() -> Gate {
        Gate { word: AtomicU64::new(OPEN) }
    }

    /// Goes inside; the owner's flags, or `None` when the gate is not open.
    #[inline]
    pub(crate) fn enter(&self) -> Option<u64> {
        let one_more = |word: u64| (word & (OPEN | CLOSING) == OPEN).then(|| word + ONE);
        self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok().map(|word| word & OWNED)
    }

    /// Goes inside once more, also when the gate is closing; only for one who is inside.
    pub(crate) fn enter_again(&self) {
        let before = self.word.fetch_add(ONE, Ordering::Relaxed);
        debug_assert!(before >= ONE, "only one who is inside enters again");
    }

    /// Goes outside. True for the last one out of a closing gate.
    #[inline]
    #[must_use = "the last one out has to finish what closing began"]
    pub(crate) fn leave(&self) -> bool {
        let before = self.word.fetch_sub(ONE, Ordering::AcqRel);
        debug_assert!(before >= ONE, "nobody leaves who has not entered");
        before & CLOSING != 0 && before / ONE == 1
    }

    /// Begins to close an open gate. True when nobody is inside.
    #[must_use = "when nobody is inside, the caller has to finish"]
    pub(crate) fn close(&self) -> bool {
        let before = self.word.fetch_or(CLOSING, Ordering::AcqRel);
        debug_assert!(before & (OPEN | CLOSING) == OPEN, "only an open gate closes");
        before < ONE
    }

    /// Begins to close an open gate with the caller inside, who leaves later.
    pub(crate) fn close_inside(&self) {
        let before = self.word.fetch_add(CLOSING + ONE, Ordering::AcqRel);
        debug_assert!(before & (OPEN | CLOSING) == OPEN, "only an open gate closes");
    }

    /// Opens a closed gate. Only its owner does that, one at a time.
    pub(crate) fn open(&self, flags: u64) {
        debug_assert!(self.phase() == Phase::Closed, "only a closed gate opens");
        self.word.store(OPEN | flags & OWNED, Ordering::Release);
    }

    /// Ends closing: the gate can be opened again. Only for the last one out.
    pub(crate) fn reset(&self) {
        debug_assert!(self.word.load(Ordering::Relaxed) < ONE, "nobody is inside");
        self.word.store(0, Ordering::Release);
    }

    /// Replaces the owner's flags in `mask`.
    pub(crate) fn set_flags(&self, mask: u64, flags: u64) {
        self.word.fetch_and(!(mask & OWNED & !flags), Ordering::AcqRel);
        self.word.fetch_or(flags & mask & OWNED, Ordering::AcqRel);
    }

    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        match self.word.load(Ordering::Acquire) & (OPEN | CLOSING) {
            0 => Phase::Closed,
            OPEN => Phase::Open,
            _ => Phase::Closing,
        }
    }

    /// The owner's flags, for one load; they may change at once.
    #[inline]
    pub(crate) fn flags(&self) -> u64 {
        self.word.load(Ordering::Relaxed) & OWNED
    }

    /// True if the gate is open. A cheap check for a caller that is inside.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.word.load(Ordering::Relaxed) & (OPEN | CLOSING) == OPEN
    }

    /// How many are inside.
    pub(crate) fn inside(&self) -> u64 {
        self.word.load(Ordering::Acquire) / ONE
    }
}

/// Something that happens once, and that can be waited for.
pub(crate) struct Done {
    done: Mutex<bool>,
    changed: Condvar,
}

impl Done {
    pub(crate) fn new() -> Done {
        Done { done: Mutex::new(false), changed: Condvar::new() }
    }

    pub(crate) fn set(&self) {
        *lock(&self.done) = true;
        self.changed.notify_all();
    }

    pub(crate) fn wait(&self) {
        let mut done = lock(&self.done);
        while !*done {
            done = self.changed.wait(done).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Locks without poisoning: nothing that can panic runs under this crate's locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
