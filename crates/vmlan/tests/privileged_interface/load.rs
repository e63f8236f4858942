//! Changes while frames pass: no frame goes by what was before once the change is told.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, netdevice, socket};
use testbed::{Interface, Netns, require, wait_until};
use vmlan_api::{EventKind, PortState};
use vmlan_frame::MacAddr;
use vmlan_sys::netns;
use vmlan_sys::packet::{Place, Ring, sender};

use crate::lab::{Lab, carried, slow};
use crate::support::{Daemon, PATIENCE, assert_balanced, mac};

/// Octets of a frame.
const LENGTH: usize = 1200;
/// Between two frames: what a busy machine's workers take without loss.
const INTERVAL: Duration = Duration::from_micros(200);

/// The number of frames that belong to no stream.
const INTRODUCTION: u32 = u32::MAX;

/// A packet of UDP with a number.
fn numbered(to: MacAddr, from: MacAddr, number: u32) -> Vec<u8> {
    let total = (LENGTH as u16 - 14).to_be_bytes();
    let ip = [0x45, 0, total[0], total[1], 0, 1, 0, 0, 64, 17, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2];
    let mut octets = [&to.0[..], &from.0, &[8, 0], &ip, &number.to_be_bytes()].concat();
    octets.resize(LENGTH, 0);
    octets
}

/// Frames that a guest sends until it is dropped.
struct Stream {
    stop: Arc<AtomicBool>,
    /// The number of the next frame: those below are sent.
    next: Arc<AtomicU32>,
    thread: Option<JoinHandle<()>>,
}

