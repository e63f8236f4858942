//! Shared-MAC mode on the way of a frame. What is learnt and how frames are edited is in `shared_mac`.

use vmlan_frame::{DropReason, Frame, MacAddr, Sides};

use super::admission::Header;
use super::trunk::{Beside, Guests, Route, each};
use crate::PortId;
use crate::shared_mac::{Inward, inward, lesson_of_host, lesson_of_wire, outward, readdress};

/// The outcome for a frame from a side in shared-MAC mode.
pub(super) enum Handled {
    /// Nothing yet.
    Not(Frame),
    /// So many copies were made.
    Copies(u64),
}

/// The receiver of a frame from the wire to the host's address.
struct Receiver {
    /// A guest's address, or a group's.
    mac: MacAddr,
    /// The guest; none for a group.
    owner: Option<PortId>,
}

impl Beside<'_, '_> {
    /// Sends a guest's frame to the wire, with the host's address instead of its own. Counts as a copy; when there is
    /// no buffer to edit it in, the trunk's queue counts a loss.
    pub(super) fn send_shared(&mut self, mut frame: Frame, header: &Header) {
        let trunk = &self.entry.port;
        let unfinished = unfinished_checksum(&frame);
        let (Some(host), Some(octets)) = (self.entry.trunk.macs.first(), frame.unshare()) else {
            self.pass.egress.refuse(self.pass.cx, (trunk.id, &trunk.account), &frame);
            return;
        };
        outward(octets, header.source, *host, unfinished);
        if header.destination.is_multicast() {
            self.pass.inspection.known.get().echoes.sent(frame.octets(), self.pass.now);
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
            if is_group && self.pass.inspection.known.get().echoes.is_echo(frame.octets(), now) {
                return Err(DropReason::Echo);
            }
            if let Some(lesson) = lesson_of_host(frame.octets()) {
                self.pass.inspection.take(lesson, header.sender());
            }
            return Ok(Handled::Not(frame));
        }
        if let Some(lesson) = lesson_of_wire(frame.octets()) {
            self.pass.inspection.take(lesson, header.sender());
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
                let owner = self.pass.inspection.known.get().addresses.owner((header.vlan, address))?;
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
            let refused = owner.and_then(|id| ports.port(id)).filter(|port| port.active);
            refused.inspect(|to| self.pass.egress.refuse(self.pass.cx, (to.id, &to.account), &frame));
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
