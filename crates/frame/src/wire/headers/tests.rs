use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::wire::{Ipv4Repr, Ipv6Repr};

/// A frame from its addresses on: types and tags, then the packet, then padding.
fn frame(types: &[u16], packet: &[u8]) -> Vec<u8> {
    let mut octets = vec![2; 12];
    for word in types {
        octets.extend(word.to_be_bytes());
    }
    octets.extend(packet);
    octets.extend([0xee; 6]);
    octets
}

fn ipv4(protocol: IpProtocol, fragment_offset: u16, more_fragments: bool, payload: &[u8]) -> Vec<u8> {
    let repr = Ipv4Repr {
        traffic_class: 0,
        identification: 9,
        dont_fragment: false,
        more_fragments,
        fragment_offset,
        ttl: 64,
        protocol,
        source: Ipv4Addr::LOCALHOST,
        destination: Ipv4Addr::LOCALHOST,
        options: &[],
        payload_len: payload.len(),
    };
    let mut octets = vec![0; 20];
    repr.emit(&mut octets);
    octets.extend(payload);
    octets
}

fn ipv6(next_header: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let repr = Ipv6Repr {
        traffic_class: 0,
        flow_label: 0,
        payload_len: payload.len() as u16,
        next_header,
        hop_limit: 64,
        source: Ipv6Addr::LOCALHOST,
        destination: Ipv6Addr::LOCALHOST,
    };
    let mut octets = vec![0; 40];
    repr.emit(&mut octets);
    octets.extend(payload);
    octets
}

fn tcp_header(len: u8) -> Vec<u8> {
    let mut octets = vec![0; usize::from(len)];
    octets[12] = (len / 4) << 4;
    octets
}

#[test]
fn udp_over_ipv4() {
    let headers = Headers::parse(&frame(&[0x0800], &ipv4(IpProtocol::UDP, 0, false, &[0; 8])));

    assert_eq!((headers.ethertype(), headers.network_offset()), (EtherType::IPV4, 14));
    assert_eq!((headers.network, headers.network_end, headers.fragment), (Network::Ipv4, 42, None));
    assert_eq!(headers.upper, Upper::Header { protocol: IpProtocol::UDP, offset: 34 });
}

#[test]
fn tcp_over_ipv6_with_tags_and_options() {
    let payload = [vec![6, 0, 1, 4, 0, 0, 0, 0], tcp_header(32)].concat();
    let types = [0x88a8, 0x0064, 0x8100, 0x000a, 0x86dd];
    let headers = Headers::parse(&frame(&types, &ipv6(IpProtocol::DESTINATION_OPTIONS, &payload)));

    assert_eq!((headers.tags.as_slice().len(), headers.network_offset()), (2, 22));
    assert_eq!((headers.network, headers.network_end), (Network::Ipv6, 22 + 40 + 8 + 32));
    assert_eq!(headers.upper, Upper::Header { protocol: IpProtocol::TCP, offset: 70 });
}

#[test]
fn fragments() {
    let headers = Headers::parse(&frame(&[0x0800], &ipv4(IpProtocol::UDP, 1480, false, &[0; 3])));
    assert_eq!(headers.fragment, Some(Fragment { offset: 1480, more: false, identification: 9 }));
    assert_eq!(headers.upper, Upper::LaterFragment { protocol: IpProtocol::UDP, offset: 34 });

    let payload = [17, 0, 0x05, 0xa8, 0, 0, 0, 7, 1, 2, 3];
    let headers = Headers::parse(&frame(&[0x86dd], &ipv6(IpProtocol::FRAGMENT, &payload)));
    assert_eq!(headers.fragment, Some(Fragment { offset: 1448, more: false, identification: 7 }));
    assert_eq!(headers.upper, Upper::LaterFragment { protocol: IpProtocol::UDP, offset: 62 });
}

#[test]
fn upper_layer_header_cut_off() {
    let cut = Upper::Undecidable(Undecidable::Truncated);
    let cases = [
        (IpProtocol::TCP, tcp_header(32)[..31].to_vec()),
        (IpProtocol::TCP, vec![0; 8]),
        (IpProtocol::UDP, vec![0; 7]),
        (IpProtocol::ICMP, vec![0; 7]),
        (IpProtocol::ICMPV6, vec![0; 3]),
    ];
    for (protocol, payload) in cases {
        let whole = Headers::parse(&frame(&[0x0800], &ipv4(protocol, 0, false, &payload)));
        let first = Headers::parse(&frame(&[0x0800], &ipv4(protocol, 0, true, &payload)));
        let v6 = Headers::parse(&frame(&[0x86dd], &ipv6(protocol, &payload)));
        assert_eq!((whole.upper, first.upper, v6.upper), (cut, cut, cut), "{protocol}");
    }
}

#[test]
fn undecidable_chain() {
    let headers = Headers::parse(&frame(&[0x86dd], &ipv6(IpProtocol::ROUTING, &[58, 9, 0, 0, 0, 0, 0, 0])));

    assert_eq!(headers.network, Network::Ipv6);
    assert_eq!(headers.upper, Upper::Undecidable(Undecidable::Truncated));
}

#[test]
fn not_ip() {
    let cases = [(0x0806, Network::Arp), (0x88cc, Network::Other), (0x0026, Network::Other)];
    for (ethertype, network) in cases {
        let headers = Headers::parse(&frame(&[ethertype], &[0; 40]));
        assert_eq!((headers.network, headers.network_end), (network, 60));
        assert_eq!((headers.upper, headers.fragment), (Upper::Absent, None));
    }
}

#[test]
fn malformed() {
    let five_tags = [0x8100, 1, 0x8100, 1, 0x8100, 1, 0x8100, 1, 0x8100, 1, 0x0800];
    let cases = [
        (vec![], Malformed::Truncated),
        (vec![0; 13], Malformed::Truncated),
        (frame(&five_tags, &[]), Malformed::TooMany),
        (frame(&[0x0800], &[]), Malformed::Truncated),
        (frame(&[0x0800], &[0x60; 40]), Malformed::Format),
        (frame(&[0x0800], &[0x42; 40]), Malformed::Length),
        (frame(&[0x86dd], &[0x60; 40]), Malformed::Length),
    ];
    for (octets, error) in cases {
        let headers = Headers::parse(&octets);
        assert_eq!((headers.network, headers.upper), (Network::Malformed(error), Upper::Absent));
        assert_eq!(headers.network_end, octets.len());
    }
}
