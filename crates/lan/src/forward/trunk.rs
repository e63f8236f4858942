//! Forwarding in a network that has a trunk.
//!
//! Theory of operation. Where a frame goes is decided in two steps. [`Beside::route`] says what the whole model makes
//! of it: the guests that get it, and the sides that do. Then, for a frame from a side of which the driver has handed
//! over only a copy, the other side is struck out, since the original goes there by itself.
//!
//! The order is: guests, the host, the wire. Host and wire share one copy in the trunk's queue, except in shared-MAC
//! mode (`shared`), where the wire's is edited.

use core::mem;
use std::sync::Arc;

use vmlan_frame::{DropReason, Frame, Sides};

use super::admission::{self, Header};
use super::memo::Target;
use super::shared::Handled;
use super::{Examined, Pass};
use crate::PortId;
use crate::port::Port;
use crate::port_table::TrunkEntry;
use crate::trunk::Diversion;

/// Which guests get a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Guests {
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

impl Guests {
    /// Returns the number of copies of a frame to these, among whom there may be nobody to get it.
    #[inline]
    fn heard(self, copies: u64) -> Result<u64, DropReason> {
        match self {
            Guests::All | Guests::Flooded | Guests::FloodedFromTrunk => super::heard(copies),
            _ => Ok(copies),
        }
    }
}

/// Where a frame goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Route {
    pub(super) guests: Guests,
    /// The sides that get it, never the one that it is from.
    pub(super) sides: Sides,
}

impl Route {
    pub(super) const NOWHERE: Route = Route { guests: Guests::Nobody, sides: Sides::NONE };

    pub(super) fn new(guests: Guests, sides: Sides) -> Route {
        Route { guests, sides }
    }

    /// True if the driver takes a frame with this route off its way.
    pub(super) fn is_taken(&self, diversion: Diversion) -> bool {
        match diversion {
            Diversion::Nothing => false,
            Diversion::Guests => matches!(self.guests, Guests::Owner(_)),
            Diversion::Everything => true,
        }
    }
}

/// A batch on its way in a network that has a trunk.
pub(super) struct Beside<'a, 'p> {
    pub(super) pass: &'p mut Pass<'a>,
    pub(super) entry: &'a TrunkEntry,
}

