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
//! A port that an earlier daemon left under names of the BPF file system (`pins`) is taken over as one of its name
//! joins: its record stays as it was until the port is up again, and its addresses are learnt by the network, or go.
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
use vmlan_drivers::host::fast::{Counts, Port, StationKey, Tables, from_guest};
use vmlan_frame::{MacAddr, Mutex, Sides, VlanId};
use vmlan_lan::{EntryKind, FastEntry, FastPath, FastPort, Network, PortId};
use vmlan_sys::ebpf::load_classifier;

use super::inherit::{self, Inherited};
use super::lost;
use super::member::{Member, longest};
use super::pins::Directory;
use crate::Seat;
use crate::kernel::Interface;

/// Ports of a network that the kernel knows, at most.
pub(super) const MOST_PORTS: u32 = Network::MAX_PORTS as u32;

/// How long new addresses wait at least after the last ones were entered: a flood of them costs a listing each.
const BETWEEN: Duration = Duration::from_millis(50);

/// How long addresses that are learnt together may take to come.
const GATHER: Duration = Duration::from_millis(2);

/// How often addresses may have to wait one time after the other: for about a second.
const MOST_WAITS: u32 = 16;

/// The part of one network that the kernel carries.
pub(super) struct Fast {
    pub(super) network: Arc<Network>,
    pub(super) tables: Tables,
    from_guest: OwnedFd,
    pub(super) state: Mutex<State>,
    /// Addresses are to be entered.
    pub(super) due: Arc<Notify>,
    /// True if something was withdrawn since the last wait.
    pub(super) unsettled: AtomicBool,
    /// The names that keep it while no daemon runs, or why there are none.
    pub(super) names: Result<Directory, String>,
}

#[derive(Default)]
pub(super) struct State {
    /// A guest's port is a member without a side, the trunk one for each.
    pub(super) members: BTreeMap<(PortId, Sides), Member>,
    pub(super) stations: HashMap<StationKey, Entered>,
    /// The guests whose frames the trunk diverts, where the network has one that takes part.
    pub(super) diverted: Option<Arc<Stations>>,
    /// The ports of an earlier daemon's that have not joined yet, by their names as `pins` has them.
    pub(super) inherited: BTreeMap<String, Inherited>,
}

impl State {
    /// The members that a port is.
    fn of(&self, id: PortId) -> impl Iterator<Item = &Member> {
        self.members.range((id, Sides::NONE)..=(id, Sides::BOTH)).map(|(_, member)| member)
    }

    fn of_mut(&mut self, id: PortId) -> impl Iterator<Item = &mut Member> {
        self.members.range_mut((id, Sides::NONE)..=(id, Sides::BOTH)).map(|(_, member)| member)
    }

    /// A slot of the counts that no member has, and none that may still become one; all its counts are zero.
    pub(super) fn free_slot(&self, tables: &Tables) -> io::Result<u32> {
        let members = self.members.values().map(|member| member.slot);
        let taken: BTreeSet<u32> = members.chain(self.inherited.values().map(|port| port.slot)).collect();
        let slot = (0..MOST_PORTS).find(|slot| !taken.contains(slot));
        let slot = slot.ok_or_else(|| io::Error::other("a network has no more interface ports"))?;
        tables.clear_counts(slot)?;
        Ok(slot)
    }
}

/// An address that the kernel forwards to.
pub(super) struct Entered {
    pub(super) port: PortId,
    pub(super) side: Sides,
    pub(super) kind: EntryKind,
    /// The number of the port's interface, or of the side of it.
    pub(super) index: u32,
    /// When the programs had heard it last, when that was told.
    pub(super) heard: u32,
}

