use std::sync::Arc;
use std::time::Duration;

use vmlan_drivers::{Endpoint, Fault, Waits};
use vmlan_frame::{Share, SlotKey};
use vmlan_lan::Network;
use vmlan_link::Link;

/// A port in the data plane: a slot, and how often it was used before, so that a late word about an earlier port is
/// never taken for one about its successor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PortKey {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl PortKey {
    /// No port's.
    pub(crate) const NOBODY: PortKey = PortKey { slot: PortKey::SLOTS - 1, generation: u32::MAX };

    /// The number of slots: the bits of a token from here on tell a queue's descriptors apart.
    const SLOTS: u32 = u32::MAX / Waits::DESCRIPTORS as u32 + 1;

    /// How many ports there are at most; the last slot is nobody's.
    pub(crate) const MAX_PORTS: usize = PortKey::SLOTS as usize - 1;

    pub(crate) fn token(self, descriptor: usize) -> u64 {
        u64::from(self.generation) << 32 | u64::from(descriptor as u32 * PortKey::SLOTS + self.slot)
    }

    /// The port, and which of its queue's descriptors it is.
    pub(crate) fn from_token(token: u64) -> (PortKey, usize) {
        let (slot, generation) = (token as u32, (token >> 32) as u32);
        (PortKey { slot: slot % PortKey::SLOTS, generation }, (slot / PortKey::SLOTS) as usize)
    }
}

impl SlotKey for PortKey {
    fn first(slot: usize) -> PortKey {
        PortKey { slot: slot as u32, generation: 0 }
    }

    #[inline]
    fn slot(self) -> usize {
        self.slot as usize
    }

    fn successor(self) -> PortKey {
        PortKey { slot: self.slot, generation: self.generation.wrapping_add(1) }
    }
}

/// The facts of a new port that a worker needs.
#[derive(Clone)]
pub struct PortSetup {
    /// The network it is a port of.
    pub network: Arc<Network>,
    /// Which port of that network.
    pub id: vmlan_lan::PortId,
    /// Its link, attached and bridged.
    pub link: Link,
    /// Frames that may wait for its medium, for each worker.
    pub backlog: usize,
    /// The room that these frames share with the frames for the user's other ports, for all workers.
    pub share: Option<Arc<Share>>,
    /// Octets of the longest frame that it may get, with header and one tag, without FCS.
    pub longest: usize,
}

/// Runs when every worker has done what was asked, or is gone. Clones share the one run.
#[derive(Clone)]
pub struct Done {
    _when_dropped: Arc<WhenDropped>,
}

struct WhenDropped(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Done {
    /// Runs `work` once the last clone is dropped.
    pub fn new(work: impl FnOnce() + Send + Sync + 'static) -> Done {
        Done { _when_dropped: Arc::new(WhenDropped(Some(Box::new(work)))) }
    }
}

impl Drop for WhenDropped {
    fn drop(&mut self) {
        if let Some(work) = self.0.take() {
            work();
        }
    }
}

/// How a worker waits for traffic.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Polling {
    /// After work it looks for more a few times before it sleeps.
    #[default]
    Adaptive,
    /// It never sleeps, which costs a whole processor.
    Busy,
    /// It sleeps as soon as there is nothing.
    Sleep,
}

impl Polling {
    /// How many looks in a row at a queue that has to be polled may find nothing before the queue rests.
    pub(crate) fn empty_looks(self) -> u32 {
        match self {
            Polling::Adaptive => 64,
            Polling::Busy => u32::MAX,
            Polling::Sleep => 1,
        }
    }
}

/// A request of control to a worker.
pub(crate) enum Command {
    AddPort { key: PortKey, setup: PortSetup },
    Connect { key: PortKey, attachment: u64, endpoint: Arc<dyn Endpoint>, receives: bool, _done: Done },
    Open { key: PortKey, attachment: u64 },
    Disconnect { key: PortKey, _done: Done },
    RemovePort { key: PortKey, _done: Done },
    SetPolling { polling: Polling },
    Stop { patience: Duration },
}

/// A report of a worker to control.
#[derive(Debug)]
pub enum Notice {
    /// A port's attachment is of no more use on this worker. The port stays, without an attachment.
    Fault {
        /// The port.
        port: PortKey,
        /// Which attachment, as [`Plane::connect`](crate::Plane::connect) numbered it.
        attachment: u64,
        /// Why.
        fault: Fault,
    },
    /// A worker panicked, by a bug of ours, and not for a port that could be named. It runs on.
    WorkerPanicked {
        /// Its number.
        worker: usize,
        /// The message of the panic.
        reason: String,
    },
}
