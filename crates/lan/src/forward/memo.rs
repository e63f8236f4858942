use super::flows::Flows;
use crate::PortId;
use crate::fdb::Key;

/// Where a unicast frame goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    /// To one port.
    Port(PortId),
    /// To every port that may hold the address.
    Unknown,
}

/// The last answers of the FDB and what follows from them, kept until it changes.
#[derive(Default)]
pub(super) struct Memo {
    /// Of the FDB, when the answers were remembered.
    version: u64,
    /// The second for which flows are remembered.
    second: u32,
    /// The flows whose sources need nothing more in that second.
    pub(super) flows: Flows,
    /// An address whose source needs nothing more in this second: address, port, second.
    source: Option<(Key, PortId, u32)>,
    target: Option<(Key, Target)>,
}

impl Memo {
    /// Forgets the answers when the FDB is no longer at the version that gave them, and flows when another second has
    /// begun.
    #[inline]
    pub(super) fn catch_up(&mut self, version: u64, now: u32) {
        if self.version != version {
            self.version = version;
            self.forget();
        }
        if self.second != now {
            self.second = now;
            self.flows.forget();
        }
    }

    #[inline]
    pub(super) fn forget(&mut self) {
        self.source = None;
        self.target = None;
        self.flows.forget();
    }

    #[inline]
    pub(super) fn knows_source(&self, key: Key, port: PortId, now: u32) -> bool {
        self.source == Some((key, port, now))
    }

    #[inline]
    pub(super) fn remember_source(&mut self, key: Key, port: PortId, now: u32) {
        self.source = Some((key, port, now));
    }

    #[inline]
    pub(super) fn target(&self, key: Key) -> Option<Target> {
        self.target.filter(|(known, _)| *known == key).map(|(_, target)| target)
    }

    #[inline]
    pub(super) fn remember_target(&mut self, key: Key, target: Target) {
        self.target = Some((key, target));
    }
}
