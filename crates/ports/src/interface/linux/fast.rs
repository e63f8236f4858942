//! The frames of a network that the kernel carries past the workers, and what it may carry.
//!
//! Theory of operation. The kernel has two tables of the network: its stations, which is a part of the forwarding
//! database, and its ports. Programs at the ports' interfaces forward a frame themselves when both its addresses are
//! stations and nothing has to see it; every other frame goes to a worker. So the tables say what the kernel may do,
//! and they never say more than the network does:
//!
//! - An address is entered by this module alone ([`Fast::enter_stations`]), under the lock of the forwarding database,
//!   and is taken out under the same lock by whoever changes the database, before the change ([`FastPath`]).
//! - A port is *held*, and everything from and to it goes to the workers, while a user of its link has to see its
//!   frames (captures, rules), its settings or those of others ask for it, or it is not up. It is held before the call
//!   returns that made it so. A program that runs at that moment may still carry a frame: who needs to know that none
//!   does any more waits ([`super::Shared::settle`]).
//!
//! An address that only the kernel carries does not age: the programs note in which second they saw it, and the
//! database is told once a second. What the kernel counted is added to the ports' counters then, and before they are
//! read.
//!
//! Locks. The database's lock, or the network's, is taken before this module's; so nothing here asks the network for
//! anything while it holds its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use vmlan_api::PortFast;
use vmlan_drivers::host::fast::{Counts, Passed, Port, Role, StationKey, Tables, from_guest};
use vmlan_frame::{Counters, ETHERNET_HEADER, MacAddr, Mutex, Tally, VlanId};
use vmlan_lan::{EntryKind, FastEntry, FastPath, FastPort, Network, PortId, VlanRole};
use vmlan_sys::ebpf::load_classifier;

use crate::Seat;
use crate::kernel::Interface;

/// Ports of a network that the kernel knows, at most.
const MOST_PORTS: u32 = Network::MAX_PORTS as u32;

/// How long new addresses wait at least after the last ones were entered: a flood of them costs a listing each.
const BETWEEN: Duration = Duration::from_millis(50);

/// The part of one network that the kernel carries.
pub(super) struct Fast {
    network: Arc<Network>,
    tables: Tables,
    from_guest: OwnedFd,
    state: Mutex<State>,
    /// Addresses are to be entered.
    due: Arc<Notify>,
    /// True if something was withdrawn since the last wait.
    unsettled: AtomicBool,
}

#[derive(Default)]
struct State {
    members: BTreeMap<PortId, Member>,
    stations: HashMap<StationKey, Entered>,
}

/// An address that the kernel forwards to.
struct Entered {
    port: PortId,
    kind: EntryKind,
    /// The number of the port's interface.
    index: u32,
    /// When the programs had heard it last, when that was told.
    heard: u32,
}

/// A port whose frames the kernel may carry.
struct Member {
    /// The numbers of the interface, and of the device that carries frames to workers.
    index: u32,
    carrier: u32,
    slot: u32,
    /// The longest frame that the interface takes.
    longest: u32,
    is_peer_elsewhere: bool,
    running: bool,
    /// True while somebody has to see the link's frames.
    is_watched: bool,
    facts: Option<FastPort>,
    counters: Arc<Counters>,
    counted: Counts,
}

impl Member {
    /// Why everything of the port goes to the workers.
    fn slow(&self) -> Option<&'static str> {
        if !self.running {
            return Some("the interface is not up, or has no carrier");
        }
        if self.is_watched {
            return Some("a capture or a rule has to see its frames");
        }
        match &self.facts {
            None => Some("the network does not know the port yet, or any more"),
            Some(facts) => facts.slow.map(|reason| reason.as_str()),
        }
    }

    fn record(&self) -> Port {
        let (role, isolated, limit) = match &self.facts {
            None => (Role::Transparent, false, 0),
            Some(facts) => (role(&facts.vlan), facts.isolated, facts.frame_limit),
        };
        Port {
            slot: self.slot,
            carrier: self.carrier,
            role,
            longest: self.longest.min(u32::try_from(limit).unwrap_or(u32::MAX)),
            held: self.slow().is_some(),
            isolated,
            peer: self.is_peer_elsewhere,
        }
    }
}

