//! Places of hooks on a link, a filter's or a tap's: how a batch goes inside, and how a hook goes.
//!
//! Theory of operation. Hooks stand in the link's [`Chain`](crate::chain::Chain), an immutable list that is replaced
//! as a whole; a batch works on the list that it found. Before the first frame a batch enters the gate of each hook,
//! and leaves it after the last one: that is the whole price of safe removal, paid per batch.
//!
//! Detaching takes the hook off the list, closes its gate and waits until the last callback has ended; then the thread
//! that detaches calls `detached`, so it is called exactly once, never beside another callback, and not by a worker
//! that was the last inside. A thread that is itself inside the hook cannot wait for itself: it returns at once, and
//! the end comes when the last one leaves ([`Link::run_end`]). The thread knows what it is inside of by a list of its
//! own.

use core::cell::RefCell;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;

use crate::Link;
use crate::gate::{Done, Gate};

/// A filter or a tap in its place on a link.
pub(crate) trait Hook: Send + Sync + 'static {
    /// Its place.
    fn place(&self) -> &Place;

    /// The hook is off the link; no callback runs, and none follows.
    fn detached(&self);
}

/// The way in and out of a hook.
pub(crate) struct Place {
    /// The number of the hook in this process.
    pub(crate) id: u64,
    gate: Gate,
    /// A thread waits for the last one out, and ends the hook itself.
    is_awaited: AtomicBool,
    vacated: Done,
}

thread_local! {
    /// The hooks that this thread is inside of.
    static INSIDE: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

impl Place {
    /// How many hooks of a sort a link has at most: [`enter`] keeps a bit for each.
    pub(crate) const LIMIT: usize = u64::BITS as usize;

    pub(crate) fn new() -> Place {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let id = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        Place { id, gate: Gate::opened(), is_awaited: AtomicBool::new(false), vacated: Done::new() }
    }

    /// True until the hook is being detached; the cheap question for one who is inside.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.gate.is_open()
    }

    fn is_inside(&self) -> bool {
        INSIDE.with_borrow(|inside| inside.contains(&self.id))
    }
}

/// Ends a hook that is off the list, after its last callback; when this thread is inside it, after that.
pub(crate) fn end<H: Hook>(link: &Link, hook: &Arc<H>) {
    let place = hook.place();
    let waits = !place.is_inside();
    // Closing publishes it to the last one out.
    place.is_awaited.store(waits, Ordering::Relaxed);
    if !place.gate.close() {
        if !waits {
            return;
        }
        place.vacated.wait();
    }
    let hook = Arc::clone(hook);
    link.run_end(move |_| hook.detached());
}

/// Enters every hook that is not being detached: a bit for each, to be given to [`leave`].
#[inline]
pub(crate) fn enter<H: Hook>(hooks: &[Arc<H>]) -> u64 {
    let mut mask = 0;
    for (i, hook) in hooks.iter().enumerate() {
        let place = hook.place();
        if place.gate.enter().is_some() {
            mask |= 1 << i;
            INSIDE.with_borrow_mut(|inside| inside.push(place.id));
        }
    }
    mask
}

/// Leaves the hooks in `mask`, the last one first.
#[inline]
pub(crate) fn leave<H: Hook>(link: &Link, hooks: &[Arc<H>], mut mask: u64) {
    while mask != 0 {
        let i = u64::BITS - 1 - mask.leading_zeros();
        mask &= !(1 << i);
        let hook = &hooks[i as usize];
        let place = hook.place();
        INSIDE.with_borrow_mut(|inside| {
            // It is the last one, unless two lists are left in another order than they were entered.
            let at = inside.iter().rposition(|id| *id == place.id);
            at.map(|at| inside.remove(at))
        });
        if place.gate.leave() {
            if place.is_awaited.load(Ordering::Relaxed) {
                place.vacated.set();
            } else {
                let hook = Arc::clone(hook);
                link.run_end(move |_| hook.detached());
            }
        }
    }
}

/// The hooks of one list that a batch is inside of, in order.
pub(crate) struct Entered<'a, H: Hook> {
    link: &'a Link,
    hooks: &'a [Arc<H>],
    mask: u64,
}

impl<'a, H: Hook> Entered<'a, H> {
    /// Enters every hook that is not being detached. The caller is inside the link.
    #[inline]
    pub(crate) fn all(link: &'a Link, hooks: &'a [Arc<H>]) -> Entered<'a, H> {
        Entered { link, hooks, mask: enter(hooks) }
    }

    /// Enters one hook.
    pub(crate) fn one(link: &'a Link, hook: &'a Arc<H>) -> Entered<'a, H> {
        Entered::all(link, core::slice::from_ref(hook))
    }

    /// True when there was none to enter.
    pub(crate) fn is_empty(&self) -> bool {
        self.mask == 0
    }

    /// The hooks, in order.
    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'a H> + use<'a, H> {
        chosen(self.hooks, self.mask)
    }
}

impl<H: Hook> Drop for Entered<'_, H> {
    #[inline]
    fn drop(&mut self) {
        leave(self.link, self.hooks, self.mask);
    }
}

/// The hooks whose bits are in `mask`, in order.
#[inline]
pub(crate) fn chosen<H>(hooks: &[Arc<H>], mut mask: u64) -> impl Iterator<Item = &H> {
    core::iter::from_fn(move || {
        let at = (mask != 0).then(|| mask.trailing_zeros())?;
        mask &= mask - 1;
        Some(&*hooks[at as usize])
    })
}
