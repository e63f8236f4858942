use std::sync::Arc;

use crate::media::{Ethernet, Media};
use crate::{ControlResult, Error, Event, Link, LinkAddress, Request};

/// The calls of a link to the driver below it, besides moving frames ([`Transmit`](crate::Transmit) and
/// [`Link::input`]). Every hook has a default that does nothing; `()` is a driver with no hooks, on Ethernet.
pub trait Driver: Send + Sync {
    /// The medium; `None` when the driver cannot plumb protocols. Asked once, at attach.
    fn media(&self) -> Option<Arc<dyn Media>> {
        Some(Arc::new(Ethernet))
    }

    /// A control request.
    ///
    /// # Errors
    /// [`Error::OperationNotSupported`] when the driver does not know it.
    fn control(&self, link: &Link, request: &mut Request<'_>) -> ControlResult {
        let _ = (link, request);
        Err(Error::OperationNotSupported)
    }

    /// An event of the link, after filters and protocols saw it.
    fn event(&self, link: &Link, event: &Event) {
        let _ = (link, event);
    }

    /// Tells when the first tap comes and when the last one goes. Calls come one at a time, in the order of the
    /// changes; from inside one no tap of the link can be attached or detached.
    ///
    /// # Errors
    /// Attaching the first tap returns the error.
    fn set_tap(&self, on: bool) -> Result<(), Error> {
        let _ = on;
        Ok(())
    }

    /// The groups that the link receives now; called in a thread that changed or first used them. Calls come one at a
    /// time, and the last one has the link's memberships. A change beside a call is told in a further call of the same
    /// thread, so joining may return before the driver knows.
    fn set_multicasts(&self, groups: &[LinkAddress]) {
        let _ = groups;
    }

    /// The link gives the driver back; no hook runs, and none follows. Never runs in a thread that moves frames.
    fn detached(&self) {}
}

impl Driver for () {}
