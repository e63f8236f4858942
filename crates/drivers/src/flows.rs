use std::sync::Arc;

use vmlan_frame::Counters;

/// Counters of the frames that pass each side of a trunk; RX came from the side, TX was handed to it.
#[derive(Clone)]
pub struct Flows {
    /// The host's own stack.
    pub host: Arc<Counters>,
    /// The physical network.
    pub wire: Arc<Counters>,
}

impl Flows {
    /// Zeroes, for so many workers.
    pub fn new(workers: usize) -> Flows {
        Flows { host: Arc::new(Counters::new(workers)), wire: Arc::new(Counters::new(workers)) }
    }
}