impl Fast {
    pub(super) fn new(network: Arc<Network>) -> io::Result<Arc<Fast>> {
        let stations = u32::try_from(network.fdb_capacity()).unwrap_or(u32::MAX);
        let tables = Tables::new(stations, MOST_PORTS)?;
        let from_guest = load_classifier("vmlan_from", &from_guest(&tables))?;
        let fast = Arc::new(Fast {
            network: network.clone(),
            tables,
            from_guest,
            state: Mutex::default(),
            due: Arc::new(Notify::new()),
            unsettled: AtomicBool::new(false),
        });
        network.set_fast_path(Some(Arc::new(Copy(Arc::downgrade(&fast)))));
        let due = fast.due.clone();
        tokio::spawn(keep(Arc::downgrade(&fast), due));
        Ok(fast)
    }

    pub(super) fn is_of(&self, network: &Arc<Network>) -> bool {
        Arc::ptr_eq(&self.network, network)
    }

    /// The program at the way in of every interface.
    pub(super) fn ingress(&self) -> BorrowedFd<'_> {
        self.from_guest.as_fd()
    }

    /// True once if something was withdrawn since the last call.
    pub(super) fn take_unsettled(&self) -> bool {
        self.unsettled.swap(false, Ordering::AcqRel)
    }

    /// Gives the port of `seat` a place in the tables. Its frames go to the device with the number `carrier`, until
    /// [`Place::is`] says that the interface is up.
    pub(super) fn enter(
        self: &Arc<Self>,
        seat: &Seat,
        interface: &Interface,
        carrier: u32,
        is_peer_elsewhere: bool,
    ) -> io::Result<Place> {
        let id = seat.id();
        {
            let mut state = self.state.lock();
            let taken: BTreeSet<u32> = state.members.values().map(|member| member.slot).collect();
            let slot = (0..MOST_PORTS).find(|slot| !taken.contains(slot));
            let slot = slot.ok_or_else(|| io::Error::other("a network has no more interface ports"))?;
            self.tables.clear_counts(slot)?;
            let member = Member {
                index: interface.index,
                carrier,
                slot,
                longest: longest(interface),
                is_peer_elsewhere,
                running: false,
                is_watched: true,
                facts: None,
                counters: seat.link().counters().clone(),
                counted: Counts::default(),
            };
            self.tables.set_port(member.index, &member.record())?;
            state.members.insert(id, member);
        }
        let place = Place { fast: self.clone(), id };
        // From here on the network tells, and the link.
        // The port has just joined, or has left already.
        let _ = self.network.set_fast_port(id, true);
        let fast = Arc::downgrade(self);
        seat.link().watch_users(Arc::new(move |is_watched| {
            if let Some(fast) = fast.upgrade() {
                fast.change(id, |member| member.is_watched = is_watched);
            }
        }));
        Ok(place)
    }

    /// Changes what is known of a port, and what the kernel knows of it.
    fn change(&self, id: PortId, change: impl FnOnce(&mut Member)) {
        let mut state = self.state.lock();
        let Some(member) = state.members.get_mut(&id) else { return };
        let before = member.record();
        change(member);
        self.write(&before, member);
    }

    /// Writes a port's record, if it is another one than before.
    fn write(&self, before: &Port, member: &Member) {
        let record = member.record();
        if record == *before {
            return;
        }
        self.unsettled.store(true, Ordering::Release);
        if let Err(error) = self.tables.set_port(member.index, &record) {
            // Without a record every frame of the port is dropped: better than one that goes a forbidden way.
            tracing::error!(network = self.network.name(), "cannot tell the kernel of a port: {error}");
            let _ = self.tables.remove_port(member.index);
        }
    }

    /// Enters every address that the network knows behind these ports, as far as it is not there.
    fn enter_stations(&self) {
        let mut failed = None;
        self.network.list_fast(&mut |entry| {
            let mut state = self.state.lock();
            let State { members, stations } = &mut *state;
            let Some(member) = members.get(&entry.port) else { return };
            // An address that a guarded port may not send from is no source, and there is one table for both.
            let is_guarded = member.facts.as_ref().is_some_and(|facts| facts.guard);
            if is_guarded && entry.kind != EntryKind::Set {
                return;
            }
            let key = StationKey { mac: entry.mac, vlan: entry.vlan };
            let is_there = |known: &&mut Entered| (known.port, known.index) == (entry.port, member.index);
            if let Some(known) = stations.get_mut(&key).filter(is_there) {
                known.kind = entry.kind;
                return;
            }
            match self.tables.put_station(key, member.index) {
                Ok(()) => {
                    let FastEntry { port, kind, .. } = entry;
                    stations.insert(key, Entered { port, kind, index: member.index, heard: 0 });
                }
                Err(error) => failed = Some(error),
            }
        });
        if let Some(error) = failed {
            tracing::warn!(network = self.network.name(), "an address stays with the workers: {error}");
        }
    }

    /// Tells the network which addresses the programs heard since the last time.
    fn refresh(&self) {
        let listed = match self.tables.stations() {
            Ok(listed) => listed,
            Err(error) => {
                tracing::warn!(
                    network = self.network.name(),
                    "cannot read which addresses were heard: {error}"
                );
                return;
            }
        };
        let heard: Vec<_> = {
            let mut state = self.state.lock();
            let news = listed.into_iter().filter_map(|station| {
                let entered = state.stations.get_mut(&station.key)?;
                let is_new = std::mem::replace(&mut entered.heard, station.heard) != station.heard;
                is_new.then_some((station, entered.port))
            });
            news.collect()
        };
        for (station, port) in heard {
            let StationKey { mac, vlan } = station.key;
            self.network.heard(mac, vlan, port, station.time());
        }
    }

    /// Adds what the kernel counted to the ports' counters.
    pub(super) fn count(&self) {
        for member in self.state.lock().members.values_mut() {
            self.count_of(member);
        }
    }

    fn count_of(&self, member: &mut Member) {
        let Ok(counts) = self.tables.counts(member.slot) else { return };
        let before = std::mem::replace(&mut member.counted, counts);
        let tally = |now: &Passed, before: &Passed| Tally {
            frames: now.frames - before.frames,
            octets: now.octets - before.octets,
            large: [now.large[0] - before.large[0], now.large[1] - before.large[1]],
            ..Tally::default()
        };
        let (received, sent) = (tally(&counts.received, &before.received), tally(&counts.sent, &before.sent));
        member.counters.received(0, &received);
        // Every frame that came in fast went out by one port.
        member.counters.copied(0, received.frames);
        member.counters.sent(0, &sent);
    }

    /// Tells what the kernel carries of a port.
    pub(super) fn report(&self, id: PortId) -> Option<PortFast> {
        let state = self.state.lock();
        let member = state.members.get(&id)?;
        Some(PortFast {
            stations: state.stations.values().filter(|entered| entered.port == id).count() as u64,
            slow: member.slow().map(str::to_owned),
            rx_frames: member.counted.received.frames,
            tx_frames: member.counted.sent.frames,
        })
    }

    /// The addresses that the kernel forwards to.
    pub(super) fn stations(&self) -> BTreeSet<(MacAddr, Option<VlanId>)> {
        let state = self.state.lock();
        let is_fast = |entered: &&Entered| {
            state.members.get(&entered.port).is_some_and(|member| member.slow().is_none())
        };
        let fast = state.stations.iter().filter(|(_, entered)| is_fast(entered));
        fast.map(|(key, _)| (key.mac, key.vlan)).collect()
    }
}