impl Stream {
    fn start(guest: &Netns, from: MacAddr, to: MacAddr) -> Stream {
        let socket = netns::within(&guest.path(), || sender("eth0")).expect("a sender");
        let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopped, number) = (stop.clone(), next.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // Counted first: what is sent after a look at the number has that number or more.
                let number = number.fetch_add(1, Ordering::SeqCst);
                // The interface may be away.
                let _ = rustix::io::write(&socket, &numbered(to, from, number));
                std::thread::sleep(INTERVAL);
            }
        });
        Stream { stop, next, thread: Some(thread) }
    }

    fn next(&self) -> u32 {
        self.next.load(Ordering::SeqCst)
    }

    /// Waits until so many more frames were sent.
    fn wait(&self, frames: u32) {
        let until = self.next() + frames;
        wait_until("the stream's frames", PATIENCE, || self.next() >= until);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The numbers of the frames that come to a guest.
struct Sink {
    ring: Ring,
    numbers: BTreeSet<u32>,
    sources: BTreeSet<MacAddr>,
}

impl Sink {
    fn open(guest: &Netns) -> Sink {
        let open = || {
            let any = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
            Ring::listener(netdevice::name_to_index(&any, "eth0")?, &[(6, 0, 0, u32::MAX)])
        };
        let ring = netns::within(&guest.path(), open).expect("a listener");
        Sink { ring, numbers: BTreeSet::new(), sources: BTreeSet::new() }
    }

    fn take(&mut self) -> &BTreeSet<u32> {
        while let Some(slot) = self.ring.front() {
            if let Place::Here(_, octets) = slot.place()
                && octets.len() == LENGTH
            {
                let number = u32::from_be_bytes(octets[34..38].try_into().expect("four octets"));
                if number != INTRODUCTION {
                    self.numbers.insert(number);
                    self.sources.insert(MacAddr::from_slice(&octets[6..]));
                }
            }
            slot.give_back();
        }
        &self.numbers
    }

    /// Waits for a frame with this number or a higher one.
    #[track_caller]
    fn wait(&mut self, number: u32) {
        wait_until("a frame of the stream", PATIENCE, || {
            self.take().last().is_some_and(|last| *last >= number)
        });
    }
}

/// Guests on veths that send nothing by themselves.
#[track_caller]
fn silent(
    guests: usize,
    settings: impl Fn(u8) -> &'static str,
) -> (Lab, Daemon, impl Fn(u8, &str) -> String) {
    let lab = Lab::new(guests);
    lab.guests.iter().for_each(|guest| guest.sysctl("net.ipv6.conf.default.disable_ipv6", "1"));
    let paths: Vec<_> = lab.guests.iter().map(|guest| guest.path()).collect();
    let port = move |number: u8, settings: &str| {
        format!(
            "[network.lab.port.guest{number}]\nstorm = 0\ninterface = {{ name = \"ve{number}\", create = \"veth\", \
             peer = {{ name = \"eth0\", netns = \"{}\", mac = \"{}\" }} }}\n{settings}\n",
            paths[usize::from(number) - 1].display(),
            mac(number)
        )
    };
    let numbers = 1..=guests as u8;
    let config: String = numbers.clone().map(|number| port(number, settings(number))).collect();
    let daemon = lab.start(&config);
    numbers.for_each(|number| daemon.wait_up(&[&format!("guest{number}")]));
    (lab, daemon, port)
}

/// Has the network hear an address from a guest until the kernel forwards to it.
#[track_caller]
fn introduce(lab: &Lab, daemon: &Daemon, guest: u8, address: MacAddr) {
    let socket = netns::within(&lab.guest(guest).path(), || sender("eth0")).expect("a sender");
    let (port, text) = (format!("guest{guest}"), address.to_string());
    wait_until("an address that the kernel knows", PATIENCE, || {
        rustix::io::write(&socket, &numbered(MacAddr::BROADCAST, address, INTRODUCTION))
            .expect("room for a frame");
        daemon.fdb("lab").iter().any(|entry| entry.mac == text && entry.port == port && entry.fast)
    });
}

#[track_caller]
fn wait_carried(daemon: &Daemon, port: &str) {
    let before = carried(daemon, port);
    wait_until("frames that the kernel carries", PATIENCE, || carried(daemon, port) > before);
}

/// fast-path.md case 3.
#[test]
fn case_3_no_frame_goes_by_the_old_port_once_the_move_is_told() {
    require!(namespaces());
    let (lab, daemon, _) = silent(3, |_| "");
    introduce(&lab, &daemon, 1, mac(1));
    for round in 0..3 {
        // An address that comes home would be contested.
        let moving = mac(100 + round);
        introduce(&lab, &daemon, 2, moving);
        let (mut old, mut new) = (Sink::open(lab.guest(2)), Sink::open(lab.guest(3)));
        let stream = Stream::start(lab.guest(1), mac(1), moving);
        wait_carried(&daemon, "guest1");
        old.wait(100);
        let mut events = daemon.events();
        let socket = netns::within(&lab.guest(3).path(), || sender("eth0")).expect("a sender");
        rustix::io::write(&socket, &numbered(mac(1), moving, INTRODUCTION)).expect("room for a frame");
        events.expect("the move", |event| {
            matches!(event, EventKind::MacMoved { port, mac, .. } if port == "guest3" && *mac == moving.to_string())
        });
        let told = stream.next();
        new.wait(told + 300);
        wait_carried(&daemon, "guest1");
        drop(stream);
        let late: Vec<_> = old.take().range(told..).collect();
        assert!(late.is_empty(), "round {round}: told at {told}, and by the old port came {late:?}");
    }
    assert_balanced(&daemon);
    daemon.stop();
}

/// fast-path.md case 5, under load.
#[test]
fn case_5_every_frame_is_judged_once_the_change_is_answered() {
    require!(namespaces());
    let (lab, daemon, port) = silent(3, |_| "");
    for guest in 1..=3 {
        introduce(&lab, &daemon, guest, mac(guest));
    }
    std::fs::write(daemon.path("all.bpf"), "1\n6 0 0 65535\n").expect("a program");
    let config = |one: &str, three: &str| [port(1, one), port(2, ""), port(3, three)].concat();
    let apply = |one: &str, three: &str| {
        daemon.write_config(&config(one, three));
        daemon.cli(&["apply"]).expect_success();
    };
    let stream = Stream::start(lab.guest(1), mac(1), mac(2));
    let drops = |reason: &str| daemon.port("guest1").counters.drops.get(reason).copied().unwrap_or(0);
    for _ in 0..2 {
        wait_carried(&daemon, "guest1");
        let mut judged = Sink::open(lab.guest(2));
        apply("filter = [{ action = \"drop\", program = \"all.bpf\" }]", "");
        let (from, before) = (stream.next(), carried(&daemon, "guest1"));
        stream.wait(500);
        wait_until("frames that the rule dropped", PATIENCE, || drops("input_filter") > 0);
        assert_eq!(carried(&daemon, "guest1"), before, "past the rule");
        let passed: Vec<_> = judged.take().range(from..).collect();
        assert!(passed.is_empty(), "from {from} on, by the rule came {passed:?}");
        apply("", "");
        let from = stream.next();
        judged.wait(from);
        wait_carried(&daemon, "guest1");

        let (mut at, mut listener) = (Sink::open(lab.guest(2)), Sink::open(lab.guest(3)));
        apply("", "promiscuous = \"allow\"");
        let (from, before) = (stream.next(), carried(&daemon, "guest1"));
        stream.wait(500);
        assert_eq!(carried(&daemon, "guest1"), before, "past the listener");
        let until = stream.next();
        at.wait(until);
        listener.wait(until);
        let got: BTreeSet<u32> = at.take().range(from..until).copied().collect();
        let missed: Vec<_> = got.difference(listener.take()).collect();
        assert!(missed.is_empty() && !got.is_empty(), "from {from} on, the listener missed {missed:?}");
        apply("", "");
        wait_carried(&daemon, "guest1");

        let limited = drops("rate_limit");
        apply("rate = 1", "");
        let before = carried(&daemon, "guest1");
        wait_until("frames beyond the rate", PATIENCE, || drops("rate_limit") > limited);
        assert_eq!(carried(&daemon, "guest1"), before, "past the rate");
        apply("", "");
        assert_eq!(slow(&daemon, "guest1"), None);
    }
    wait_carried(&daemon, "guest1");
    drop(stream);
    assert_balanced(&daemon);
    daemon.stop();
}

/// fast-path.md case 7, the MTU.
#[test]
fn case_7_the_mtu_changes_under_load() {
    require!(namespaces());
    let (lab, daemon, _) = silent(2, |_| "");
    for guest in 1..=2 {
        introduce(&lab, &daemon, guest, mac(guest));
    }
    let stream = Stream::start(lab.guest(1), mac(1), mac(2));
    let mut sink = Sink::open(lab.guest(2));
    let too_long = || daemon.port("guest2").counters.drops.get("too_long").copied().unwrap_or(0);
    for _ in 0..3 {
        wait_carried(&daemon, "guest1");
        let before = too_long();
        lab.host.ip(["link", "set", "ve2", "mtu", "1000"]);
        wait_until("frames that are too long", PATIENCE, || too_long() > before + 100);
        let before = carried(&daemon, "guest1");
        stream.wait(200);
        assert_eq!(carried(&daemon, "guest1"), before, "too long, and carried");
        lab.host.ip(["link", "set", "ve2", "mtu", "1500"]);
        let from = stream.next();
        sink.wait(from);
    }
    wait_carried(&daemon, "guest1");
    drop(stream);
    assert_balanced(&daemon);
    daemon.stop();
}

/// fast-path.md case 7, another namespace.
#[test]
fn case_7_an_interface_moves_to_another_namespace_and_back_under_load() {
    require!(namespaces());
    let lab = Lab::new(2);
    let elsewhere = Netns::new("elsewhere");
    for number in [1, 2] {
        let name = format!("ve{number}");
        lab.guest(number).sysctl("net.ipv6.conf.default.disable_ipv6", "1");
        lab.host.veth(&name, lab.guest(number), "eth0");
        lab.host.configure(&name, &Interface::new());
        lab.guest(number).configure("eth0", &Interface::new().mac(&mac(number).to_string()));
    }
    let ports = (1..=2).map(|n| format!("[network.lab.port.guest{n}]\ninterface = {{ name = \"ve{n}\" }}\n"));
    let daemon = lab.start(&ports.collect::<String>());
    daemon.wait_up(&["guest1", "guest2"]);
    for guest in 1..=2 {
        introduce(&lab, &daemon, guest, mac(guest));
    }
    let stream = Stream::start(lab.guest(1), mac(1), mac(2));
    for moved in ["ve2", "ve1"] {
        wait_carried(&daemon, "guest1");
        let port = moved.replace("ve", "guest");
        lab.host.ip(["link", "set", moved, "netns", elsewhere.name()]);
        daemon.wait_state(&port, PortState::Waiting);
        stream.wait(100);
        // What was done to it is undone where it is now.
        elsewhere.ip(["link", "set", moved, "up"]);
        elsewhere.ip(["link", "set", moved, "netns", lab.host.name()]);
        lab.host.ip(["link", "set", moved, "up"]);
        daemon.wait_up(&[&port]);
        let number = if moved == "ve2" { 2 } else { 1 };
        introduce(&lab, &daemon, number, mac(number));
    }
    wait_carried(&daemon, "guest1");
    drop(stream);
    assert_balanced(&daemon);
    daemon.stop();
}

/// fast-path.md case 9.
#[test]
fn case_9_a_forged_source_goes_neither_fast_nor_out() {
    require!(namespaces());
    let guarded = |number: u8| match number {
        1 => "mac = \"52:54:00:00:00:01\"",
        3 => "mac = \"52:54:00:00:00:03\"",
        _ => "",
    };
    let (lab, daemon, _) = silent(4, guarded);
    for guest in 1..=4 {
        introduce(&lab, &daemon, guest, mac(guest));
    }
    let mut sink = Sink::open(lab.guest(2));
    let drops = |port: &str| daemon.port(port).counters.drops.get("source_guard").copied().unwrap_or(0);
    // From a guarded port, with addresses of others and one of nobody's; from another with one that is set elsewhere.
    for (guest, forged) in [(1, mac(4)), (1, mac(3)), (1, mac(99)), (4, mac(3))] {
        let port = format!("guest{guest}");
        let (before, fast) = (drops(&port), carried(&daemon, &port));
        let stream = Stream::start(lab.guest(guest), forged, mac(2));
        stream.wait(300);
        let sent = stream.next();
        wait_until("the drops", PATIENCE, || drops(&port) - before >= u64::from(sent));
        assert_eq!(carried(&daemon, &port), fast, "{forged} by {port}");
    }
    let honest = Stream::start(lab.guest(1), mac(1), mac(2));
    wait_carried(&daemon, "guest1");
    sink.wait(honest.next());
    drop(honest);
    sink.take();
    assert_eq!(sink.sources, BTreeSet::from([mac(1)]));
    assert_balanced(&daemon);
    daemon.stop();
}

/// fast-path.md case 10, without its rate.
#[test]
fn case_10_a_flood_of_sources_fills_its_own_quota_and_others_go_on_fast() {
    require!(namespaces());
    const SOURCES: u32 = 20_000;
    let (lab, daemon, _) = silent(3, |number| if number == 3 { "quota = 16" } else { "" });
    for guest in 1..=3 {
        introduce(&lab, &daemon, guest, mac(guest));
    }
    let stream = Stream::start(lab.guest(1), mac(1), mac(2));
    wait_carried(&daemon, "guest1");
    let before = daemon.port("guest1");
    let socket = netns::within(&lab.guest(3).path(), || sender("eth0")).expect("a sender");
    for number in 0..SOURCES {
        let [_, a, b, c] = number.wrapping_mul(2_654_435_761).to_be_bytes();
        // A full queue of the interface's is a flood as well.
        let _ = rustix::io::write(&socket, &numbered(mac(2), MacAddr([0x52, 0x54, 9, a, b, c]), number));
    }
    stream.wait(100);
    let known = daemon.fdb("lab").iter().filter(|entry| entry.port == "guest3").count();
    assert!(known <= 16, "{known} addresses at guest3");
    let after = daemon.port("guest1");
    let all = after.counters.rx_frames - before.counters.rx_frames;
    let fast = after.fast.expect("one").rx_frames - before.fast.expect("one").rx_frames;
    assert!(fast > 0 && fast == all, "of {all} frames the kernel carried {fast}");
    drop(stream);
    assert_balanced(&daemon);
    daemon.stop();
}

/// Found by the fuzz target `fast_copy`.
#[test]
fn case_9_a_static_address_goes_fast_no_more_once_its_port_is_guarded() {
    require!(namespaces());
    let (lab, daemon, port) = silent(2, |_| "");
    let fixed = mac(77);
    let entry = format!("[network.lab]\nfdb = {{ static = [{{ mac = \"{fixed}\", port = \"guest1\" }}] }}\n");
    let apply = |settings: &str| {
        daemon.write_config(&[&entry[..], &port(1, settings), &port(2, "")].concat());
        daemon.cli(&["apply"]).expect_success();
    };
    apply("");
    introduce(&lab, &daemon, 2, mac(2));
    let stream = Stream::start(lab.guest(1), fixed, mac(2));
    wait_carried(&daemon, "guest1");
    let mut sink = Sink::open(lab.guest(2));
    apply("mac = \"52:54:00:00:00:01\"");
    let (from, before) = (stream.next(), carried(&daemon, "guest1"));
    stream.wait(300);
    wait_until("the drops", PATIENCE, || {
        daemon.port("guest1").counters.drops.get("source_guard").is_some_and(|count| *count > 0)
    });
    assert_eq!(carried(&daemon, "guest1"), before, "past the guard");
    let passed: Vec<_> = sink.take().range(from..).collect();
    assert!(passed.is_empty(), "from {from} on came {passed:?}");
    drop(stream);
    assert_balanced(&daemon);
    daemon.stop();
}
