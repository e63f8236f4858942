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
//! What an earlier daemon left under names of the BPF file system (`pins`) is taken over as a port of that name joins:
//! its record stays as it was until the port is up again, and its addresses are learnt by the network, or go.
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
use vmlan_drivers::host::fast::{Counts, Passed, Port, Role, Station, StationKey, Tables, from_guest};
use vmlan_frame::{Counters, DropReason, ETHERNET_HEADER, MacAddr, Mutex, Tally, VlanId};
use vmlan_lan::{EntryKind, FastPath, FastPort, Network, PortId, SlowReason, VlanRole};
use vmlan_sys::ebpf::load_classifier;

use super::lost;
use super::pins::{self, Directory};
use crate::Seat;
use crate::hooks::Names;
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
    /// The names that keep it while no daemon runs, or why there are none.
    names: Result<Directory, String>,
}

#[derive(Default)]
struct State {
    members: BTreeMap<PortId, Member>,
    stations: HashMap<StationKey, Entered>,
    /// The ports of an earlier daemon's that have not joined yet, by their names as `pins` has them.
    inherited: BTreeMap<String, Inherited>,
}

/// A port that the kernel knows of an earlier daemon's.
struct Inherited {
    index: u32,
    slot: u32,
}

/// An address that the kernel forwards to.
struct Entered {
    port: PortId,
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
    /// True while the interface is up and has a carrier; unknown at first.
    running: Option<bool>,
    /// The kernel still has the record of an earlier daemon's.
    is_inherited: bool,
    /// True while somebody has to see the link's frames.
    is_watched: bool,
    facts: Option<FastPort>,
    counters: Arc<Counters>,
    counted: Counts,
    /// The interface's name, and the frames that its driver had dropped on the way out when that was last asked.
    name: String,
    dropped: Option<u64>,
    /// Why its programs have no names, where they cannot have any.
    unpinned: Option<&'static str>,
}

