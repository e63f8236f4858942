//! TCP of guests: beginnings, ends, and many at once.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use testbed::{Interface, Iperf, Netns, Signal, iperf3, require, run, wait_until};
use vmlan_api::EventKind;

use crate::dhcp::Client;
use crate::lab::*;
use crate::support::{Daemon, PATIENCE, assert_balanced};

#[test]
fn flows_begin_and_end_as_the_far_ends_want() {
    require!(namespaces(), tool("curl"), tool("tcpdump"));
    let world = World::new(2);
    let daemon = world.start_settled(&world.config(""));
    let guest = &world.guests[0];
    case_02_a_refused_port_is_refused(guest);
    case_03_no_route_is_told_at_once(&world);
    let descriptors = daemon.descriptors();
    for address in [SERVER, SERVER6] {
        case_05_a_half_closed_flow_brings_all(&world, address);
        case_06_a_reset_goes_both_ways(&world, address);
        case_18_two_guests_use_one_port(&world, address);
    }
    wait_quiet(&daemon);
    wait_until("the descriptors' return", PATIENCE, || daemon.descriptors() <= descriptors);
    case_09_the_segment_size_follows_the_mtu(&world, ["1460", "1440"]);
    assert_balanced(&daemon);
    daemon.stop();
}

fn case_02_a_refused_port_is_refused(guest: &Netns) {
    for address in [SERVER, SERVER6] {
        let error = dial(guest, at(address, 81)).expect_err("a refusal");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{address}: {error}");
    }
}

fn case_03_no_route_is_told_at_once(world: &World) {
    let guest = &world.guests[0];
    for address in [NOWHERE, NOWHERE6] {
        let error = dial(guest, at(address, 80)).expect_err("no way");
        let kinds = [ErrorKind::NetworkUnreachable, ErrorKind::HostUnreachable];
        assert!(kinds.contains(&error.kind()), "{address}: {error}");
    }
    let _listener = world.listen(&at(SERVER, 80).to_string());
    let both = format!("two.example:80:[{NOWHERE6}],{NOWHERE},{SERVER}");
    // It is connected, and answers nothing.
    let arguments = ["-v", "-m", "3", "--resolve", &both, "http://two.example/"];
    let report = guest.exec("curl", arguments).stderr;
    assert!(report.contains(&format!("Connected to two.example ({SERVER})")), "{report}");
}

fn case_05_a_half_closed_flow_brings_all(world: &World, address: &str) {
    let listener = world.listen(&at(address, 80).to_string());
    let (mut near, mut far) = join(&world.guests[0], at(address, 80), &listener);
    near.write_all(b"all?").expect("an open connection");
    near.shutdown(Shutdown::Write).expect("an open connection");
    let mut question = Vec::new();
    far.read_to_end(&mut question).expect("the question's end");
    assert_eq!(question, b"all?");
    let wanted: Vec<u8> = (0..1 << 20).map(|place: u32| (place % 251) as u8).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            far.write_all(&wanted).expect("an open connection");
            drop(far);
        });
        let mut answer = Vec::new();
        near.read_to_end(&mut answer).expect("the answer's end");
        assert!(answer == wanted, "{} of {} octets", answer.len(), wanted.len());
    });
}

fn case_06_a_reset_goes_both_ways(world: &World, address: &str) {
    let listener = world.listen(&at(address, 80).to_string());
    for from_guest in [false, true] {
        let (mut near, mut far) = join(&world.guests[0], at(address, 80), &listener);
        talk(&mut near, &mut far);
        let (one, mut other) = if from_guest { (near, far) } else { (far, near) };
        reset(one);
        expect_reset(&mut other);
    }
}

fn case_18_two_guests_use_one_port(world: &World, address: &str) {
    let listener = world.listen(&at(address, 80).to_string());
    let any = if address.contains(':') { "::" } else { "0.0.0.0" };
    let mut pairs: Vec<(TcpStream, TcpStream)> = Vec::new();
    for guest in &world.guests {
        let near = dial_from(guest, at(any, 40_000), at(address, 80)).expect("a connection");
        pairs.push((near, accept(&listener).0));
    }
    for (number, (near, far)) in pairs.iter_mut().enumerate() {
        let word = [number as u8; 3];
        near.write_all(&word).expect("an open connection");
        let mut heard = [9; 3];
        far.read_exact(&mut heard).expect("an open connection");
        assert_eq!(heard, word);
    }
    pairs.into_iter().for_each(|(near, _)| reset(near));
}

