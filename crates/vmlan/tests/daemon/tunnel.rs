//! Tunnel sockets: what their clients get of the running daemon.

use std::io::{IoSlice, Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use vmlan_api::{ClassCounters, Classes, PortState};
use vmlan_drivers::tunnel::client::{Client, Error};
use vmlan_drivers::tunnel::message::{Prefixed, Refusal, option};
use vmlan_frame::{DropReason, MacAddr};
use vmlan_guest::{Attachment, ethernet};

use crate::support::{Daemon, PATIENCE, Peer, VMLAN, assert_balanced, mac};

const RAW: &str = "[network.lab.port.raw]\nstream = { listen = \"raw.sock\" }\n";
const ONE: &str = "[network.lab.port.one]\ntunnel = { listen = \"one.sock\", address = [\"10.9.0.9/24\", \"fd09::9/64\"] }\n";
const MANY: &str = "[network.lab.port.many]\ntunnel = { listen = \"many.sock\", allow = [\"10.9.0.128/25\", \"fd09:1::/64\"], clients = 5 }\n";

fn start() -> Daemon {
    let daemon = Daemon::start(&format!("{RAW}{ONE}{MANY}"));
    daemon.wait_up(&["one", "many"]);
    daemon
}

fn address(text: &str) -> Prefixed {
    text.parse().expect("an address")
}

#[track_caller]
fn many(daemon: &Daemon, unit: u32, last: u8) -> Client {
    ask_many(daemon, unit, last).unwrap_or_else(|error| panic!("no tunnel: {error}"))
}

fn ask_many(daemon: &Daemon, unit: u32, last: u8) -> Result<Client, Error> {
    Client::connect(&daemon.path("many.sock"), unit, &[address(&format!("10.9.0.{last}/24"))])
}

#[track_caller]
fn refusal<T>(result: Result<T, Error>) -> Refusal {
    match result {
        Err(Error::Refused(refusal)) => refusal,
        Err(error) => panic!("another error: {error}"),
        Ok(_) => panic!("it was not refused"),
    }
}

/// A client of `one` that the raw guest knows, and that knows the raw guest at 10.9.0.1.
#[track_caller]
fn with_neighbour(daemon: &Daemon) -> (Client, Peer) {
    let mut raw = Peer::attach(1, Attachment::Stream { path: daemon.path("raw.sock") });
    daemon.wait_up(&["raw"]);
    let client = Client::connect(&daemon.path("one.sock"), 0, &[]).expect("a tunnel");
    let own = client.opened().mac;
    let question = arp(1, raw.mac, 1, MacAddr([0; 6]), 9);
    raw.raw.send_frame(&question).expect("room for a frame");
    let is_answer =
        |frame: &[u8]| frame[12..14] == [8, 6] && frame[20..22] == [0, 2] && frame[28..32] == [10, 9, 0, 9];
    let answer = raw.raw.expect(is_answer).expect("an answer");
    assert_eq!((&answer[..6], &answer[6..12], &answer[22..28]), (&raw.mac.0[..], &own.0[..], &own.0[..]));
    let first = packet(9, 1, 30);
    client.send(&first).expect("a tunnel");
    let is_question = |frame: &[u8]| frame[20..22] == [0, 1] && frame[38..42] == [10, 9, 0, 1];
    raw.raw.expect(|frame| frame[12..14] == [8, 6] && is_question(frame)).expect("a question");
    raw.raw.send_frame(&arp(2, raw.mac, 1, own, 9)).expect("room for a frame");
    raw.raw.expect(|frame| frame[14..] == first).expect("the packet that waited");
    (client, raw)
}

/// An ARP message (RFC 826) of the guest with the address that ends so.
fn arp(operation: u8, from: MacAddr, sender: u8, to: MacAddr, target: u8) -> Vec<u8> {
    let destination = if operation == 1 { MacAddr::BROADCAST } else { to };
    let fixed = [0, 1, 8, 0, 6, 4, 0, operation];
    let payload = [&fixed[..], &from.0, &[10, 9, 0, sender], &to.0, &[10, 9, 0, target]].concat();
    ethernet(destination, from, 0x0806, &payload)
}

fn packet(from: u8, to: u8, len: usize) -> Vec<u8> {
    let mut packet = vec![0; len];
    packet[..2].copy_from_slice(&[0x45, 0]);
    packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    packet[8..10].copy_from_slice(&[64, 253]);
    packet[12..20].copy_from_slice(&[10, 9, 0, from, 10, 9, 0, to]);
    packet
}

#[test]
fn tunnel_case_1_units_1_and_3_are_used_and_0_gets_2() {
    let daemon = start();
    let _one = many(&daemon, 1, 130);
    let _three = many(&daemon, 3, 131);
    let two = many(&daemon, 0, 132);
    assert_eq!((two.opened().unit, two.name().expect("a name").as_str()), (2, "tunnel1"));
    assert!(daemon.port("many.2").peer.expect("a peer").contains("tunnel1"));
}

#[test]
fn tunnel_case_2_a_unit_that_is_taken_is_busy() {
    let daemon = start();
    let first = many(&daemon, 7, 130);
    assert_eq!(refusal(ask_many(&daemon, 7, 131)), Refusal::Busy);
    daemon.departs("many.0");
    drop(first);
    testbed::wait_until("the unit to be free", PATIENCE, || ask_many(&daemon, 7, 131).is_ok());
}

#[test]
fn tunnel_case_4_a_record_of_three_octets_is_an_error_and_the_tunnel_stays() {
    let daemon = start();
    let (client, mut raw) = with_neighbour(&daemon);
    for bad in [&[0, 0, 2][..], &[], &[0, 0, 0, 9, 0x45, 0], &[0, 0, 0, 30, 0x45, 0]] {
        client.send_record(&[IoSlice::new(bad)]).expect("a socket");
    }
    let sent = packet(9, 1, 40);
    client.send(&sent).expect("a tunnel");
    raw.raw.expect(|frame| frame[14..] == sent).expect("the packet");
    assert_eq!(client.statistics().expect("statistics").errors_in, 4);
    assert_eq!(daemon.drops("one.0", DropReason::Malformed), 4);
    assert_eq!(daemon.port("one.0").tunnel.map(|records| records.rx_errors), Some(4));
    daemon.departs("one.0");
    drop(client);
    testbed::wait_until("the port to go", PATIENCE, || daemon.find_port("one.0").is_none());
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn packets_are_counted_by_the_class_that_they_ask_for_at_the_port_and_as_records() {
    let daemon = start();
    let (client, mut raw) = with_neighbour(&daemon);
    // Expedited forwarding (RFC 3246), in the upper six bits.
    let of_voice = |mut packet: Vec<u8>| {
        packet[1] = 46 << 2;
        packet
    };
    let (there, back) = (of_voice(packet(9, 1, 40)), of_voice(packet(1, 9, 90)));
    client.send(&there).expect("a tunnel");
    raw.raw.expect(|frame| frame[14..] == there).expect("the packet");
    raw.raw.send_frame(&ethernet(client.opened().mac, raw.mac, 0x0800, &back)).expect("room for a frame");
    let mut buffer = [0; 1500];
    while client.receive(&mut buffer).expect("a tunnel") != Some(back.len()) {}

    let voice = |header: u64| ClassCounters {
        rx_frames: 1,
        rx_octets: header + there.len() as u64,
        tx_frames: 1,
        tx_octets: header + back.len() as u64,
    };
    let classes = |header| Classes { voice: voice(header), ..Classes::default() };
    testbed::wait_until("all to be counted", PATIENCE, || {
        daemon.port("one.0").counters.classes.voice.tx_frames == 1
    });
    let port = daemon.port("one.0");
    assert_eq!(port.counters.classes, classes(14));
    assert_eq!(port.tunnel.map(|records| records.classes), Some(classes(4)));
    daemon.stop();
}

#[test]
fn tunnel_case_5_with_no_input_nothing_is_delivered() {
    let daemon = start();
    let (client, mut raw) = with_neighbour(&daemon);
    client.set(option::FLAGS, &2_u32.to_be_bytes()).expect("a privileged client");
    client.send(&packet(9, 1, 41)).expect("a tunnel");
    testbed::wait_until("the drop", PATIENCE, || daemon.drops("one.0", DropReason::InputFilter) == 1);
    assert_eq!(client.statistics().expect("statistics").errors_in, 0);
    client.set(option::FLAGS, &0_u32.to_be_bytes()).expect("a privileged client");
    client.send(&packet(9, 1, 42)).expect("a tunnel");
    let came = raw.raw.expect(|frame| frame[12..14] == [8, 0]).expect("a packet");
    assert_eq!(came.len(), 14 + 42);
}

#[test]
fn tunnel_case_6_options_have_their_errors() {
    let daemon = start();
    let client = many(&daemon, 0, 130);
    assert_eq!(refusal(client.set(option::FLAGS, &[0, 1])), Refusal::WrongSize);
    assert_eq!(refusal(client.set(77, &[0; 4])), Refusal::NoSuchOption);
    assert_eq!(refusal(client.get(77)), Refusal::NoSuchOption);
    assert_eq!(refusal(client.set(option::MAX_PENDING, &[0; 4])), Refusal::Invalid);
    assert_eq!(refusal(client.set(option::MTU, &1501_u32.to_be_bytes())), Refusal::Invalid);
    client.set(option::MTU, &68_u32.to_be_bytes()).expect("IPv4 only");
    assert_eq!(client.get(option::MAX_PENDING).expect("a value"), 1024_u32.to_be_bytes());
}

#[test]
fn tunnel_case_7_closing_with_addresses_leaves_nothing() {
    let daemon = start();
    let client = Client::connect(&daemon.path("one.sock"), 1, &[]).expect("a tunnel");
    assert_eq!(client.opened().addresses, [address("10.9.0.9/24"), address("fd09::9/64")]);
    assert_eq!(refusal(Client::connect(&daemon.path("one.sock"), 0, &[])), Refusal::Busy);
    daemon.departs("one.0");
    drop(client);
    testbed::wait_until("the port to go", PATIENCE, || daemon.find_port("one.0").is_none());
    // Port, unit and addresses are free.
    let again = Client::connect(&daemon.path("one.sock"), 1, &[]).expect("the tunnel again");
    assert_eq!(again.opened().unit, 1);
    daemon.departs("one.0");
    drop(again);
    testbed::wait_until("the port to go", PATIENCE, || daemon.find_port("one.0").is_none());
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn tunnel_case_10_packets_beyond_the_mtu_are_refused_and_counted() {
    let daemon = start();
    let (client, mut raw) = with_neighbour(&daemon);
    let error = client.send(&packet(9, 1, 1501)).expect_err("too long");
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::MSGSIZE.raw_os_error()));
    client.set(option::MTU, &1280_u32.to_be_bytes()).expect("an MTU");
    let own = client.opened().mac;
    for len in [1281, 1280] {
        let mut whole = packet(1, 9, len);
        // It must not be cut.
        whole[6] = 0x40;
        raw.raw.send_frame(&ethernet(own, mac(1), 0x0800, &whole)).expect("room for a frame");
    }
    let mut buffer = [0; 2000];
    assert_eq!(client.receive(&mut buffer).expect("a tunnel"), Some(1280));
    assert_eq!(client.statistics().expect("statistics").errors_out, 1);
    assert_eq!(daemon.drops("one.0", DropReason::TooLong), 1);
}

#[test]
fn clients_choose_addresses_and_no_others_than_they_may() {
    let daemon = start();
    let connect = |addresses: &[&str]| {
        let addresses: Vec<_> = addresses.iter().map(|text| address(text)).collect();
        Client::connect(&daemon.path("many.sock"), 0, &addresses)
    };
    let _first = connect(&["10.9.0.130/24", "fd09:1::7/64"]).expect("a tunnel");
    assert_eq!(refusal(connect(&[])), Refusal::Invalid);
    assert_eq!(refusal(connect(&["10.9.0.127/24"])), Refusal::AddressNotAllowed);
    assert_eq!(refusal(connect(&["10.9.0.130/24"])), Refusal::AddressInUse);
    assert_eq!(refusal(connect(&["10.9.0.131/24", "fd09:1::7/64"])), Refusal::AddressInUse);
    let _others: Vec<_> = (131..135).map(|last| many(&daemon, 0, last)).collect();
    assert_eq!(refusal(ask_many(&daemon, 0, 135)), Refusal::NoRoom);
    let macs: std::collections::BTreeSet<_> = _others.iter().map(|client| client.opened().mac).collect();
    assert_eq!(macs.len(), 4, "each has a link address of its own");
}

#[test]
fn a_tunnel_ends_with_its_data_socket_and_with_its_port() {
    let daemon = start();
    let client = many(&daemon, 0, 130);
    let status = daemon.remove_port("lab", "many");
    assert_eq!(status.status, 200);
    let mut buffer = [0; 100];
    assert_eq!(client.receive(&mut buffer).expect("a socket"), None);
    assert!(matches!(client.name(), Err(Error::Closed)));
    assert!(!daemon.path("many.sock").exists() && daemon.find_port("many.0").is_none());
}

#[test]
fn the_link_address_is_stable_or_set() {
    let daemon = start();
    let first = Client::connect(&daemon.path("one.sock"), 0, &[]).expect("a tunnel").opened().mac;
    testbed::wait_until("the port to go", PATIENCE, || daemon.find_port("one.0").is_none());
    assert_eq!(Client::connect(&daemon.path("one.sock"), 0, &[]).expect("a tunnel").opened().mac, first);
    testbed::wait_until("the port to go", PATIENCE, || daemon.find_port("one.0").is_none());
    assert_eq!(first.0[0] & 3, 2, "a locally administered address of one station");

    daemon.write_config(&format!("{RAW}{ONE}mac = \"52:54:00:00:00:09\"\n"));
    daemon.cli(&["apply"]).expect_success();
    daemon.wait_state("one", PortState::Up);
    let set = Client::connect(&daemon.path("one.sock"), 0, &[]).expect("a tunnel").opened().mac;
    assert_eq!(set, mac(9));
}

#[test]
fn records_travel_on_stdin_and_stdout() {
    let daemon = start();
    let mut raw = Peer::attach(1, Attachment::Stream { path: daemon.path("raw.sock") });
    daemon.wait_up(&["raw"]);
    let mut command = Command::new(VMLAN);
    command.args(["tunnel", "connect", "--stdio"]).arg(daemon.path("one.sock"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("vmlan can be started");
    let (mut stdin, mut stdout) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    let sent = packet(9, 1, 60);
    stdin.write_all(&[&64_u32.to_be_bytes()[..], &[0, 0, 0, 2], &sent].concat()).expect("a pipe");
    let is_question = |frame: &[u8]| frame[12..14] == [8, 6] && frame[38..42] == [10, 9, 0, 1];
    let question = raw.raw.expect(is_question).expect("a question");
    let own = MacAddr(question[6..12].try_into().expect("six octets"));
    raw.raw.send_frame(&arp(2, raw.mac, 1, own, 9)).expect("room for a frame");
    raw.raw.expect(|frame| frame[14..] == sent).expect("the packet");
    let back = packet(1, 9, 50);
    raw.raw.send_frame(&ethernet(own, raw.mac, 0x0800, &back)).expect("room for a frame");
    let mut record = [0; 58];
    stdout.read_exact(&mut record).expect("a record");
    assert_eq!(record[..], [&54_u32.to_be_bytes()[..], &[0, 0, 0, 2], &back].concat());
    daemon.departs("one.0");
    drop(stdin);
    assert!(child.wait().expect("our own child").success());
    testbed::wait_until("the port to go", PATIENCE, || daemon.find_port("one.0").is_none());
    assert_balanced(&daemon);
    daemon.stop();
}

/// A program that has a tunnel, killed while packets pass both ways.
#[test]
fn tunnel_case_8_clients_killed_under_load_leave_nothing() {
    let daemon = start();
    let mut raw = Peer::attach(1, Attachment::Stream { path: daemon.path("raw.sock") });
    daemon.wait_up(&["raw"]);
    // The link address is the same each time.
    let own = Client::connect(&daemon.path("one.sock"), 0, &[]).expect("a tunnel").opened().mac;
    let is_gone = || daemon.find_port("one.0").is_none();
    testbed::wait_until("the port to go", PATIENCE, is_gone);
    let before = daemon.descriptors();
    let mut longest = Duration::ZERO;
    let records = [&1404_u32.to_be_bytes()[..], &[0, 0, 0, 2], &packet(9, 255, 1400)].concat().repeat(64);
    for _ in 0..100 {
        let mut command = Command::new(VMLAN);
        command.args(["tunnel", "connect", "--stdio"]).arg(daemon.path("one.sock"));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("vmlan can be started");
        daemon.wait_up(&["one.0"]);
        let mut stdin = child.stdin.take().expect("a pipe");
        std::thread::scope(|scope| {
            // Until the pipe breaks.
            scope.spawn(|| while stdin.write_all(&records).is_ok() {});
            raw.raw.expect(|frame| frame.len() == 14 + 1400).expect("the load");
            for _ in 0..64 {
                let frame = ethernet(own, mac(1), 0x0800, &packet(1, 9, 1000));
                raw.raw.send_frame(&frame).expect("room for a frame");
            }
            let start = Instant::now();
            child.kill().expect("our own child");
            testbed::wait_until("the port to go", PATIENCE, is_gone);
            longest = longest.max(start.elapsed());
            child.wait().expect("our own child");
        });
        raw.raw.drain(100_000, Duration::ZERO).expect("a connection");
    }
    eprintln!("the last trace was gone after at most {longest:?}, as seen by polling");
    testbed::wait_until("the descriptors to be given back", PATIENCE, || daemon.descriptors() <= before);
    let client = Client::connect(&daemon.path("one.sock"), 0, &[]).expect("a tunnel");
    assert_eq!(client.opened().unit, 1, "no link is left");
    drop(client);
    testbed::wait_until("the port to go", PATIENCE, is_gone);
    daemon.stop();
}
