//! The stages on the way of a frame.

use std::net::IpAddr;

use vmlan_frame::{DropReason, Frame, Instant, MacAddr, Offload, VlanId};

use super::Stages;
use super::addresses::{Claimant, Ground, Key, Owner, Ruling};
use super::challenge::{self, Challenge, Challenges};
use super::claims::{Lesson, Said, judge};
use super::services::Reserved;
use super::told::Told;
use crate::event::Event;
use crate::known::Known;
use crate::port::Port;
use crate::port_table::PortTable;
use crate::vlan::Membership;
use crate::{Network, PortId, fdb};

/// The state that a worker keeps between batches for the stages of a network's ports.
#[derive(Default)]
pub(crate) struct Inspector {
    told: Told,
    challenges: Challenges,
}

impl Inspector {
    /// For a batch that `from` received at `now`, or a claim of it that is decided then.
    #[inline]
    pub(crate) fn start<'a>(
        &'a mut self,
        network: &'a Network,
        ports: &'a PortTable,
        from: &'a Port,
        now: Instant,
    ) -> Inspection<'a> {
        let seconds = now.as_secs() as u32;
        Inspection { network, ports, from, now, seconds, known: Known::new(&network.known), kept: self }
    }

    /// When the oldest claim that is held back is to be decided.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.challenges.due()
    }

    /// The oldest claim that is held back, when its time has come.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Challenge> {
        self.challenges.next(now)
    }
}

/// The stages of the port that received a batch.
pub(crate) struct Inspection<'a> {
    network: &'a Network,
    ports: &'a PortTable,
    from: &'a Port,
    now: Instant,
    /// The same in seconds.
    seconds: u32,
    pub(crate) known: Known<'a>,
    kept: &'a mut Inspector,
}

impl<'a> Inspection<'a> {
    /// Asks the stages about a frame from `source` in `vlan` that concerns them ([`Stages::concern`]). `None`: it may
    /// go on. Otherwise it is held back, and its caller sends that port the question instead.
    ///
    /// # Errors
    /// When it says what is the services' to say, claims the host's address, speaks in a form that is unclear, or
    /// claims another guest's address which was asked about just before, or while too many claims are held back.
    pub(crate) fn examine(
        &mut self,
        frame: &Frame,
        (source, vlan): (MacAddr, VlanId),
    ) -> Result<Option<(&'a Port, Frame)>, DropReason> {
        if self.from.stages.contains(Stages::SERVICES) {
            self.guard_services(frame, (source, vlan))?;
        }
        if !self.from.stages.contains(Stages::CLAIMS) {
            return Ok(None);
        }
        let lessons = match judge(frame, self.from.stages.contains(Stages::PACKETS)) {
            Said::Nothing => return Ok(None),
            Said::Unclear => return Err(DropReason::UnclearClaim),
            Said::Clearly(lessons) => lessons,
        };
        if let Some((address, host)) = self.hosts(frame, vlan, lessons.into_iter().flatten()) {
            self.conflict(source, Some(address), host);
            return Err(DropReason::AddressConflict);
        }
        for lesson in lessons.into_iter().flatten() {
            // A guest that is no server leases nothing.
            if matches!(lesson, Lesson::Leases { .. }) && !self.from.roles.dhcp {
                continue;
            }
            while let Some((address, owner)) = self.take(lesson, (source, vlan)) {
                if self.ports.port(owner.port).is_some_and(|port| port.active) {
                    return self.challenge(frame, source, (vlan, address), owner).map(Some);
                }
                // Nobody is there to be asked, so it is free; nothing has it when it is taken again.
                self.give_up((vlan, address), owner, source);
            }
        }
        Ok(None)
    }

    /// Checks that a frame says nothing that is for the port with the network's services to say.
    fn guard_services(&mut self, frame: &Frame, (source, vlan): (MacAddr, VlanId)) -> Result<(), DropReason> {
        let dhcp = self.from.stages.contains(Stages::DHCP);
        let services = self.ports.services.as_ref();
        let Some((services, reserved)) =
            services.and_then(|services| Some((services, services.reserved(frame, vlan, dhcp)?)))
        else {
            return Ok(());
        };
        if let Reserved::Address(address) = reserved {
            self.conflict(source, Some(address), services.port.id);
        }
        Err(DropReason::ServiceGuard)
    }

    /// The first address among the lessons that is the host's, and the trunk's port.
    fn hosts(
        &self,
        frame: &Frame,
        vlan: VlanId,
        mut lessons: impl Iterator<Item = Lesson>,
    ) -> Option<(IpAddr, PortId)> {
        let trunk = &self.ports.trunk.as_ref()?.port;
        let tag = || frame.meta.tag.and_then(|tag| VlanId::new(tag.vid()).ok());
        let vlan = match &trunk.vlan {
            // Tags pass and make no VLAN, but they tell the host's interfaces apart.
            Membership::Transparent => tag().unwrap_or(VlanId::DEFAULT),
            _ => vlan,
        };
        lessons.find_map(|lesson| match lesson {
            Lesson::Says(address) if self.ports.host.contains(&(vlan, address)) => Some((address, trunk.id)),
            _ => None,
        })
    }

