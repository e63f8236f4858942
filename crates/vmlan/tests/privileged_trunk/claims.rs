//! A guest that claims addresses of the host's and of other guests in forms that are easily overlooked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use testbed::{ping, require, wait_until};
use vmlan_api::EventKind;
use vmlan_frame::checksum::Addresses;
use vmlan_frame::wire::{ArpOperation, ArpRepr, IpProtocol, Ipv6Repr, NeighborAdvertRepr};
use vmlan_frame::{DropReason, MacAddr};

use crate::lab::{HOST, Lab, WIRE, v4, v6, wait_trunk};
use crate::support::{PATIENCE, assert_balanced, mac};

/// The guest whose frames the test makes, and an address that nobody has.
const BAD: u8 = 9;
const NOBODY: u8 = 66;

const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];

/// A frame of the bad guest to everybody, with this after the addresses.
fn frame(parts: &[&[u8]]) -> Vec<u8> {
    let mut octets = [&MacAddr::BROADCAST.0[..], &mac(BAD).0, &parts.concat()].concat();
    octets.resize(octets.len().max(60), 0);
    octets
}

fn arp(hardware: MacAddr, address: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0; ArpRepr::LEN];
    let repr = ArpRepr {
        operation: ArpOperation::REPLY,
        sender_hardware: hardware,
        sender_protocol: address,
        target_hardware: MacAddr::BROADCAST,
        target_protocol: address,
    };
    repr.emit(&mut packet);
    packet
}

/// An unsolicited advertisement of the bad guest's that `target` has the hardware address, behind `headers`.
fn advertisement(target: Ipv6Addr, hardware: MacAddr, first: IpProtocol, headers: &[u8]) -> Vec<u8> {
    let source = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, BAD.into());
    let destination = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let repr = NeighborAdvertRepr {
        router: false,
        solicited: false,
        replaces: true,
        target,
        target_link_layer: Some(hardware),
    };
    let mut message = vec![0; repr.message_len()];
    repr.emit(&mut message, &Addresses::V6 { source, destination });
    let mut packet = vec![0; Ipv6Repr::HEADER_LEN];
    let payload_len = (headers.len() + message.len()) as u16;
    let header = Ipv6Repr {
        traffic_class: 0,
        flow_label: 0,
        payload_len,
        next_header: first,
        hop_limit: 255,
        source,
        destination,
    };
    header.emit(&mut packet);
    [&packet[..], headers, &message].concat()
}

/// Claims that receivers may read in more than one way.
fn unclear(v4: Ipv4Addr, v6: Ipv6Addr) -> Vec<Vec<u8>> {
    const PRIORITY: [u8; 8] = [0x81, 0, 0, 0, 0x81, 0, 0, 0];
    const SERVICE: [u8; 4] = [0x88, 0xa8, 0, 0];
    const SNAP: [u8; 8] = [0, 36, 0xaa, 0xaa, 3, 0, 0, 0];
    let (own, plain) = (mac(BAD), IpProtocol::ICMPV6);
    let mut ieee = arp(own, v4);
    ieee[1] = 6;
    let atomic = [58, 0, 0, 0, 0, 0, 0, 7];
    let long = |next: u8| [&[next, 31, 1, 252][..], &[0; 252]].concat();
    let options = [long(60), long(60), long(58)].concat();
    let claim = advertisement(v6, own, plain, &[]);
    vec![
        frame(&[&ARP, &arp(mac(NOBODY), v4)]),
        frame(&[&ARP, &ieee]),
        frame(&[&PRIORITY, &ARP, &arp(own, v4)]),
        frame(&[&SERVICE, &ARP, &arp(own, v4)]),
        frame(&[&SNAP, &ARP, &arp(own, v4)]),
        frame(&[&PRIORITY, &IPV6, &claim]),
        frame(&[&SERVICE, &IPV6, &claim]),
        frame(&[&IPV6, &advertisement(v6, mac(NOBODY), plain, &[])]),
        frame(&[&IPV6, &advertisement(v6, own, IpProtocol::FRAGMENT, &atomic)]),
        frame(&[&IPV6, &advertisement(v6, own, IpProtocol::DESTINATION_OPTIONS, &options)]),
    ]
}

#[test]
fn forged_claims_in_every_form_reach_nobody_and_change_nothing() {
    require!(namespaces());
    let lab = Lab::new();
    let (daemon, mut raw) = lab.start_with_raw("");
    lab.all_ping();
    let of = |number: u8| match (v4(number), v6(number)) {
        (IpAddr::V4(v4), IpAddr::V6(v6)) => (v4, v6),
        _ => unreachable!("one of each family"),
    };
    let hidden = [HOST, 3].map(of).map(|(v4, v6)| unclear(v4, v6)).concat();
    let (host4, host6) = of(HOST);
    let plain = [
        frame(&[&ARP, &arp(mac(BAD), host4)]),
        frame(&[&IPV6, &advertisement(host6, mac(BAD), IpProtocol::ICMPV6, &[])]),
    ];
    const ROUNDS: u64 = 10;
    let reports = std::thread::scope(|scope| {
        let honest = [(3, WIRE), (4, HOST)].map(|(from, to)| {
            scope.spawn({
                let lab = &lab;
                move || ping(lab.netns(from), v4(to), 5)
            })
        });
        for _ in 0..ROUNDS {
            for frame in hidden.iter().chain(&plain) {
                raw.raw.send_frame(frame).expect("room for a frame");
            }
        }
        honest.map(|honest| honest.join().expect("a report"))
    });
    assert!(reports.iter().all(|report| report.all()), "{reports:?}");
    for (reason, count) in
        [(DropReason::UnclearClaim, hidden.len()), (DropReason::AddressConflict, plain.len())]
    {
        let count = count as u64 * ROUNDS;
        wait_until(&format!("{count} drops as {reason}"), PATIENCE, || daemon.drops("raw", reason) == count);
    }
    for number in 1..=4 {
        let neighbours = lab.netns(number).ip(["neigh"]).stdout;
        for stranger in [mac(BAD), mac(NOBODY)] {
            assert!(!neighbours.contains(&stranger.to_string()), "{number}: {neighbours}");
        }
    }
    lab.all_ping();
    assert_balanced(&daemon);
    daemon.stop();
}

