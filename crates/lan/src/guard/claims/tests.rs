use super::*;
use std::net::Ipv4Addr;
use vmlan_frame::checksum::Addresses;
use vmlan_frame::wire::{ArpRepr, Ipv4Repr, Ipv6Repr};
use vmlan_frame::{Pool, PoolSizes, VlanTag};

const OWN: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
const OTHER: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 2]);
const OWN_4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const OTHER_4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const OWN_6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const OTHER_6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
const GROUP_6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;

/// Judges a frame of `OWN` with the outer tag `vid` beside it and these octets after the addresses.
fn judged_with(vid: Option<u16>, after_addresses: &[u8], packets: bool) -> Said {
    let octets = [&[0xff; 6][..], &OWN.0, after_addresses].concat();
    let mut frame = Pool::new(PoolSizes { small: 1, large: 1, bulk: 0 }).copy(&octets).unwrap();
    frame.meta.tag = vid.map(|tci| VlanTag { tci });
    let said = judge(&frame, packets);
    let ethertype = frame.ethertype().unwrap();
    assert!(said == Said::Nothing || may_speak(ethertype, packets), "{ethertype:#x} is not looked at");
    said
}

fn judged(ethertype: u16, payload: &[u8]) -> Said {
    judged_with(None, &[&ethertype.to_be_bytes(), payload].concat(), false)
}

fn says(addresses: &[IpAddr]) -> Said {
    Said::Clearly([0, 1].map(|n| addresses.get(n).map(|address| Lesson::Says(*address))))
}

fn arp(operation: u16, sender: (MacAddr, Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0; ArpRepr::LEN];
    let operation = ArpOperation(operation);
    let (sender_hardware, sender_protocol) = sender;
    let repr = ArpRepr {
        operation,
        sender_hardware,
        sender_protocol,
        target_hardware: MacAddr::ZERO,
        target_protocol: target,
    };
    repr.emit(&mut packet);
    packet
}

/// An IPv6 packet from `source` whose payload starts with a header of that protocol.
fn ipv6_packet(source: Ipv6Addr, next_header: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let repr = Ipv6Repr {
        traffic_class: 0,
        flow_label: 0,
        payload_len: payload.len() as u16,
        next_header: vmlan_frame::wire::IpProtocol(next_header),
        hop_limit,
        source,
        destination: GROUP_6,
    };
    let mut packet = vec![0; Ipv6Repr::HEADER_LEN];
    repr.emit(&mut packet);
    packet.extend(payload);
    packet
}

/// A neighbour discovery message with a target, where it has one, and options of that kind with these addresses.
fn message(kind: u8, target: Ipv6Addr, options: &[(u8, MacAddr)]) -> Vec<u8> {
    let fixed = match kind {
        133 => 8,
        134 => 16,
        135 | 136 => 24,
        _ => 40,
    };
    let mut message = vec![0; fixed];
    message[0] = kind;
    if fixed >= 24 {
        message[8..24].copy_from_slice(&target.octets());
    }
    for (kind, mac) in options {
        message.extend([&[*kind, 1][..], &mac.0].concat());
    }
    let addresses = Addresses::V6 { source: OWN_6, destination: GROUP_6 };
    vmlan_frame::wire::Icmpv6Packet::new_checked(&mut message[..]).unwrap().fill_checksum(&addresses);
    message
}

fn nd(source: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    ipv6_packet(source, 58, 255, message)
}