impl Fast {
    pub(super) fn new(network: Arc<Network>, names: Result<Directory, String>) -> io::Result<Arc<Fast>> {
        let stations = u32::try_from(network.fdb_capacity()).unwrap_or(u32::MAX);
        let (tables, inherited, names) = inherit::tables(stations, names)?;
        let from_guest = load_classifier("vmlan_from", &from_guest(&tables))?;
        let fast = Arc::new(Fast {
            network: network.clone(),
            tables,
            from_guest,
            state: Mutex::new(State { inherited, ..State::default() }),
            names,
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

    pub(super) fn is_called(&self, name: &str) -> bool {
        self.network.name() == name
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
    ) -> io::Result<Place> {
        let id = seat.id();
        let is_inherited;
        {
            let mut state = self.state.lock();
            let inherited = self.inherit(&mut state, seat, interface.index);
            is_inherited = inherited.is_some();
            let slot = match inherited {
                Some(inherited) => inherited.slot,
                None => state.free_slot(&self.tables)?,
            };
            let counters = seat.link().counters().clone();
            let member = Member {
                is_inherited,
                // Until the link tells.
                is_watched: !is_inherited,
                ..Member::new(interface, carrier, slot, counters)
            };
            if !is_inherited {
                self.tables.set_port(member.index, &member.record())?;
            }
            state.members.insert((id, Sides::NONE), member);
        }
        let place = Place { fast: self.clone(), id };
        self.attend(seat);
        if is_inherited {
            self.adopt(id, interface.index);
        }
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
    fn write(&self, before: &Port, member: &mut Member) {
        let record = member.record();
        if member.is_inherited && member.is_undecided() || !member.is_inherited && record == *before {
            return;
        }
        member.is_inherited = false;
        self.unsettled.store(true, Ordering::Release);
        if let Err(error) = self.tables.set_port(member.index, &record) {
            // Without a record every frame of the port is dropped: better than one that goes a forbidden way.
            tracing::error!(network = self.network.name(), "cannot tell the kernel of a port: {error}");
            let _ = self.tables.remove_port(member.index);
        }
    }

    /// Enters every address that the network knows behind these ports, as far as it is not there; true if some have to
    /// wait for programs that may still look at what was there before. A `patient` one waits for them itself.
    fn enter_stations(&self, patient: bool) -> bool {
        let mut failed = None;
        let mut some_wait = false;
        self.network.list_fast(&mut |entry| {
            let mut state = self.state.lock();
            let State { members, stations, diverted, .. } = &mut *state;
            let Some(member) = members.get(&(entry.port, entry.side)) else { return };
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
            // Before the kernel may carry a frame of its to the trunk, to which there may be an answer. No room: the
            // trunk says so.
            if let Some(diverted) = diverted.as_ref().filter(|_| entry.side.is_empty()) {
                let _ = diverted.enter(entry.mac);
            }
            match self.tables.put_station(key, member.index, patient) {
                Ok(false) => some_wait = true,
                Ok(true) => {
                    let FastEntry { port, side, kind, .. } = entry;
                    stations.insert(key, Entered { port, side, kind, index: member.index, heard: 0 });
                }
                Err(error) => failed = Some(error),
            }
        });
        if let Some(error) = failed {
            tracing::warn!(network = self.network.name(), "an address stays with the workers: {error}");
        }
        some_wait
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
        let mut state = self.state.lock();
        let counted: Vec<_> =
            state.members.values().map(|member| self.tables.counts(member.slot).ok()).collect();
        let is_news = |(member, counts): (&Member, &Option<Counts>)| {
            counts.is_some_and(|counts| counts.sent.frames != member.counted.sent.frames)
        };
        // Asked before what was sent is added, so that no drop is without its frame.
        let dropped = match state.members.values().zip(&counted).any(is_news) {
            true => lost::dropped(),
            false => HashMap::new(),
        };
        for (member, counts) in state.members.values_mut().zip(counted) {
            if let Some(counts) = counts {
                member.count(counts, dropped.get(&member.name).copied());
            }
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
            unpinned: state.of(id).find_map(|member| self.unpinned(member)).map(str::to_owned),
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
    pub(super) fn withdraw(&self, key: StationKey) {
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
        let known: BTreeMap<_, _> = ports.iter().map(|facts| (facts.id, facts)).collect();
        for ((id, _), member) in &mut state.members {
            let before = member.record();
            // One that is missing has left the network.
            member.facts = known.get(id).map(|facts| FastPort::clone(facts));
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
    let mut waits = 0;
    loop {
        let is_due = tokio::select! {
            () = due.notified() => true,
            _ = tick.tick() => false,
        };
        let Some(fast) = fast.upgrade() else { return };
        if is_due {
            // The answer to the frame that an address was learnt from teaches the next one.
            tokio::time::sleep(GATHER).await;
            // While addresses leave all the time, as under a flood, there is no end of waiting for them.
            let some_wait = fast.enter_stations(waits >= MOST_WAITS);
            waits = if some_wait { waits + 1 } else { 0 };
            if some_wait {
                // Some ten milliseconds, in which nobody holds a lock.
                let settled = tokio::task::spawn_blocking({
                    let fast = fast.clone();
                    move || fast.tables.settle()
                });
                match settled.await {
                    Ok(Ok(())) => fast.due.notify_one(),
                    Ok(Err(error)) => tracing::warn!("cannot wait for programs that run: {error}"),
                    Err(_) => {}
                }
            }
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
    /// Says what the interface is now, whether frames may pass, and whether they are handed to its other end.
    pub(super) fn is(&self, interface: &Interface, running: bool, to_peer: bool) {
        let longest = longest(interface);
        self.fast.change(self.id, |member| {
            (member.longest, member.running, member.to_peer) = (longest, Some(running), to_peer);
            // Of what a trunk's interface drops, some is its host's own.
            if member.side.is_empty() && member.name != interface.name {
                member.name.clone_from(&interface.name);
            }
        });
    }

    /// Says why the port's programs have no names.
    pub(super) fn has_no_names(&self, why: &'static str) {
        self.fast.change(self.id, |member| member.unpinned = Some(why));
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
            if let Ok(counts) = self.fast.tables.counts(member.slot) {
                member.count(counts, lost::dropped().get(&member.name).copied());
            }
        }
    }
}
