use vmlan_frame::Offload;
use vmlan_frame::offload::{BadOffload, finish_checksum, validate};
use vmlan_frame::wire::{EtherType, TcpFlags};

use crate::shape::*;

#[test]
fn case_3_impossible_sizes() {
    let (octets, request) = case_1();
    assert_eq!(validate(&octets, Offload { gso_size: 0, ..request }), Err(BadOffload::SegmentSize(0)));
    let header_len = octets.len() as u16 + 1;
    assert_eq!(validate(&octets, Offload { header_len, ..request }), Err(BadOffload::HeaderLength));
}

#[test]
fn the_canonical_request_has_the_true_header_length() {
    for shape in [TCP4, UDP6, Shape { tags: QINQ, tcp_options: TIMESTAMPS, extensions: 2, ..TCP6 }] {
        let octets = shape.whole(&payload(2500));
        let request = shape.request(1000);
        assert_eq!(validate(&octets, request), Ok(request));
        // What the sender says of it is a hint, as long as it lies within the frame.
        for header_len in [0, 14, octets.len() as u16] {
            assert_eq!(validate(&octets, Offload { header_len, ..request }), Ok(request));
        }
    }
}

#[test]
fn congestion_window_reduced_means_ecn() {
    let shape = Shape { flags: TcpFlags::CWR, ..TCP4 };
    let octets = shape.whole(&payload(2500));
    let request = shape.request(1000);
    assert_eq!(request.gso_type, Offload::TCPV4 | Offload::ECN);
    assert_eq!(validate(&octets, Offload { gso_type: Offload::TCPV4, ..request }), Ok(request));
}

#[test]
fn what_is_not_used_is_not_kept() {
    let octets = TCP4.whole(&payload(100));
    let rest = Offload { header_len: 1, gso_size: 2, ..Offload::NONE };
    let nothing = Offload { checksum_start: 0xffff, checksum_offset: 0xffff, ..rest };
    assert_eq!(validate(&octets, nothing), Ok(Offload::NONE));
    assert_eq!(validate(&[], nothing), Ok(Offload::NONE));
    let valid = Offload { flags: Offload::CHECKSUM_VALID, ..Offload::NONE };
    assert_eq!(validate(&octets, Offload { flags: Offload::CHECKSUM_VALID, ..nothing }), Ok(valid));
    let sum = Offload { flags: Offload::NEEDS_CHECKSUM, checksum_start: 34, checksum_offset: 16, ..rest };
    let expected = Offload { header_len: 0, gso_size: 0, ..sum };
    assert_eq!(validate(&octets, sum), Ok(expected));
    assert_eq!(validate(&octets, Offload { flags: 3, ..sum }), Ok(expected));
}