/// The network's way to what the kernel carries of it, which it does not keep alive.
struct Copy(Weak<Fast>);

impl FastPath for Copy {
    fn withdraw(&self, mac: MacAddr, vlan: Option<VlanId>, _port: PortId) {
        if let Some(fast) = self.0.upgrade() {
            fast.withdraw(StationKey { mac, vlan });
        }
    }

    fn changed(&self) {
        if let Some(fast) = self.0.upgrade() {
            fast.due.notify_one();
        }
    }

    fn ports(&self, ports: &[FastPort]) {
        if let Some(fast) = self.0.upgrade() {
            fast.set_facts(ports);
        }
    }
}

impl Fast {
    fn withdraw(&self, key: StationKey) {
        self.take_out(&mut self.state.lock(), key);
    }

    fn take_out(&self, state: &mut State, key: StationKey) {
        if state.stations.remove(&key).is_none() {
            return;
        }
        self.unsettled.store(true, Ordering::Release);
        if let Err(error) = self.tables.remove_station(key) {
            tracing::error!(
                network = self.network.name(),
                "{} cannot be taken from the kernel: {error}",
                key.mac
            );
        }
    }

    fn set_facts(&self, ports: &[FastPort]) {
        let mut state = self.state.lock();
        let mut known: BTreeMap<_, _> = ports.iter().map(|facts| (facts.id, facts)).collect();
        for (id, member) in &mut state.members {
            let before = member.record();
            // One that is missing has left the network.
            member.facts = known.remove(id).cloned();
            self.write(&before, member);
        }
        // A port that is guarded from now on may not send from what was entered before.
        let guarded: BTreeSet<_> = ports.iter().filter(|facts| facts.guard).map(|facts| facts.id).collect();
        let is_forbidden = |(_, entered): &(&StationKey, &Entered)| {
            entered.kind != EntryKind::Set && guarded.contains(&entered.port)
        };
        let forbidden: Vec<_> = state.stations.iter().filter(is_forbidden).map(|(key, _)| *key).collect();
        forbidden.into_iter().for_each(|key| self.take_out(&mut state, key));
    }
}

