//! Rights of guests to send, and the frames on the wire.

use vmlan_api::{ClassCounters, Classes, EventKind, FdbEntry, PortState};
use vmlan_frame::{DropReason, MacAddr};
use vmlan_guest::{Attachment, ethernet};

use crate::support::{
    Daemon, PATIENCE, Peer, TYPE, assert_balanced, exchange, is_apart, mac, meet, numbered, reach,
};

/// A daemon with stream ports of these names and settings, and a guest on each, numbered from 1.
fn with_guests<const N: usize>(network: &str, ports: [(&str, &str); N]) -> (Daemon, [Peer; N]) {
    let mut config = format!("[network.lab]\n{network}\n");
    for (name, settings) in ports {
        config +=
            &format!("[network.lab.port.{name}]\nstream = {{ listen = \"{name}.sock\" }}\n{settings}\n");
    }
    let daemon = Daemon::start(&config);
    let mut number = 0;
    let guests = ports.map(|(name, _)| {
        number += 1;
        Peer::attach(number, Attachment::Stream { path: daemon.path(&format!("{name}.sock")) })
    });
    ports.iter().for_each(|(name, _)| daemon.wait_up(&[name]));
    (daemon, guests)
}

/// Inserts an 802.1Q tag.
fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    let tag = [0x81, 0, (vlan >> 8) as u8, vlan as u8];
    [&frame[..12], &tag, &frame[12..]].concat()
}

#[track_caller]
fn wait_drops(daemon: &Daemon, port: &str, reason: DropReason, count: u64) {
    testbed::wait_until(&format!("{count} drops as {reason} at {port}"), PATIENCE, || {
        daemon.drops(port, reason) >= count
    });
    assert_eq!(daemon.drops(port, reason), count);
}