impl Member {
    /// Why everything of the port goes to the workers.
    fn slow(&self) -> Option<&'static str> {
        if self.running != Some(true) {
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

    /// True if it is not decided yet whether the kernel may carry anything, and nothing is against it.
    fn is_undecided(&self) -> bool {
        let is_awaited = |facts: &FastPort| matches!(facts.slow, None | Some(SlowReason::Inactive));
        let may_be = self.running != Some(false) && !self.is_watched;
        may_be && self.facts.as_ref().is_some_and(is_awaited) && self.slow().is_some()
    }

    /// Adds to the port's counters what the kernel counted since the last time; `dropped` is what the interface's
    /// driver has dropped on the way out, if that was asked.
    fn count(&mut self, counts: Counts, dropped: Option<u64>) {
        let before = std::mem::replace(&mut self.counted, counts);
        let tally = |now: &Passed, before: &Passed| Tally {
            frames: now.frames - before.frames,
            octets: now.octets - before.octets,
            large: [now.large[0] - before.large[0], now.large[1] - before.large[1]],
            ..Tally::default()
        };
        let received = tally(&counts.received, &before.received);
        let mut sent = tally(&counts.sent, &before.sent);
        self.counters.received(0, &received);
        // Every frame that came in fast went out by one port, unless that port's driver dropped it.
        self.counters.copied(0, received.frames);
        if let Some(dropped) = dropped {
            let before = self.dropped.replace(dropped).unwrap_or(dropped);
            let lost = dropped.saturating_sub(before).min(sent.frames);
            if lost > 0 {
                // How long those were is not known.
                sent.octets -= (u128::from(sent.octets) * u128::from(lost) / u128::from(sent.frames)) as u64;
                sent.frames -= lost;
                self.counters.dropped_unseen(0, DropReason::QueueFull, lost);
            }
        }
        self.counters.sent(0, &sent);
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
    pub(super) fn new(network: Arc<Network>, names: Result<Directory, String>) -> io::Result<Arc<Fast>> {
        let stations = u32::try_from(network.fdb_capacity()).unwrap_or(u32::MAX);
        let (tables, inherited, names) = tables(stations, names)?;
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
            let inherited = self.inherit(&mut state, seat, interface.index);
            let slot = match &inherited {
                Some(inherited) => inherited.slot,
                None => self.free_slot(&state)?,
            };
            let member = Member {
                index: interface.index,
                carrier,
                slot,
                longest: longest(interface),
                is_peer_elsewhere,
                running: None,
                is_inherited: inherited.is_some(),
                is_watched: inherited.is_none(),
                facts: None,
                counters: seat.link().counters().clone(),
                counted: Counts::default(),
                name: interface.name.clone(),
                dropped: None,
                unpinned: None,
            };
            if !member.is_inherited {
                self.tables.set_port(member.index, &member.record())?;
            }
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
        self.adopt(id, interface.index);
        Ok(place)
    }

    /// Takes over what the kernel knows of the port, if that is of this interface.
    fn inherit(&self, state: &mut State, seat: &Seat, index: u32) -> Option<Inherited> {
        let inherited = state.inherited.remove(&pins::name(&seat.place().port))?;
        if inherited.index != index {
            self.drop_inherited(&inherited);
            return None;
        }
        Some(inherited)
    }

    fn free_slot(&self, state: &State) -> io::Result<u32> {
        let members = state.members.values().map(|member| member.slot);
        let taken: BTreeSet<u32> = members.chain(state.inherited.values().map(|port| port.slot)).collect();
        let slot = (0..MOST_PORTS).find(|slot| !taken.contains(slot));
        let slot = slot.ok_or_else(|| io::Error::other("a network has no more interface ports"))?;
        self.tables.clear_counts(slot)?;
        Ok(slot)
    }

    /// Takes the names of a port away that cannot be taken over, and what the kernel knows of it.
    pub(super) fn forget(&self, port: &str) {
        if let Some(inherited) = self.state.lock().inherited.remove(&pins::name(port)) {
            self.drop_inherited(&inherited);
        }
    }

    fn drop_inherited(&self, inherited: &Inherited) {
        if let Err(error) = drop_port(&self.tables, inherited.index) {
            tracing::warn!(network = self.network.name(), "cannot take a port from the kernel: {error}");
        }
        self.unsettled.store(true, Ordering::Release);
    }

    /// Has the network know the addresses that the kernel has at the port of this interface, or the kernel forget them.
    fn adopt(&self, id: PortId, index: u32) {
        let listed = self.tables.stations().unwrap_or_default();
        let of_it: Vec<_> = listed.into_iter().filter(|station| station.index == index).collect();
        // From here on they are withdrawn as any are.
        for Station { key, index, heard } in of_it.iter().copied() {
            self.state.lock().stations.insert(key, Entered { port: id, index, heard });
        }
        for station in of_it {
            let StationKey { mac, vlan } = station.key;
            if !self.network.adopt(mac, vlan, id, station.time()) {
                self.withdraw(station.key);
            }
        }
    }

    /// Why what the kernel carries of a port ends with this process, where it does.
    fn unpinned<'a>(&'a self, member: &'a Member) -> Option<&'a str> {
        member.unpinned.or(self.names.as_ref().err().map(String::as_str))
    }

    /// Names for the links of a port.
    pub(super) fn links(&self, port: &str) -> Option<Names> {
        Some(self.names.as_ref().ok()?.links(port))
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

    /// Enters every address that the network knows behind these ports, as far as it is not there.
    fn enter_stations(&self) {
        let mut failed = None;
        self.network.list_fast(&mut |entry| {
            let mut state = self.state.lock();
            let State { members, stations, .. } = &mut *state;
            let Some(member) = members.get(&entry.port) else { return };
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
            match self.tables.put_station(key, member.index) {
                Ok(()) => {
                    stations.insert(key, Entered { port: entry.port, index: member.index, heard: 0 });
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
        let member = state.members.get(&id)?;
        Some(PortFast {
            stations: state.stations.values().filter(|entered| entered.port == id).count() as u64,
            slow: member.slow().map(str::to_owned),
            unpinned: self.unpinned(member).map(str::to_owned),
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
        let mut known: BTreeMap<_, _> = ports.iter().map(|facts| (facts.id, facts)).collect();
        for (id, member) in &mut state.members {
            let before = member.record();
            // One that is missing has left the network.
            member.facts = known.remove(id).cloned();
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
    fast: Arc<Fast>,
    id: PortId,
}

impl Place {
    /// Says what the interface is now, and whether frames may pass.
    pub(super) fn is(&self, interface: &Interface, running: bool) {
        let longest = longest(interface);
        self.fast.change(self.id, |member| {
            (member.longest, member.running) = (longest, Some(running));
            if member.name != interface.name {
                member.name.clone_from(&interface.name);
            }
        });
    }
}

impl Place {
    /// Says why the port's programs have no names.
    pub(super) fn has_no_names(&self, why: &'static str) {
        self.fast.change(self.id, |member| member.unpinned = Some(why));
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
            if let Ok(counts) = self.fast.tables.counts(member.slot) {
                member.count(counts, lost::dropped().get(&member.name).copied());
            }
        }
    }
}

/// The tables of a network: those that an earlier daemon left, with the ports in them that may still be taken over, or
/// empty ones.
fn tables(stations: u32, names: Result<Directory, String>) -> io::Result<Opened> {
    let Ok(directory) = &names else {
        return Ok((Tables::new(stations, MOST_PORTS)?, BTreeMap::new(), names));
    };
    match Tables::open(directory.path(), stations, MOST_PORTS) {
        Ok(Some(tables)) => {
            let inherited = inherited(&tables, directory)?;
            return Ok((tables, inherited, names));
        }
        Ok(None) => {}
        Err(error) => tracing::warn!("what an earlier vmlan left in the kernel is of no use: {error}"),
    }
    let tables = Tables::new(stations, MOST_PORTS)?;
    let pinned = directory.make_anew().and_then(|()| tables.pin(directory.path()));
    let why = |error| format!("{} takes no tables: {error}", directory.path().display());
    let names = match pinned.map_err(why) {
        Ok(()) => names,
        Err(why) => Err(why),
    };
    Ok((tables, BTreeMap::new(), names))
}

type Opened = (Tables, BTreeMap<String, Inherited>, Result<Directory, String>);

/// The ports that both the tables and links of programs know. All else is taken out of the tables.
fn inherited(tables: &Tables, directory: &Directory) -> io::Result<BTreeMap<String, Inherited>> {
    let links = directory.ports();
    let listed: HashMap<u32, u32> =
        tables.ports()?.into_iter().filter(|(_, slot)| *slot < MOST_PORTS).collect();
    let known = links.into_iter().filter_map(|(port, index)| {
        let slot = *listed.get(&index)?;
        Some((port, Inherited { index, slot }))
    });
    let known: BTreeMap<_, _> = known.collect();
    let indices: BTreeSet<u32> = known.values().map(|port| port.index).collect();
    let of_others: BTreeSet<u32> = tables.ports()?.into_iter().map(|(index, _)| index).collect();
    let behind: BTreeSet<u32> = tables.stations()?.into_iter().map(|station| station.index).collect();
    for index in of_others.union(&behind).filter(|index| !indices.contains(index)) {
        drop_port(tables, *index)?;
    }
    Ok(known)
}

/// Takes a port out of the tables, with the stations behind it.
fn drop_port(tables: &Tables, index: u32) -> io::Result<()> {
    tables.remove_port(index)?;
    for station in tables.stations()?.into_iter().filter(|station| station.index == index) {
        tables.remove_station(station.key)?;
    }
    Ok(())
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