#[test]
fn arp_in_every_form() {
    let own = (OWN, OWN_4);
    let cases = [
        ("a request", arp(1, own, OTHER_4), says(&[OWN_4.into()])),
        ("an announcement", arp(1, own, OWN_4), says(&[OWN_4.into()])),
        ("a gratuitous reply", arp(2, own, OWN_4), says(&[OWN_4.into()])),
        (
            "a reply",
            arp(2, own, OTHER_4),
            Said::Clearly([Some(Lesson::Says(OWN_4.into())), Some(Lesson::Lacks(OTHER_4.into()))]),
        ),
        ("a probe", arp(1, (OWN, Ipv4Addr::UNSPECIFIED), OTHER_4), Said::Nothing),
        ("a group's address", arp(1, (OWN, Ipv4Addr::new(224, 0, 0, 1)), OTHER_4), Said::Nothing),
        ("another's hardware address", arp(1, (OTHER, OTHER_4), OWN_4), Said::Unclear),
        ("another's hardware address in a reply", arp(2, (OTHER, OTHER_4), OWN_4), Said::Unclear),
        ("a group's hardware address", arp(1, (MacAddr::BROADCAST, OTHER_4), OWN_4), Said::Unclear),
        ("a reverse reply as ARP", arp(4, own, OTHER_4), Said::Unclear),
        ("an inverse reply", arp(9, own, OTHER_4), Said::Unclear),
        ("an unknown operation", arp(77, own, OTHER_4), Said::Unclear),
        ("cut off", arp(1, own, OTHER_4)[..27].to_vec(), Said::Unclear),
    ];
    for (name, packet, expected) in cases {
        assert_eq!(judged(ARP, &packet), expected, "{name}");
    }
    // Linux takes hardware type 6 for Ethernet.
    let types = [(1, 6), (2, 9), (4, 8), (5, 16)];
    for (at, value) in types {
        let mut packet = arp(1, own, OTHER_4);
        packet[at] = value;
        assert_eq!(judged(ARP, &packet), Said::Unclear, "octet {at} is {value}");
    }
    // What hypervisors announce after a migration.
    assert_eq!(judged(0x8035, &arp(3, (OWN, Ipv4Addr::UNSPECIFIED), OTHER_4)), Said::Nothing);
}

#[test]
fn neighbour_discovery_in_every_form() {
    const NONE: Ipv6Addr = Ipv6Addr::UNSPECIFIED;
    let (own, both) = (says(&[OWN_6.into()]), says(&[OWN_6.into(), OTHER_6.into()]));
    let target = Said::Clearly([None, Some(Lesson::Says(OTHER_6.into()))]);
    let cases = [
        ("router solicitation", OWN_6, message(133, NONE, &[(1, OWN)]), own),
        ("router solicitation without an address", NONE, message(133, NONE, &[]), Said::Nothing),
        ("router solicitation of another's", OWN_6, message(133, NONE, &[(1, OTHER)]), Said::Unclear),
        ("router advertisement", OWN_6, message(134, NONE, &[(1, OWN)]), own),
        ("router advertisement of another's", OWN_6, message(134, NONE, &[(1, OTHER)]), Said::Unclear),
        ("solicitation", OWN_6, message(135, OTHER_6, &[(1, OWN)]), own),
        ("solicitation without an option", OWN_6, message(135, OTHER_6, &[]), own),
        ("probe", NONE, message(135, OTHER_6, &[]), Said::Nothing),
        ("solicitation with another's option", OWN_6, message(135, OTHER_6, &[(1, OTHER)]), Said::Unclear),
        ("probe with another's option", NONE, message(135, OTHER_6, &[(1, OTHER)]), Said::Unclear),
        ("the second of two options", OWN_6, message(135, OTHER_6, &[(1, OWN), (1, OTHER)]), Said::Unclear),
        ("advertisement", OWN_6, message(136, OWN_6, &[(2, OWN)]), own),
        ("advertisement without an option", OWN_6, message(136, OWN_6, &[]), own),
        ("advertisement of another address", OWN_6, message(136, OTHER_6, &[(2, OWN)]), both),
        ("the same without an option", OWN_6, message(136, OTHER_6, &[]), both),
        ("advertisement from nowhere", NONE, message(136, OTHER_6, &[(2, OWN)]), target),
        ("advertisement with another's option", OWN_6, message(136, OWN_6, &[(2, OTHER)]), Said::Unclear),
        ("advertisement of a group", OWN_6, message(136, GROUP_6, &[(2, OWN)]), own),
        ("redirect to itself", OWN_6, message(137, OTHER_6, &[(2, OWN)]), both),
        ("redirect to another", OWN_6, message(137, OTHER_6, &[(2, OTHER)]), Said::Unclear),
        ("redirect without an option", OWN_6, message(137, OTHER_6, &[]), own),
        ("from a group", GROUP_6, message(135, OTHER_6, &[]), Said::Nothing),
        ("cut off", OWN_6, message(136, OWN_6, &[])[..20].to_vec(), Said::Unclear),
        ("no message at all", OWN_6, vec![136, 0, 0], Said::Unclear),
        (
            "an option of 16 octets",
            OWN_6,
            [message(136, OWN_6, &[]), vec![2, 2], vec![0; 14]].concat(),
            Said::Unclear,
        ),
        // Its receivers discard it.
        ("an option of no octets", OWN_6, [message(136, OWN_6, &[]), vec![2, 0], vec![0; 6]].concat(), own),
    ];
    for (name, source, message, expected) in cases {
        assert_eq!(judged(IPV6, &nd(source, &message)), expected, "{name}");
    }
    let mut coded = message(136, OWN_6, &[(2, OWN)]);
    coded[1] = 1;
    assert_eq!(judged(IPV6, &nd(OWN_6, &coded)), Said::Unclear);
}

