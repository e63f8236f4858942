//! Looks at arbitrary octets through every view, accessor and setter; shared by the property test and the fuzz target.

use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};

use vmlan_frame::MacAddr;
use vmlan_frame::checksum::{Addresses, Sum, checksum};
use vmlan_frame::wire::*;

const V4: Addresses = Addresses::V4 { source: Ipv4Addr::LOCALHOST, destination: Ipv4Addr::BROADCAST };
const V6: Addresses = Addresses::V6 { source: Ipv6Addr::LOCALHOST, destination: Ipv6Addr::UNSPECIFIED };
const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

/// Looks through each view, as if the octets started with its header, and as headers inside a frame.
///
/// # Panics
/// If a view panics, or says or writes what contradicts the octets.
pub fn look(octets: &[u8]) {
    frame_headers(octets);
    ethernet(octets);
    arp(octets);
    ipv4(octets);
    ipv6(octets);
    tcp(octets);
    udp(octets);
    icmpv4(octets);
    icmpv6(octets);
    ndp(octets);
    black_box(Sum::new().add_octets(octets).add_word(1).is_valid());
    black_box(checksum(octets));
}

fn frame_headers(octets: &[u8]) {
    let headers = Headers::parse(octets);
    assert!(headers.network_end <= octets.len());
    if !matches!(headers.network, Network::Ipv4 | Network::Ipv6) {
        return assert_eq!((headers.upper, headers.fragment), (Upper::Absent, None));
    }
    match headers.upper {
        Upper::Header { protocol, offset } => {
            let upper = &octets[offset..headers.network_end];
            match protocol {
                IpProtocol::TCP => assert!(TcpSegment::new_checked(upper).is_ok()),
                IpProtocol::ICMP => assert!(Icmpv4Packet::new_checked(upper).is_ok()),
                IpProtocol::ICMPV6 => assert!(Icmpv6Packet::new_checked(upper).is_ok()),
                _ => {}
            }
        }
        Upper::LaterFragment { offset, .. } => {
            assert!(offset <= headers.network_end);
            assert!(headers.fragment.is_some_and(|fragment| !fragment.is_first()));
        }
        Upper::Absent | Upper::Undecidable(_) => {}
    }
}

fn ethernet(octets: &[u8]) {
    let Ok(frame) = EthernetFrame::new_checked(octets) else { return };
    if let Ok(tags) = frame.tags() {
        assert!(tags.network_offset() <= octets.len());
        assert!(!tags.ethertype().is_tag());
        assert!(tags.as_slice().iter().all(|tag| tag.tpid.is_tag()));
    }
    black_box((frame.ethertype().is_length(), frame.ethertype().to_string(), frame.payload()));

    let mut copy = octets.to_vec();
    EthernetRepr::parse(&frame).emit(&mut copy);
    assert_eq!(copy, octets);

    let mut frame = EthernetFrame::new_checked(copy).expect("the same octets");
    frame.set_destination(MAC);
    frame.set_source(MAC);
    frame.set_ethertype(EtherType::LLDP);
    frame.payload_mut().fill(0);
    let repr = EthernetRepr { destination: MAC, source: MAC, ethertype: EtherType::LLDP };
    assert_eq!(EthernetRepr::parse(&frame), repr);
}

fn arp(octets: &[u8]) {
    let Ok(packet) = ArpPacket::new_checked(octets) else { return };
    let mut copy = octets.to_vec();
    ArpRepr::parse(&packet).emit(&mut copy);
    assert_eq!(copy, octets);

    let mut packet = ArpPacket::new_checked(copy).expect("the same octets");
    packet.set_operation(ArpOperation::REPLY);
    packet.set_sender_hardware(MAC);
    packet.set_sender_protocol(Ipv4Addr::LOCALHOST);
    packet.set_target_hardware(MAC);
    packet.set_target_protocol(Ipv4Addr::LOCALHOST);
    assert!(ArpPacket::new_checked(packet.into_inner()).is_ok());
}

