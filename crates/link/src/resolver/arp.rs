//! ARP (RFC 826), with probes, announcements and defence (RFC 5227).

use vmlan_frame::Instant;
use vmlan_frame::wire::{ArpOperation, ArpPacket, ArpRepr};

use super::Resolver;
use super::message::Message;
use super::own::AddressState;
use super::table::Claim;

impl Resolver {
    /// Takes a received ARP packet. Requests for assigned addresses are answered; what the sender says of itself
    /// changes only what is in the table already.
    pub fn handle_arp<T: AsRef<[u8]>>(&mut self, packet: &ArpPacket<T>, now: Instant) {
        self.advance(now);
        let arp = ArpRepr::parse(packet);
        let is_request = arp.operation == ArpOperation::REQUEST;
        let sender = arp.sender_protocol;
        let known_operation = is_request || arp.operation == ArpOperation::REPLY;
        if !known_operation
            || !arp.sender_hardware.is_station()
            || sender.is_multicast()
            || sender.is_broadcast()
        {
            self.statistics.ignored += 1;
            return;
        }
        if arp.sender_hardware == self.mac {
            // Our own, come back.
            return;
        }
        let target = self.addresses.state(arp.target_protocol.into());
        if sender.is_unspecified() {
            // Two hosts that probe for one address at the same time both lose it (RFC 5227 2.1.1).
            if is_request && target == Some(AddressState::Tentative) {
                self.conflict(arp.target_protocol.into(), arp.sender_hardware, now);
                return;
            }
        } else if self.addresses.state(sender.into()).is_some() {
            self.conflict(sender.into(), arp.sender_hardware, now);
            return;
        } else {
            let solicited =
                !is_request && arp.target_hardware == self.mac && target == Some(AddressState::Assigned);
            let claim = Claim { link: Some(arp.sender_hardware), solicited, replaces: true };
            self.claim(sender.into(), &claim, now);
        }
        if is_request && target == Some(AddressState::Assigned) {
            self.answer(Message::reply(self.mac, arp.target_protocol, (arp.sender_hardware, sender)));
        }
    }
}
