//! Forwarding in a network that has a trunk.
//!
//! Theory of operation. Where a frame goes is decided in two steps. [`Pass::route`] says what the whole model makes of
//! it: the guests that get it, and the sides that do. Then, for a frame from a side of which the driver has handed over
//! only a copy, the other side is struck out, since the original goes there by itself. The verdict is read off the
//! first step, so it is the same whatever the driver does.
//!
//! The order is: guests, the host, the wire. Host and wire share one copy in the trunk's queue unless the wire's is
//! edited.

use core::mem;
use std::sync::Arc;

use frame::{DropReason, Frame, MacAddr, Sides};

use super::admission::{self, Header};
use super::memo::Target;
use super::{Forwarder, Pass};
use crate::port::Port;
use crate::port_table::TrunkEntry;
use crate::trunk::{Diversion, Trunk, Verdict};
use crate::{Egress, PortId};

/// Which guests get a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Guests {
    /// None.
    Nobody,
    /// Every one.
    All,
    /// The one whose address it is, and the promiscuous ones.
    Owner(PortId),
    /// Those that listen to what guests send to others.
    Promiscuous,
    /// Those that listen to what the sides of the trunk send to each other.
    Listeners,
    /// Those that may hold the address.
    Flooded,
    /// The same for a frame from a side of the trunk.
    FloodedFromTrunk,
}

/// Where a frame goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Route {
    guests: Guests,
    /// The sides that get it, never the one that it is from.
    sides: Sides,
    /// Whether it is unicast to an address that nobody is known to have.
    unknown: bool,
}

impl Route {
    const NOWHERE: Route = Route { guests: Guests::Nobody, sides: Sides::NONE, unknown: false };

    /// Whether a frame that is routed so is taken off its way by the driver.
    fn is_taken(&self, diversion: Diversion) -> bool {
        match diversion {
            Diversion::Nothing => false,
            Diversion::Guests => matches!(self.guests, Guests::Owner(_)),
            Diversion::Everything => true,
        }
    }
}

impl Forwarder {
    /// What a driver that sees `frame` from the side `from` before the other side gets it does with it; nothing in a
    /// network without a trunk. The same frame is to be given to [`Forwarder::forward`] for the guests.
    ///
    /// An address that nobody is known to have may be one more of the host's, so a frame from the wire to it goes on.
    pub fn verdict(&mut self, frame: &Frame, from: Sides) -> Option<Verdict> {
        self.catch_up();
        let entry = self.ports.trunk.as_ref()?;
        let (network, ports, memo) = (&*self.network, &*self.ports, &mut self.memo);
        // Nothing is sent.
        let egress = &mut Egress::new(0);
        let mut pass = Pass { network, ports, from: &entry.port, now: 0, memo, egress };
        Some(pass.verdict(frame, from, entry))
    }
}