#[test]
fn requests_that_contradict_the_frame() {
    let (octets, request) = case_1();
    let with_fragment = |field: u16| {
        let mut octets = octets.clone();
        octets[20..22].copy_from_slice(&field.to_be_bytes());
        octets
    };
    let other_length = {
        let mut octets = octets.clone();
        octets[17] ^= 1;
        octets
    };
    let padded = [&octets[..], &[0]].concat();
    let long = Shape { extensions: 23, ..TCP6 };
    let udp = UDP4.whole(&payload(2500));
    let mut short_datagram = udp.clone();
    short_datagram[39] ^= 1;
    let datagrams = UDP4.request(1000);
    let fragments = Offload { gso_type: Offload::UDP_FRAGMENTS, ..datagrams };
    let mut middle = udp.clone();
    middle[20] = 0x20;
    let empty = UDP4.whole(&[]);
    let mut empty_first = empty.clone();
    empty_first[20] = 0x20;
    let unfinished = Offload { flags: 0, ..fragments };
    let arp = ethernet(&[], EtherType::ARP, &[0; 600]);
    for (what, octets, request, expected) in [
        ("flag", &octets, Offload { flags: 5, ..request }, BadOffload::UnknownFlags(5)),
        ("type 2", &octets, Offload { gso_type: 2, ..request }, BadOffload::UnknownType(2)),
        ("only ECN", &octets, Offload { gso_type: 0x80, ..request }, BadOffload::UnknownType(0x80)),
        ("UDP with ECN", &udp, Offload { gso_type: 0x85, ..datagrams }, BadOffload::UnknownType(0x85)),
        ("complete", &octets, Offload { flags: 0, ..request }, BadOffload::MissingChecksum),
        ("known valid", &octets, Offload { flags: 2, ..request }, BadOffload::MissingChecksum),
        ("complete datagrams", &udp, Offload { flags: 0, ..datagrams }, BadOffload::MissingChecksum),
        ("nothing", &octets, Offload { gso_size: 0, ..request }, BadOffload::SegmentSize(0)),
        ("many", &octets, Offload { gso_size: 1, ..request }, BadOffload::TooManySegments(2500)),
        ("datagrams", &udp, Offload { gso_size: 19, ..datagrams }, BadOffload::TooManySegments(132)),
        ("large", &octets, Offload { gso_size: 2501, ..request }, BadOffload::SegmentSize(2501)),
        ("unit", &udp, Offload { gso_size: 1004, ..fragments }, BadOffload::SegmentSize(1004)),
        ("no payload", &empty, Offload { gso_size: 8, ..fragments }, BadOffload::SegmentSize(8)),
        (
            "none in a fragment",
            &empty_first,
            Offload { gso_size: 8, ..unfinished },
            BadOffload::SegmentSize(8),
        ),
        ("start", &octets, Offload { checksum_start: 36, ..request }, BadOffload::ChecksumPlace),
        ("offset", &octets, Offload { checksum_offset: 6, ..request }, BadOffload::ChecksumPlace),
        ("IPv6", &octets, Offload { gso_type: Offload::TCPV6, ..request }, BadOffload::WrongHeaders),
        ("UDP", &octets, Offload { gso_type: Offload::UDP, ..request }, BadOffload::WrongHeaders),
        ("TCP", &udp, request, BadOffload::WrongHeaders),
        ("first fragment", &with_fragment(0x2000), request, BadOffload::WrongHeaders),
        ("later fragment", &with_fragment(0x0001), request, BadOffload::WrongHeaders),
        ("IP length", &other_length, request, BadOffload::WrongHeaders),
        ("padding", &padded, request, BadOffload::WrongHeaders),
        ("UDP length", &short_datagram, datagrams, BadOffload::WrongHeaders),
        ("sum of a part", &middle, fragments, BadOffload::WrongHeaders),
        ("IPv6 fragments", &UDP6.whole(&payload(2500)), fragments, BadOffload::WrongHeaders),
        ("ARP", &arp, request, BadOffload::WrongHeaders),
        ("header", &long.whole(&payload(2500)), long.request(1000), BadOffload::WrongHeaders),
        ("no frame", &vec![], Offload { header_len: 0, ..request }, BadOffload::WrongHeaders),
    ] {
        assert_eq!(validate(octets, request), Err(expected), "{what}");
    }
}

#[test]
fn headers_as_long_as_they_are_followed() {
    let long = |padding: u8| {
        // One destination options header of 8 × (1 + padding) octets.
        let mut octets = Shape { extensions: 1, ..TCP6 }.unfinished(&payload(600));
        octets.splice(62..62, vec![0; 8 * usize::from(padding)]);
        octets[55] = padding;
        let payload_len = octets.len() - 54;
        octets[18..20].copy_from_slice(&(payload_len as u16).to_be_bytes());
        let start = 62 + 8 * u16::from(padding);
        (octets, Offload { checksum_start: start, ..TCP6.request(512) })
    };
    let (octets, request) = long(63);
    assert_eq!(validate(&octets, request).unwrap().header_len, 14 + 40 + 512 + 20);
    let (octets, request) = long(64);
    assert_eq!(validate(&octets, request), Err(BadOffload::WrongHeaders));
    // Without segmentation the sum has a place, whoever can read what is in front of it.
    let sum = Offload { gso_type: 0, header_len: 0, gso_size: 0, ..request };
    assert_eq!(validate(&octets, sum), Ok(sum));
    let start = sum.checksum_start;
    for (checksum_start, checksum_offset) in [(52, 16), (start, 4), (octets.len() as u16 - 16, 16)] {
        let elsewhere = Offload { checksum_start, checksum_offset, ..sum };
        assert_eq!(validate(&octets, elsewhere), Err(BadOffload::ChecksumPlace), "{elsewhere:?}");
    }
    let mut finished = octets.clone();
    finish_checksum(&mut finished, &sum);
    // Shorter by what is between the headers, it is the segment that everybody can read.
    finished.drain(62..62 + 8 * 64);
    finished[55] = 0;
    let payload_len = finished.len() as u16 - 54;
    finished[18..20].copy_from_slice(&payload_len.to_be_bytes());
    assert_eq!(finished, Shape { extensions: 1, ..TCP6 }.whole(&payload(600)));
}