/// The sizes that the gateway tells, for IPv4 and IPv6.
fn case_09_the_segment_size_follows_the_mtu(world: &World, sizes: [&str; 2]) {
    let guest = &world.guests[0];
    for (address, size) in [SERVER, SERVER6].into_iter().zip(sizes) {
        let listener = world.listen(&at(address, 83).to_string());
        let mut dump = guest.spawn("tcpdump", ["-nn", "-l", "-i", "t0", "src", "port", "83"]);
        dump.wait_for_log("listening on", PATIENCE);
        let (mut near, mut far) = join(guest, at(address, 83), &listener);
        talk(&mut near, &mut far);
        dump.wait_for_log("[S.]", PATIENCE);
        dump.wait_for_log(&format!("mss {size},"), PATIENCE);
    }
}

#[test]
fn case_09_a_large_mtu_is_told() {
    require!(namespaces(), tool("tcpdump"));
    let world = World::new(1);
    let config = world.config("").replacen("[network.lab]\n", "[network.lab]\nmtu = 65520\n", 1);
    let daemon = world.start(&config);
    world.guests[0].configure("t0", &Interface::new().mtu(65_520));
    world.settle();
    case_09_the_segment_size_follows_the_mtu(&world, ["65480", "65460"]);
    throughput(&world);
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn case_16_flows_of_a_guest_that_was_killed_are_reset() {
    require!(namespaces(), tool("busybox"));
    let world = World::new(2);
    let daemon = world.start_settled(&world.config(""));
    let (guest, other) = (&world.guests[0], &world.guests[1]);
    let listener = world.listen(&at(SERVER, 80).to_string());
    let (mut near, mut far) = join(guest, at(SERVER, 80), &listener);
    let (mut stays, mut too) = join(other, at(SERVER, 80), &listener);
    talk(&mut near, &mut far);
    // Nothing of its end gets out.
    guest.ip(["link", "set", "t0", "down"]);
    reset(near);
    guest.ip(["link", "set", "t0", "up"]);
    Client::new().udhcpc(guest).expect_success();
    expect_reset(&mut far);
    talk(&mut stays, &mut too);
    daemon.stop();
}

#[test]
fn much_data_arrives_whole_with_one_worker_and_with_two() {
    require!(namespaces(), tool("iperf3"));
    for workers in [1, 2] {
        let world = World::new(2);
        let daemon = world.start_settled(&format!("workers = {workers}\n{}", world.config("")));
        throughput(&world);
        // From one guest to another the uplink is not on the way.
        iperf3(&world.guests[0], &world.guests[1], at(&v4(1), 0).ip(), Iperf::tcp_octets(10 << 20));
        assert_balanced(&daemon);
        daemon.stop();
    }
}

/// 100 MiB each way.
fn throughput(world: &World) {
    const OCTETS: u64 = 100 << 20;
    let server = at(SERVER, 0).ip();
    let listener = world.listen(&at(SERVER, 90).to_string());
    let (mut near, mut far) = join(&world.guests[0], at(SERVER, 90), &listener);
    std::thread::scope(|scope| {
        scope.spawn(move || near.write_all(&vec![7; OCTETS as usize]).expect("an open connection"));
        let mut received = 0;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match far.read(&mut buffer).expect("an open connection") {
                0 => break,
                octets => {
                    assert!(buffer[..octets].iter().all(|octet| *octet == 7));
                    received += octets as u64;
                }
            }
        }
        assert_eq!(received, OCTETS);
    });
    for wanted in [Iperf::tcp_octets(OCTETS), Iperf::tcp_octets(OCTETS).reversed()] {
        let report = iperf3(&world.guests[0], &world.internet, server, wanted);
        eprintln!("{:.2} Gbit/s, reversed: {}", report.bits_per_second / 1e9, wanted.reverse);
        assert!(report.sent_octets >= OCTETS, "{report:?}");
    }
}

#[test]
fn many_flows_of_one_guest_leave_room_for_others() {
    require!(namespaces(), tool("hping3"), tool("nft"));
    let world = World::new(2);
    let daemon = world.start_settled(&world.config(""));
    case_27_three_hundred_a_second_connect(&world);
    wait_quiet(&daemon);
    case_27_a_flood_leaves_others_alone(&world, &daemon);
    assert_balanced(&daemon);
    daemon.stop();
}

