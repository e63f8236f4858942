//! Packets of guests and their neighbours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vmlan_frame::MacAddr;
use vmlan_frame::checksum::Addresses;
use vmlan_frame::wire::{
    ArpOperation, ArpRepr, EtherType, EthernetRepr, IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Repr,
    NeighborAdvertRepr, NeighborSolicitRepr, UdpRepr,
};

/// A frame around `payload`.
pub fn ethernet(destination: MacAddr, source: MacAddr, ethertype: EtherType, payload: &[u8]) -> Vec<u8> {
    let mut octets = vec![0; 14];
    EthernetRepr { destination, source, ethertype }.emit(&mut octets);
    octets.extend(payload);
    octets.resize(octets.len().max(60), 0);
    octets
}

/// An ARP packet in a frame from its sender.
pub fn arp(
    destination: MacAddr,
    operation: ArpOperation,
    sender: (MacAddr, Ipv4Addr),
    target: (MacAddr, Ipv4Addr),
) -> Vec<u8> {
    let mut packet = [0; ArpRepr::LEN];
    let repr = ArpRepr {
        operation,
        sender_hardware: sender.0,
        sender_protocol: sender.1,
        target_hardware: target.0,
        target_protocol: target.1,
    };
    repr.emit(&mut packet);
    ethernet(destination, sender.0, EtherType::ARP, &packet)
}

pub fn arp_request(sender: (MacAddr, Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    arp(MacAddr::BROADCAST, ArpOperation::REQUEST, sender, (MacAddr::ZERO, target))
}

/// An IP packet of an experimental protocol without more (RFC 3692).
pub fn ip(destination: (MacAddr, IpAddr), source: (MacAddr, IpAddr)) -> Vec<u8> {
    packet(destination, source, IpProtocol(253), &[])
}

pub fn packet(
    destination: (MacAddr, IpAddr),
    source: (MacAddr, IpAddr),
    protocol: IpProtocol,
    payload: &[u8],
) -> Vec<u8> {
    let (mut packet, ethertype) = match (destination.1, source.1) {
        (IpAddr::V4(to), IpAddr::V4(from)) => {
            let repr = Ipv4Repr {
                traffic_class: 0,
                identification: 7,
                dont_fragment: false,
                more_fragments: false,
                fragment_offset: 0,
                ttl: 64,
                protocol,
                source: from,
                destination: to,
                options: &[],
                payload_len: payload.len(),
            };
            let mut header = vec![0; repr.header_len()];
            repr.emit(&mut header);
            (header, EtherType::IPV4)
        }
        (IpAddr::V6(to), IpAddr::V6(from)) => {
            let repr = Ipv6Repr {
                traffic_class: 0,
                flow_label: 0,
                payload_len: payload.len() as u16,
                next_header: protocol,
                hop_limit: 255,
                source: from,
                destination: to,
            };
            let mut header = vec![0; Ipv6Repr::HEADER_LEN];
            repr.emit(&mut header);
            (header, EtherType::IPV6)
        }
        _ => panic!("addresses of one family"),
    };
    packet.extend(payload);
    ethernet(destination.0, source.0, ethertype, &packet)
}

pub fn udp(
    destination: (MacAddr, Ipv4Addr, u16),
    source: (MacAddr, Ipv4Addr, u16),
    payload: &[u8],
) -> Vec<u8> {
    let mut datagram = vec![0; UdpRepr::HEADER_LEN];
    datagram.extend(payload);
    let addresses = Addresses::V4 { source: source.1, destination: destination.1 };
    UdpRepr { source_port: source.2, destination_port: destination.2 }.emit(&mut datagram, &addresses);
    let (to, from) = ((destination.0, destination.1.into()), (source.0, source.1.into()));
    packet(to, from, IpProtocol::UDP, &datagram)
}

/// The fixed part of a DHCP message, and its message type option.
pub fn dhcp(kind: u8, hardware: MacAddr, client: Ipv4Addr, yours: Ipv4Addr) -> Vec<u8> {
    let mut message = vec![0; 240];
    let asks = [1, 3, 7].contains(&kind);
    message[..4].copy_from_slice(&[if asks { 1 } else { 2 }, 1, 6, 0]);
    message[12..16].copy_from_slice(&client.octets());
    message[16..20].copy_from_slice(&yours.octets());
    message[28..34].copy_from_slice(&hardware.0);
    message[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    message.extend([0, 12, 2, b'g', b'1', 53, 1, kind, 255]);
    message
}

/// The same from a client to the server, as broadcast.
pub fn dhcp_request(kind: u8, client: MacAddr, address: Ipv4Addr) -> Vec<u8> {
    let message = dhcp(kind, client, address, Ipv4Addr::UNSPECIFIED);
    udp((MacAddr::BROADCAST, Ipv4Addr::BROADCAST, 67), (client, Ipv4Addr::UNSPECIFIED, 68), &message)
}

/// The multicast address at which a neighbour is asked for, and its group MAC address.
pub fn solicited(target: Ipv6Addr) -> (MacAddr, IpAddr) {
    let [.., a, b, c] = target.octets();
    let address = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
    (MacAddr([0x33, 0x33, 0xff, a, b, c]), address.into())
}

pub fn solicitation(source: (MacAddr, Ipv6Addr), target: Ipv6Addr) -> Vec<u8> {
    let (mac, group) = solicited(target);
    let IpAddr::V6(destination) = group else { unreachable!() };
    let is_probe = source.1.is_unspecified();
    let repr = NeighborSolicitRepr { target, source_link_layer: (!is_probe).then_some(source.0) };
    let mut message = vec![0; repr.message_len()];
    repr.emit(&mut message, &Addresses::V6 { source: source.1, destination });
    packet((mac, group), (source.0, source.1.into()), IpProtocol::ICMPV6, &message)
}

pub fn advertisement(
    destination: (MacAddr, Ipv6Addr),
    source: (MacAddr, Ipv6Addr),
    target: Ipv6Addr,
    link_layer: MacAddr,
) -> Vec<u8> {
    let repr = NeighborAdvertRepr {
        router: false,
        solicited: true,
        replaces: true,
        target,
        target_link_layer: Some(link_layer),
    };
    let mut message = vec![0; repr.message_len()];
    repr.emit(&mut message, &Addresses::V6 { source: source.1, destination: destination.1 });
    let (to, from) = ((destination.0, destination.1.into()), (source.0, source.1.into()));
    packet(to, from, IpProtocol::ICMPV6, &message)
}

/// The IPv4 packet in a frame.
pub fn ipv4(octets: &[u8]) -> Ipv4Packet<&[u8]> {
    Ipv4Packet::new_checked(&octets[14..]).unwrap()
}