fn ipv4(octets: &[u8]) {
    let Ok(packet) = Ipv4Packet::new_checked(octets) else { return };
    assert_eq!(packet.header_len() + packet.payload().len(), usize::from(packet.total_length()));
    assert_eq!(packet.fragment().is_some(), packet.more_fragments() || packet.fragment_offset() > 0);
    assert!(packet.options().count() <= 20);
    black_box((packet.addresses().source(), packet.addresses().destination(), packet.verify_checksum()));

    // A valid packet is one that emit could have written: reserved flag clear, checksum right.
    let mut valid = octets.to_vec();
    valid[6] &= 0x7f;
    let mut packet = Ipv4Packet::new_checked(valid).expect("no length changed");
    packet.fill_checksum();
    assert!(packet.verify_checksum());
    let mut copy = packet.clone().into_inner();
    copy[..20].fill(0xff);
    Ipv4Repr::parse(&packet).emit(&mut copy);
    assert_eq!(copy, packet.clone().into_inner());

    packet.set_traffic_class(1);
    packet.set_identification(2);
    packet.set_fragment(65_528, true);
    packet.set_ttl(3);
    packet.set_source(Ipv4Addr::LOCALHOST);
    packet.set_destination(Ipv4Addr::LOCALHOST);
    for length in [0, 19, 20, u16::MAX] {
        packet.set_total_length(length);
        packet.fill_checksum();
        assert!(packet.verify_checksum());
        assert!(packet.payload().len() <= octets.len());
        packet.payload_mut().fill(0);
    }
    assert!(matches!(packet.upper(), Upper::LaterFragment { .. }));
}

fn ipv6(octets: &[u8]) {
    let Ok(packet) = Ipv6Packet::new_checked(octets) else { return };
    assert_eq!(Ipv6Repr::HEADER_LEN + packet.payload().len(), packet.total_len());
    let extensions = packet.extension_headers();
    assert!(extensions.count <= MAX_EXTENSION_HEADERS);
    if let Upper::Header { offset, .. } | Upper::LaterFragment { offset, .. } = extensions.upper {
        assert!((40..=40 + MAX_EXTENSION_OCTETS).contains(&offset) && offset <= packet.total_len());
    }
    black_box((packet.addresses().source(), packet.addresses().destination()));

    let mut copy = octets.to_vec();
    copy[..40].fill(0xff);
    Ipv6Repr::parse(&packet).emit(&mut copy);
    assert_eq!(copy, octets);

    let mut packet = Ipv6Packet::new_checked(copy).expect("the same octets");
    packet.set_traffic_class(1);
    packet.set_next_header(IpProtocol::HOP_BY_HOP);
    packet.set_hop_limit(2);
    packet.set_source(Ipv6Addr::LOCALHOST);
    packet.set_destination(Ipv6Addr::LOCALHOST);
    for length in [0, 1, u16::MAX] {
        packet.set_payload_length(length);
        black_box(packet.extension_headers());
        packet.payload_mut().fill(0);
        assert!(packet.payload().len() <= octets.len());
    }
}

fn tcp(octets: &[u8]) {
    let Ok(segment) = TcpSegment::new_checked(octets) else { return };
    assert_eq!(segment.header_len() + segment.payload().len(), octets.len());
    assert!(segment.options().count() <= 20);
    black_box((segment.checksum(), segment.verify_checksum(&V4)));

    let mut segment = TcpSegment::new_checked(octets.to_vec()).expect("the same octets");
    segment.fill_checksum(&V6);
    assert!(segment.verify_checksum(&V6));
    let mut copy = segment.clone().into_inner();
    copy[..20].fill(0xff);
    TcpRepr::parse(&segment).emit(&mut copy, &V6);
    assert_eq!(copy, segment.clone().into_inner());

    segment.set_source_port(1);
    segment.set_destination_port(2);
    segment.set_sequence(3);
    segment.set_acknowledgement(4);
    segment.set_flags(TcpFlags(u16::MAX));
    segment.set_window(5);
    segment.set_urgent(6);
    segment.payload_mut().fill(0);
    assert_eq!(segment.header_len(), TcpSegment::new_checked(octets).expect("checked before").header_len());
}

