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
use vmlan_drivers::host::Stations;
use vmlan_drivers::host::fast::{Counts, Passed, Port, Role, StationKey, Tables, from_guest};
use vmlan_frame::{Counters, ETHERNET_HEADER, MacAddr, Mutex, Sides, Tally, VlanId};
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
    pub(super) network: Arc<Network>,
    pub(super) tables: Tables,
    from_guest: OwnedFd,
    pub(super) state: Mutex<State>,
    /// Addresses are to be entered.
    due: Arc<Notify>,
    /// True if something was withdrawn since the last wait.
    unsettled: AtomicBool,
}

#[derive(Default)]
pub(super) struct State {
    /// A guest's port is a member without a side, the trunk one for each.
    pub(super) members: BTreeMap<(PortId, Sides), Member>,
    pub(super) stations: HashMap<StationKey, Entered>,
    /// The guests whose frames the trunk diverts, where the network has one that takes part.
    pub(super) diverted: Option<Arc<Stations>>,
}

impl State {
    /// The members that a port is.
    fn of(&self, id: PortId) -> impl Iterator<Item = &Member> {
        self.members.range((id, Sides::NONE)..=(id, Sides::BOTH)).map(|(_, member)| member)
    }

    fn of_mut(&mut self, id: PortId) -> impl Iterator<Item = &mut Member> {
        self.members.range_mut((id, Sides::NONE)..=(id, Sides::BOTH)).map(|(_, member)| member)
    }

    /// A slot of the counts that no member has.
    pub(super) fn free_slot(&self) -> io::Result<u32> {
        let taken: BTreeSet<u32> = self.members.values().map(|member| member.slot).collect();
        let slot = (0..MOST_PORTS).find(|slot| !taken.contains(slot));
        slot.ok_or_else(|| io::Error::other("a network has no more interface ports"))
    }
}

/// An address that the kernel forwards to.
pub(super) struct Entered {
    port: PortId,
    pub(super) side: Sides,
    /// The number of the port's interface, or of the side of it.
    index: u32,
    /// When the programs had heard it last, when that was told.
    heard: u32,
}