    /// Holds a claim on another guest's address back; answers that guest's port and the question for it.
    ///
    /// # Errors
    /// When the guest was asked just before, or too many claims are held back.
    #[cold]
    fn challenge(
        &mut self,
        frame: &Frame,
        source: MacAddr,
        key: Key,
        owner: Owner,
    ) -> Result<(&'a Port, Frame), DropReason> {
        let from = self.from.id;
        let asked = self.question(frame, source, key, owner).filter(|_| self.kept.challenges.has_room(from));
        let Some(asked) = asked.filter(|_| self.known.get().addresses.ask(key, self.seconds)) else {
            // Whoever hears it would send to the wrong guest from then on.
            self.conflict(source, Some(key.1), owner.port);
            return Err(DropReason::AddressConflict);
        };
        self.kept.challenges.hold((key, owner), from, frame.clone(), self.now);
        Ok(asked)
    }

    /// The question to the owner of an address, and its port.
    fn question(
        &self,
        claim: &Frame,
        source: MacAddr,
        (vlan, address): Key,
        owner: Owner,
    ) -> Option<(&'a Port, Frame)> {
        let to = self.ports.port(owner.port).filter(|to| to.active && to.vlan.includes(vlan))?;
        let mut question = claim.clone();
        let len = challenge::ask(question.unshare()?, source, owner.mac, address)?;
        question.truncate(len);
        question.meta.offload = Offload::default();
        Some((to, question))
    }

    /// Decides a claim that was held back, which may go on its way as new when the former owner has given the address
    /// up.
    ///
    /// # Errors
    /// When the owner still has it.
    pub(crate) fn decide(&mut self, source: MacAddr, key: Key, owner: Owner) -> Result<(), DropReason> {
        if !self.known.get().addresses.is_given_up(key, owner) {
            self.conflict(source, Some(key.1), owner.port);
            return Err(DropReason::AddressConflict);
        }
        self.give_up(key, owner, source);
        Ok(())
    }

    /// Takes the address from its owner, for the claimant `source`.
    fn give_up(&mut self, key: Key, owner: Owner, source: MacAddr) {
        self.known.get().addresses.forget_at(key, owner.port);
        self.moved(key.1, owner, (self.from.id, source));
    }

    /// Takes a lesson from a frame of `source` in `vlan`. Answers the address that is claimed and the guest that has
    /// it, where it stays there.
    pub(crate) fn take(
        &mut self,
        lesson: Lesson,
        (source, vlan): (MacAddr, VlanId),
    ) -> Option<(IpAddr, Owner)> {
        let (from, now) = (self.from, self.seconds);
        let fdb = &self.network.fdb;
        let port_of = |mac: MacAddr| fdb.find(fdb::Key::new(mac, vlan)).map(|entry| entry.port);
        // A guest takes its addresses along to another port, where its hardware address is by then.
        let claimant = |ground, address| Claimant {
            port: from.id,
            mac: source,
            ground,
            is_there: port_of(source) == Some(from.id),
            at_once: from.floating.iter().any(|prefix| prefix.contains(address)),
        };
        let addresses = &mut self.known.get().addresses;
        let (address, ruling) = match lesson {
            Lesson::Says(address) => {
                (address, addresses.claim((vlan, address), claimant(Ground::Said, address), now))
            }
            Lesson::Uses(address) => {
                let ruling = addresses.claim((vlan, address), claimant(Ground::Used, address), now);
                // Who has an address that a packet is from is not asked.
                if matches!(ruling, Ruling::Taken(_)) {
                    return None;
                }
                (address, ruling)
            }
            Lesson::Lacks(address) => {
                addresses.forget_at((vlan, address), from.id);
                return None;
            }
            Lesson::Forget(address) => {
                addresses.forget((vlan, address));
                return None;
            }
            Lesson::Leases { hardware, client, yours } => {
                let trunk = self.ports.trunk.as_ref().map(|entry| entry.port.id);
                let port = port_of(hardware).filter(|port| Some(*port) != trunk)?;
                let ground = Ground::Leased;
                let claimant = Claimant { port, mac: hardware, ground, is_there: true, at_once: false };
                addresses.forget_at((vlan, client), port);
                if let Ruling::Moved(owner) = addresses.claim((vlan, yours), claimant, now) {
                    self.moved(yours, owner, (port, hardware));
                }
                return None;
            }
        };
        match ruling {
            Ruling::Moved(owner) => {
                self.moved(address, owner, (from.id, source));
                None
            }
            Ruling::Taken(owner) => Some((address, owner)),
            _ => None,
        }
    }

    fn moved(&mut self, address: IpAddr, from: Owner, to: (PortId, MacAddr)) {
        self.network.fdb.try_report(Event::AddressMoved { address, from: (from.port, from.mac), to });
    }

    /// Reports that the guest `mac` uses what is another's: `address`, or without one the MAC address itself.
    pub(crate) fn conflict(&mut self, mac: MacAddr, address: Option<IpAddr>, owner: PortId) {
        let port = self.from.id;
        if self.kept.told.may_tell(port, self.seconds) {
            self.network.fdb.try_report(Event::Conflict { port, mac, address, owner });
        }
    }
}
