//! A link's observer: it follows whether a user has to see the link's frames.
//!
//! Theory of operation. A way past the link, such as programs in the kernel, is open only while nobody has to see the
//! frames: no tap, filter or protocol, and no demultiplexer that consumes. Every call that changes that looks at the
//! chain after it has stored a new one, and tells the observer when the answer differs from the last one, before it
//! returns. The looks come one after the other, so the last thing told is true of the last chain.

use std::sync::Arc;

use crate::Link;
use crate::chain::Chain;

/// A callback that gets true when a user has to see a link's frames, false when none has to any more.
type Observer = Arc<dyn Fn(bool) + Send + Sync>;

/// The observer of a link, and the answer that it has.
#[derive(Default)]
pub(crate) struct Observed {
    observer: Option<Observer>,
    told: bool,
}

impl Link {
    /// Has `observer` told, in the place of the former one, when a user has to see the link's frames (true: a tap, a
    /// filter or a protocol was attached), and when none has to any more (false: the last one was detached, or the link
    /// was). It is told the present state before this returns. The network's place behind the filters does not count.
    ///
    /// The call that attaches a user tells it before it returns, when the user is in its place; so what the observer
    /// does is done when the user counts on every frame. Any thread may call it, a worker too when a filter detaches
    /// itself, one at a time: with a lock of its own held, and those under which taps and protocols change. So it must
    /// not block, and must not attach or detach anything on this link, nor call this method; other methods it may use.
    ///
    /// The observer stays while the link has a handle, also from one attach to the next. It should hold none itself, or
    /// the link never ends.
    pub fn watch_users(&self, observer: Arc<dyn Fn(bool) + Send + Sync>) {
        // Dropped after the lock: its end is not ours.
        let _former;
        let mut observed = self.record().observed.lock();
        let has_users = self.chain().has_users();
        observer(has_users);
        _former = core::mem::replace(&mut *observed, Observed { observer: Some(observer), told: has_users });
    }

    /// Tells the observer whether there are users, unless it knows. To be called without the settings, after the chain
    /// was replaced.
    pub(crate) fn tell_users(&self) {
        let mut observed = self.record().observed.lock();
        let has_users = self.chain().has_users();
        if core::mem::replace(&mut observed.told, has_users) != has_users {
            observed.observer.iter().for_each(|observer| observer(has_users));
        }
    }
}

impl Chain {
    /// True if a user has to see the link's frames.
    fn has_users(&self) -> bool {
        self.consumes || !self.taps.is_empty() || !self.filters.is_empty() || !self.protocols.is_empty()
    }
}
