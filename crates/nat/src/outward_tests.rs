use std::net::IpAddr;

use vmlan_frame::wire::IpProtocol;
use vmlan_frame::{Frame, Instant};

use crate::engine::Settings;
use crate::guests::Limits;
use crate::keyed::Keyed;
use crate::packet::Packet;
use crate::reach::{Egress, Plan, Rule, To};
use crate::testing::{GATEWAY_MAC, Guest, SUBNET4, SUBNET6, pool};
use crate::{Drop, Nat, Taken};

fn nat(egress: Egress) -> Nat {
    let plan = Plan { subnet4: Some(SUBNET4), subnet6: Some(SUBNET6), egress, ..Plan::default() };
    let settings = Settings {
        mac: GATEWAY_MAC,
        mtu: 1500,
        plan,
        limits: Limits::default(),
        memory: 1 << 20,
        rate: 0,
        datagram_flows: 16,
        open_filter: false,
        key: Keyed([1, 2]),
    };
    let mut nat = Nat::new(settings, Instant::from_secs(1)).with_other_carrier();
    nat.reach.set_host_addresses(["198.51.100.2".parse::<IpAddr>().unwrap()]);
    nat
}

fn is_outward(nat: &Nat, frame: &Frame) -> bool {
    nat.is_outward(&Packet::parse(frame).unwrap(), Instant::from_secs(1))
}

/// The header of a TCP segment.
fn segment(from: u16, to: u16) -> [u8; 20] {
    let mut segment = [0; 20];
    segment[..2].copy_from_slice(&from.to_be_bytes());
    segment[2..4].copy_from_slice(&to.to_be_bytes());
    segment[12] = 5 << 4;
    segment
}

#[test]
fn the_kernel_has_what_is_open_and_is_what_it_says() {
    let (pool, nat) = (pool(), nat(Egress::All));
    for (guest, to, expected) in [
        (Guest::V4, "192.0.2.7:53", true),
        (Guest::V4, "192.168.1.7:53", true),
        (Guest::V6, "[2001:db8::7]:53", true),
        // The host, its links, another guest, a group.
        (Guest::V4, "198.51.100.2:53", false),
        (Guest::V4, "169.254.169.254:80", false),
        (Guest::V4, "127.0.0.1:80", false),
        (Guest::V4, "10.213.5.17:80", false),
        (Guest::V4, "10.213.5.2:80", false),
        (Guest::V4, "224.0.0.251:5353", false),
        // It stands for an address of IPv4, which the kernel does not know.
        (Guest::V6, "[64:ff9b::c000:207]:53", false),
        // Answers to what the host itself began.
        (Guest::V4, "10.213.5.1:40000", true),
        (Guest::V6, "[fd00:1:2:3::1]:40000", true),
    ] {
        assert_eq!(is_outward(&nat, &guest.udp(&pool, 4000, to, b"?")), expected, "{to}");
    }
}

#[test]
fn the_gateway_answers_echo_and_names_itself() {
    let (pool, nat) = (pool(), nat(Egress::All));
    assert!(!is_outward(&nat, &Guest::V4.echo(&pool, 1, 1, "10.213.5.1", b"")));
    assert!(is_outward(&nat, &Guest::V4.echo(&pool, 1, 1, "192.0.2.7", b"")));
    let tcp = |to, port| Guest::V4.packet(&pool, IpProtocol::TCP, to, &segment(4000, port));
    assert!(!is_outward(&nat, &tcp("10.213.5.1", 53)));
    assert!(is_outward(&nat, &tcp("10.213.5.1", 40_000)));
    // An answer to the host's echo.
    let reply = Guest::V4.packet(&pool, IpProtocol::ICMP, "10.213.5.1", &[0, 0, 0xff, 0xff, 0, 0, 0, 0]);
    assert!(is_outward(&nat, &reply));
}

#[test]
fn what_is_denied_is_not_the_kernels() {
    let pool = pool();
    let udp = |to| Guest::V4.udp(&pool, 4000, to, b"?");
    assert!(!is_outward(&nat(Egress::None), &udp("192.0.2.7:53")));
    assert!(!is_outward(&nat(Egress::Internet), &udp("192.168.1.7:53")));
    let rule = |port| Rule { allow: true, to: To::Any, ports: Some(port..=port), protocol: None };
    let nat = nat(Egress::Rules(vec![rule(53)]));
    assert!(is_outward(&nat, &udp("192.0.2.7:53")));
    assert!(!is_outward(&nat, &udp("192.0.2.7:54")));
}

#[test]
fn fragments_are_the_kernels_unless_ports_matter() {
    let pool = pool();
    let mut frame = Guest::V4.udp(&pool, 4000, "192.0.2.7:53", b"?");
    let octets = frame.make_mut(&pool).unwrap();
    // More fragments follow; the checksum of the header again.
    octets[20..22].copy_from_slice(&0x2000_u16.to_be_bytes());
    octets[24..26].fill(0);
    let sum = octets[14..34].chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(two[1])).sum::<u32>();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    octets[24..26].copy_from_slice(&sum.to_be_bytes());
    assert!(is_outward(&nat(Egress::All), &frame));
    let any = Rule { allow: true, to: To::Any, ports: None, protocol: None };
    let smtp = Rule { allow: false, ports: Some(25..=25), ..any.clone() };
    assert!(is_outward(&nat(Egress::Rules(vec![any.clone()])), &frame));
    assert!(!is_outward(&nat(Egress::Rules(vec![smtp, any])), &frame));
}

#[test]
fn neighbours_answers_are_for_both() {
    let (asked, mut nat) = (crate::neighbour::Heard::default(), nat(Egress::All));
    assert_eq!(nat.told(&asked), Taken::Both);
    nat.other_carrier = false;
    assert_eq!(nat.told(&asked), Taken::Done);
}

#[test]
fn who_floods_is_told_of_now_and_then() {
    let (pool, mut nat) = (pool(), nat(Egress::None));
    let frame = Guest::V4.udp(&pool, 1000, "192.0.2.7:53", b"hello");
    let mut other = frame.clone();
    other.meta.ingress += 1;
    let mut told = |frame: &Frame, reason, second| {
        let told = (0..1000).map(|_| {
            nat.note(frame, reason, Instant::from_secs(second));
            nat.take_notices().count()
        });
        told.sum::<usize>()
    };
    for reason in [Drop::Denied, Drop::Datagram(crate::datagrams::Drop::EgressDenied)] {
        assert_eq!(told(&frame, reason, 10), if reason == Drop::Denied { 32 } else { 0 });
    }
    for reason in [Drop::FlowLimit, Drop::Datagram(crate::datagrams::Drop::FlowLimit)] {
        assert_eq!(told(&frame, reason, 10), usize::from(reason == Drop::FlowLimit));
    }
    assert_eq!((told(&other, Drop::Denied, 10), told(&other, Drop::FlowLimit, 10)), (32, 1));
    assert_eq!((told(&frame, Drop::Denied, 11), told(&frame, Drop::FlowLimit, 11)), (32, 1));
    assert_eq!(told(&frame, Drop::BadMss, 12), 0);
}

#[test]
fn services_get_a_bounded_number_of_messages_of_each_guest() {
    let mut nat = nat(Egress::All);
    let mut passed = |ingress, second| {
        let taken = (0..2000).map(|_| nat.service(ingress, Instant::from_secs(second)));
        taken.filter(|taken| *taken == Ok(Taken::Service)).count()
    };
    assert_eq!([passed(1, 10), passed(2, 10), passed(1, 10), passed(1, 11)], [512, 512, 0, 512]);
}