impl<'a> Beside<'a, '_> {
    /// As [`Pass::frame`].
    #[inline]
    pub(super) fn frame(&mut self, frame: Frame) -> Result<u64, DropReason> {
        let copies = if self.pass.from.id == self.entry.port.id {
            self.frame_of_trunk(frame)?
        } else {
            self.frame_of_guest(frame)?
        };
        if copies == 0 { Err(DropReason::NoDestination) } else { Ok(copies) }
    }

    #[inline]
    fn frame_of_guest(&mut self, frame: Frame) -> Result<u64, DropReason> {
        let header = match self.pass.admit(&frame) {
            Ok(header) => header,
            Err(reason) => return Err(self.refused(&frame, reason)),
        };
        if self.pass.examine(&frame, &header)? == Examined::Held {
            return Ok(1);
        }
        let mut route = self.route(&header, Sides::NONE);
        if let Some((to, sides)) = self.only_receiver(&header, &route) {
            self.pass.send_alone(to, frame, &header, sides);
            return Ok(1);
        }
        match route.guests {
            Guests::All => self.pass.charge_group(&frame, &header)?,
            // The wire gets it in any case, so the guests' copies are what there is to save.
            Guests::Flooded if self.pass.charge_unknown(&frame, &header).is_err() => {
                if route.sides.is_empty() {
                    return Err(DropReason::Storm);
                }
                route.guests = Guests::Nobody;
            }
            _ => {}
        }
        let sides = route.sides.within(self.entry.trunk.reaches);
        let copies = self.deliver(frame, &header, route.guests, sides);
        self.pass.allowance.made(copies);
        route.guests.heard(copies)
    }

    fn frame_of_trunk(&mut self, mut frame: Frame) -> Result<u64, DropReason> {
        let trunk = &*self.entry.trunk;
        let marked = mem::take(&mut frame.meta.sides);
        let header = admission::admit(&frame, self.pass.from, self.pass.ports)?;
        if !self.pass.allowance.octets(&frame) {
            return Err(DropReason::RateLimit);
        }
        let side = trunk.side(marked, header.source);
        self.check_side(&header, side)?;
        if trunk.shared_mac {
            match self.unshare(frame, &header, side)? {
                Handled::Not(left) => frame = left,
                Handled::Copies(copies) => return Ok(copies),
            }
        }
        let route = self.route(&header, side);
        match route.guests {
            Guests::All => self.pass.charge_group(&frame, &header)?,
            Guests::FloodedFromTrunk => self.pass.charge_unknown(&frame, &header)?,
            _ => {}
        }
        let sides = self.passed_on(&route);
        let copies = self.deliver(frame, &header, route.guests, sides);
        self.pass.allowance.made(copies);
        route.guests.heard(copies)
    }

    /// The sides to which the network itself sends a frame from a side of the trunk.
    pub(super) fn passed_on(&self, route: &Route) -> Sides {
        let trunk = &*self.entry.trunk;
        if route.is_taken(trunk.diversion) { route.sides.within(trunk.reaches) } else { Sides::NONE }
    }

    /// Reports that a guest uses the host's MAC address, and gives back `reason`.
    fn refused(&mut self, frame: &Frame, reason: DropReason) -> DropReason {
        let source = frame.source().filter(|source| self.entry.trunk.macs.contains(source));
        if let (DropReason::SourceGuard, Some(source)) = (reason, source) {
            self.pass.inspection.conflict(source, None, self.entry.port.id);
        }
        reason
    }

    /// Checks that a frame may come from that side of the trunk. Learns its source when the side is the wire.
    fn check_side(&mut self, header: &Header, side: Sides) -> Result<(), DropReason> {
        let trunk = &*self.entry.trunk;
        if !trunk.enabled.contains(side) {
            return Err(DropReason::SideDisabled);
        }
        match (side, trunk.macs.contains(&header.source)) {
            // The host's own address comes back from the wire when something there reflects frames.
            (Sides::WIRE, true) => Err(DropReason::SourceGuard),
            (Sides::WIRE, false) => self.pass.check_source(header),
            // What is behind the host has no side in the FDB, so it is not learnt.
            _ => Ok(()),
        }
    }

    /// Where a frame goes that came from a guest, when `side` is none, or from that side.
    pub(super) fn route(&mut self, header: &Header, side: Sides) -> Route {
        let trunk = &*self.entry.trunk;
        let from_guest = side.is_empty();
        let open = trunk.enabled.without(side);
        if header.destination.is_multicast() {
            return Route::new(Guests::All, open);
        }
        if header.destination == header.source {
            return Route::NOWHERE;
        }
        let promiscuous = trunk.promiscuous.within(open);
        match self.pass.target(header) {
            Target::Port(id) if id == self.entry.port.id => {
                let is_host = trunk.macs.contains(&header.destination);
                let owner = if is_host { Sides::HOST } else { Sides::WIRE };
                let guests = if from_guest { Guests::Promiscuous } else { Guests::Listeners };
                Route::new(guests, owner.within(open).with(promiscuous))
            }
            Target::Port(id) if id == self.pass.from.id => Route::NOWHERE,
            Target::Port(id) => Route::new(Guests::Owner(id), promiscuous),
            Target::Unknown => {
                let guests = if from_guest { Guests::Flooded } else { Guests::FloodedFromTrunk };
                Route::new(guests, Sides::WIRE.within(open).with(promiscuous))
            }
        }
    }

    /// Sends copies to the guests and to the sides; returns how many.
    #[inline]
    pub(super) fn deliver(&mut self, frame: Frame, header: &Header, guests: Guests, sides: Sides) -> u64 {
        let trunk = &*self.entry.port;
        let is_member = trunk.active && trunk.vlan.includes(header.vlan);
        if sides.is_empty() || !is_member {
            return self.send_guests(frame, header, guests);
        }
        let mut copies = 0;
        if !self.is_nobody(guests) {
            copies = self.send_guests(frame.clone(), header, guests);
        }
        copies + self.send_sides(frame, header, sides)
    }

    /// The only port that gets a guest's frame with this route, unchanged, and its sides; `None` where there are
    /// several or none, or where that follows from a budget.
    fn only_receiver(&self, header: &Header, route: &Route) -> Option<(&'a Port, Sides)> {
        let (pass, trunk, guests) = (&*self.pass, &*self.entry.port, route.guests);
        let sides = route.sides.within(self.entry.trunk.reaches);
        let receives = |to: &&Port| to.receives(pass.from, header.vlan);
        match guests {
            Guests::Owner(id) if sides.is_empty() && pass.ports.promiscuous.is_empty() => {
                Some((pass.ports.port(id).filter(receives)?, sides))
            }
            _ if sides.is_empty() || !self.is_nobody(guests) => None,
            _ if self.entry.trunk.shared_mac && sides.contains(Sides::WIRE) => None,
            _ => Some((trunk, sides)).filter(|_| trunk.active && trunk.vlan.includes(header.vlan)),
        }
    }

    /// True if plainly no guest gets the frame, as for most frames to the wire.
    #[inline]
    fn is_nobody(&self, guests: Guests) -> bool {
        match guests {
            Guests::Nobody => true,
            Guests::Promiscuous => self.pass.ports.promiscuous.is_empty(),
            Guests::Listeners => self.entry.listeners.is_empty(),
            _ => false,
        }
    }

    pub(super) fn send_guests(&mut self, frame: Frame, header: &Header, guests: Guests) -> u64 {
        let (ports, entry) = (self.pass.ports, self.entry);
        let pass = &mut *self.pass;
        match guests {
            Guests::Nobody => 0,
            Guests::All => pass.fan_out(frame, header, each(&ports.active)),
            Guests::Promiscuous => pass.fan_out(frame, header, each(&ports.promiscuous)),
            Guests::Flooded => pass.fan_out(frame, header, each(&ports.flooded)),
            Guests::Listeners => pass.fan_out(frame, header, each(&entry.listeners)),
            Guests::FloodedFromTrunk => pass.fan_out(frame, header, each(&entry.flooded)),
            Guests::Owner(id) => {
                let listeners = each(&ports.promiscuous).filter(|port| port.id != id);
                pass.fan_out(frame, header, ports.port(id).into_iter().chain(listeners))
            }
        }
    }

    /// Sends a frame to the trunk, one copy for both sides unless the wire's is edited; returns how many.
    fn send_sides(&mut self, mut frame: Frame, header: &Header, sides: Sides) -> u64 {
        let is_edited = self.entry.trunk.shared_mac && self.pass.from.id != self.entry.port.id;
        if !is_edited || !sides.contains(Sides::WIRE) {
            frame.meta.sides = sides;
            self.pass.send(&self.entry.port, frame, header);
            return 1;
        }
        let mut copies = 1;
        if sides.contains(Sides::HOST) {
            let mut copy = frame.clone();
            copy.meta.sides = Sides::HOST;
            self.pass.send(&self.entry.port, copy, header);
            copies += 1;
        }
        self.send_shared(frame, header);
        copies
    }
}

pub(super) fn each(list: &[Arc<Port>]) -> impl Iterator<Item = &Port> {
    list.iter().map(|port| &**port)
}
