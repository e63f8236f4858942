//! The trunk among what the kernel carries of a network.
//!
//! Theory of operation. A trunk in mode `filter` takes part once its network has interface ports, without which there
//! is nothing that could go fast. It is two members of the tables, one for each side, behind one interface. Its own
//! programs ask the tables about frames for guests, and else divert those as ever. An answer to a guest's frame may
//! come before any worker saw that guest, so an address that the kernel may carry frames from is among those that the
//! trunk diverts from before.

use std::io;
use std::sync::Arc;

use vmlan_drivers::Flows;
use vmlan_drivers::host::Stations;
use vmlan_drivers::host::fast::{FromSide, Side};
use vmlan_frame::Sides;

use super::fast::{Fast, Place, State};
use super::member::Member;
use crate::Seat;
use crate::kernel::Interface;

/// The parts of a trunk that its place in the tables is made of.
pub(crate) struct Parts<'a> {
    pub(crate) interface: &'a Interface,
    /// The numbers of the devices that carry frames of the host's side, and of the wire's.
    pub(crate) carriers: [u32; 2],
    pub(crate) flows: &'a Flows,
    /// The guests whose frames it diverts.
    pub(crate) stations: &'a Arc<Stations>,
}

/// The trunk's place in the tables.
pub(crate) struct TrunkPlace {
    place: Place,
    index: u32,
}

impl TrunkPlace {
    /// The way of what comes from a side.
    pub(crate) fn way_of(&self, side: Side) -> FromSide<'_> {
        FromSide { tables: &self.place.fast.tables, index: self.index, side }
    }

    /// Says what the interface is now.
    pub(crate) fn is(&self, interface: &Interface) {
        self.place.is(interface, interface.running, false);
    }

    /// Has frames for every guest diverted that the kernel may carry frames from. To be called after some were taken
    /// out of those that the trunk diverts.
    pub(crate) fn divert_guests(&self) {
        self.place.fast.state.lock().divert_guests();
    }
}

impl Drop for TrunkPlace {
    fn drop(&mut self) {
        self.place.fast.state.lock().diverted = None;
    }
}

impl State {
    fn divert_guests(&self) {
        let Some(diverted) = &self.diverted else { return };
        for (key, _) in self.stations.iter().filter(|(_, entered)| entered.side.is_empty()) {
            // No room: the trunk says so.
            let _ = diverted.enter(key.mac);
        }
    }
}

impl Fast {
    /// Gives both sides of the trunk of `seat` a place in the tables, held until [`TrunkPlace::is`] says that the
    /// interface is up.
    pub(super) fn enter_trunk(self: &Arc<Self>, seat: &Seat, parts: &Parts<'_>) -> io::Result<TrunkPlace> {
        let Parts { interface, carriers, flows, stations } = parts;
        let index = interface.index;
        // What is entered leaves with it, if the rest cannot be.
        let place = TrunkPlace { place: Place { fast: self.clone(), id: seat.id() }, index };
        let sides = [(Sides::HOST, Side::Host, &flows.host), (Sides::WIRE, Side::Wire, &flows.wire)];
        {
            let mut state = self.state.lock();
            for ((sides, side, flow), carrier) in sides.into_iter().zip(*carriers) {
                let slot = state.free_slot(&self.tables)?;
                let counters = seat.link().counters().clone();
                let member = Member {
                    side: sides,
                    index: side.index(index),
                    flow: Some(flow.clone()),
                    // Of what the interface drops, some is its host's own.
                    name: String::new(),
                    unpinned: Some("what wire and host send to guests waits for the next daemon"),
                    ..Member::new(interface, carrier, slot, counters)
                };
                self.tables.set_port(member.index, &member.record())?;
                state.members.insert((seat.id(), sides), member);
            }
            state.diverted = Some(Arc::clone(stations));
            state.divert_guests();
        }
        self.attend(seat);
        Ok(place)
    }
}

/// The side that a member stands for.
pub(super) fn side(sides: Sides) -> Option<Side> {
    match sides {
        Sides::HOST => Some(Side::Host),
        Sides::WIRE => Some(Side::Wire),
        _ => None,
    }
}