#[test]
fn neighbour_discovery_behind_other_headers() {
    let forged = message(136, OTHER_6, &[(2, OWN)]);
    let padding = |next: u8| vec![next, 0, 1, 4, 0, 0, 0, 0];
    let fragment = |next: u8, place: u16| [&[next, 0][..], &place.to_be_bytes(), &[0, 0, 0, 7]].concat();
    let long = |next: u8| [&[next, 31, 1, 252][..], &[0; 252]].concat();
    let both = says(&[OWN_6.into(), OTHER_6.into()]);
    let cases: [(&str, u8, Vec<u8>, Said); 11] = [
        ("hop-by-hop options", 0, [padding(58), forged.clone()].concat(), both),
        ("destination options", 60, [padding(60), padding(58), forged.clone()].concat(), both),
        ("a routing header", 43, [vec![58, 0, 4, 0, 0, 0, 0, 0], forged.clone()].concat(), both),
        ("a whole packet as a fragment", 44, [fragment(58, 0), forged.clone()].concat(), Said::Unclear),
        ("a first fragment", 44, [fragment(58, 1), forged.clone()].concat(), Said::Unclear),
        ("a first fragment with nothing in it", 44, [fragment(60, 1), padding(58)].concat(), Said::Unclear),
        ("a later fragment", 44, [fragment(58, 8 | 1), forged.clone()].concat(), Said::Nothing),
        (
            "more options than are followed",
            60,
            [long(60), long(60), long(58), forged.clone()].concat(),
            Said::Unclear,
        ),
        (
            "more headers than are followed",
            60,
            [padding(60).repeat(9), padding(58), forged.clone()].concat(),
            Said::Unclear,
        ),
        ("a chain that is cut off", 60, vec![58, 9, 0, 0, 0, 0, 0, 0], Said::Unclear),
        ("an echo request", 58, vec![128, 0, 0, 0, 0, 0, 0, 0], Said::Nothing),
    ];
    for (name, first, payload, expected) in cases {
        assert_eq!(judged(IPV6, &ipv6_packet(OWN_6, first, 255, &payload)), expected, "{name}");
        // Through a router: receivers ignore it.
        assert_eq!(
            judged(IPV6, &ipv6_packet(OWN_6, first, 254, &payload)),
            Said::Nothing,
            "{name}, 254 hops"
        );
    }
    let mut beyond = nd(OWN_6, &forged);
    beyond[4] = 1;
    assert_eq!(judged(IPV6, &beyond), Said::Unclear, "longer than the frame");
    assert_eq!(judged(IPV6, &nd(OWN_6, &forged)[..39]), Said::Unclear, "cut off");
}