#[test]
fn a_port_with_a_set_address_sends_from_that_only() {
    let (daemon, [mut one, mut two]) = with_guests("", [("one", "mac = \"52:54:00:00:00:01\""), ("two", "")]);
    exchange(&mut one, &mut two);
    let forged = numbered(two.mac, mac(9), 0);
    one.raw.send_frame(&forged).expect("room for a frame");
    // An address that is set for a port is nobody else's.
    let stolen = numbered(MacAddr::BROADCAST, mac(1), 0);
    two.raw.send_frame(&stolen).expect("room for a frame");
    wait_drops(&daemon, "one", DropReason::SourceGuard, 1);
    wait_drops(&daemon, "two", DropReason::SourceGuard, 1);
    exchange(&mut one, &mut two);

    let list = daemon.fdb("lab");
    let entry = |mac: MacAddr| list.iter().find(|entry| entry.mac == mac.to_string());
    assert!(entry(mac(1)).is_some_and(|entry| entry.port == "one" && entry.is_static), "{list:?}");
    assert!(entry(mac(2)).is_some_and(|entry| entry.port == "two" && !entry.is_static), "{list:?}");
    assert!(entry(mac(9)).is_none(), "{list:?}");

    // The guard comes off without the guest's notice.
    let config = std::fs::read_to_string(daemon.path("vmlan.toml")).expect("the file");
    daemon.write_config(&config.replace("00:01\"", "00:01\"\nguard = \"off\""));
    daemon.cli(&["apply"]).expect_success();
    one.raw.send_frame(&forged).expect("room for a frame");
    two.raw.expect(|frame| frame[6..12] == mac(9).0).expect("the frame");
    wait_drops(&daemon, "one", DropReason::SourceGuard, 1);
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn frames_are_counted_by_the_class_that_their_tag_asks_for() {
    let role = "vlan = { trunk = [10] }";
    let (daemon, [mut one, mut two]) = with_guests("", [("one", role), ("two", role)]);
    // The priority stands above the VLAN's number. Twice voice, once each of the others.
    for (number, priority) in [1, 3, 4, 6, 7].into_iter().enumerate() {
        let frame = tagged(&numbered(MacAddr::BROADCAST, one.mac, number as u32), priority << 13 | 10);
        one.raw.send_frame(&frame).expect("room for a frame");
        two.raw.expect(|heard| *heard == frame[..]).expect("the frame, with its priority");
    }
    let octets = tagged(&numbered(two.mac, one.mac, 0), 10).len() as u64;
    let received =
        |rx_frames| ClassCounters { rx_frames, rx_octets: rx_frames * octets, ..Default::default() };
    let sent = |tx_frames| ClassCounters { tx_frames, tx_octets: tx_frames * octets, ..Default::default() };
    let classes = |class: &dyn Fn(u64) -> ClassCounters| Classes {
        background: class(1),
        video: class(1),
        voice: class(2),
    };
    assert_eq!(daemon.port("one").counters.classes, classes(&received));
    testbed::wait_until("all to be counted", PATIENCE, || daemon.port("two").counters.tx_frames == 5);
    assert_eq!(daemon.port("two").counters.classes, classes(&sent));
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn access_ports_of_one_vlan_hear_each_other_and_nobody_else() {
    let access = |vlan| format!("vlan = {{ access = {vlan} }}");
    let (ten, twenty) = (access(10), access(20));
    let (daemon, [mut one, mut two, mut three]) =
        with_guests("", [("one", ten.as_str()), ("two", &ten), ("three", &twenty)]);
    exchange(&mut one, &mut two);
    assert!(is_apart(&mut one, &mut three) && is_apart(&mut three, &mut one));
    let number = one.send(three.mac);
    assert!(two.hears(number, PATIENCE), "an unknown address is flooded in its VLAN");

    let tag = tagged(&numbered(two.mac, one.mac, 0), 20);
    one.raw.send_frame(&tag).expect("room for a frame");
    wait_drops(&daemon, "one", DropReason::VlanNotAllowed, 1);
    let vlans: Vec<_> =
        daemon.fdb("lab").into_iter().map(|FdbEntry { port, vlan, .. }| (port, vlan)).collect();
    assert!(
        vlans.contains(&("one".into(), Some(10))) && vlans.contains(&("three".into(), Some(20))),
        "{vlans:?}"
    );
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn a_trunk_carries_tags_and_its_native_vlan_carries_none() {
    let (daemon, [mut trunk, mut ten, mut twenty, mut one]) = with_guests(
        "",
        [
            ("trunk", "vlan = { tagged = [10, 20], native = 1 }"),
            ("ten", "vlan = { access = 10 }"),
            ("twenty", "vlan = { access = 20 }"),
            ("one", "vlan = { access = 1 }"),
        ],
    );
    for (guest, vlan) in [(&mut ten, 10), (&mut twenty, 20)] {
        let out = numbered(guest.mac, trunk.mac, 7);
        trunk.raw.send_frame(&tagged(&out, vlan)).expect("room for a frame");
        let came = guest.raw.expect(|_| true).expect("a frame");
        assert_eq!(came, out, "the tag comes off at the access port");
        let back = numbered(trunk.mac, guest.mac, 8);
        guest.raw.send_frame(&back).expect("room for a frame");
        let came = trunk.raw.expect(|_| true).expect("a frame");
        assert_eq!(came, tagged(&back, vlan), "and goes on at the trunk");
    }
    let plain = numbered(trunk.mac, one.mac, 9);
    one.raw.send_frame(&plain).expect("room for a frame");
    assert_eq!(trunk.raw.expect(|_| true).expect("a frame"), plain);
    exchange(&mut trunk, &mut one);

    // A VLAN that is not the trunk's, and a priority tag, which is untagged.
    trunk.raw.send_frame(&tagged(&plain, 30)).expect("room for a frame");
    wait_drops(&daemon, "trunk", DropReason::VlanNotAllowed, 1);
    let out = numbered(one.mac, trunk.mac, 10);
    trunk.raw.send_frame(&tagged(&out, 0)).expect("room for a frame");
    assert_eq!(one.raw.expect(|_| true).expect("a frame"), out);
    assert!(is_apart(&mut ten, &mut twenty) && is_apart(&mut one, &mut ten));
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn a_tag_behind_a_priority_tag_passes_no_trunk_port() {
    let (daemon, [mut trunk, mut other, mut twenty]) = with_guests(
        "",
        [
            ("trunk", "vlan = { tagged = [10], native = 1 }"),
            ("other", "vlan = { tagged = [20], native = 1 }"),
            ("twenty", "vlan = { access = 20 }"),
        ],
    );
    exchange(&mut trunk, &mut other);
    let inner = tagged(&numbered(MacAddr::BROADCAST, trunk.mac, 1), 20);
    let service = [&inner[..12], &[0x88, 0xa8, 0, 0], &inner[12..]].concat();
    for (count, frame) in [(1, tagged(&inner, 0)), (2, service)] {
        trunk.raw.send_frame(&frame).expect("room for a frame");
        wait_drops(&daemon, "trunk", DropReason::VlanNotAllowed, count);
    }
    exchange(&mut trunk, &mut other);
    assert!(is_apart(&mut trunk, &mut twenty));
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn an_address_that_two_ports_send_from_stays_with_the_first() {
    let (daemon, [mut one, mut two, mut three]) = with_guests("", [("one", ""), ("two", ""), ("three", "")]);
    exchange(&mut one, &mut two);
    let mut events = daemon.events();
    let stolen = numbered(three.mac, one.mac, 0);
    testbed::wait_until("a contest", PATIENCE, || {
        three.raw.send_frame(&stolen).expect("room for a frame");
        one.send(two.mac);
        daemon.drops("three", DropReason::Contested) > 0
    });
    events.expect("the contest", |event| {
        matches!(event, EventKind::MacContested { port, claimant, mac, .. }
            if port == "one" && claimant == "three" && *mac == one.mac.to_string())
    });
    daemon.wait_for_log(&format!(
        "port lab/three: sends from {}, which lab/one had first and keeps: give",
        one.mac
    ));
    one.send(two.mac);
    three.raw.send_frame(&stolen).expect("room for a frame");
    exchange(&mut one, &mut two);
    exchange(&mut three, &mut two);

    // A port that goes down has no claim any more.
    drop(one);
    daemon.wait_state("one", PortState::Waiting);
    testbed::wait_until("the address to move", PATIENCE, || {
        three.raw.send_frame(&stolen).expect("room for a frame");
        daemon.fdb("lab").iter().any(|entry| entry.mac == mac(1).to_string() && entry.port == "three")
    });
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn a_trunk_without_a_native_vlan_drops_what_has_no_tag() {
    let (daemon, [mut trunk, mut ten]) =
        with_guests("", [("trunk", "vlan = { tagged = [10] }"), ("ten", "vlan = { access = 10 }")]);
    trunk.send(ten.mac);
    wait_drops(&daemon, "trunk", DropReason::VlanNotAllowed, 1);
    trunk.raw.send_frame(&tagged(&numbered(ten.mac, trunk.mac, 1), 10)).expect("room for a frame");
    assert!(ten.hears(1, PATIENCE));
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn frames_up_to_the_mtu_pass_and_longer_ones_are_dropped() {
    let (daemon, [mut one, mut two]) = with_guests("mtu = 2000", [("one", ""), ("two", "")]);
    exchange(&mut one, &mut two);
    let of = |octets: usize| ethernet(mac(2), mac(1), TYPE + 2, &vec![0x5a; octets]);
    let is_ours = |frame: &[u8]| frame[13] == (TYPE + 2) as u8;

    one.raw.send_frame(&of(2000)).expect("room for a frame");
    assert_eq!(two.raw.expect(is_ours).expect("a frame").len(), 2014);
    for (sent, frame) in [(1, of(2001)), (2, of(30_000))] {
        one.raw.send_frame(&frame).expect("room for a frame");
        wait_drops(&daemon, "one", DropReason::Oversize, sent);
    }
    exchange(&mut one, &mut two);
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn what_no_bridge_forwards_is_dropped_with_its_reason() {
    let (daemon, [mut one, mut two]) = with_guests("", [("one", ""), ("two", "")]);
    exchange(&mut one, &mut two);
    let reserved = MacAddr([0x01, 0x80, 0xc2, 0, 0, 0]);
    let cases = [
        (vec![1; 1], DropReason::Runt),
        (vec![1; 13], DropReason::Runt),
        (ethernet(two.mac, MacAddr([1, 0, 0, 0, 0, 1]), TYPE, b""), DropReason::BadSource),
        (ethernet(two.mac, MacAddr([0; 6]), TYPE, b""), DropReason::BadSource),
        (ethernet(reserved, one.mac, 0x0026, b""), DropReason::ReservedAddress),
        (ethernet(MacAddr([0x01, 0x80, 0xc2, 0, 0, 1]), one.mac, 0x8808, b""), DropReason::ReservedAddress),
        // To itself.
        (ethernet(one.mac, one.mac, TYPE, b""), DropReason::NoDestination),
    ];
    let mut counts = std::collections::HashMap::new();
    for (frame, reason) in cases {
        one.raw.send_frame(&frame).expect("room for a frame");
        let count = counts.entry(reason.name()).or_insert(0);
        *count += 1;
        wait_drops(&daemon, "one", reason, *count);
    }
    exchange(&mut one, &mut two);
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn a_port_that_may_see_everything_does_and_others_do_not() {
    let (daemon, [mut one, mut two, mut three, mut four]) =
        with_guests("", [("one", ""), ("two", ""), ("three", "promiscuous = \"allow\""), ("four", "")]);
    meet(&mut one, &mut two);
    let number = one.send(two.mac);
    assert!(three.hears(number, PATIENCE));
    let last = one.send(four.mac);
    // Four hears what is flooded, and not what was for two.
    let frames = four.raw.expect(|frame| frame[14..18] == last.to_be_bytes());
    assert!(frames.is_ok());
    assert!(!four.hears(number, std::time::Duration::from_millis(50)));
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn configured_addresses_are_known_before_anybody_speaks() {
    let (daemon, [mut one, mut two, mut three]) = with_guests(
        "fdb = { static = [{ mac = \"52:54:00:00:00:02\", port = \"two\" }] }",
        [("one", ""), ("two", ""), ("three", "")],
    );
    let number = one.send(two.mac);
    assert!(two.hears(number, PATIENCE));
    let flooded = one.send(mac(77));
    assert!(three.hears(flooded, PATIENCE));
    assert_balanced(&daemon);
    assert_eq!(daemon.port("three").counters.tx_frames, 1, "what was for two went to two only");
    assert_eq!(daemon.port("two").state, PortState::Up);
    assert!(reach(&mut two, &mut one, PATIENCE));
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn a_lone_guest_is_learnt_and_its_broadcasts_are_no_drops() {
    let (daemon, [mut one]) = with_guests("", [("one", "")]);
    one.raw.send_frame(&numbered(MacAddr::BROADCAST, one.mac, 1)).expect("room for a frame");
    one.raw.send_frame(&numbered(mac(9), one.mac, 2)).expect("room for a frame");
    testbed::wait_until("the frames", PATIENCE, || daemon.port("one").counters.no_receiver == 2);
    assert_eq!(daemon.port("one").counters.drops, Default::default());
    let fdb = daemon.fdb("lab");
    assert!(fdb.iter().any(|entry| entry.mac == one.mac.to_string() && entry.port == "one"), "{fdb:?}");
    let listing = daemon.cli(&["counters"]).expect_success().stdout;
    assert!(!listing.contains("no_"), "{listing}");
    assert_balanced(&daemon);
    daemon.stop();
}
