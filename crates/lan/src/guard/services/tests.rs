use super::*;
use crate::guard::Stages;
use crate::{Limits, PortId, Roles, VlanRole};
use vmlan_frame::wire::{ArpRepr, Ipv4Repr, UdpRepr};
use vmlan_frame::{Counters, MacAddr, Pool, PoolSizes, VlanTag};

const GUEST: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
const GATEWAY_4: Ipv4Addr = Ipv4Addr::new(10, 213, 5, 1);
const OTHER_4: Ipv4Addr = Ipv4Addr::new(10, 213, 5, 20);
const GATEWAY_6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const OTHER_6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 7);
const GROUP_6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const MESSAGE: Option<Reserved> = Some(Reserved::Message);
const CLAIM_4: Option<Reserved> = Some(Reserved::Address(IpAddr::V4(GATEWAY_4)));
const CLAIM_6: Option<Reserved> = Some(Reserved::Address(IpAddr::V6(GATEWAY_6)));

fn services(vlan: &VlanRole) -> Services {
    let port = Port {
        id: PortId::new(0, 0),
        active: true,
        enabled: true,
        macs: [].into(),
        guard: false,
        vlan: vlan.membership(*vlan != VlanRole::Unset),
        promiscuous: false,
        sees_trunk: false,
        isolated: false,
        roles: Roles::default(),
        floating: [].into(),
        stages: Stages::NONE,
        limits: Limits::default(),
        shared: None,
        account: Arc::new(Counters::new(1)).into(),
    };
    Services { port: Arc::new(port), addresses: [GATEWAY_4.into(), GATEWAY_6.into()].into() }
}

/// The reserved part of a frame of `GUEST` with the outer tag `vid` beside it and these octets after the addresses.
/// All of that must be looked at.
fn reserved_with(vid: Option<u16>, after_addresses: &[u8], dhcp: bool) -> Option<Reserved> {
    let octets = [&[0xff; 6][..], &GUEST.0, after_addresses].concat();
    let mut frame = Pool::new(PoolSizes { small: 1, large: 1, bulk: 0 }).copy(&octets).unwrap();
    frame.meta.tag = vid.map(|tci| VlanTag { tci });
    let reserved = services(&VlanRole::Unset).reserved(&frame, VlanId::DEFAULT, dhcp);
    let is_looked_at = concern(&frame, frame.ethertype().unwrap(), dhcp);
    assert!(reserved.is_none() || is_looked_at, "{octets:02x?} is not looked at");
    reserved
}

fn reserved(ethertype: EtherType, payload: &[u8]) -> Option<Reserved> {
    reserved_with(None, &[&ethertype.0.to_be_bytes(), payload].concat(), true)
}

fn arp(operation: u16, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0; ArpRepr::LEN];
    let mut repr = ArpRepr::request(GUEST, sender, target);
    repr.operation = vmlan_frame::wire::ArpOperation(operation);
    repr.emit(&mut packet);
    packet
}

fn ports(source: u16, destination: u16) -> Vec<u8> {
    let mut datagram = vec![0; UdpRepr::HEADER_LEN];
    datagram[..2].copy_from_slice(&source.to_be_bytes());
    datagram[2..4].copy_from_slice(&destination.to_be_bytes());
    datagram[5] = 8;
    datagram
}

fn ipv4(fragment: (u16, bool), options: &[u8], payload: &[u8]) -> Vec<u8> {
    let repr = Ipv4Repr {
        traffic_class: 0,
        identification: 7,
        dont_fragment: false,
        more_fragments: fragment.1,
        fragment_offset: fragment.0,
        ttl: 64,
        protocol: IpProtocol::UDP,
        source: OTHER_4,
        destination: Ipv4Addr::BROADCAST,
        options,
        payload_len: payload.len(),
    };
    let mut packet = vec![0; repr.header_len()];
    repr.emit(&mut packet);
    packet.extend(payload);
    packet
}

fn ipv6(source: Ipv6Addr, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut repr = Ipv6Repr::ndp(source, GROUP_6, payload.len());
    repr.next_header = IpProtocol(next_header);
    let mut packet = vec![0; Ipv6Repr::HEADER_LEN];
    repr.emit(&mut packet);
    packet.extend(payload);
    packet
}

/// A message of neighbour discovery with that target.
fn discovery(kind: u8, target: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![0; 24];
    message[0] = kind;
    message[8..].copy_from_slice(&target.octets());
    message
}

/// A fragment header.
fn fragment(next: u8, offset: u16, more: bool) -> [u8; 8] {
    let [a, b] = (offset | u16::from(more)).to_be_bytes();
    [next, 0, a, b, 0, 0, 0, 9]
}

