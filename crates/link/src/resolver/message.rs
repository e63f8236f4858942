//! The messages that a resolver sends, as frames.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vmlan_frame::checksum::Addresses;
use vmlan_frame::ip::solicited_node;
use vmlan_frame::wire::{
    ArpOperation, ArpRepr, EtherType, EthernetRepr, Ipv6Repr, NeighborAdvertRepr, NeighborSolicitRepr,
};
use vmlan_frame::{ETHERNET_HEADER, Frame, MacAddr, Pool, Size};

use crate::{Address, Ethernet, Media};

/// A message that waits to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Message {
    Arp { to: MacAddr, packet: ArpRepr },
    Neighbour { to: MacAddr, source: Ipv6Addr, destination: Ipv6Addr, body: Body },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Body {
    Solicit(NeighborSolicitRepr),
    Advertise(NeighborAdvertRepr),
}

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

impl Message {
    /// Asks for `target`: everybody, or only who had it so far. Without a source it is a probe for an own address.
    /// `None` when the families differ.
    pub(super) fn request(
        mac: MacAddr,
        source: Option<IpAddr>,
        target: IpAddr,
        to: Option<MacAddr>,
    ) -> Option<Message> {
        match (source, target) {
            (None | Some(IpAddr::V4(_)), IpAddr::V4(target)) => {
                let source = match source {
                    Some(IpAddr::V4(source)) => source,
                    _ => Ipv4Addr::UNSPECIFIED,
                };
                let packet = ArpRepr::request(mac, source, target);
                Some(Message::Arp { to: to.unwrap_or(MacAddr::BROADCAST), packet })
            }
            (None | Some(IpAddr::V6(_)), IpAddr::V6(target)) => {
                let (source, source_link_layer) = match source {
                    Some(IpAddr::V6(source)) => (source, Some(mac)),
                    _ => (Ipv6Addr::UNSPECIFIED, None),
                };
                let destination = if to.is_some() { target } else { solicited_node(target) };
                let body = Body::Solicit(NeighborSolicitRepr { target, source_link_layer });
                let to = to.or_else(|| group(destination.into()))?;
                Some(Message::Neighbour { to, source, destination, body })
            }
            _ => None,
        }
    }

    /// Tells everybody that `address` is at `mac` (RFC 5227 2.3, RFC 4861 7.2.6).
    pub(super) fn announcement(mac: MacAddr, address: IpAddr) -> Message {
        match address {
            IpAddr::V4(address) => {
                Message::Arp { to: MacAddr::BROADCAST, packet: ArpRepr::request(mac, address, address) }
            }
            IpAddr::V6(address) => Message::advertisement(mac, address, None),
        }
    }

    /// Answers an ARP request for `address`. An answer for a link-local one is for everybody (RFC 3927 2.5).
    pub(super) fn reply(mac: MacAddr, address: Ipv4Addr, asker: (MacAddr, Ipv4Addr)) -> Message {
        Message::Arp {
            to: if address.is_link_local() { MacAddr::BROADCAST } else { asker.0 },
            packet: ArpRepr {
                operation: ArpOperation::REPLY,
                sender_hardware: mac,
                sender_protocol: address,
                target_hardware: asker.0,
                target_protocol: asker.1,
            },
        }
    }

    /// Advertises `address` to who asked for it, else to everybody (RFC 4861 7.2.4).
    pub(super) fn advertisement(
        mac: MacAddr,
        address: Ipv6Addr,
        asker: Option<(MacAddr, Ipv6Addr)>,
    ) -> Message {
        let everybody = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
        let (to, destination) = asker.unwrap_or((everybody, ALL_NODES));
        let message = NeighborAdvertRepr {
            router: false,
            solicited: asker.is_some(),
            replaces: true,
            target: address,
            target_link_layer: Some(mac),
        };
        Message::Neighbour { to, source: address, destination, body: Body::Advertise(message) }
    }

    /// The frame from `mac`; `None` when the pool has no buffer.
    pub(super) fn emit(&self, mac: MacAddr, pool: &Pool) -> Option<Frame> {
        let (destination, ethertype, len) = match self {
            Message::Arp { to, .. } => (*to, EtherType::ARP, ArpRepr::LEN),
            Message::Neighbour { to, body, .. } => {
                (*to, EtherType::IPV6, Ipv6Repr::HEADER_LEN + body.message_len())
            }
        };
        let mut buffer = pool.take(Size::Small)?;
        let len = ETHERNET_HEADER + len;
        EthernetRepr { destination, source: mac, ethertype }.emit(&mut buffer);
        let payload = &mut buffer[ETHERNET_HEADER..len];
        match self {
            Message::Arp { packet, .. } => packet.emit(payload),
            Message::Neighbour { source, destination, body, .. } => {
                body.emit_packet(*source, *destination, payload);
            }
        }
        Some(buffer.into_frame(0..len))
    }
}

impl Body {
    fn message_len(&self) -> usize {
        match self {
            Body::Solicit(message) => message.message_len(),
            Body::Advertise(message) => message.message_len(),
        }
    }

    /// Writes the whole IPv6 packet.
    fn emit_packet(&self, source: Ipv6Addr, destination: Ipv6Addr, octets: &mut [u8]) {
        Ipv6Repr::ndp(source, destination, self.message_len()).emit(octets);
        let message = &mut octets[Ipv6Repr::HEADER_LEN..];
        let addresses = Addresses::V6 { source, destination };
        match self {
            Body::Solicit(repr) => repr.emit(message, &addresses),
            Body::Advertise(repr) => repr.emit(message, &addresses),
        }
    }
}

/// The link address of a multicast group.
pub(super) fn group(address: IpAddr) -> Option<MacAddr> {
    Ethernet.check_multicast(&Address::Ip(address)).ok().flatten()?.mac()
}
