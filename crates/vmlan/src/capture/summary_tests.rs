use super::*;

const MACS: &str = "52:54:00:00:00:01 > 52:54:00:00:00:02  ";

/// An Ethernet frame with these octets behind the addresses.
fn ethernet(rest: &[u8]) -> Vec<u8> {
    [&[0x52, 0x54, 0, 0, 0, 2, 0x52, 0x54, 0, 0, 0, 1], rest].concat()
}

/// An IPv4 packet in a frame.
fn ipv4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let mut packet = vec![0x08, 0x00, 0x45, 0];
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(&fragment.to_be_bytes());
    packet.extend_from_slice(&[64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    packet.extend_from_slice(payload);
    ethernet(&packet)
}

fn ipv6(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x86, 0xdd, 0x60, 0, 0, 0];
    packet.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    packet.extend_from_slice(&[protocol, 64]);
    for last in [1, 2] {
        packet.extend_from_slice(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    packet.extend_from_slice(payload);
    ethernet(&packet)
}

fn tcp() -> [u8; 20] {
    [0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]
}

fn arp(operation: u8) -> Vec<u8> {
    let mut packet = vec![0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, operation];
    packet.extend_from_slice(&[0x52, 0x54, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
    ethernet(&packet)
}

#[test]
fn every_kind_of_frame_has_a_summary() {
    let tagged = [&[0x81, 0, 0, 10][..], &ipv4(17, 0, &[0, 53, 0, 99, 0, 8, 0, 0])[12..]].concat();
    for (frame, expected) in [
        (arp(1), "ARP who has 10.0.0.2? tell 10.0.0.1"),
        (arp(2), "ARP 10.0.0.1 is at 52:54:00:00:00:01"),
        (arp(9), "ARP operation 9"),
        (ipv4(1, 0, &[8, 0, 0, 0, 0, 1, 0, 7]), "10.0.0.1 > 10.0.0.2 ICMP echo request 1/7"),
        (ipv4(1, 0, &[3, 4, 0, 0, 0, 0, 0, 0]), "10.0.0.1 > 10.0.0.2 ICMP type 3 code 4"),
        (ipv4(6, 0, &tcp()), "10.0.0.1:12345 > 10.0.0.2:80 TCP [S]"),
        (ipv4(17, 0, &[0, 53, 0, 99, 0, 8, 0, 0]), "10.0.0.1:53 > 10.0.0.2:99 UDP"),
        (ipv4(47, 0, &[0; 4]), "10.0.0.1 > 10.0.0.2 protocol 47"),
        (ipv4(17, 3, &[0; 8]), "10.0.0.1 > 10.0.0.2 fragment of protocol 17"),
        (ipv4(6, 0, &[0; 4]), "10.0.0.1 > 10.0.0.2 ends before the upper-layer header does"),
        (ipv6(58, &[129, 0, 0, 0, 0, 1, 0, 7]), "fd00::1 > fd00::2 ICMPv6 echo reply 1/7"),
        (ipv6(58, &[135, 0, 0, 0]), "fd00::1 > fd00::2 ICMPv6 type 135 code 0"),
        (ipv6(6, &tcp()), "[fd00::1]:12345 > [fd00::2]:80 TCP [S]"),
        (ipv6(59, &[]), "fd00::1 > fd00::2 no upper layer"),
        (ethernet(&tagged), "vlan 10 10.0.0.1:53 > 10.0.0.2:99 UDP"),
        (ethernet(&[0, 40, 0x42]), "LLC"),
        (ethernet(&[0x88, 0xcc]), "type 0x88cc"),
        (ethernet(&[0x08, 0x06, 0, 9]), "ARP, malformed"),
        (ethernet(&[0x08, 0x00, 0x45]), "IPv4, malformed: the octets end before the header does"),
        (ethernet(&[0x81, 0x00]), "headers, malformed: the octets end before the header does"),
    ] {
        assert_eq!(summary(&frame, frame.len()), format!("{MACS}{expected}"));
    }
}

#[test]
fn what_was_cut_off_is_not_made_up() {
    for (frame, keep, expected) in [
        (ipv4(6, 0, &[&tcp()[..], &[0; 1400]].concat()), 60, "10.0.0.1:12345 > 10.0.0.2:80 TCP [S]"),
        (ipv4(6, 0, &tcp()), 40, "10.0.0.1 > 10.0.0.2 cut off"),
        (
            ipv4(17, 0, &[0, 53, 0, 99, 0, 8, 0, 0]),
            38,
            "10.0.0.1 > 10.0.0.2 protocol 17, cut off or malformed",
        ),
        (ipv4(1, 0, &[8, 0, 0, 0, 0, 1, 0, 7]), 36, "10.0.0.1 > 10.0.0.2 protocol 1, cut off or malformed"),
        (ipv4(6, 0, &tcp()), 30, "type 0x0800, cut off"),
        (ipv4(6, 0, &tcp()), 14, "type 0x0800, cut off"),
        (arp(1), 30, "type 0x0806, cut off"),
    ] {
        assert_eq!(summary(&frame[..keep], frame.len()), format!("{MACS}{expected}"));
    }
    assert_eq!(summary(&[0; 13], 60), "cut off within the Ethernet header");
}

#[test]
fn hostile_lengths_and_octets_do_no_harm() {
    for byte in [0x00, 0x08, 0x45, 0x81, 0x86, 0xff] {
        for len in 0..100 {
            let octets = vec![byte; len];
            for length in [0, len, 60, usize::MAX] {
                assert!(!summary(&octets, length).is_empty());
            }
        }
    }
}