#[test]
fn claims_of_the_addresses_by_arp_are_reserved_in_any_form_that_receivers_read() {
    for (operation, sender, target, expected) in [
        (1, OTHER_4, GATEWAY_4, None),
        (1, GATEWAY_4, OTHER_4, CLAIM_4),
        (1, GATEWAY_4, GATEWAY_4, CLAIM_4),
        (2, GATEWAY_4, OTHER_4, CLAIM_4),
        (2, OTHER_4, GATEWAY_4, None),
        (3, GATEWAY_4, OTHER_4, CLAIM_4),
        // Asks whether it is free; the gateway answers.
        (1, Ipv4Addr::UNSPECIFIED, GATEWAY_4, None),
    ] {
        let packet = arp(operation, sender, target);
        assert_eq!(reserved(EtherType::ARP, &packet), expected, "{operation} {sender} {target}");
    }
    let mut packet = arp(2, GATEWAY_4, OTHER_4);
    packet[1] = 6;
    assert_eq!(reserved(EtherType::ARP, &packet), CLAIM_4);
    assert_eq!(reserved(EtherType::ARP, &packet[..17]), None);
}

#[test]
fn what_dhcp_servers_send_is_reserved() {
    for (source, destination, is_of_server) in [
        (67, 68, true),
        (67, 67, true),
        (1067, 68, true),
        (68, 67, false),
        (547, 546, false),
        (53, 1068, false),
    ] {
        let packet = ipv4((0, false), &[], &ports(source, destination));
        assert_eq!(reserved(EtherType::IPV4, &packet).is_some(), is_of_server, "{source} {destination}");
        let packet = ipv4((0, false), &[1, 1, 1, 1], &ports(source, destination));
        assert_eq!(reserved(EtherType::IPV4, &packet).is_some(), is_of_server, "behind options {source}");
    }
    for (source, destination, is_of_server) in
        [(547, 546, true), (1547, 546, true), (547, 1, true), (546, 547, false), (67, 68, false)]
    {
        let packet = ipv6(OTHER_6, 17, &ports(source, destination));
        assert_eq!(reserved(EtherType::IPV6, &packet).is_some(), is_of_server, "{source} {destination}");
    }
}

#[test]
fn without_dhcp_of_its_own_the_network_lets_servers_answer_and_nothing_else() {
    let with = |ethertype: EtherType, packet: &[u8]| {
        reserved_with(None, &[&ethertype.0.to_be_bytes(), packet].concat(), false)
    };
    assert_eq!(with(EtherType::IPV4, &ipv4((0, false), &[], &ports(67, 68))), None);
    assert_eq!(with(EtherType::IPV6, &ipv6(OTHER_6, 17, &ports(547, 546))), None);
    assert_eq!(with(EtherType::ARP, &arp(2, GATEWAY_4, OTHER_4)), CLAIM_4);
    assert_eq!(with(EtherType::IPV6, &ipv6(OTHER_6, 58, &discovery(134, OTHER_6))), MESSAGE);
}

#[test]
fn first_fragments_of_ipv4_that_end_before_the_ports_do_are_reserved() {
    let datagram = ports(67, 68);
    for (offset, more, payload, expected) in [
        (0, true, &datagram[..], MESSAGE),
        (0, true, &datagram[..2], MESSAGE),
        (0, true, &[], MESSAGE),
        (0, true, &ports(5000, 53)[..], None),
        // Without the first they come to nothing.
        (8, false, &datagram[..], None),
        (8, true, &[], None),
        // Cut off, and not to be completed.
        (0, false, &datagram[..2], None),
    ] {
        let packet = ipv4((offset, more), &[], payload);
        assert_eq!(reserved(EtherType::IPV4, &packet), expected, "{offset} {more} {payload:?}");
    }
}

#[test]
fn messages_of_routers_and_claims_by_neighbour_discovery_are_reserved() {
    for (kind, source, target, expected) in [
        (133, OTHER_6, OTHER_6, None),
        (133, GATEWAY_6, OTHER_6, CLAIM_6),
        (134, OTHER_6, OTHER_6, MESSAGE),
        (135, OTHER_6, GATEWAY_6, None),
        (135, GATEWAY_6, OTHER_6, CLAIM_6),
        (136, OTHER_6, GATEWAY_6, CLAIM_6),
        (136, OTHER_6, OTHER_6, None),
        (137, OTHER_6, OTHER_6, MESSAGE),
        (128, GATEWAY_6, OTHER_6, None),
    ] {
        let packet = ipv6(source, 58, &discovery(kind, target));
        assert_eq!(reserved(EtherType::IPV6, &packet), expected, "{kind} {source} {target}");
        let behind = [&[58, 0, 1, 4, 0, 0, 0, 0][..], &discovery(kind, target)].concat();
        assert_eq!(reserved(EtherType::IPV6, &ipv6(source, 0, &behind)), expected, "{kind} behind options");
    }
}