#[test]
fn the_number_of_segments_is_bounded_and_not_their_size() {
    let octets = TCP4.whole(&payload(65_495));
    let tcp = |gso_size| validate(&octets, TCP4.request(gso_size)).map(|good| good.segments(octets.len()));
    assert_eq!(tcp(128), Ok(512));
    assert_eq!(tcp(127), Err(BadOffload::TooManySegments(516)));
    assert_eq!(tcp(1), Err(BadOffload::TooManySegments(65_495)));
    let octets = UDP4.whole(&payload(1280));
    let udp = |gso_size| validate(&octets, UDP4.request(gso_size)).map(|good| good.segments(octets.len()));
    assert_eq!(udp(10), Ok(128));
    assert_eq!(udp(9), Err(BadOffload::TooManySegments(143)));
    // Together they would be many times the frame.
    let shape = Shape { extensions: 23, ..TCP6 };
    let octets = shape.whole(&payload(2000));
    assert!(validate(&octets, shape.request(1)).is_err());
}

/// Where a checksum may be finished, by frame, start and offset.
#[test]
fn a_checksum_goes_only_where_no_guard_has_looked() {
    let tcp = TCP4.whole(&payload(100));
    let udp = UDP4.whole(&payload(100));
    let tcp6 = Shape { extensions: 1, tags: QINQ, ..TCP6 }.whole(&payload(100));
    let upper = |protocol: u8| {
        let mut octets = TCP4.whole(&payload(100));
        octets[23] = protocol;
        octets
    };
    let icmpv6 = {
        let mut octets = TCP6.whole(&payload(100));
        octets[20] = 58;
        octets
    };
    let fragment = {
        let mut octets = udp.clone();
        octets[20] = 0x20;
        octets
    };
    let other = |ethertype: u16| ethernet(&[], EtherType(ethertype), &[0; 100]);
    for (what, octets, start, offset, expected) in [
        ("TCP", &tcp, 34, 16, true),
        ("UDP", &udp, 34, 6, true),
        ("TCP behind tags and an extension header", &tcp6, 70, 16, true),
        ("source address of the frame", &tcp, 6, 0, false),
        ("source address of the packet", &tcp, 14, 12, false),
        ("TCP port", &tcp, 34, 0, false),
        ("TCP payload", &tcp, 60, 0, false),
        ("UDP port", &udp, 34, 2, false),
        ("a tunnel in UDP", &udp, 60, 16, true),
        ("UDP header", &udp, 36, 4, false),
        ("ICMPv6", &icmpv6, 54, 2, true),
        ("ICMPv6 type", &icmpv6, 54, 0, false),
        ("ICMPv6 target", &icmpv6, 62, 0, false),
        ("ICMP", &upper(1), 34, 2, true),
        ("IGMP group", &upper(2), 34, 4, false),
        ("GRE", &upper(47), 34, 4, true),
        ("GRE's IP header", &upper(47), 14, 10, false),
        ("fragment", &fragment, 34, 6, false),
        ("ARP", &other(0x0806), 14, 14, false),
        ("PPPoE", &other(0x8864), 42, 16, true),
        ("LLC", &other(100), 14, 2, false),
        ("frame's end", &tcp, 34, 118, false),
        ("UDP payload's end", &udp, 140, 0, true),
        ("UDP payload's end but one", &udp, 140, 1, false),
        ("no frame", &vec![], 0, 0, false),
        ("numbers at their ends", &udp, 0xffff, 0xffff, false),
    ] {
        let flags = Offload::NEEDS_CHECKSUM;
        let request = Offload { flags, checksum_start: start, checksum_offset: offset, ..Offload::NONE };
        let result = validate(octets, request);
        assert_eq!(result, if expected { Ok(request) } else { Err(BadOffload::ChecksumPlace) }, "{what}");
    }
}

#[test]
fn finishing_gives_the_checksum_that_the_sender_left_open() {
    for shape in [TCP4, TCP6, UDP4, UDP6, Shape { tags: QINQ, tcp_options: TIMESTAMPS, ..TCP4 }] {
        for len in [0, 1, 100, 1447] {
            let mut octets = shape.unfinished(&payload(len));
            let Offload { flags, checksum_start, checksum_offset, .. } = shape.request(512);
            let request = Offload { flags, checksum_start, checksum_offset, ..Offload::NONE };
            let request = validate(&octets, request).unwrap();
            finish_checksum(&mut octets, &request);
            assert_eq!(octets, shape.whole(&payload(len)));
        }
    }
}

#[test]
fn finishing_what_was_never_validated_does_no_harm() {
    for (start, offset) in [(60, 0), (59, 0), (0, 59), (0xffff, 0xffff)] {
        let request = Offload { flags: 1, checksum_start: start, checksum_offset: offset, ..Offload::NONE };
        let mut octets = [7; 60];
        finish_checksum(&mut octets, &request);
        assert_eq!(octets, [7; 60]);
    }
}