fn case_27_three_hundred_a_second_connect(world: &World) {
    const CALLS: u32 = 600;
    let listener = world.listen(&at(SERVER, 80).to_string());
    std::thread::scope(|scope| {
        let server = scope.spawn(|| (0..CALLS).for_each(|_| drop(accept(&listener))));
        let started = Instant::now();
        world.guests[0].inside(|| {
            for call in 0..CALLS {
                let due = started + Duration::from_secs(1) * call / 300;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                TcpStream::connect_timeout(&at(SERVER, 80), PATIENCE).expect("a connection");
            }
        });
        server.join().expect("all calls");
    });
}

fn case_27_a_flood_leaves_others_alone(world: &World, daemon: &Daemon) {
    let listener = world.listen(&at(SERVER, 80).to_string());
    let rules = "table inet count { chain in { type filter hook input priority 0; \
                 tcp dport 81 tcp flags & (syn | ack) == syn counter; }; }";
    world.internet.exec("nft", [rules]).expect_success();
    let mut events = daemon.events();
    let started = Instant::now();
    let mut flood = world.guests[0].spawn("hping3", ["-q", "-S", "-p", "81", "-i", "u200", SERVER]);
    let limited = |event: &EventKind| matches!(event, EventKind::FlowLimit { port, .. } if port == "g0");
    events.expect("a limit", limited);
    let mut calls = 0;
    while calls < 20 || started.elapsed() < Duration::from_secs(3) {
        let (mut near, mut far) = join(&world.guests[1], at(SERVER, 80), &listener);
        talk(&mut near, &mut far);
        calls += 1;
    }
    assert!(flood.is_running(), "{}", flood.log());
    // Those of a second at once, and then so many a second.
    let begun = counted(&world.internet);
    let most = 500.0 * (1.0 + started.elapsed().as_secs_f64());
    assert!(begun > 0 && (begun as f64) <= most, "{begun} of {most} in {:?}", started.elapsed());
    flood.signal(Signal::KILL);
}

/// The packets that the only rule of a namespace has counted.
fn counted(netns: &Netns) -> u64 {
    let rules = netns.exec("nft", ["list", "ruleset"]).expect_success().stdout;
    let count = rules.split("packets ").nth(1).and_then(|rest| rest.split(' ').next());
    count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no counter: {rules}"))
}

#[test]
fn case_27_a_guest_has_as_many_flows_as_it_may() {
    const FLOWS: usize = 20;
    require!(namespaces());
    let world = World::new(2);
    let daemon = world.start_settled(&world.config(&format!("limits = {{ flows = {FLOWS} }}")));
    let listener = world.listen(&at(SERVER, 80).to_string());
    let mut events = daemon.events();
    let mut held: Vec<_> = (0..FLOWS).map(|_| join(&world.guests[0], at(SERVER, 80), &listener)).collect();
    // What is beyond the limit is not answered.
    let one_more =
        || world.guests[0].inside(|| TcpStream::connect_timeout(&at(SERVER, 80), Duration::from_secs(1)));
    let error = one_more().expect_err("no room");
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    let limited = |event: &EventKind| matches!(event, EventKind::FlowLimit { port, limit, .. } if port == "g0" && limit == "flows");
    events.expect("a limit", limited);
    let (mut near, mut far) = join(&world.guests[1], at(SERVER, 80), &listener);
    talk(&mut near, &mut far);
    for (near, far) in &mut held {
        talk(near, far);
    }

    held.pop();
    wait_until("room again", PATIENCE, || one_more().is_ok());
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn case_28_descriptors_may_run_out() {
    require!(namespaces());
    let world = World::new(2);
    let daemon = world.start_in(crate::support::directory(), &world.config(""), "ulimit -n 256");
    world.settle();
    let listener = world.listen(&at(SERVER, 80).to_string());
    let mut held = Vec::new();
    // What is beyond the limit is not answered.
    while let Ok(stream) =
        world.guests[0].inside(|| TcpStream::connect_timeout(&at(SERVER, 80), Duration::from_secs(5)))
    {
        held.push(stream);
        assert!(held.len() < 256, "more than there are descriptors");
    }
    assert!(held.len() > 50, "{} are open", held.len());
    assert!(daemon.cli(&["uplink"]).success());
    held.clear();
    drop(listener);
    wait_quiet(&daemon);
    let listener = world.listen(&at(SERVER, 82).to_string());
    let (mut near, mut far) = join(&world.guests[0], at(SERVER, 82), &listener);
    talk(&mut near, &mut far);
    daemon.stop();
}

/// `run` in a namespace with a limit of its own.
pub fn run_within(netns: &Netns, program: &str, arguments: &[&str]) -> testbed::Output {
    let mut command = netns.command(program);
    command.args(arguments);
    run(command, PATIENCE * 3)
}