impl Pass<'_> {
    /// As [`Pass::frame`], in a network with that trunk.
    pub(super) fn frame_beside(&mut self, mut frame: Frame, entry: &TrunkEntry) -> Result<u64, DropReason> {
        let trunk = &*entry.trunk;
        let header = admission::admit(&frame, self.from, self.ports)?;
        let side = if self.from.id == entry.port.id {
            let side = trunk.side(mem::take(&mut frame.meta.sides), header.source);
            self.check_side(&header, trunk, side)?;
            side
        } else {
            if !self.from.guard {
                self.check_source(&header)?;
            }
            Sides::NONE
        };
        let route = self.route(&header, trunk, side);
        let mut sides = route.sides.within(trunk.reaches);
        if !side.is_empty() && !route.is_taken(trunk.diversion) {
            sides = Sides::NONE;
        }
        let copies = self.deliver(frame, &header, route.guests, entry, sides);
        if copies == 0 { Err(DropReason::NoDestination) } else { Ok(copies) }
    }

    /// Whether a frame may come from that side of the trunk, and learns its source when it is on the wire.
    fn check_side(&mut self, header: &Header, trunk: &Trunk, side: Sides) -> Result<(), DropReason> {
        if !trunk.enabled.contains(side) {
            return Err(DropReason::SideDisabled);
        }
        let is_host = trunk.macs.contains(&header.source);
        match (side, is_host) {
            // The host's own address comes back from the wire when something there reflects frames.
            (Sides::WIRE, true) => Err(DropReason::SourceGuard),
            (Sides::WIRE, false) => self.check_source(header),
            // What is behind the host has no side in the FDB, so it is not learnt.
            _ => Ok(()),
        }
    }

    fn route(&mut self, header: &Header, trunk: &Trunk, side: Sides) -> Route {
        let from_guest = side.is_empty();
        let open = trunk.enabled.without(side);
        if header.destination.is_multicast() {
            return Route { guests: Guests::All, sides: open, unknown: false };
        }
        if header.destination == header.source {
            return Route::NOWHERE;
        }
        let promiscuous = trunk.promiscuous.within(open);
        let own = self.ports.trunk.as_ref().map(|entry| entry.port.id);
        match self.target(header) {
            Target::Port(id) if Some(id) == own => {
                let side = side_of(header.destination, trunk);
                let guests = if from_guest { Guests::Promiscuous } else { Guests::Listeners };
                Route { guests, sides: side.within(open).with(promiscuous), unknown: false }
            }
            Target::Port(id) if id == self.from.id => Route::NOWHERE,
            Target::Port(id) => Route { guests: Guests::Owner(id), sides: promiscuous, unknown: false },
            Target::Unknown => {
                let guests = if from_guest { Guests::Flooded } else { Guests::FloodedFromTrunk };
                Route { guests, sides: Sides::WIRE.within(open).with(promiscuous), unknown: true }
            }
        }
    }

    /// Sends copies to the guests and to the sides; returns how many.
    fn deliver(
        &mut self,
        mut frame: Frame,
        header: &Header,
        guests: Guests,
        entry: &TrunkEntry,
        sides: Sides,
    ) -> u64 {
        let to_trunk = !sides.is_empty() && entry.port.active && entry.port.vlan.includes(header.vlan);
        if !to_trunk {
            return self.send_guests(frame, header, guests, entry);
        }
        let mut copies = 0;
        if !self.is_nobody(guests, entry) {
            copies = self.send_guests(frame.clone(), header, guests, entry);
        }
        frame.meta.sides = sides;
        self.send(&entry.port, frame, header);
        copies + 1
    }

    /// Whether it is plain that no guest gets anything, as for most frames to the wire.
    fn is_nobody(&self, guests: Guests, entry: &TrunkEntry) -> bool {
        match guests {
            Guests::Nobody => true,
            Guests::Promiscuous => self.ports.promiscuous.is_empty(),
            Guests::Listeners => entry.listeners.is_empty(),
            _ => false,
        }
    }

    fn send_guests(&mut self, frame: Frame, header: &Header, guests: Guests, entry: &TrunkEntry) -> u64 {
        match guests {
            Guests::Nobody => 0,
            Guests::All => self.fan_out(frame, header, ports(&self.ports.active)),
            Guests::Promiscuous => self.fan_out(frame, header, ports(&self.ports.promiscuous)),
            Guests::Flooded => self.fan_out(frame, header, ports(&self.ports.flooded)),
            Guests::Listeners => self.fan_out(frame, header, ports(&entry.listeners)),
            Guests::FloodedFromTrunk => self.fan_out(frame, header, ports(&entry.flooded)),
            Guests::Owner(id) => {
                let owner = self.ports.port(id);
                let listeners = ports(&self.ports.promiscuous).filter(|port| port.id != id);
                self.fan_out(frame, header, owner.into_iter().chain(listeners))
            }
        }
    }

    fn verdict(&mut self, frame: &Frame, side: Sides, entry: &TrunkEntry) -> Verdict {
        let trunk = &*entry.trunk;
        let other = Sides::BOTH.without(side);
        let verdict = |send_guests: bool, goes_on: bool| match (
            send_guests,
            goes_on && trunk.enabled.contains(other),
        ) {
            (true, true) => Verdict::Copy,
            (true, false) => Verdict::Consume,
            (false, true) => Verdict::Pass,
            (false, false) => Verdict::Drop,
        };
        if !trunk.enabled.contains(side) {
            return Verdict::Drop;
        }
        let header = match admission::admit(frame, self.from, self.ports) {
            Ok(header) => header,
            Err(DropReason::Runt) => return Verdict::Drop,
            // The rules of the guests' network are not those of the host's.
            Err(_) => return verdict(false, true),
        };
        let route = self.route(&header, trunk, side);
        let goes_on = route.sides.contains(other) || side == Sides::WIRE && route.unknown;
        verdict(self.reaches_guests(&header, route.guests, entry), goes_on)
    }

    fn reaches_guests(&self, header: &Header, guests: Guests, entry: &TrunkEntry) -> bool {
        let receives = |port: &Port| port.receives(self.from, header.vlan);
        let any = |list: &[Arc<Port>]| ports(list).any(receives);
        match guests {
            Guests::Nobody => false,
            Guests::All => any(&self.ports.active),
            Guests::Promiscuous => any(&self.ports.promiscuous),
            Guests::Flooded => any(&self.ports.flooded),
            Guests::Listeners => any(&entry.listeners),
            Guests::FloodedFromTrunk => any(&entry.flooded),
            Guests::Owner(id) => self.ports.port(id).is_some_and(receives) || any(&self.ports.promiscuous),
        }
    }
}

/// The side on which an address is that is behind the trunk.
fn side_of(address: MacAddr, trunk: &Trunk) -> Sides {
    if trunk.macs.contains(&address) { Sides::HOST } else { Sides::WIRE }
}

fn ports(list: &[Arc<Port>]) -> impl Iterator<Item = &Port> {
    list.iter().map(|port| &**port)
}
