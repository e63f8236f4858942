//! The kernel's part of an earlier daemon's networks, as the next one takes it over.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::atomic::Ordering;

use vmlan_drivers::host::fast::{Station, StationKey, Tables};
use vmlan_frame::Sides;
use vmlan_lan::{EntryKind, PortId};

use super::fast::{Entered, Fast, MOST_PORTS, State};
use super::member::Member;
use super::pins::{self, Directory};
use crate::Seat;
use crate::hooks::Names;

/// A port that the kernel knows of an earlier daemon's.
pub(super) struct Inherited {
    pub(super) index: u32,
    pub(super) slot: u32,
}

impl Fast {
    /// Takes over what the kernel knows of the port, if that is of this interface.
    pub(super) fn inherit(&self, state: &mut State, seat: &Seat, index: u32) -> Option<Inherited> {
        let inherited = state.inherited.remove(&pins::name(&seat.place().port))?;
        if inherited.index != index {
            self.drop_inherited(&inherited);
            return None;
        }
        Some(inherited)
    }

    /// Takes the names of a port away that cannot be taken over, and what the kernel knows of it.
    pub(super) fn forget(&self, port: &str) {
        if let Some(inherited) = self.state.lock().inherited.remove(&pins::name(port)) {
            self.drop_inherited(&inherited);
        }
    }

    fn drop_inherited(&self, inherited: &Inherited) {
        if let Err(error) = drop_ports(&self.tables, |index| index == inherited.index) {
            tracing::warn!(network = self.network.name(), "cannot take a port from the kernel: {error}");
        }
        self.unsettled.store(true, Ordering::Release);
    }

    /// Has the network know the addresses that the kernel has at the port of this interface, or the kernel forget them.
    pub(super) fn adopt(&self, id: PortId, index: u32) {
        let listed = self.tables.stations().unwrap_or_default();
        let of_it: Vec<_> = listed.into_iter().filter(|station| station.index == index).collect();
        // From here on they are withdrawn as any are. What kind they are is told when they are listed.
        let kind = EntryKind::Learnt;
        for Station { key, index, heard } in of_it.iter().copied() {
            let mut state = self.state.lock();
            state.stations.insert(key, Entered { port: id, side: Sides::NONE, kind, index, heard });
        }
        for station in of_it {
            let StationKey { mac, vlan } = station.key;
            if !self.network.adopt(mac, vlan, id, station.time()) {
                self.withdraw(station.key);
            }
        }
        self.due.notify_one();
    }

    /// Why what the kernel carries of a port ends with this process, where it does.
    pub(super) fn unpinned<'a>(&'a self, member: &'a Member) -> Option<&'a str> {
        member.unpinned.or(self.names.as_ref().err().map(String::as_str))
    }

    /// Names for the links of a port.
    pub(super) fn links(&self, port: &str) -> Option<Names> {
        Some(self.names.as_ref().ok()?.links(port))
    }
}

/// The tables of a network: those that an earlier daemon left, with the ports in them that may still be taken over, or
/// empty ones.
pub(super) fn tables(stations: u32, names: Result<Directory, String>) -> io::Result<Opened> {
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
    drop_ports(tables, |index| !indices.contains(&index))?;
    Ok(known)
}

/// Takes the ports of these indices out of the tables, and the stations behind them.
fn drop_ports(tables: &Tables, is_one: impl Fn(u32) -> bool) -> io::Result<()> {
    for (index, _) in tables.ports()?.into_iter().filter(|(index, _)| is_one(*index)) {
        tables.remove_port(index)?;
    }
    for station in tables.stations()?.into_iter().filter(|station| is_one(station.index)) {
        tables.remove_station(station.key)?;
    }
    Ok(())
}