#[test]
fn claims_behind_tags() {
    let claims = [
        ("ARP", [&ARP.to_be_bytes()[..], &arp(1, (OWN, OTHER_4), OWN_4)].concat()),
        ("discovery", [&IPV6.to_be_bytes()[..], &nd(OWN_6, &message(136, OTHER_6, &[(2, OWN)]))].concat()),
    ];
    let tag = |tpid: u16, vid: u16| [tpid.to_be_bytes(), vid.to_be_bytes()].concat();
    let (customer, service, old) = (|vid| tag(0x8100, vid), |vid| tag(0x88a8, vid), |vid| tag(0x9100, vid));
    let cases = [
        ("a customer's priority tag in one", Some(0), customer(0), true),
        ("a customer's tag in a priority tag", Some(0), customer(7), true),
        ("a priority tag in a customer's tag", Some(7), customer(0), true),
        ("a service tag in a priority tag", Some(0), service(7), true),
        ("a service priority tag", None, service(0), true),
        ("one in a customer's tag", Some(7), service(0), true),
        ("a priority tag of before the standard", None, old(0), true),
        ("two service priority tags", None, service(0).repeat(2), true),
        ("a customer's tag in a service priority tag", None, [service(0), customer(7)].concat(), true),
        ("four tags", Some(0), customer(0).repeat(4), true),
        ("five tags", Some(0), customer(0).repeat(5), true),
        ("five tags of a provider's", None, service(7).repeat(5), true),
        ("a provider's VLAN", None, service(7), false),
        ("a customer's in it", None, [service(7), customer(9)].concat(), false),
        ("a customer's VLAN in another", Some(7), customer(9), false),
    ];
    for (name, outer, tags, is_unclear) in &cases {
        for (what, claim) in &claims {
            let octets = [tags.clone(), claim.clone()].concat();
            let expected = if *is_unclear { Said::Unclear } else { Said::Nothing };
            assert_eq!(judged_with(*outer, &octets, false), expected, "{what} behind {name}");
        }
    }
    // One tag beside the frame is no secret; and what speaks of no address may be tagged as it likes.
    for (what, claim) in &claims {
        assert!(matches!(judged_with(Some(0), claim, false), Said::Clearly(_)), "{what}");
        assert!(matches!(judged_with(Some(7), claim, false), Said::Clearly(_)), "{what}");
    }
    let plain = [customer(0), vec![0x08, 0x00], vec![0; 40]].concat();
    assert_eq!(judged_with(Some(0), &plain, false), Said::Nothing);
    assert_eq!(judged_with(Some(0), &[0x81, 0x00, 0, 0, 0x88], false), Said::Nothing, "cut off");
}

#[test]
fn claims_in_llc() {
    let snap = |organisation: u8, ethertype: u16| {
        let header = [&[0xaa, 0xaa, 3, 0, 0, organisation][..], &ethertype.to_be_bytes()].concat();
        judged(36, &[header, arp(1, (OWN, OTHER_4), OWN_4)].concat())
    };
    for organisation in [0, 0xf8] {
        for ethertype in [ARP, IPV6, 0x8100, 0x88a8] {
            assert_eq!(snap(organisation, ethertype), Said::Unclear, "{organisation:x} {ethertype:x}");
        }
        assert_eq!(snap(organisation, 0x809b), Said::Nothing, "AppleTalk");
    }
    assert_eq!(snap(0x0c, ARP), Said::Nothing, "another's protocols");
    assert_eq!(judged(38, &[0x42, 0x42, 3, 0, 0]), Said::Nothing, "a spanning tree");
    assert_eq!(judged(38, &[0xaa, 0xaa]), Said::Nothing);
}

#[test]
fn packets_count_where_their_sources_do() {
    let repr = Ipv4Repr {
        traffic_class: 0,
        identification: 7,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        ttl: 64,
        protocol: vmlan_frame::wire::IpProtocol::UDP,
        source: OWN_4,
        destination: OTHER_4,
        options: &[],
        payload_len: 0,
    };
    let mut packet = vec![0; repr.header_len()];
    repr.emit(&mut packet);
    let frame = [&[0x08, 0x00][..], &packet].concat();
    assert_eq!(judged_with(None, &frame, true), Said::one(Lesson::Uses(OWN_4.into())));
    assert_eq!(judged_with(None, &frame, false), Said::Nothing);
    assert_eq!(judged_with(Some(0), &[&[0x81, 0, 0, 0][..], &frame].concat(), true), Said::Unclear);
    let udp = [&IPV6.to_be_bytes()[..], &ipv6_packet(OWN_6, 17, 64, &[0; 8])].concat();
    assert_eq!(judged_with(None, &udp, true), Said::one(Lesson::Uses(OWN_6.into())));
    assert_eq!(judged_with(None, &udp, false), Said::Nothing);
    let far = ipv6_packet(OWN_6, 58, 254, &message(135, OTHER_6, &[(1, OWN)]));
    assert_eq!(judged_with(None, &[&IPV6.to_be_bytes()[..], &far].concat(), true), Said::Nothing);
}
