//! Every interleaving, within bounds, of the gate that links, filters and protocols end by.
//!
//! The gate's source is compiled here once more, with the model checker's primitives in place of the standard ones.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use loom::thread;

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
    pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
    pub(crate) use std::sync::PoisonError;
}

#[allow(dead_code, reason = "the model does not use all of it")]
#[path = "../src/gate.rs"]
mod gate;

use gate::{Done, Gate};

/// A filter as the link sees it: a gate, an end, and the callbacks that run.
struct Modelled {
    gate: Gate,
    done: Done,
    running: AtomicUsize,
    ends: AtomicUsize,
}

impl Modelled {
    fn new() -> Arc<Modelled> {
        let (running, ends) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Modelled { gate: Gate::opened(), done: Done::new(), running, ends })
    }

    /// One batch's callback.
    fn call(&self) {
        if self.gate.enter().is_some() {
            self.running.fetch_add(1, SeqCst);
            assert_eq!(self.ends.load(SeqCst), 0, "no callback after the end");
            self.running.fetch_sub(1, SeqCst);
            if self.gate.leave() {
                self.finish();
            }
        }
    }

    fn finish(&self) {
        assert_eq!(self.running.load(SeqCst), 0, "no callback beside the end");
        assert_eq!(self.ends.fetch_add(1, SeqCst), 0, "one end only");
        self.done.set();
    }
}

/// Checks every interleaving with up to three preemptions, where nearly all errors show, so that it ends soon.
fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

#[test]
fn a_filter_ends_once_after_its_last_callback() {
    model(|| {
        let filter = Modelled::new();
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let filter = filter.clone();
                thread::spawn(move || filter.call())
            })
            .collect();
        if filter.gate.close() {
            filter.finish();
        }
        filter.done.wait();
        assert_eq!(filter.ends.load(SeqCst), 1);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        assert_eq!((filter.ends.load(SeqCst), filter.gate.inside()), (1, 0));
    });
}

#[test]
fn a_closer_that_waits_ends_the_filter_itself() {
    model(|| {
        let filter = Modelled::new();
        let caller = {
            let filter = filter.clone();
            thread::spawn(move || {
                if filter.gate.enter().is_some() {
                    assert_eq!(filter.ends.load(SeqCst), 0, "no callback after the end");
                    if filter.gate.leave() {
                        // The worker only says that nobody is inside any more.
                        filter.done.set();
                    }
                }
            })
        };
        if !filter.gate.close() {
            filter.done.wait();
        }
        filter.finish();
        caller.join().unwrap();
        assert_eq!((filter.ends.load(SeqCst), filter.gate.inside()), (1, 0));
    });
}

#[test]
fn an_end_that_is_handed_over_holds_the_link() {
    model(|| {
        let link = Modelled::new();
        assert!(link.gate.enter().is_some());
        let closer = {
            let link = link.clone();
            thread::spawn(move || {
                if link.gate.close() {
                    link.finish();
                }
            })
        };
        // The worker leaves its end, and then the link, which may be closing.
        link.gate.enter_again();
        assert!(!link.gate.leave(), "the end is inside");
        assert_eq!(link.ends.load(SeqCst), 0);
        if link.gate.leave() {
            link.finish();
        }
        closer.join().unwrap();
        assert_eq!((link.ends.load(SeqCst), link.gate.inside()), (1, 0));
    });
}

#[test]
fn a_link_ends_when_the_last_reference_is_returned() {
    model(|| {
        let link = Modelled::new();
        let user = {
            let link = link.clone();
            thread::spawn(move || {
                link.call();
                link.call();
            })
        };
        // Phase one runs inside; the end comes when it and the user have left.
        link.gate.close_inside();
        assert_eq!(link.ends.load(SeqCst), 0);
        if link.gate.leave() {
            link.finish();
        }
        user.join().unwrap();
        assert_eq!(link.ends.load(SeqCst), 1);
    });
}

#[test]
fn a_link_that_ended_opens_again() {
    model(|| {
        let link = Modelled::new();
        let user = {
            let link = link.clone();
            thread::spawn(move || link.gate.enter().is_some().then(|| link.gate.leave()))
        };
        let mut ends = u32::from(link.gate.close());
        // Whoever is last out opens it again, and a late visitor may come in.
        if ends == 1 {
            link.gate.reset();
            link.gate.open(0);
        }
        ends += u32::from(user.join().unwrap() == Some(true));
        assert_eq!((ends, link.gate.inside()), (1, 0));
    });
}
