//! Shared-MAC mode, and who has which IP address, on the way of a frame. What is learnt and how frames are edited is in
//! `shared_mac`.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};

use frame::{DropReason, Frame, MacAddr, Sides};

use super::admission::Header;
use super::trunk::{Beside, Guests, Route, each};
use crate::addresses::{Addresses, Claim, Claimant, Ground};
use crate::claims::{Lesson, Said, judge};
use crate::event::Event;
use crate::fdb;
use crate::shared_mac::{Echoes, Inward, inward, lesson_of_host, lesson_of_wire, outward, readdress};
use crate::{PortId, lock};

/// What the workers of a network with a trunk know together.
pub(crate) struct Shared {
    pub(crate) addresses: Addresses,
    pub(crate) echoes: Echoes,
}

impl Shared {
    pub(crate) fn new(seed: [u64; 2]) -> Shared {
        Shared { addresses: Addresses::new(seed), echoes: Echoes::new(seed) }
    }
}

/// The lock around that, taken by the first frame of a batch that needs it and kept to the batch's end.
pub(super) struct Known<'a> {
    shared: &'a Mutex<Shared>,
    guard: Option<MutexGuard<'a, Shared>>,
}

impl<'a> Known<'a> {
    pub(super) fn new(shared: &'a Mutex<Shared>) -> Known<'a> {
        Known { shared, guard: None }
    }

    fn get(&mut self) -> &mut Shared {
        self.guard.get_or_insert_with(|| lock(self.shared))
    }
}

/// What became of a frame from a side in shared-MAC mode.
pub(super) enum Handled {
    /// Nothing yet.
    Not(Frame),
    /// So many copies were made.
    Copies(u64),
}

/// Whom a frame from the wire to the host's address is for.
struct Receiver {
    /// A guest's address, or a group's.
    mac: MacAddr,
    /// The guest; none for a group.
    owner: Option<PortId>,
}

impl Beside<'_, '_> {
    /// Learns from what a guest says about addresses.
    ///
    /// # Errors
    /// When it claims the host's, or one that another guest has, or speaks in a form that is unclear.
    pub(super) fn listen(&mut self, frame: &Frame, header: &Header) -> Result<(), DropReason> {
        let lessons = match judge(frame, self.entry.trunk.shared_mac) {
            Said::Nothing => return Ok(()),
            Said::Unclear => return Err(DropReason::UnclearClaim),
            Said::Clearly(lessons) => lessons,
        };
        let host = &self.pass.ports.host;
        let is_hosts = |lesson: &Lesson| matches!(lesson, Lesson::Says(address) if host.contains(address));
        if let Some(Lesson::Says(address)) = lessons.into_iter().flatten().find(is_hosts) {
            self.conflict(header.source, Some(address), self.entry.port.id);
            return Err(DropReason::AddressConflict);
        }
        for lesson in lessons.into_iter().flatten() {
            // A guest that is no server leases nothing.
            if !matches!(lesson, Lesson::Leases { .. }) || self.pass.from.roles.dhcp {
                self.take(lesson, header, self.pass.from.id)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, lesson: Lesson, header: &Header, port: PortId) -> Result<(), DropReason> {
        let (vlan, now, mac) = (header.vlan, self.pass.now, header.source);
        let fdb = &self.pass.network.fdb;
        let port_of = |mac: MacAddr| fdb.find(fdb::Key::new(mac, vlan)).map(|entry| entry.port);
        // A guest takes its addresses along to another port, where its hardware address is by then.
        let claimant = |ground| Claimant { port, mac, ground, is_there: port_of(mac) == Some(port) };
        let addresses = &mut self.known.get().addresses;
        match lesson {
            Lesson::Says(address) => {
                if let Claim::Taken(owner) = addresses.claim((vlan, address), claimant(Ground::Said), now) {
                    // Whoever hears it would send to the wrong guest from then on.
                    self.conflict(mac, Some(address), owner);
                    return Err(DropReason::AddressConflict);
                }
            }
            Lesson::Uses(address) => {
                addresses.claim((vlan, address), claimant(Ground::Used), now);
            }
            Lesson::Lacks(address) => addresses.forget_at((vlan, address), port),
            Lesson::Forget(address) => {
                addresses.forget((vlan, address));
            }
            Lesson::Leases { hardware, client, yours } => {
                if let Some(port) = port_of(hardware).filter(|port| *port != self.entry.port.id) {
                    let claimant = Claimant { port, mac: hardware, ground: Ground::Leased, is_there: true };
                    addresses.forget_at((vlan, client), port);
                    addresses.claim((vlan, yours), claimant, now);
                }
            }
        }
        Ok(())
    }

    /// Reports that a guest uses what is another's, and gives back `reason`.
    pub(super) fn refused(&mut self, frame: &Frame, reason: DropReason) -> DropReason {
        let source = frame.source().filter(|source| self.entry.trunk.macs.contains(source));
        if let (DropReason::SourceGuard, Some(source)) = (reason, source) {
            self.conflict(source, None, self.entry.port.id);
        }
        reason
    }

    fn conflict(&mut self, mac: MacAddr, address: Option<IpAddr>, owner: PortId) {
        let port = self.pass.from.id;
        if self.told.may_tell(port, self.pass.now) {
            self.pass.network.fdb.try_report(Event::Conflict { port, mac, address, owner });
        }
    }

    /// Sends a guest's frame to the wire, with the host's address instead of its own. Counts as a copy; when there is no
    /// buffer to edit it in, the trunk's queue counts a loss.
    pub(super) fn send_shared(&mut self, mut frame: Frame, header: &Header) {
        let trunk = &self.entry.port;
        let unfinished = unfinished_checksum(&frame);
        let (Some(host), Some(octets)) = (self.entry.trunk.macs.first(), frame.unshare()) else {
            self.pass.egress.refuse(trunk.id);
            return;
        };
        outward(octets, header.source, *host, unfinished);
        if header.destination.is_multicast() {
            self.known.get().echoes.sent(frame.octets(), self.pass.now);
        }
        frame.meta.sides = Sides::WIRE;
        self.pass.send(trunk, frame, header);
    }

    /// Handles a frame from a side in shared-MAC mode, when it does not go the common way.
    ///
    /// # Errors
    /// When it is one of ours that came back. What the wire says of addresses is no claim of a guest's.
    pub(super) fn unshare(
        &mut self,
        frame: Frame,
        header: &Header,
        side: Sides,
    ) -> Result<Handled, DropReason> {
        let now = self.pass.now;
        if side == Sides::HOST {
            let is_group = header.destination.is_multicast();
            if is_group && self.known.get().echoes.is_echo(frame.octets(), now) {
                return Err(DropReason::Echo);
            }
            if let Some(lesson) = lesson_of_host(frame.octets()) {
                self.take(lesson, header, self.pass.from.id)?;
            }
            return Ok(Handled::Not(frame));
        }
        if let Some(lesson) = lesson_of_wire(frame.octets()) {
            self.take(lesson, header, self.pass.from.id)?;
        }
        let Some(receiver) = self.receiver(frame.octets(), header) else { return Ok(Handled::Not(frame)) };
        if receiver.owner.is_none() {
            self.pass.charge_group(&frame, header)?;
        }
        let sides = self.passed_on(&self.route_in(&receiver));
        let copies = self.hand_in(frame, header, &receiver, sides);
        self.pass.allowance.made(copies);
        Ok(Handled::Copies(copies))
    }

    /// Where a frame goes that the wire sent to the host's address, when shared-MAC mode has something to say.
    pub(super) fn shared_route(&mut self, frame: &Frame, header: &Header, side: Sides) -> Option<Route> {
        if !self.entry.trunk.shared_mac || side != Sides::WIRE {
            return None;
        }
        self.receiver(frame.octets(), header).map(|receiver| self.route_in(&receiver))
    }

    fn receiver(&mut self, octets: &[u8], header: &Header) -> Option<Receiver> {
        if !self.entry.trunk.macs.contains(&header.destination) {
            return None;
        }
        match inward(octets) {
            Inward::Group(mac) => Some(Receiver { mac, owner: None }),
            Inward::Address(address) => {
                let owner = self.known.get().addresses.owner((header.vlan, address))?;
                self.pass.ports.port(owner.port)?;
                Some(Receiver { mac: owner.mac, owner: Some(owner.port) })
            }
            Inward::Host => None,
        }
    }

    fn route_in(&self, receiver: &Receiver) -> Route {
        let trunk = &*self.entry.trunk;
        let open = trunk.enabled.without(Sides::WIRE);
        match receiver.owner {
            None => Route::new(Guests::All, open),
            Some(port) => Route::new(Guests::Owner(port), trunk.promiscuous.within(open)),
        }
    }

    /// Sends a frame to the guests that it is for, with their address, and unchanged to those who listen to the trunk and to the
    /// sides; returns how many copies were made.
    fn hand_in(&mut self, mut frame: Frame, header: &Header, receiver: &Receiver, sides: Sides) -> u64 {
        let Receiver { mac, owner } = *receiver;
        let (ports, entry) = (self.pass.ports, self.entry);
        let mut unchanged = 0;
        if let Some(id) = owner {
            let listeners = each(&entry.listeners).filter(|port| port.id != id);
            unchanged += self.pass.fan_out(frame.clone(), header, listeners);
        }
        if !sides.is_empty() && entry.port.active {
            let mut copy = frame.clone();
            copy.meta.sides = sides;
            self.pass.send(&entry.port, copy, header);
            unchanged += 1;
        }
        let Some(octets) = frame.unshare() else {
            let refused = owner.filter(|id| ports.port(*id).is_some_and(|port| port.active));
            refused.inspect(|id| self.pass.egress.refuse(*id));
            return unchanged + u64::from(refused.is_some());
        };
        readdress(octets, mac);
        let edited = match owner {
            None => self.pass.fan_out(frame, header, each(&ports.active)),
            Some(id) => {
                let others = each(&ports.promiscuous).filter(|port| port.id != id && !port.sees_trunk);
                self.pass.fan_out(frame, header, ports.port(id).into_iter().chain(others))
            }
        };
        unchanged + edited
    }
}

/// Where a checksum stands in the frame that is filled in when the frame leaves (virtio 1.3 5.1.6.2).
fn unfinished_checksum(frame: &Frame) -> Option<usize> {
    const NEEDS_CHECKSUM: u8 = 1;
    let offload = frame.meta.offload;
    let needed = offload.flags & NEEDS_CHECKSUM != 0;
    needed.then(|| usize::from(offload.checksum_start) + usize::from(offload.checksum_offset))
}
