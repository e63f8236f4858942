//! Shared-MAC mode, and who has which IP address, on the way of a frame. What is learnt and how frames are edited is in
//! `shared_mac`.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};

use frame::{DropReason, Frame, MacAddr, Offload, Sides, VlanId};

use super::admission::Header;
use super::trunk::{Beside, Guests, Route, each};
use crate::addresses::{Addresses, Claim, Claimant, Ground, Owner};
use crate::challenge::{self, Challenge};
use crate::claims::{Lesson, Said, judge};
use crate::event::Event;
use crate::fdb;
use crate::port::Port;
use crate::shared_mac::{Echoes, Inward, inward, lesson_of_host, lesson_of_wire, outward, readdress};
use crate::vlan::Membership;
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

impl<'a> Beside<'a, '_> {
    /// Learns from what a guest says about addresses. Answers the first address that it claims and another guest has,
    /// and who that is.
    ///
    /// # Errors
    /// When it claims the host's, or speaks in a form that is unclear.
    pub(super) fn listen(
        &mut self,
        frame: &Frame,
        header: &Header,
    ) -> Result<Option<(IpAddr, Owner)>, DropReason> {
        let lessons = match judge(frame, self.entry.trunk.shared_mac) {
            Said::Nothing => return Ok(None),
            Said::Unclear => return Err(DropReason::UnclearClaim),
            Said::Clearly(lessons) => lessons,
        };
        let host = &self.pass.ports.host;
        let tag = || frame.meta.tag.and_then(|tag| VlanId::new(tag.vid()).ok());
        let vlan = match &self.entry.port.vlan {
            // Tags pass and make no VLAN, but they tell the host's interfaces apart.
            Membership::Transparent => tag().unwrap_or(VlanId::DEFAULT),
            _ => header.vlan,
        };
        let is_hosts =
            |lesson: &Lesson| matches!(lesson, Lesson::Says(address) if host.contains(&(vlan, *address)));
        if let Some(Lesson::Says(address)) = lessons.into_iter().flatten().find(is_hosts) {
            self.conflict(header.source, Some(address), self.entry.port.id);
            return Err(DropReason::AddressConflict);
        }
        for lesson in lessons.into_iter().flatten() {
            // A guest that is no server leases nothing.
            if (!matches!(lesson, Lesson::Leases { .. }) || self.pass.from.roles.dhcp)
                && let Some(taken) = self.take(lesson, header, self.pass.from.id)
            {
                return Ok(Some(taken));
            }
        }
        Ok(None)
    }

    /// Holds a claim on another guest's address back, and asks that guest instead. Answers how many copies that made.
    ///
    /// # Errors
    /// When the guest was asked just before, or too many claims are held back.
    #[cold]
    pub(super) fn challenge(
        &mut self,
        frame: Frame,
        header: &Header,
        (address, owner): (IpAddr, Owner),
    ) -> Result<u64, DropReason> {
        let from = self.pass.from.id;
        if self.pass.ports.port(owner.port).is_none_or(|port| !port.active) {
            // There is nobody to ask.
            return self.pass_on(frame, header, (address, owner));
        }
        let asked =
            self.question(&frame, header, (address, owner)).filter(|_| self.challenges.has_room(from));
        let key = (header.vlan, address);
        let Some((to, question)) = asked.filter(|_| self.known.get().addresses.ask(key, self.pass.now))
        else {
            // Whoever hears it would send to the wrong guest from then on.
            self.conflict(header.source, Some(address), owner.port);
            return Err(DropReason::AddressConflict);
        };
        self.pass.send(to, question, header);
        self.challenges.hold(key, owner, from, frame);
        Ok(1)
    }

    /// The question to the owner of an address, and its port.
    fn question(
        &self,
        claim: &Frame,
        header: &Header,
        (address, owner): (IpAddr, Owner),
    ) -> Option<(&'a Port, Frame)> {
        let to = self.pass.ports.port(owner.port).filter(|to| to.active && to.vlan.includes(header.vlan))?;
        let mut question = claim.clone();
        let len = challenge::ask(question.unshare()?, header.source, owner.mac, address)?;
        question.truncate(len);
        question.meta.offload = Offload::default();
        Some((to, question))
    }

    /// Decides a claim that was held back: it goes on its way, as new, when the former owner has given the address up.
    ///
    /// # Errors
    /// When the owner still has it.
    pub(super) fn decide(&mut self, held: Challenge) -> Result<u64, DropReason> {
        let Challenge { key, owner, frame, .. } = held;
        let header = self.pass.admit(&frame)?;
        if !self.known.get().addresses.is_given_up(key, owner) {
            self.conflict(header.source, Some(key.1), owner.port);
            return Err(DropReason::AddressConflict);
        }
        self.pass_on(frame, &header, (key.1, owner))
    }

    /// Takes the address from its owner, and lets the claim go on its way.
    fn pass_on(
        &mut self,
        frame: Frame,
        header: &Header,
        (address, owner): (IpAddr, Owner),
    ) -> Result<u64, DropReason> {
        self.known.get().addresses.forget_at((header.vlan, address), owner.port);
        self.moved(address, (owner.port, owner.mac), header.source);
        self.frame(frame)
    }

    /// Takes a lesson. Answers the address that is claimed and the guest that has it, where it stays there.
    fn take(&mut self, lesson: Lesson, header: &Header, port: PortId) -> Option<(IpAddr, Owner)> {
        let (vlan, now, mac) = (header.vlan, self.pass.now, header.source);
        let fdb = &self.pass.network.fdb;
        let port_of = |mac: MacAddr| fdb.find(fdb::Key::new(mac, vlan)).map(|entry| entry.port);
        // A guest takes its addresses along to another port, where its hardware address is by then.
        let from = self.pass.from;
        let claimant = |ground, address| Claimant {
            port,
            mac,
            ground,
            is_there: port_of(mac) == Some(port),
            at_once: from.floating.iter().any(|prefix| prefix.contains(address)),
        };
        let addresses = &mut self.known.get().addresses;
        let mut claim = |address, claimant: Claimant| {
            (address, claimant.mac, addresses.claim((vlan, address), claimant, now))
        };
        let claimed = match lesson {
            Lesson::Says(address) => claim(address, claimant(Ground::Said, address)),
            Lesson::Uses(address) => {
                // Who has an address that a packet is from is not asked.
                let (address, mac, outcome) = claim(address, claimant(Ground::Used, address));
                if matches!(outcome, Claim::Taken(_)) {
                    return None;
                }
                (address, mac, outcome)
            }
            Lesson::Lacks(address) => {
                addresses.forget_at((vlan, address), port);
                return None;
            }
            Lesson::Forget(address) => {
                addresses.forget((vlan, address));
                return None;
            }
            Lesson::Leases { hardware, client, yours } => {
                let port = port_of(hardware).filter(|port| *port != self.entry.port.id)?;
                let ground = Ground::Leased;
                let claimant = Claimant { port, mac: hardware, ground, is_there: true, at_once: false };
                addresses.forget_at((vlan, client), port);
                if let Claim::Moved(owner) = addresses.claim((vlan, yours), claimant, now) {
                    self.moved_to(yours, (owner.port, owner.mac), (port, hardware));
                }
                return None;
            }
        };
        match claimed {
            (address, mac, Claim::Moved(owner)) => {
                self.moved(address, (owner.port, owner.mac), mac);
                None
            }
            (address, _, Claim::Taken(owner)) => Some((address, owner)),
            _ => None,
        }
    }

    fn moved(&mut self, address: IpAddr, from: (PortId, MacAddr), mac: MacAddr) {
        self.moved_to(address, from, (self.pass.from.id, mac));
    }

    fn moved_to(&mut self, address: IpAddr, from: (PortId, MacAddr), to: (PortId, MacAddr)) {
        self.pass.network.fdb.try_report(Event::AddressMoved { address, from, to });
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

    /// Sends a guest's frame to the wire, with the host's address instead of its own. Counts as a copy; when there is
    /// no buffer to edit it in, the trunk's queue counts a loss.
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
                self.take(lesson, header, self.pass.from.id);
            }
            return Ok(Handled::Not(frame));
        }
        if let Some(lesson) = lesson_of_wire(frame.octets()) {
            self.take(lesson, header, self.pass.from.id);
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

    /// Sends a frame to the guests that it is for, with their address, and unchanged to those who listen to the trunk
    /// and to the sides; returns how many copies were made.
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
