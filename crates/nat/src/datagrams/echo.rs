//! Echo of guests: to the gateway, which answers itself, and beyond.

use std::net::SocketAddr;

use vmlan_frame::checksum::Addresses;
use vmlan_frame::wire::{EchoRepr, Icmpv4Packet, Icmpv4Type, Icmpv6Packet, Icmpv6Type, IpProtocol};
use vmlan_frame::{ETHERNET_HEADER, Size, WriteBuf};

use super::drops::Drop;
use super::flow::FlowKind;
use super::inbound::HEADROOM;
use super::outbound::Outgoing;
use super::sockets::{DatagramSockets, Family, Received};
use super::{Datagrams, Turn, family_to};
use crate::reach::Verdict;
use crate::unreachable::fill_checksum;
use crate::{Envelope, Packet};

/// The type of an echo request.
pub(super) const fn request_type(family: Family) -> u8 {
    match family {
        Family::V4 => Icmpv4Type::ECHO_REQUEST.0,
        Family::V6 => Icmpv6Type::ECHO_REQUEST.0,
    }
}

const fn reply_type(family: Family) -> u8 {
    match family {
        Family::V4 => Icmpv4Type::ECHO_REPLY.0,
        Family::V6 => Icmpv6Type::ECHO_REPLY.0,
    }
}

const fn protocol(family: Family) -> IpProtocol {
    match family {
        Family::V4 => IpProtocol::ICMP,
        Family::V6 => IpProtocol::ICMPV6,
    }
}

impl Datagrams {
    pub(super) fn take_icmp(
        &mut self,
        sockets: &mut impl DatagramSockets,
        packet: &Packet<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Drop> {
        let echo = request(packet)?;
        self.flush(sockets, turn);
        let to = SocketAddr::new(packet.destination(), 0);
        let outside = match turn.reach.decide(packet.ingress, to, packet.protocol, turn.now) {
            Verdict::Connect(outside) => outside,
            Verdict::Gateway | Verdict::Host(_) | Verdict::Closed => return self.answer(packet, turn),
            Verdict::Group => return Err(Drop::NotForwarded),
            Verdict::Deny => return self.deny(packet, turn),
        };
        self.check_hops(packet, turn)?;
        let mut scratch = std::mem::take(&mut self.scratch);
        let message = &mut scratch[..packet.upper.len()];
        message.copy_from_slice(packet.upper);
        message[..4].copy_from_slice(&[request_type(family_to(packet.destination())), 0, 0, 0]);
        let out = Outgoing {
            kind: FlowKind::Echo,
            from: SocketAddr::new(packet.source(), echo.identifier),
            inside: to,
            outside,
            payload: message,
            segment: None,
            protocol: packet.protocol,
        };
        let sent = self.send_out(sockets, packet, &out, turn);
        self.scratch = scratch;
        sent
    }

    /// Answers an echo request to the gateway.
    fn answer(&mut self, packet: &Packet<'_>, turn: &mut Turn<'_>) -> Result<(), Drop> {
        let addresses = (packet.destination(), packet.source());
        let envelope = Envelope::new(packet.mac, self.settings.gateway_mac, addresses, packet.protocol)
            .ok_or(Drop::BadHeader)?;
        let family = Family::of(packet.source());
        let write = |message: &mut [u8], addresses: &Addresses| {
            message.copy_from_slice(packet.upper);
            message[0] = reply_type(family);
            fill_checksum(message, addresses);
        };
        let len = packet.upper.len();
        if envelope.header_len() - ETHERNET_HEADER + len > usize::from(self.settings.mtu) {
            let mut scratch = std::mem::take(&mut self.scratch);
            let message = &mut scratch[..len];
            write(message, &envelope.addresses);
            let answered = self.deliver_fragments(&envelope, message, turn);
            self.scratch = scratch;
            answered?;
        } else {
            turn.out.push_back(envelope.frame(turn.pool, len, write).ok_or(Drop::NoBuffer)?);
        }
        self.counts.answered += 1;
        Ok(())
    }

    /// Passes a reply on, with the identifier that the guest chose.
    pub(super) fn receive_echo(
        &mut self,
        slot: u32,
        received: Received,
        mut buffer: WriteBuf,
        turn: &mut Turn<'_>,
    ) -> Result<(), Drop> {
        let flow = self.table.get(slot).ok_or(Drop::Stranger)?;
        let (guest, mac) = (flow.guest, flow.mac);
        let family = Family::of(guest.ip());
        let message = &mut buffer[HEADROOM..HEADROOM + received.len];
        if message.len() < EchoRepr::HEADER_LEN || message[0] != reply_type(flow.family) {
            return Err(Drop::BadAnswer);
        }
        let from = SocketAddr::new(received.from.ip(), 0);
        let peer = self.peers.find(flow.serial, from).ok_or(Drop::Stranger)?;
        let addresses = (peer.inside.ip(), guest.ip());
        let envelope = Envelope::new(mac, self.settings.gateway_mac, addresses, protocol(family))
            .ok_or(Drop::BadAnswer)?;
        message[0] = reply_type(family);
        message[4..6].copy_from_slice(&guest.port().to_be_bytes());
        fill_checksum(message, &envelope.addresses);
        let len = message.len();
        self.table.touch(slot, turn.now, |flow| {
            flow.answered = true;
            flow.octets_in += len as u64;
        });
        let headers = envelope.header_len();
        if headers - ETHERNET_HEADER + len > usize::from(self.settings.mtu) {
            return self.deliver_fragments(&envelope, &buffer[HEADROOM..HEADROOM + len], turn);
        }
        let range = HEADROOM - headers..HEADROOM + len;
        envelope.emit(&mut buffer[range.clone()], len);
        let frame = if headers + len <= Size::Small.octets() {
            turn.pool.copy(&buffer[range]).ok_or(Drop::NoBuffer)?
        } else {
            buffer.into_frame(range)
        };
        turn.out.push_back(frame);
        Ok(())
    }
}

/// The fields of a guest's echo request.
fn request(packet: &Packet<'_>) -> Result<EchoRepr, Drop> {
    let is_open = packet.is_checksum_open();
    let (is_right, echo) = match packet.addresses {
        Addresses::V4 { .. } => {
            let message = Icmpv4Packet::new_checked(packet.upper).map_err(|_| Drop::BadHeader)?;
            (is_open || message.verify_checksum(), message.echo())
        }
        addresses @ Addresses::V6 { .. } => {
            let message = Icmpv6Packet::new_checked(packet.upper).map_err(|_| Drop::BadHeader)?;
            (is_open || message.verify_checksum(&addresses), message.echo())
        }
    };
    if !is_right {
        return Err(Drop::BadChecksum);
    }
    echo.filter(|echo| !echo.reply).ok_or(Drop::NotForwarded)
}
