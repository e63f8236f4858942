//! Word of changes of a file: none here, so that it is read now and then.

use std::path::Path;

/// A watch that tells nothing.
pub(super) struct Watch;

impl Watch {
    /// Makes one.
    pub(super) fn new(_path: &Path) -> Watch {
        Watch
    }

    /// Waits for ever. Safe to cancel.
    pub(super) async fn changed(&mut self) {
        std::future::pending().await
    }
}

/// The number of an interface, which an address's scope is.
pub(super) fn scope_of(interface: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(interface).ok()
}
