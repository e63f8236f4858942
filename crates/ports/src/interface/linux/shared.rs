//! The parts that all interface ports of a daemon have together.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use vmlan_api::PortFast;
use vmlan_frame::{MacAddr, Mutex, VlanId};
use vmlan_lan::{Network, PortId};

use super::fast::Fast;
use super::pins::Pins;
use super::trunk::{Parts, TrunkPlace};
use crate::Seat;
use crate::apart::Apart;
use crate::kernel::{Kernel, Watch, Words};

/// The connection to rtnetlink, the listener to its words, and what the kernel carries of each network. Made when the
/// first port asks.
#[derive(Default)]
pub(crate) struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kernel: Option<Arc<Kernel>>,
    listeners: Arc<Mutex<Vec<Weak<Interest>>>>,
    listening: Option<JoinHandle<()>>,
    networks: Vec<Weak<Fast>>,
    /// The name of this daemon, by which the next one finds what a killed one left in the kernel.
    daemon: Option<String>,
    /// Its place in the BPF file system once something is there, and why there is none, where that was said.
    pins: Option<Arc<Pins>>,
    unpinned: Option<String>,
}

impl State {
    /// The part that the kernel carries, of each network.
    fn fast(&self) -> impl Iterator<Item = Arc<Fast>> {
        self.networks.iter().filter_map(Weak::upgrade)
    }
}

impl State {
    /// The daemon's place in the BPF file system, or why it has none.
    fn pins(&mut self) -> Result<Arc<Pins>, String> {
        let Some(daemon) = &self.daemon else { return Err("this vmlan has no control socket".into()) };
        if let Some(pins) = &self.pins {
            return Ok(pins.clone());
        }
        let opened = Pins::open(daemon);
        match &opened {
            Ok(pins) => self.pins = Some(pins.clone()),
            Err(why) if self.unpinned.as_ref() != Some(why) => {
                tracing::warn!("what the kernel carries would end with this process: {why}");
                self.unpinned = Some(why.clone());
            }
            Err(_) => {}
        }
        opened
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(listening) = &self.listening {
            listening.abort();
        }
    }
}

/// The interfaces that a listener wants to hear of.
struct Interest {
    of: Mutex<(BTreeSet<String>, BTreeSet<u32>)>,
    heard: Notify,
}

/// Hears of changes of interfaces.
pub(crate) struct Listener {
    interest: Arc<Interest>,
    /// Everybody's.
    all: Arc<Mutex<Vec<Weak<Interest>>>>,
}

impl Listener {
    /// Listens to these, by number, and to the one of its name.
    pub(super) fn follow(&mut self, indices: BTreeSet<u32>) {
        self.interest.of.lock().1 = indices;
    }

    /// Waits until something may have changed. Safe to cancel.
    pub(super) async fn changed(&mut self) {
        self.interest.heard.notified().await;
    }

    /// How many ports listen.
    pub(super) fn ports(&self) -> usize {
        self.all.lock().len()
    }
}

impl Shared {
    /// The connection.
    pub(super) fn kernel(&self) -> Result<Arc<Kernel>, Apart> {
        let mut state = self.state.lock();
        if let Some(kernel) = state.kernel.as_ref().filter(|kernel| kernel.is_open()) {
            return Ok(kernel.clone());
        }
        let kernel = Arc::new(Kernel::open()?);
        Ok(state.kernel.insert(kernel).clone())
    }

    /// Listens to words about the interface of this name.
    pub(super) fn listen(&self, name: &str) -> Listener {
        let of = Mutex::new((BTreeSet::from([name.to_owned()]), BTreeSet::new()));
        let interest = Arc::new(Interest { of, heard: Notify::new() });
        let mut state = self.state.lock();
        let listeners = state.listeners.clone();
        let mut known = listeners.lock();
        known.retain(|interest| interest.strong_count() > 0);
        known.push(Arc::downgrade(&interest));
        drop(known);
        if state.listening.as_ref().is_none_or(JoinHandle::is_finished) {
            state.listening = Some(tokio::spawn(listen(listeners.clone())));
        }
        Listener { interest, all: listeners }
    }

