//! TAP devices: macOS has none.

use crate::config::Tap;
use crate::supervisor::Station;

/// Nothing that would have to be closed.
#[derive(Default)]
pub(super) struct Opened;

impl Opened {
    /// Nothing to do.
    pub(super) async fn close(&mut self) {}
}

pub(super) async fn keep(station: &mut Station, _config: &Tap, _opened: &mut Opened) {
    station.failed("macOS has no TAP devices; use `stream`, `datagram` or `vde` instead".into());
    std::future::pending().await
}