/// A port whose frames the kernel may carry, or a side of the trunk.
pub(super) struct Member {
    /// Which side; none for a guest's port.
    pub(super) side: Sides,
    /// The numbers of the interface, or of the side of it, and of the device that carries frames to workers.
    pub(super) index: u32,
    pub(super) carrier: u32,
    pub(super) slot: u32,
    /// The longest frame that the interface takes.
    pub(super) longest: u32,
    pub(super) is_peer_elsewhere: bool,
    pub(super) running: bool,
    /// True while somebody has to see the link's frames.
    pub(super) is_watched: bool,
    pub(super) facts: Option<FastPort>,
    pub(super) counters: Arc<Counters>,
    /// The counters of the side.
    pub(super) flow: Option<Arc<Counters>>,
    pub(super) counted: Counts,
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
            Some(facts) if !facts.sides.contains(self.side) => Some("guests do not reach that side"),
            Some(facts) => facts.slow.map(|reason| reason.as_str()),
        }
    }

    pub(super) fn record(&self) -> Port {
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
            side: super::trunk::side(self.side),
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
            let slot = state.free_slot()?;
            self.tables.clear_counts(slot)?;
            let member = Member {
                side: Sides::NONE,
                index: interface.index,
                carrier,
                slot,
                longest: longest(interface),
                is_peer_elsewhere,
                running: false,
                is_watched: true,
                facts: None,
                counters: seat.link().counters().clone(),
                flow: None,
                counted: Counts::default(),
            };
            self.tables.set_port(member.index, &member.record())?;
            state.members.insert((id, Sides::NONE), member);
        }
        let place = Place { fast: self.clone(), id };
        self.attend(seat);
        Ok(place)
    }

    /// Has the network and the link of a port that was entered tell of it.
    pub(super) fn attend(self: &Arc<Self>, seat: &Seat) {
        let id = seat.id();
        // The port has just joined, or has left already.
        let _ = self.network.set_fast_port(id, true);
        let fast = Arc::downgrade(self);
        seat.link().watch_users(Arc::new(move |is_watched| {
            if let Some(fast) = fast.upgrade() {
                fast.change(id, |member| member.is_watched = is_watched);
            }
        }));
    }

    /// Changes what is known of a port, and what the kernel knows of it.
    fn change(&self, id: PortId, change: impl Fn(&mut Member)) {
        for member in self.state.lock().of_mut(id) {
            let before = member.record();
            change(member);
            self.write(&before, member);
        }
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
            let State { members, stations, diverted } = &mut *state;
            let Some(member) = members.get(&(entry.port, entry.side)) else { return };
            // An address that a guarded port may not send from is no source, and there is one table for both.
            let is_guarded = member.facts.as_ref().is_some_and(|facts| facts.guard);
            if is_guarded && entry.kind != EntryKind::Set {
                return;
            }
            let key = StationKey { mac: entry.mac, vlan: entry.vlan };
            if stations.get(&key).is_some_and(|known| (known.port, known.index) == (entry.port, member.index))
            {
                return;
            }
            // Before the kernel may carry a frame of its to the trunk, to which there may be an answer. No room: the
            // trunk says so.
            if let Some(diverted) = diverted.as_ref().filter(|_| entry.side.is_empty()) {
                let _ = diverted.enter(entry.mac);
            }
            match self.tables.put_station(key, member.index) {
                Ok(()) => {
                    let FastEntry { port, side, .. } = entry;
                    stations.insert(key, Entered { port, side, index: member.index, heard: 0 });
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
        // Every frame that came in fast went out by one port.
        member.counters.copied(0, received.frames);
        for counters in [Some(&member.counters), member.flow.as_ref()].into_iter().flatten() {
            counters.received(0, &received);
            counters.sent(0, &sent);
        }
    }

    /// Tells what the kernel carries of a port.
    pub(super) fn report(&self, id: PortId) -> Option<PortFast> {
        let state = self.state.lock();
        // Of a trunk with one side that goes fast, not everything goes by the daemon.
        let slow = state.of(id).map(Member::slow).min()?;
        let counted = || state.of(id).map(|member| &member.counted);
        Some(PortFast {
            stations: state.stations.values().filter(|entered| entered.port == id).count() as u64,
            slow: slow.map(str::to_owned),
            rx_frames: counted().map(|counted| counted.received.frames).sum(),
            tx_frames: counted().map(|counted| counted.sent.frames).sum(),
        })
    }

    /// The addresses that the kernel forwards to.
    pub(super) fn stations(&self) -> BTreeSet<(MacAddr, Option<VlanId>)> {
        let state = self.state.lock();
        let is_fast = |entered: &&Entered| {
            let member = state.members.get(&(entered.port, entered.side));
            member.is_some_and(|member| member.slow().is_none())
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
        let mut state = self.state.lock();
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
        let known: BTreeMap<_, _> = ports.iter().map(|facts| (facts.id, facts)).collect();
        for ((id, _), member) in &mut state.members {
            let before = member.record();
            // One that is missing has left the network.
            member.facts = known.get(id).map(|facts| FastPort::clone(facts));
            self.write(&before, member);
        }
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
    pub(super) fast: Arc<Fast>,
    pub(super) id: PortId,
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
        for side in [Sides::NONE, Sides::HOST, Sides::WIRE] {
            let Some(mut member) = state.members.remove(&(self.id, side)) else { continue };
            // Gone already with its interface, perhaps.
            let _ = self.fast.tables.remove_port(member.index);
            self.fast.unsettled.store(true, Ordering::Release);
            self.fast.count_of(&mut member);
        }
    }
}

/// The longest frame that the interface takes, without a tag.
pub(super) fn longest(interface: &Interface) -> u32 {
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
