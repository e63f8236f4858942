//! Leases that clients contest: addresses that are found in use, clients that are called alike, and a flood of them.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use testbed::{Signal, require, wait_until};
use vmlan_api::EventKind;
use vmlan_frame::MacAddr;
use vmlan_guest::{Attachment, RawGuest, ethernet};

use crate::dhcp::{Client, leases};
use crate::lab::*;
use crate::support::{Daemon, PATIENCE, assert_balanced};

/// Leases that the guests of one port may have.
const MOST: usize = 64;

#[test]
fn clients_contest_addresses() {
    require!(namespaces(), tool("busybox"));
    let world = World::new(3);
    let ports: String = (0..3).map(|number| world.port(number, "")).collect();
    let flood = "[network.lab.port.flood]\nstream = { listen = \"flood.sock\" }\n";
    let daemon = world.start(&(world.uplink("") + &ports + flood));
    world.plug();
    case_48_two_ports_with_one_client_identifier(&world, &daemon);
    case_47_an_address_in_use_is_declined(&world, &daemon);
    case_49_a_flood_of_clients_leaves_others_their_leases(&world, &daemon);
    assert_balanced(&daemon);
    daemon.stop();
}

/// Takes the lease of a guest, which is not told, away.
fn take_away(world: &World, daemon: &Daemon, number: usize) {
    world.guests[number].ip(["address", "flush", "dev", "t0", "scope", "global"]);
    let port = format!("g{number}");
    for lease in leases(daemon).iter().filter(|lease| lease.port.as_ref() == Some(&port)) {
        daemon.cli(&["leases", "release", "lab", &lease.address]).expect_success();
    }
}

fn given(client: &Client) -> String {
    client.seen().get("ip").cloned().expect("an address")
}

fn case_48_two_ports_with_one_client_identifier(world: &World, daemon: &Daemon) {
    let clients = [Client::new(), Client::new()];
    // As machines have it that were copied with their identifiers.
    let ask = |number: usize| {
        clients[number].udhcpc_with(&world.guests[number], &["-x", "0x3d:ff52540000000100"]).expect_success();
        given(&clients[number])
    };
    let first = [ask(0), ask(1)];
    assert_ne!(first[0], first[1]);
    assert_eq!([ask(0), ask(1)], first, "each its own again");
    for (number, address) in first.iter().enumerate() {
        let port = format!("g{number}");
        let is_it =
            |lease: &vmlan_api::Lease| lease.address == *address && lease.port.as_ref() == Some(&port);
        assert!(leases(daemon).iter().any(is_it), "{:#?}", leases(daemon));
        take_away(world, daemon, number);
    }
}

fn case_47_an_address_in_use_is_declined(world: &World, daemon: &Daemon) {
    let (guest, user, third) = (&world.guests[0], &world.guests[1], &world.guests[2]);
    let client = Client::new();
    client.udhcpc(guest).expect_success();
    let address = given(&client);
    take_away(world, daemon, 0);
    // It says nothing of it until it is asked.
    user.ip(["address", "add", &format!("{address}/24"), "dev", "t0"]);
    let mut events = daemon.events();
    let output = client.udhcpc_with(guest, &["-a300", "-A", "1"]).expect_success();
    assert!(output.stderr.contains("declining"), "{}", output.stderr);
    assert_ne!(given(&client), address);
    let is_it = |event: &EventKind| {
        matches!(event, EventKind::AddressConflict { port, address: of, .. }
            if port == "g0" && of.as_ref() == Some(&address))
    };
    events.expect("a conflict", is_it);

    // Nobody gets it for a while, although its user is gone and it is asked for.
    user.ip(["address", "flush", "dev", "t0", "scope", "global"]);
    for (client, guest) in [(&client, guest), (&Client::new(), third)] {
        client.udhcpc_with(guest, &["-r", &address]).expect_success();
        assert_ne!(given(client), address);
    }
    (0..3).for_each(|number| take_away(world, daemon, number));
}

fn case_49_a_flood_of_clients_leaves_others_their_leases(world: &World, daemon: &Daemon) {
    let client = Client::new();
    let mut renewing = client.udhcpc_beside(&world.guests[2]);
    renewing.wait_for_log("obtained", PATIENCE);
    let of_flood = || leases(daemon).iter().filter(|lease| lease.port.as_deref() == Some("flood")).count();
    let attachment = Attachment::Stream { path: daemon.path("flood.sock") };
    let many = RawGuest::attach("flood", attachment, PATIENCE).expect("a port");
    let (end, sent) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| discover(many, &sent, &end));
        // Also when one of the assertions fails.
        let _end = End(&end);
        wait_until("all leases that the port may have", PATIENCE, || of_flood() == MOST);
        for number in 2..10 {
            wait_until("more clients", PATIENCE, || sent.load(Ordering::Relaxed) > 250 * number);
            renewing.signal(Signal::USR1);
            wait_until("a renewal", PATIENCE, || {
                renewing.log().matches("obtained").count() >= number as usize
            });
            assert!(of_flood() <= MOST);
        }
    });
    assert!(uplink(daemon).drops.get("dhcp_rate").is_some_and(|count| *count > 0), "{:#?}", uplink(daemon));
    assert_eq!(given(&client), renewed(&renewing.log()));
}

/// The address of the last lease that a client writes of.
fn renewed(log: &str) -> String {
    let lease = log.rsplit("lease of ").next().and_then(|rest| rest.split_whitespace().next());
    lease.expect("a lease").to_owned()
}

/// Ends a flood.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Asks for leases until the end, for 1,000 clients a second, each from a MAC address of its own, and counts them.
fn discover(mut guest: RawGuest, sent: &AtomicU32, end: &AtomicBool) {
    let started = Instant::now();
    while !end.load(Ordering::Relaxed) {
        let number = sent.fetch_add(1, Ordering::Relaxed);
        guest.send_frame(&rapid_discover(number)).expect("a port that reads");
        let due = started + Duration::from_millis(1) * number;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // What it is told it does not use.
        while guest.receive(Duration::ZERO).expect("a port").is_some() {}
    }
}

/// A DISCOVER of client `number` that wants its lease at once (RFC 4039).
fn rapid_discover(number: u32) -> Vec<u8> {
    let [_, first, second, third] = number.to_be_bytes();
    let mac = MacAddr([0x02, 0x47, 0x11, first, second, third]);
    let mut message = vec![1, 1, 6, 0];
    message.extend(number.to_be_bytes());
    message.resize(28, 0);
    message.extend(mac.0);
    message.resize(236, 0);
    message.extend([0x63, 0x82, 0x53, 0x63, 53, 1, 1, 80, 0, 255]);
    message.resize(300, 0);
    let udp_len = (8 + message.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend((20 + udp_len).to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255]);
    let sum: u32 = packet.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    packet[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    packet.extend([0, 68, 0, 67]);
    packet.extend(udp_len.to_be_bytes());
    // No checksum (RFC 768).
    packet.extend([0, 0]);
    packet.extend(message);
    ethernet(MacAddr::BROADCAST, mac, 0x0800, &packet)
}
