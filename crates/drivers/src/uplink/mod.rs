//! The uplink: addresses, names and a way out for the guests of a network, by sockets of the host.
//!
//! Theory of operation. One worker, the one that receives, has the engine (`vmlan_nat::Nat`) and all sockets, in a
//! poller of the uplink's own, which that worker watches as it does a device. Frames for the uplink are what guests
//! send; what it receives are frames for guests, made of what the sockets have. Other workers hand their frames over in
//! a bounded queue. The control side sends [`Command`]s, and has a channel for the network's services: each message is
//! the port's number in two octets, two octets of nothing, and a frame.
//!
//! With an outlet, a TAP of the host, the engine decides on every frame as before, and those that it says are for
//! another carrier go to that device; frames from the device go to the network. Addresses, names, forwards and services
//! of the host are the engine's all the same.
//!
//! Nothing here waits, and a guest can use up no more than its part of anything (`vmlan_nat::guests`).

mod control;
pub mod datagrams;
mod host;
mod listeners;
mod obey;
mod outlet;
mod queue;
mod streams;

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use vmlan_frame::{Backlog, Mutex};
use vmlan_nat::Notice;
use vmlan_sys::Waker;

pub use self::control::{Answer, Command, Flows, ForwardId};
pub use self::streams::StreamTaker;

use self::queue::{HandOver, UplinkQueue};
use crate::{Endpoint, Queue, Settings};

/// The settings of an uplink.
pub struct Options {
    /// Those of the engine.
    pub engine: vmlan_nat::Settings,
    /// The data path's end of the channel to the network's services, which does not wait and keeps messages apart.
    pub channel: OwnedFd,
    /// The taker of guests' connections to the network's DNS.
    pub names: StreamTaker,
    /// The taker of what people may want to know. It runs in the worker, so it must not wait.
    pub notify: Arc<dyn Fn(Notice) + Send + Sync>,
    /// Sockets that may be open.
    pub sockets: usize,
    /// The way out by something else than sockets: a device of one queue whose other end is the host's kernel.
    pub outlet: Option<Arc<dyn Endpoint>>,
}

/// An uplink, ready for traffic.
pub struct Uplink {
    shared: Arc<Shared>,
    options: Mutex<Option<Options>>,
    outlet: Option<Arc<dyn Endpoint>>,
}

/// The part of an uplink that all threads have.
struct Shared {
    waker: Waker,
    commands: Mutex<VecDeque<Command>>,
    /// Frames of other workers.
    handed: Mutex<Backlog>,
}

impl Uplink {
    /// An uplink that begins when a worker receives from it.
    ///
    /// # Errors
    /// No descriptor.
    pub fn new(options: Options) -> io::Result<Uplink> {
        /// Frames of other workers that wait, and their octets.
        const HANDED: (usize, usize) = (1024, 1 << 20);
        let handed = Mutex::new(Backlog::new(HANDED.0, HANDED.1));
        let shared = Arc::new(Shared { waker: Waker::new()?, commands: Mutex::default(), handed });
        let outlet = options.outlet.clone();
        Ok(Uplink { shared, options: Mutex::new(Some(options)), outlet })
    }

    /// Has the engine do something soon. Commands that come before the uplink is attached wait for it.
    pub fn tell(&self, command: Command) {
        self.shared.commands.lock().push_back(command);
        self.shared.waker.wake();
    }
}

impl Endpoint for Uplink {
    fn queue(&self, settings: Settings) -> io::Result<Box<dyn Queue>> {
        if !settings.receives {
            let takes = outlet::takes(self.outlet.as_deref(), &settings)?;
            return Ok(Box::new(HandOver::new(self.shared.clone(), settings, takes)));
        }
        let options =
            self.options.lock().take().ok_or_else(|| io::Error::other("the uplink has begun already"))?;
        Ok(Box::new(UplinkQueue::new(self.shared.clone(), options, settings)?))
    }

    fn mechanism(&self) -> String {
        match &self.outlet {
            None => "sockets of the host, one for each flow".to_owned(),
            Some(outlet) => format!("the host's kernel, by a TAP: {}", outlet.mechanism()),
        }
    }
}