fn udp(octets: &[u8]) {
    let Ok(datagram) = UdpDatagram::new_checked(octets) else { return };
    let length = usize::from(datagram.length());
    assert_eq!(UdpRepr::HEADER_LEN + datagram.payload().len(), length);
    black_box(datagram.verify_checksum(&V4));

    let mut datagram = UdpDatagram::new_checked(octets[..length].to_vec()).expect("length is within");
    datagram.fill_checksum(&V6);
    assert!(datagram.verify_checksum(&V6));
    let mut copy = datagram.clone().into_inner();
    copy[..8].fill(0xff);
    UdpRepr::parse(&datagram).emit(&mut copy, &V6);
    assert_eq!(copy, datagram.clone().into_inner());

    datagram.set_source_port(1);
    datagram.set_destination_port(2);
    datagram.set_checksum(0);
    for length in [0, 7, u16::MAX] {
        datagram.set_length(length);
        assert!(datagram.payload().len() <= octets.len());
        datagram.payload_mut().fill(0);
        datagram.fill_checksum(&V4);
    }
}

fn icmpv4(octets: &[u8]) {
    let Ok(packet) = Icmpv4Packet::new_checked(octets) else { return };
    black_box((packet.checksum(), packet.data(), packet.verify_checksum()));

    let mut packet = Icmpv4Packet::new_checked(octets.to_vec()).expect("the same octets");
    packet.fill_checksum();
    assert!(packet.verify_checksum());
    if let Some(echo) = packet.echo().filter(|_| packet.code() == 0) {
        let mut copy = packet.clone().into_inner();
        copy[..8].fill(0xff);
        echo.emit_v4(&mut copy);
        assert_eq!(copy, packet.clone().into_inner());
    }
    packet.set_message_type(Icmpv4Type::ECHO_REQUEST);
    assert!(packet.echo().is_some());
}

fn icmpv6(octets: &[u8]) {
    let Ok(packet) = Icmpv6Packet::new_checked(octets) else { return };
    black_box((packet.checksum(), packet.body(), packet.verify_checksum(&V6), packet.ndp().is_ok()));

    let mut packet = Icmpv6Packet::new_checked(octets.to_vec()).expect("the same octets");
    packet.fill_checksum(&V6);
    assert!(packet.verify_checksum(&V6));
    if let Some(echo) = packet.echo().filter(|_| packet.code() == 0) {
        let mut copy = packet.clone().into_inner();
        copy[..8].fill(0xff);
        echo.emit_v6(&mut copy, &V6);
        assert_eq!(copy, packet.clone().into_inner());
    }
    packet.set_message_type(Icmpv6Type::ECHO_REPLY);
    assert_eq!(packet.echo().is_some(), octets.len() >= 8);
}

fn ndp(octets: &[u8]) {
    let Ok(message) = NdpMessage::new_checked(octets) else { return };
    assert!(message.options().count() <= octets.len() / 8 + 1);
    for option in message.options().flatten() {
        assert_eq!(&octets[option.offset..option.offset + option.data.len()], option.data);
        black_box(option.link_layer_address());
    }
    black_box((message.redirected(), message.is_router(), message.is_solicited(), message.is_override()));

    if let Some(repr) = NeighborSolicitRepr::parse(&message) {
        let mut copy = vec![0; repr.message_len()];
        repr.emit(&mut copy, &V6);
        let message = NdpMessage::new_checked(&copy).expect("emitted");
        assert_eq!(NeighborSolicitRepr::parse(&message), Some(repr));
    }
    if let Some(repr) = NeighborAdvertRepr::parse(&message) {
        let mut copy = vec![0; repr.message_len()];
        repr.emit(&mut copy, &V6);
        let message = NdpMessage::new_checked(&copy).expect("emitted");
        assert_eq!(NeighborAdvertRepr::parse(&message), Some(repr));
    }
}