/// Enters addresses as they come, and once a second tells what was heard and counted; until nobody has it any more.
async fn keep(fast: Weak<Fast>, due: Arc<Notify>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        let is_due = tokio::select! {
            () = due.notified() => true,
            _ = tick.tick() => false,
        };
        let Some(fast) = fast.upgrade() else { return };
        if is_due {
            fast.enter_stations();
            drop(fast);
            tokio::time::sleep(BETWEEN).await;
        } else if !fast.state.lock().members.is_empty() {
            fast.refresh();
            fast.count();
        }
    }
}

/// A port's place in the tables.
pub(super) struct Place {
    fast: Arc<Fast>,
    id: PortId,
}

impl Place {
    /// Says what the interface is now, and whether frames may pass.
    pub(super) fn is(&self, interface: &Interface, running: bool) {
        let longest = longest(interface);
        self.fast.change(self.id, |member| (member.longest, member.running) = (longest, running));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.fast.network.set_fast_port(self.id, false);
        let mut state = self.fast.state.lock();
        if let Some(mut member) = state.members.remove(&self.id) {
            // Gone already with its interface, perhaps.
            let _ = self.fast.tables.remove_port(member.index);
            self.fast.unsettled.store(true, Ordering::Release);
            self.fast.count_of(&mut member);
        }
    }
}

/// The longest frame that the interface takes, without a tag.
fn longest(interface: &Interface) -> u32 {
    interface.mtu.saturating_add(ETHERNET_HEADER as u32)
}

fn role(role: &VlanRole) -> Role {
    match role {
        VlanRole::Unset => Role::Transparent,
        VlanRole::Access(vlan) => Role::Access(*vlan),
        VlanRole::Trunk { allowed, native } => {
            let mut bits = [0; 64];
            for vlan in allowed.iter() {
                bits[usize::from(vlan.get() / 64)] |= 1_u64 << (vlan.get() % 64);
            }
            Role::Trunk { allowed: Box::new(bits), native: *native }
        }
    }
}
