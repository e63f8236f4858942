use tokio::sync::broadcast;

/// Events that a subscriber may lag behind before it is told how many it lost.
pub const EVENT_QUEUE: usize = 1024;

/// Tells subscribers what happened; clones tell the same ones.
#[derive(Debug, Clone)]
pub struct Emitter {
    events: broadcast::Sender<vmlan_api::Event>,
}

impl Default for Emitter {
    fn default() -> Emitter {
        Emitter { events: broadcast::Sender::new(EVENT_QUEUE) }
    }
}

impl Emitter {
    /// Tells all subscribers what happened, now; without subscribers it is forgotten.
    pub fn emit(&self, kind: vmlan_api::EventKind) {
        // An error says that nobody listens.
        let _ = self.events.send(vmlan_api::Event { time: vmlan_api::Timestamp::now(), kind });
    }

    /// The events from now on. A slow subscriber loses the oldest and is told how many.
    pub fn subscribe(&self) -> broadcast::Receiver<vmlan_api::Event> {
        self.events.subscribe()
    }
}