#[test]
fn what_hides_behind_extension_headers_and_in_fragments_is_reserved() {
    let options = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    let many = [options(60); 9].concat();
    let advertisement = discovery(134, OTHER_6);
    for (what, first, payload, expected) in [
        ("too many headers", 60, many, MESSAGE),
        ("ends within its headers", 60, vec![58, 9], MESSAGE),
        ("first without the rest", 44, [&fragment(60, 0, true)[..], &[58, 200]].concat(), MESSAGE),
        ("first without a message", 44, fragment(58, 0, true).to_vec(), MESSAGE),
        ("first with a part of UDP", 44, [&fragment(17, 0, true)[..], &[2]].concat(), MESSAGE),
        ("of DHCPv6", 44, [&fragment(17, 0, true)[..], &ports(547, 546)].concat(), MESSAGE),
        ("of another", 44, [&fragment(17, 0, true)[..], &ports(53, 5000)].concat(), None),
        ("of an advertisement", 44, [&fragment(58, 0, true)[..], &advertisement].concat(), MESSAGE),
        ("of a solicitation", 44, [&fragment(58, 0, false)[..], &discovery(135, OTHER_6)].concat(), MESSAGE),
        ("of an echo", 44, [&fragment(58, 0, true)[..], &discovery(128, OTHER_6)].concat(), None),
        ("a later one", 44, [&fragment(58, 8, true)[..], &advertisement].concat(), None),
        ("nothing", 59, vec![], None),
        ("ESP", 50, vec![0; 16], None),
    ] {
        assert_eq!(reserved(EtherType::IPV6, &ipv6(OTHER_6, first, &payload)), expected, "{what}");
    }
    // Payload length 0 with hop-by-hop options, which Linux reads to the end of the frame.
    let mut packet = ipv6(OTHER_6, 0, &[&options(58)[..], &advertisement].concat());
    packet[4..6].fill(0);
    assert_eq!(reserved(EtherType::IPV6, &packet), MESSAGE);
}

#[test]
fn tags_hide_nothing_from_receivers_that_take_them_off() {
    let claim = [&EtherType::ARP.0.to_be_bytes()[..], &arp(2, GATEWAY_4, OTHER_4)].concat();
    let tag = |vid: u8| [0x81, 0, 0, vid];
    for (vid, tags, expected) in [
        (None, vec![], CLAIM_4),
        (Some(0), vec![], CLAIM_4),
        (None, vec![tag(0)], CLAIM_4),
        (Some(0), vec![tag(5)], CLAIM_4),
        (Some(5), vec![tag(0)], CLAIM_4),
        // In another network's VLAN.
        (Some(5), vec![tag(6)], None),
        (Some(0), vec![tag(0); 5], MESSAGE),
    ] {
        let octets = [&tags.concat()[..], &claim].concat();
        assert_eq!(reserved_with(vid, &octets, true), expected, "{vid:?} {tags:?}");
    }
    assert_eq!(reserved_with(None, &[0x81, 0, 0], true), None);
}

#[test]
fn llc_is_looked_into_as_a_bridge_to_wifi_does() {
    let snap = |kind: [u8; 2]| [&[0, 60, 0xaa, 0xaa, 3, 0, 0, 0][..], &kind].concat();
    let with = |kind: [u8; 2], packet: &[u8]| reserved_with(None, &[&snap(kind)[..], packet].concat(), true);
    assert_eq!(with([8, 6], &arp(2, GATEWAY_4, OTHER_4)), CLAIM_4);
    assert_eq!(with([8, 0], &ipv4((0, false), &[], &ports(67, 68))), MESSAGE);
    assert_eq!(with([0x86, 0xdd], &ipv6(OTHER_6, 58, &discovery(134, OTHER_6))), MESSAGE);
    assert_eq!(with([0x81, 0], &[0, 5, 8, 6]), MESSAGE);
    assert_eq!(with([8, 6], &arp(2, OTHER_4, GATEWAY_4)), None);
    assert_eq!(with([0, 60], &snap([8, 6])), None, "802.2 within 802.2 is nothing");
    assert_eq!(reserved_with(None, &[0, 38, 0x42, 0x42, 3], true), None);
}

#[test]
fn it_holds_in_the_vlans_of_the_services() {
    let octets = [&[0xff; 6][..], &GUEST.0, &[8, 6], &arp(2, GATEWAY_4, OTHER_4)].concat();
    let frame = Pool::new(PoolSizes { small: 1, large: 1, bulk: 0 }).copy(&octets).unwrap();
    let vlan = |vid| VlanId::new(vid).unwrap();
    let services = services(&VlanRole::Access(vlan(10)));
    assert_eq!(services.reserved(&frame, vlan(10), true), CLAIM_4);
    assert_eq!(services.reserved(&frame, vlan(20), true), None);
}

proptest::proptest! {
    /// Whatever is reserved is looked at, and nothing makes it panic.
    #[test]
    fn what_is_reserved_is_looked_at(
        kind in proptest::sample::select(vec![[8_u8, 0], [8, 6], [0x86, 0xdd], [0x81, 0], [0, 40]]),
        first in proptest::sample::select(vec![0x45_u8, 0x46, 0x60, 0]),
        rest in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..90),
        dhcp in proptest::prelude::any::<bool>(),
    ) {
        reserved_with(None, &[&kind[..], &[first], &rest].concat(), dhcp);
    }
}