/// The kernel of the guest that has the address is asked, and answers as long as it has it.
#[test]
fn an_address_fails_over_with_one_announcement_when_its_guest_has_given_it_up() {
    require!(namespaces());
    let lab = Lab::new();
    let (daemon, mut raw) = lab.start_with_raw("");
    lab.all_ping();
    let (IpAddr::V4(address), IpAddr::V6(address_6)) = (v4(50), v6(50)) else { unreachable!("one each") };
    let cidrs = [format!("{address}/24"), format!("{address_6}/64")];
    let claims = [
        frame(&[&ARP, &arp(mac(BAD), address)]),
        frame(&[&IPV6, &advertisement(address_6, mac(BAD), IpProtocol::ICMPV6, &[])]),
    ];
    for (number, (claim, cidr)) in claims.iter().zip(&cidrs).enumerate() {
        lab.guests[0].ip(["address", "add", cidr, "dev", "t0"]);
        assert!(lab.wire.reaches([v4(50), v6(50)][number], PATIENCE));
        raw.raw.send_frame(claim).expect("room for a frame");
        let conflicts = || daemon.drops("raw", DropReason::AddressConflict);
        wait_until("the owner's answer", PATIENCE, || conflicts() == number as u64 + 1);
        let mut events = daemon.events();
        lab.guests[0].ip(["address", "del", cidr, "dev", "t0"]);
        raw.raw.send_frame(claim).expect("room for a frame");
        let moved = events.expect("the move", |event| matches!(event, EventKind::AddressMoved { .. }));
        let EventKind::AddressMoved { from, port, mac: to, .. } = moved else { unreachable!("expected") };
        assert_eq!((from.as_str(), port.as_str(), to), ("guest3", "raw", mac(BAD).to_string()));
        // The wire's neighbour table has heard it.
        let wanted = mac(BAD).to_string();
        wait_until("the announcement on the wire", PATIENCE, || {
            lab.wire.ip(["neigh"]).stdout.contains(&wanted)
        });
        lab.wire.ip(["neigh", "flush", "all"]);
    }
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn an_address_that_the_host_has_on_another_interface_is_the_guests_too_and_told_once() {
    require!(namespaces());
    let lab = Lab::new();
    let (IpAddr::V4(address), elsewhere) = (v4(50), "elsewhere") else { unreachable!("IPv4") };
    lab.host.ip(["link", "add", elsewhere, "type", "veth", "peer", "name", "beyond"]);
    lab.host.ip(["address", "add", &format!("{address}/32"), "dev", elsewhere]);
    let (daemon, mut raw) = lab.start_with_raw("");
    raw.raw.send_frame(&frame(&[&ARP, &arp(mac(BAD), address)])).expect("room for a frame");
    let told = || daemon.log().matches(&format!("has {address}, which the host has on {elsewhere}")).count();
    wait_until("a word about it", PATIENCE, || told() > 0);
    // The next looks at the interface say no more.
    lab.host.ip(["link", "set", elsewhere, "up"]);
    lab.host.ip(["address", "add", "10.99.0.1/32", "dev", "eth0"]);
    wait_trunk(&daemon, "the new address", |trunk| trunk.host_addresses.iter().any(|it| it == "10.99.0.1"));
    assert_eq!((told(), daemon.drops("raw", DropReason::AddressConflict)), (1, 0));
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn a_guest_cannot_take_a_mac_address_that_is_on_the_wire() {
    require!(namespaces());
    let lab = Lab::new();
    let (daemon, mut raw) = lab.start_with_raw("");
    lab.all_ping();
    let stolen = vmlan_guest::ethernet(MacAddr::BROADCAST, mac(WIRE), crate::support::TYPE, b"mine");
    let report = std::thread::scope(|scope| {
        let honest = scope.spawn(|| ping(lab.netns(3), v4(WIRE), 5));
        wait_until("drops of contested frames", PATIENCE, || {
            raw.raw.send_frame(&stolen).expect("room for a frame");
            daemon.drops("raw", DropReason::Contested) >= 20
        });
        honest.join().expect("a report")
    });
    assert!(report.all(), "{report:?}");
    let fdb = daemon.fdb("lab");
    let there = |entry: &vmlan_api::FdbEntry| entry.mac == mac(WIRE).to_string() && entry.port == "trunk";
    assert!(fdb.iter().any(there), "{fdb:?}");
    lab.all_ping();
    assert_balanced(&daemon);
    daemon.stop();
}
