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

/// The last answers of the FDB, kept until it changes.
#[derive(Default)]
pub(super) struct Memo {
    /// Of the FDB, when the answers were remembered.
    version: u64,
    /// An address whose source needs nothing more in this second: address, port, second.
    source: Option<(Key, PortId, u32)>,
    target: Option<(Key, Target)>,
}

impl Memo {
    /// Forgets the answers when the FDB is no longer at the version that gave them.
    #[inline]
    pub(super) fn catch_up(&mut self, version: u64) {
        if self.version != version {
            self.version = version;
            self.forget();
        }
    }

    #[inline]
    pub(super) fn forget(&mut self) {
        self.source = None;
        self.target = None;
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
