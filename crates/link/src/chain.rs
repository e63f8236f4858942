use std::sync::Arc;

use crate::gate::Gate;
use crate::media::Ethernet;
use crate::{Driver, LinkAddress, Media, ProtocolFamily, filter, protocol, tap};

/// There are filters or taps, or the demultiplexer consumes: a batch has to be looked at frame by frame.
pub(crate) const INSPECTED: u64 = Gate::FIRST_FLAG;
/// A network takes what the filters leave.
pub(crate) const BRIDGED: u64 = INSPECTED << 1;
/// There are protocols.
pub(crate) const PROTOCOLS: u64 = BRIDGED << 1;
/// Multicast memberships wait for the first frame.
pub(crate) const SUSPENDED: u64 = PROTOCOLS << 1;
/// Received frames get their traffic class.
pub(crate) const CLASSIFIED: u64 = SUSPENDED << 1;
/// There are taps.
pub(crate) const TAPPED: u64 = CLASSIFIED << 1;

/// The users that see a link's frames, as one immutable value that is replaced as a whole.
///
/// Its outline is also in the flags of the link's gate, so that a batch loads the chain only when there is something
/// in it. The flags follow the chain: a batch may still load a chain that has nothing for it, which is harmless.
#[derive(Clone)]
pub(crate) struct Chain {
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) media: Arc<dyn Media>,
    /// The link address.
    pub(crate) address: Option<LinkAddress>,
    /// True if the demultiplexer may take frames.
    pub(crate) consumes: bool,
    /// True if a user has to know a received frame's family.
    pub(crate) demultiplexes: bool,
    pub(crate) taps: Vec<Arc<tap::Slot>>,
    pub(crate) filters: Vec<Arc<filter::Slot>>,
    pub(crate) protocols: Vec<Arc<protocol::Slot>>,
    /// The place of the network, by the number of its guard.
    pub(crate) bridge: Option<u64>,
}

impl Chain {
    /// The flags that a chain determines.
    pub(crate) const FLAGS: u64 = INSPECTED | BRIDGED | PROTOCOLS | TAPPED;

    pub(crate) fn new(driver: Arc<dyn Driver>, media: Arc<dyn Media>) -> Chain {
        let consumes = media.consumes();
        Chain {
            driver,
            media,
            address: None,
            consumes,
            demultiplexes: consumes,
            taps: Vec::new(),
            filters: Vec::new(),
            protocols: Vec::new(),
            bridge: None,
        }
    }

    /// The chain of a link that is not attached.
    pub(crate) fn idle() -> Chain {
        Chain::new(Arc::new(()), Arc::new(Ethernet))
    }

    /// Brings what depends on the lists up to date.
    pub(crate) fn settle(&mut self) {
        let by_family = self.filters.iter().any(|slot| slot.options.protocol.is_some());
        self.demultiplexes = self.consumes || by_family || !self.protocols.is_empty();
    }

    pub(crate) fn flags(&self) -> u64 {
        let inspected = self.consumes || !self.taps.is_empty() || !self.filters.is_empty();
        let flag = |on: bool, flag: u64| if on { flag } else { 0 };
        flag(inspected, INSPECTED)
            | flag(self.bridge.is_some(), BRIDGED)
            | flag(!self.protocols.is_empty(), PROTOCOLS)
            | flag(!self.taps.is_empty(), TAPPED)
    }

    #[inline]
    pub(crate) fn protocol(&self, family: ProtocolFamily) -> Option<&Arc<protocol::Slot>> {
        self.protocols.iter().find(|slot| slot.options.family == family)
    }
}