    /// Goes by this name from now on, and takes over what an earlier daemon of that name left in the kernel for these
    /// ports, each with its network. What it left for others is removed.
    pub(crate) fn take_over(&self, daemon: &str, ports: &BTreeSet<(String, String)>) {
        let mut state = self.state.lock();
        state.daemon = Some(daemon.to_owned());
        if Pins::are_there(daemon)
            && let Ok(pins) = state.pins()
        {
            pins.keep(ports);
        }
    }

    /// Takes away what an earlier daemon left in the kernel for a port, which cannot be taken over.
    pub(super) fn forget(&self, network: &Arc<Network>, port: &str) {
        if let Some(fast) = self.known(network) {
            fast.forget(port);
        }
        if let Some(pins) = &self.state.lock().pins {
            pins.forget(network.name(), port);
        }
    }

    /// Everything that the kernel carries of this network.
    pub(super) fn network(&self, network: &Arc<Network>) -> std::io::Result<Arc<Fast>> {
        let mut state = self.state.lock();
        state.networks.retain(|fast| fast.strong_count() > 0);
        if let Some(fast) = state.fast().find(|fast| fast.is_of(network)) {
            return Ok(fast);
        }
        // Names are those of one network, which may be about to end.
        let is_taken = state.fast().any(|fast| fast.is_called(network.name()));
        let names = match is_taken {
            true => Err("a network of this name was there before and had not ended".to_owned()),
            false => state.pins().map(|pins| pins.network(network.name())),
        };
        let fast = Fast::new(network.clone(), names)?;
        state.networks.push(Arc::downgrade(&fast));
        Ok(fast)
    }

    /// Gives the trunk of `seat` a place among what the kernel carries of its network; `None` while that has no
    /// interface ports.
    pub(crate) fn enter_trunk(&self, seat: &Seat, parts: &Parts<'_>) -> Option<std::io::Result<TrunkPlace>> {
        Some(self.known(seat.network())?.enter_trunk(seat, parts))
    }

    /// Has everything that the kernel carried counted by the ports' counters, for who is about to read them.
    pub(crate) fn count(&self) {
        self.all().iter().for_each(|fast| fast.count());
    }

    /// Waits until no frame is on its way past the workers by something that was turned off before the call.
    pub(crate) fn settle(&self) {
        // Of each, for each has to be asked.
        let due = self.all().iter().filter(|fast| fast.take_unsettled()).count();
        if due > 0 {
            // Refused by old kernels in a sandbox; then what is under way takes the microseconds that it takes.
            if let Err(error) = vmlan_sys::ebpf::grace() {
                tracing::warn!("cannot wait for programs that run: {error}");
            }
        }
    }

    /// Tells what the kernel carries of a port.
    pub(crate) fn report(&self, network: &Arc<Network>, id: PortId) -> Option<PortFast> {
        self.known(network)?.report(id)
    }

    /// The addresses of the network that the kernel forwards to.
    pub(crate) fn stations(&self, network: &Arc<Network>) -> BTreeSet<(MacAddr, Option<VlanId>)> {
        self.known(network).map(|fast| fast.stations()).unwrap_or_default()
    }

    fn known(&self, network: &Arc<Network>) -> Option<Arc<Fast>> {
        self.state.lock().fast().find(|fast| fast.is_of(network))
    }

    fn all(&self) -> Vec<Arc<Fast>> {
        self.state.lock().fast().collect()
    }
}

/// Tells the listeners of words that concern them, for ever.
async fn listen(listeners: Arc<Mutex<Vec<Weak<Interest>>>>) {
    let mut watch = loop {
        match Watch::open() {
            Ok(watch) => break watch,
            Err(_) => tokio::time::sleep(std::time::Duration::from_secs(1)).await,
        }
    };
    // Whoever looked before the listening began may have missed something.
    tell(&listeners, &Words::Lost);
    loop {
        let words = watch.heard().await;
        tell(&listeners, &words);
    }
}

fn tell(listeners: &Mutex<Vec<Weak<Interest>>>, words: &Words) {
    for interest in listeners.lock().iter().filter_map(Weak::upgrade) {
        let (names, indices) = &*interest.of.lock();
        if words.concern(names, indices) {
            interest.heard.notify_one();
        }
    }
}
