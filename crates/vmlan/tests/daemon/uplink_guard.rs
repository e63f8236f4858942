//! Guests that answer in the uplink's place.

use std::net::{Ipv4Addr, Ipv6Addr};

use testbed::wait_until;
use vmlan_api::EventKind;
use vmlan_frame::checksum::Addresses;
use vmlan_frame::wire::{ArpRepr, IpProtocol, Ipv4Repr, Ipv6Repr, UdpRepr};
use vmlan_frame::{DropReason, MacAddr};
use vmlan_guest::Attachment;

use crate::support::{Daemon, PATIENCE, Peer, assert_balanced, exchange, mac};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 213, 5, 1);
const ROGUE: Ipv4Addr = Ipv4Addr::new(10, 213, 5, 66);

fn ethernet(source: MacAddr, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&[0xff; 6][..], &source.0, &ethertype.to_be_bytes(), payload].concat()
}

/// An ARP request of who says to have this address.
fn announces(source: MacAddr, address: Ipv4Addr) -> Vec<u8> {
    let mut packet = [0; ArpRepr::LEN];
    ArpRepr::request(source, address, address).emit(&mut packet);
    ethernet(source, 0x0806, &packet)
}

/// A datagram from the port of DHCP's servers to that of its clients.
fn offers(source: MacAddr) -> Vec<u8> {
    let mut datagram = vec![0; UdpRepr::HEADER_LEN + 240];
    let ends = Addresses::V4 { source: ROGUE, destination: Ipv4Addr::BROADCAST };
    UdpRepr { source_port: 67, destination_port: 68 }.emit(&mut datagram, &ends);
    let repr = Ipv4Repr {
        traffic_class: 0,
        identification: 1,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        ttl: 64,
        protocol: IpProtocol::UDP,
        source: ROGUE,
        destination: Ipv4Addr::BROADCAST,
        options: &[],
        payload_len: datagram.len(),
    };
    let mut packet = vec![0; repr.header_len()];
    repr.emit(&mut packet);
    ethernet(source, 0x0800, &[packet, datagram].concat())
}

/// A router advertisement.
fn advertises(source: MacAddr) -> Vec<u8> {
    let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut packet = vec![0; Ipv6Repr::HEADER_LEN + 16];
    Ipv6Repr::ndp(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x66), all, 16).emit(&mut packet);
    packet[Ipv6Repr::HEADER_LEN] = 134;
    ethernet(source, 0x86dd, &packet)
}

fn start(uplink: &str) -> (Daemon, [Peer; 2]) {
    let port = |name: &str, more: &str| {
        format!("[network.lab.port.{name}]\nstream = {{ listen = \"{name}.sock\" }}\n{more}\n")
    };
    let config = format!(
        "[network.lab]\nuplink = {{ subnet = \"10.213.5.0/24\"{uplink} }}\n{}{}",
        port("one", "roles = [\"dhcp\"]"),
        port("two", "")
    );
    let daemon = Daemon::start(&config);
    let mut number = 0;
    let peers = ["one", "two"].map(|name| {
        number += 1;
        Peer::attach(number, Attachment::Stream { path: daemon.path(&format!("{name}.sock")) })
    });
    daemon.wait_up(&["one", "two", "uplink"]);
    (daemon, peers)
}

#[track_caller]
fn wait_guarded(daemon: &Daemon, port: &str, count: u64) {
    wait_until(&format!("{count} guarded frames of {port}"), PATIENCE, || {
        daemon.drops(port, DropReason::ServiceGuard) >= count
    });
    assert_eq!(daemon.drops(port, DropReason::ServiceGuard), count);
}

#[test]
fn case_51_what_is_the_uplinks_to_say_nobody_else_says() {
    let (daemon, [mut one, mut two]) = start("");
    exchange(&mut one, &mut two);
    let events = daemon.events();
    for frame in [offers(mac(1)), advertises(mac(1)), announces(mac(1), GATEWAY)] {
        one.raw.send_frame(&frame).expect("room for a frame");
    }
    let fine = announces(mac(1), ROGUE);
    one.raw.send_frame(&fine).expect("room for a frame");
    // Frames of one port keep their order: what came before did not come.
    let from_one = |frame: &[u8]| frame[6..12] == mac(1).0;
    let heard = two.raw.expect(from_one).expect("the last frame");
    assert_eq!(heard, fine);
    wait_guarded(&daemon, "one", 3);
    let mut events = events;
    events.expect("the conflict", |event| {
        matches!(event, EventKind::AddressConflict { port, owner, address, .. }
            if port == "one" && owner == "uplink" && *address == Some(GATEWAY.to_string()))
    });
    exchange(&mut one, &mut two);
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn a_trusted_server_serves_beside_an_uplink_without_dhcp_from_the_change_on() {
    let (daemon, [mut one, mut two]) = start(", dhcp = false");
    exchange(&mut one, &mut two);
    one.raw.send_frame(&offers(mac(1))).expect("room for a frame");
    two.raw.expect(|frame| *frame == offers(mac(1))[..]).expect("the offer");
    two.raw.send_frame(&offers(mac(2))).expect("room for a frame");
    wait_guarded(&daemon, "two", 1);
    let config = std::fs::read_to_string(daemon.path("vmlan.toml")).expect("the file");
    daemon.write_config(&config.replace("dhcp = false", "dhcp = true"));
    daemon.cli(&["apply"]).expect_success();
    one.raw.send_frame(&offers(mac(1))).expect("room for a frame");
    wait_guarded(&daemon, "one", 1);
    assert_balanced(&daemon);
    daemon.stop();
}
