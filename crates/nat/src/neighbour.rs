//! Neighbours: the uplink answers for its own addresses, and asks where a guest is that it has not heard of.
//!
//! Guests are bound to the addresses that they speak of (`guests`), so nothing is cached here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vmlan_frame::checksum::Addresses;
use vmlan_frame::ip::solicited_node;
use vmlan_frame::wire::{
    ArpOperation, ArpPacket, ArpRepr, EtherType, EthernetRepr, Icmpv6Packet, Icmpv6Type, IpProtocol,
    Ipv6Repr, NdpMessage, NdpOption, NeighborAdvertRepr, NeighborSolicitRepr,
};
use vmlan_frame::{ETHERNET_HEADER, Frame, MacAddr, Pool, Size};

use crate::drop::Drop;
use crate::envelope::GATEWAY_LINK_LOCAL;
use crate::guests::Guests;
use crate::packet::Packet;

/// The outcome of a neighbour's message.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// The answer to it.
    pub(crate) answer: Option<Frame>,
    /// A guest that says who it is without being asked: it may have been started anew.
    pub(crate) announces: bool,
}

/// Takes an ARP packet (RFC 826, RFC 5227).
pub(crate) fn arp(frame: &Frame, guests: &mut Guests, gateway: MacAddr, pool: &Pool) -> Result<Heard, Drop> {
    let packet = frame.octets().get(ETHERNET_HEADER..).unwrap_or_default();
    let arp = ArpPacket::new_checked(packet).map_err(|_| Drop::BadHeader)?;
    let (mac, sender, target) = (arp.sender_hardware(), arp.sender_protocol(), arp.target_protocol());
    if frame.source() != Some(mac) {
        return Err(Drop::SpoofedSource);
    }
    let is_probe = sender.is_unspecified();
    if !guests.is_inside(sender.into()) && !guests.is_inside(target.into()) {
        // Others on the link, who use other addresses.
        return Err(Drop::NotForUplink);
    }
    if !is_probe && !guests.is_own(sender.into(), mac, frame.meta.ingress) {
        return Err(Drop::SpoofedSource);
    }
    let announces = is_probe || sender == target;
    let is_ours = guests.is_gateway(target.into()) || guests.is_host(target.into());
    let answer = (arp.operation() == ArpOperation::REQUEST && is_ours).then(|| {
        let reply = ArpRepr {
            operation: ArpOperation::REPLY,
            sender_hardware: gateway,
            sender_protocol: target,
            target_hardware: mac,
            target_protocol: sender,
        };
        emit_arp(&reply, mac, pool)
    });
    Ok(Heard { answer: answer.flatten(), announces })
}

fn emit_arp(arp: &ArpRepr, to: MacAddr, pool: &Pool) -> Option<Frame> {
    let mut buffer = pool.take(Size::Small)?;
    let (ethernet, rest) = buffer.split_at_mut(ETHERNET_HEADER);
    EthernetRepr { destination: to, source: arp.sender_hardware, ethertype: EtherType::ARP }.emit(ethernet);
    arp.emit(&mut rest[..ArpRepr::LEN]);
    Some(buffer.into_frame(0..ETHERNET_HEADER + ArpRepr::LEN))
}

