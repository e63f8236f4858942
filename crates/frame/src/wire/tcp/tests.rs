use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

const V4: Addresses =
    Addresses::V4 { source: Ipv4Addr::new(10, 0, 0, 1), destination: Ipv4Addr::new(10, 0, 0, 2) };
const V6: Addresses = Addresses::V6 {
    source: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
    destination: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2),
};

/// The first segment that Linux sends: MSS 1460, SACK permitted, timestamps, window scale 7.
const SYN: [u8; 40] = [
    0x9c, 0x40, 0x00, 0x50, 0x01, 0x02, 0x03, 0x04, 0x00, 0x00, 0x00, 0x00, 0xa0, 0xc2, 0xfa, 0xf0, 0x75,
    0x72, 0x00, 0x00, 0x02, 0x04, 0x05, 0xb4, 0x04, 0x02, 0x08, 0x0a, 0x00, 0x11, 0x22, 0x33, 0x00, 0x00,
    0x00, 0x00, 0x01, 0x03, 0x03, 0x07,
];

#[test]
fn fields() {
    let segment = TcpSegment::new_checked(&SYN).unwrap();

    assert_eq!((segment.source_port(), segment.destination_port()), (40_000, 80));
    assert_eq!((segment.sequence(), segment.acknowledgement()), (0x0102_0304, 0));
    assert_eq!(segment.flags(), TcpFlags::SYN | TcpFlags::ECE | TcpFlags::CWR);
    assert_eq!((segment.header_len(), segment.window(), segment.urgent()), (40, 64_240, 0));
    assert!(segment.verify_checksum(&V4));
    assert!(!segment.verify_checksum(&V6));
    assert!(segment.payload().is_empty());
}

#[test]
fn options() {
    let segment = TcpSegment::new_checked(&SYN).unwrap();

    let options: Result<Vec<_>, _> = segment.options().collect();
    assert_eq!(
        options.unwrap(),
        [
            TcpOption::MaximumSegmentSize(1460),
            TcpOption::SackPermitted,
            TcpOption::Timestamps { value: 0x0011_2233, echo: 0 },
            TcpOption::WindowScale(7),
        ]
    );
}

#[test]
fn options_of_unusual_length_are_others() {
    let mut octets = [0; 28];
    octets[12] = 0x70;
    octets[20..].copy_from_slice(&[2, 3, 9, 5, 2, 4, 0, 0]);
    let segment = TcpSegment::new_checked(&octets).unwrap();

    let options: Vec<_> = segment.options().collect();
    assert_eq!(
        options,
        [
            Ok(TcpOption::Other { kind: 2, data: &[9] }),
            Ok(TcpOption::Other { kind: 5, data: &[] }),
            Err(Malformed::Length),
        ]
    );
}

#[test]
fn emit_writes_what_parse_read() {
    let segment = TcpSegment::new_checked(&SYN).unwrap();
    let mut octets = [0xff; 40];
    TcpRepr::parse(&segment).emit(&mut octets, &V4);
    assert_eq!(octets, SYN);
}

#[test]
fn checksum_over_ipv6_with_odd_payload() {
    let repr = TcpRepr {
        source_port: 1,
        destination_port: 2,
        sequence: 3,
        acknowledgement: 4,
        flags: TcpFlags::ACK | TcpFlags::PSH,
        window: 5,
        urgent: 0,
        options: &[],
    };
    let mut octets = [0; 23];
    octets[20..].copy_from_slice(b"abc");
    repr.emit(&mut octets, &V6);

    let segment = TcpSegment::new_checked(&octets).unwrap();
    assert_eq!(segment.checksum(), 0x8fe3);
    assert!(segment.verify_checksum(&V6));
    assert_eq!(segment.payload(), b"abc");
}

#[test]
fn segments_of_a_transmission_with_known_checksums() {
    // 10.0.0.1:1000 to 10.0.0.2:2000, octet i of 2500 is i & ff, cut at 1000.
    let data: Vec<u8> = (0..2500u32).map(|i| i as u8).collect();
    let cases = [(0, 0x10, 0xf2a3), (1000, 0x10, 0xcd9a), (2000, 0x19, 0xb883)];
    for (start, flags, checksum) in cases {
        let payload = &data[start..data.len().min(start + 1000)];
        let repr = TcpRepr {
            source_port: 1000,
            destination_port: 2000,
            sequence: 0x0102_0304 + start as u32,
            acknowledgement: 5,
            flags: TcpFlags(flags),
            window: 1024,
            urgent: 0,
            options: &[],
        };
        let mut octets = [&[0; 20], payload].concat();
        repr.emit(&mut octets, &V4);
        assert_eq!(TcpSegment::new_checked(&octets).unwrap().checksum(), checksum);
    }
}

#[test]
fn setters() {
    let mut segment = TcpSegment::new_checked(SYN).unwrap();
    segment.set_source_port(1);
    segment.set_destination_port(2);
    segment.set_sequence(u32::MAX);
    segment.set_acknowledgement(4);
    segment.set_flags(TcpFlags::FIN | TcpFlags::ACK);
    segment.set_window(5);
    segment.set_urgent(6);
    segment.fill_checksum(&V6);

    let repr = TcpRepr::parse(&segment);
    assert_eq!((repr.source_port, repr.destination_port, repr.window, repr.urgent), (1, 2, 5, 6));
    assert_eq!((repr.sequence, repr.acknowledgement), (u32::MAX, 4));
    assert_eq!((repr.flags, segment.header_len()), (TcpFlags(0x011), 40), "the data offset stays");
    assert!(segment.verify_checksum(&V6));
    assert!(segment.payload_mut().is_empty());
}

#[test]
fn flag_sets() {
    let flags = TcpFlags::ACK | TcpFlags::FIN;
    assert!(flags.contains(TcpFlags::FIN));
    assert!(!flags.contains(TcpFlags::FIN | TcpFlags::SYN));
    assert!(flags.intersects(TcpFlags::FIN | TcpFlags::SYN));
    assert_eq!(flags.without(TcpFlags::FIN | TcpFlags::PSH), TcpFlags::ACK);
}

#[test]
fn contradictions_are_refused() {
    assert_eq!(TcpSegment::new_checked(&SYN[..19]).unwrap_err(), Malformed::Truncated);
    assert_eq!(TcpSegment::new_checked(&SYN[..39]).unwrap_err(), Malformed::Length);
    let mut octets = SYN;
    octets[12] = 0x40;
    assert_eq!(TcpSegment::new_checked(octets).unwrap_err(), Malformed::Length);
}
