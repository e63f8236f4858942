//! Messages that are not valid change nothing (RFC 826, RFC 4861 7.1).

use vmlan_frame::wire::{ArpOperation, Ipv6Repr};

use super::*;

/// A host that asks for 10.0.0.2 and fd00::2.
fn asking() -> Host {
    let mut host = Host::new();
    host.send("10.0.0.2", 1);
    host.send("fd00::2", 2);
    host.sent();
    host
}

/// True if the host takes an answer after `spoil` changed its octets.
fn believes(message: Message, spoil: impl FnOnce(&mut [u8])) -> bool {
    let mut host = asking();
    let before = host.resolver.statistics();
    let mut octets = message.emit(B, &host.pool).unwrap().octets().to_vec();
    spoil(&mut octets);
    let frame = host.pool.copy(&octets).unwrap();
    assert!(host.resolver.handle(&frame, host.now));
    let believed = host.resolver.neighbours().any(|neighbour| neighbour.link.is_some());
    let ignored = host.resolver.statistics().ignored - before.ignored;
    assert_eq!((ignored == 1, host.resolver.statistics().conflicts), (!believed, 0));
    believed
}

/// Makes the checksum of a neighbour message right again.
pub(super) fn mend(octets: &mut [u8]) {
    let packet = &mut octets[ETHERNET_HEADER..];
    let addresses = Ipv6Packet::new_checked(&*packet).unwrap().addresses();
    Icmpv6Packet::new_checked(&mut packet[Ipv6Repr::HEADER_LEN..]).unwrap().fill_checksum(&addresses);
}

/// Octets of the frame before the ICMPv6 message.
pub(super) const ICMP: usize = ETHERNET_HEADER + Ipv6Repr::HEADER_LEN;

#[test]
fn neighbour_messages() {
    let changed = |at: usize, value: u8| {
        believes(answer("fd00::2"), |octets| {
            octets[at] = value;
            mend(octets);
        })
    };
    assert!(believes(answer("fd00::2"), |_| {}));
    assert!(changed(ICMP + 31, 0xd));
    // Hop limit, code, checksum.
    assert!(!changed(ETHERNET_HEADER + 7, 254));
    assert!(!changed(ICMP + 1, 1));
    assert!(!believes(answer("fd00::2"), |octets| octets[ICMP + 2] ^= 1));
    // A target that is a group; an option of length 0, and one that is too long.
    assert!(!changed(ICMP + 8, 0xff));
    assert!(!changed(ICMP + 25, 0));
    assert!(!changed(ICMP + 25, 2));
    // A link address that nobody can have, and ours.
    assert!(!changed(ICMP + 26, 3));
    assert!(!changed(ICMP + 31, 0xa));
    // Solicited, and to a group.
    assert!(!changed(ETHERNET_HEADER + 24, 0xff));
    // From a group.
    assert!(!changed(ETHERNET_HEADER + 8, 0xff));
}

#[test]
fn solicitations() {
    let answers = |message: Message, at: usize, value: u8| {
        let mut host = Host::new();
        let mut octets = message.emit(B, &host.pool).unwrap().octets().to_vec();
        octets[at] = value;
        mend(&mut octets);
        host.resolver.handle(&host.pool.copy(&octets).unwrap(), host.now);
        assert_eq!(host.resolver.statistics().conflicts, 0);
        host.sent().len()
    };
    assert_eq!(answers(request(B, "fd00::2", "fd00::1"), 0, 0x33), 1);
    assert_eq!(answers(probe("fd00::1"), 0, 0x33), 1);
    // A probe that is not to the solicited-node group.
    assert_eq!(answers(probe("fd00::1"), ETHERNET_HEADER + 39, 2), 0);
    // From our own address, and from the loopback address.
    assert_eq!(answers(request(B, "fd00::2", "fd00::1"), ETHERNET_HEADER + 23, 1), 0);
    assert_eq!(answers(request(B, "::2", "fd00::1"), ETHERNET_HEADER + 23, 1), 0);
    // A probe that tells a link address.
    assert_eq!(answers(request(B, "::2", "fd00::1"), ETHERNET_HEADER + 23, 0), 0);
}

#[test]
fn a_solicitation_in_fragments_is_ignored() {
    let mut host = Host::new();
    let mut octets = request(B, "fd00::2", "fd00::1").emit(B, &host.pool).unwrap().octets().to_vec();
    // A fragment header with offset 0 and nothing to follow (RFC 6946).
    octets.splice(ICMP..ICMP, [58, 0, 0, 0, 0, 0, 0, 1]);
    octets[ETHERNET_HEADER + 5] += 8;
    octets[ETHERNET_HEADER + 6] = 44;
    assert!(host.resolver.handle(&host.pool.copy(&octets).unwrap(), host.now));
    assert_eq!((host.resolver.statistics().ignored, host.sent().len()), (1, 0));
}

#[test]
fn arp_packets() {
    let arp = |operation: ArpOperation, sender_hardware: MacAddr, sender: &str, target: &str| Message::Arp {
        to: A,
        packet: ArpRepr {
            operation,
            sender_hardware,
            sender_protocol: sender.parse().unwrap(),
            target_hardware: A,
            target_protocol: target.parse().unwrap(),
        },
    };
    let reply = |mac, sender| arp(ArpOperation::REPLY, mac, sender, "10.0.0.1");
    assert!(believes(reply(B, "10.0.0.2"), |_| {}));
    assert!(!believes(reply(MacAddr::BROADCAST, "10.0.0.2"), |_| {}));
    assert!(!believes(reply(MacAddr::ZERO, "10.0.0.2"), |_| {}));
    assert!(!believes(reply(B, "224.0.0.2"), |_| {}));
    assert!(!believes(reply(B, "255.255.255.255"), |_| {}));
    assert!(!believes(arp(ArpOperation::REVERSE_REPLY, B, "10.0.0.2", "10.0.0.1"), |_| {}));
    // Another hardware type.
    assert!(!believes(reply(B, "10.0.0.2"), |octets| octets[ETHERNET_HEADER + 1] = 6));
}

#[test]
fn frames_that_are_not_the_resolvers() {
    let mut host = asking();
    let mut handle = |octets: &[u8]| {
        let frame = host.pool.copy(octets).unwrap();
        host.resolver.handle(&frame, host.now)
    };
    assert!(!handle(&[0; 13]));
    let mut octets = answer("fd00::2").emit(B, &Pool::new(PoolSizes::default())).unwrap().octets().to_vec();
    // An echo request, a router advertisement, a packet without upper layer.
    for message_type in [128, 134] {
        octets[ICMP] = message_type;
        assert!(!handle(&octets));
    }
    octets[ICMP] = 136;
    octets[ETHERNET_HEADER + 6] = 59;
    assert!(!handle(&octets));
    // For another station: ARP of a flood is taken, and means nothing.
    let mut octets = answer("10.0.0.2").emit(B, &Pool::new(PoolSizes::default())).unwrap().octets().to_vec();
    octets[..6].copy_from_slice(&C.0);
    assert!(handle(&octets));
    assert!(host.resolver.neighbours().all(|neighbour| neighbour.link.is_none()));
    assert_eq!(host.resolver.statistics().ignored, 0);
}