/// Takes a neighbour solicitation or advertisement (RFC 4861 section 7).
pub(crate) fn ndp(
    packet: &Packet<'_>,
    guests: &mut Guests,
    gateway: MacAddr,
    pool: &Pool,
) -> Result<Heard, Drop> {
    let Addresses::V6 { source, .. } = packet.addresses else { return Err(Drop::BadHeader) };
    let icmp = Icmpv6Packet::new_checked(packet.upper).map_err(|_| Drop::BadHeader)?;
    if packet.hop_limit != Ipv6Repr::NDP_HOP_LIMIT || packet.fragment.is_some() {
        return Err(Drop::BadHeader);
    }
    if !packet.is_checksum_open() && !icmp.verify_checksum(&packet.addresses) {
        return Err(Drop::BadChecksum);
    }
    let message = NdpMessage::new_checked(packet.upper).map_err(|_| Drop::BadHeader)?;
    let target = message.target().ok_or(Drop::BadHeader)?;
    let is_about = |address: Ipv6Addr| guests.is_inside(address.into()) || guests.is_gateway(address.into());
    if !is_about(target) && !is_about(source) {
        return Err(Drop::NotForUplink);
    }
    match message.message_type() {
        Icmpv6Type::NEIGHBOR_SOLICITATION => {
            let is_probe = source.is_unspecified();
            if !is_probe && source.is_unicast_link_local() {
                // Not bound: it never leaves the link.
            } else if !is_probe && !guests.is_own(source.into(), packet.mac, packet.ingress) {
                return Err(Drop::SpoofedSource);
            }
            let is_ours = guests.is_gateway(target.into()) || guests.is_host(target.into());
            let announces = is_probe && guests.is_guest(target.into());
            if !is_ours {
                return Ok(Heard { answer: None, announces });
            }
            let advert = NeighborAdvertRepr {
                router: guests.is_gateway(target.into()),
                solicited: !is_probe,
                replaces: true,
                target,
                target_link_layer: Some(gateway),
            };
            let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
            let to =
                if is_probe { (all_nodes, MacAddr([0x33, 0x33, 0, 0, 0, 1])) } else { (source, packet.mac) };
            let answer = emit_ndp(to, (target, gateway), advert.message_len(), pool, |octets, addresses| {
                advert.emit(octets, addresses);
            });
            Ok(Heard { answer, announces })
        }
        Icmpv6Type::NEIGHBOR_ADVERTISEMENT => {
            let mac = message
                .options()
                .flatten()
                .filter(|option| option.kind == NdpOption::TARGET_LINK_LAYER)
                .find_map(|option| option.link_layer_address());
            let is_honest = mac.is_none_or(|mac| mac == packet.mac);
            if target.is_unicast_link_local() && is_honest {
                return Ok(Heard::default());
            }
            if !is_honest || !guests.is_own(target.into(), packet.mac, packet.ingress) {
                return Err(Drop::SpoofedSource);
            }
            Ok(Heard { answer: None, announces: !message.is_solicited() })
        }
        _ => Ok(Heard::default()),
    }
}

fn emit_ndp(
    (to, to_mac): (Ipv6Addr, MacAddr),
    (from, from_mac): (Ipv6Addr, MacAddr),
    len: usize,
    pool: &Pool,
    write: impl FnOnce(&mut [u8], &Addresses),
) -> Option<Frame> {
    let mut buffer = pool.take(Size::Small)?;
    let (ethernet, ip) = buffer.split_at_mut(ETHERNET_HEADER);
    EthernetRepr { destination: to_mac, source: from_mac, ethertype: EtherType::IPV6 }.emit(ethernet);
    Ipv6Repr::ndp(from, to, len).emit(ip);
    let addresses = Addresses::V6 { source: from, destination: to };
    write(&mut ip[Ipv6Repr::HEADER_LEN..][..len], &addresses);
    Some(buffer.into_frame(0..ETHERNET_HEADER + Ipv6Repr::HEADER_LEN + len))
}

/// The frame that asks where a guest's address is.
pub(crate) fn ask(address: IpAddr, guests: &Guests, gateway: MacAddr, pool: &Pool) -> Option<Frame> {
    match address {
        IpAddr::V4(target) => {
            let own: Ipv4Addr = guests.subnet4?.host(1);
            emit_arp(&ArpRepr::request(gateway, own, target), MacAddr::BROADCAST, pool)
        }
        IpAddr::V6(target) => {
            let solicit = NeighborSolicitRepr { target, source_link_layer: Some(gateway) };
            let group = solicited_node(target);
            let [.., a, b, c, d] = group.octets();
            let to = (group, MacAddr([0x33, 0x33, a, b, c, d]));
            emit_ndp(to, (GATEWAY_LINK_LOCAL, gateway), solicit.message_len(), pool, |octets, addresses| {
                solicit.emit(octets, addresses);
            })
        }
    }
}

/// True for messages of neighbour discovery between neighbours.
pub(crate) fn is_ndp(packet: &Packet<'_>) -> bool {
    let kind = packet.upper.first().map(|kind| Icmpv6Type(*kind));
    packet.protocol == IpProtocol::ICMPV6
        && matches!(kind, Some(Icmpv6Type::NEIGHBOR_SOLICITATION | Icmpv6Type::NEIGHBOR_ADVERTISEMENT))
}
