//! fast-path.md case 2, at a trunk: with and without the kernel's way, the same frames come out at the same places, and
//! are counted alike.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use testbed::{Netns, Process, Signal, require, wait_until};
use vmlan_frame::MacAddr;

use crate::lab::carried;
use crate::support::{Daemon, PATIENCE, assert_balanced, mac};
use crate::trunk::{HOST, Joined, WIRE, send, takes_part};

/// A second station on the wire, and an address that is nobody's.
const OTHER: u8 = 23;
const NOBODY: u8 = 77;

const FRAMES: u16 = 3000;

/// The tags under which a network that knows no VLANs, and one with three, hear a station in each place.
const ANY: &[Option<u16>] = &[None];
const EACH: &[Option<u16>] = &[None, Some(10), Some(20)];

/// The places where frames are sent and received: two guests, the host and the wire.
const PLACES: [u8; 4] = [1, 2, HOST, WIRE];

#[test]
fn case_2_frames_go_where_they_go_without_the_kernel() {
    require!(namespaces(), tool("tcpdump"));
    let plain = ["", "", ""];
    let vlans = [
        "vlan = { tagged = [10, 20], native = 1 }",
        "vlan = { access = 10 }",
        "vlan = { tagged = [10], native = 1 }",
    ];
    let same = ["vlan = { access = 10 }", "vlan = { access = 10 }", "vlan = { tagged = [10, 20] }"];
    let isolated = ["", "isolation = \"isolated\"", "isolation = \"isolated\""];
    for (seed, (settings, tags)) in
        [(plain, ANY), (vlans, EACH), (same, ANY), (isolated, ANY)].into_iter().enumerate()
    {
        let [slow, fast] = ["off", "auto"].map(|key| run(seed as u64, settings, tags, key));
        for ((place, slow), (_, fast)) in slow.frames.iter().zip(&fast.frames) {
            let only = |one: &Vec<String>, other: &Vec<String>| {
                one.iter().filter(|line| !other.contains(line)).cloned().collect::<Vec<_>>()
            };
            let (lost, extra) = (only(slow, fast), only(fast, slow));
            assert!(
                slow == fast,
                "{settings:?} at {place}: only by the daemon {lost:#?}, only fast {extra:#?}"
            );
            assert!(!slow.is_empty(), "nothing at {place}");
        }
        assert_eq!(slow.counts, fast.counts, "{settings:?}");
        assert!(slow.carried.iter().all(|count| *count == 0), "{:?}", slow.carried);
        // Of the trunk's and the guests' frames some hundred have sources and destinations that are known.
        assert!(fast.carried.iter().all(|count| *count > 10), "{settings:?}: {:?}", fast.carried);
    }
}

/// Of each port: frames and octets received and sent, and drops by reason.
type Counted = BTreeMap<String, ([u64; 4], BTreeMap<String, u64>)>;

/// The outcome of a run.
struct Outcome {
    /// The frames that were received, by place.
    frames: BTreeMap<u8, Vec<String>>,
    counts: Counted,
    carried: [u64; 3],
}

fn run(seed: u64, [trunk, one, two]: [&str; 3], tags: &[Option<u16>], key: &str) -> Outcome {
    let joined = Joined::new(2);
    for number in PLACES {
        for which in ["all", "default"] {
            joined.netns(number).sysctl(&format!("net.ipv6.conf.{which}.disable_ipv6"), "1");
        }
    }
    joined.lab.host.ip(["link", "set", "eth0", "mtu", "1400"]);
    let guest = |number: u8, settings: &str| {
        joined.lab.veth(number, &format!("mac = \"{}\"\nfast = \"{key}\"\n{settings}", mac(number)))
    };
    let config =
        format!("[network.lab.trunk]\ninterface = \"eth0\"\n{trunk}\n{}{}", guest(1, one), guest(2, two));
    let daemon = joined.lab.start(&config);
    daemon.wait_up(&["trunk", "guest1", "guest2"]);
    wait_until("the trunk's part", PATIENCE, || takes_part(&daemon));
    let senders = PLACES.map(|number| joined.sender(number));
    acquaint(&daemon, &senders, tags, key == "auto");
    let (mut before, mut alike) = (counts(&daemon), 0);
    wait_until("everything to stand still", PATIENCE, || {
        let now = counts(&daemon);
        alike = if std::mem::replace(&mut before, now.clone()) == now { alike + 1 } else { 0 };
        alike == 10
    });
    let mut receivers = PLACES.map(|number| (number, receive(joined.netns(number))));
    let mut random = Random(seed * 2 + 1);
    let mut sent = [0; PLACES.len()];
    for number in 0..FRAMES {
        let at = random.below(PLACES.len());
        let frame = frame(&mut random, PLACES[at], number);
        send(&senders[at], &frame);
        sent[at] += 1;
        // No queue fills up.
        if number % 64 == 63 {
            wait_until("what the guests sent", PATIENCE, || {
                let now = since(&before, counts(&daemon));
                [now["guest1"].0[0], now["guest2"].0[0]] == sent[..2]
            });
        }
    }
    let (mut last, mut alike) = (None, 0);
    wait_until("everything to stand still", PATIENCE, || {
        let now = (counts(&daemon), receivers.each_ref().map(|(_, receiver)| receiver.log().len()));
        alike = if last.replace(now.clone()) == Some(now) { alike + 1 } else { 0 };
        alike == 10
    });
    let frames = receivers.each_mut().map(|(number, receiver)| (*number, received(receiver)));
    assert_balanced(&daemon);
    let carried = ["trunk", "guest1", "guest2"].map(|port| carried(&daemon, port));
    let counts = since(&before, counts(&daemon));
    daemon.stop();
    Outcome { frames: frames.into(), counts, carried }
}

/// Has all stations heard in every VLAN, the first guest's address also where the guest is not, and waits until the
/// kernel may carry frames for everybody. So nothing is learnt later: a frame whose source is new while the control
/// side looks at the FDB teaches nothing, and what is for that address has no receiver until the next one comes.
fn acquaint(daemon: &Daemon, senders: &[OwnedFd; 4], tags: &[Option<u16>], fast: bool) {
    let wire = senders.last().expect("the wire's");
    let many = tags.len();
    wait_until("stations", PATIENCE, || {
        for (number, tag) in [1, WIRE, OTHER].into_iter().flat_map(|n| tags.iter().map(move |tag| (n, *tag)))
        {
            send(wire, &octets(mac(NOBODY), mac(number), tag, 60, 9));
            send(wire, &octets(MacAddr::BROADCAST, mac(number), tag, 60, 9));
        }
        let fdb = daemon.fdb("lab");
        [(1, many), (2, 1), (HOST, 1), (WIRE, many), (OTHER, many)].iter().all(|(number, entries)| {
            let mut of_it = fdb.iter().filter(|entry| entry.mac == mac(*number).to_string());
            of_it.clone().count() == *entries && (!fast || of_it.all(|entry| entry.fast))
        })
    });
}

/// A frame of a place's: mostly between those that are there, by the addresses that they have.
fn frame(random: &mut Random, place: u8, number: u16) -> Vec<u8> {
    let own = if place == WIRE { [WIRE, OTHER][random.below(2)] } else { place };
    let forged = [1, 2, HOST, WIRE, NOBODY + 1][random.below(5)];
    // The guests' addresses are set for their ports, so nothing moves, and all were heard before.
    let from = if random.below(8) == 0 { forged } else { own };
    let to = match random.below(20) {
        0 => MacAddr::BROADCAST,
        1 => mac(NOBODY),
        _ => mac([1, 2, HOST, WIRE, OTHER][random.below(5)]),
    };
    let tag = [None, None, None, Some(10), Some(20), Some(30), Some(0)][random.below(7)];
    let len = [60, 60, 200, 1414, 1415, 1418, 1514][random.below(7)];
    let len = if place == HOST || place == WIRE { len.min(1414) } else { len };
    octets(to, mac(from), tag, len, number)
}

/// A packet of UDP for nobody's IP address, whose destination port is its number.
fn octets(to: MacAddr, from: MacAddr, tag: Option<u16>, len: usize, number: u16) -> Vec<u8> {
    let tag = tag.map(|tag| [&[0x81, 0][..], &tag.to_be_bytes()].concat()).unwrap_or_default();
    let total = ((len - 14) as u16).to_be_bytes();
    let ip = [0x45, 0, total[0], total[1], 0, 1, 0, 0, 64, 17, 0, 0, 10, 77, 0, 1, 10, 77, 0, 2];
    let udp = ((len - 34) as u16).to_be_bytes();
    let number = number.to_be_bytes();
    let udp = [0, 7, number[0], number[1], udp[0], udp[1], 0, 0];
    let mut octets = [&to.0[..], &from.0, &tag, &[8, 0], &ip, &udp].concat();
    octets.resize(len + tag.len(), 0);
    octets
}

/// A tcpdump of the test's frames that come in.
fn receive(netns: &Netns) -> Process {
    // With tags, and without.
    let filter = "udp or (vlan and udp)";
    let words = ["-i", "eth0", "-Q", "in", "-n", "-e", "-t", "-l", "-B", "16384", "--immediate-mode", filter];
    let mut receiver = netns.spawn("tcpdump", words);
    receiver.wait_for_log("listening on", PATIENCE);
    receiver
}

/// Ends a tcpdump; returns the frames that it saw, sorted.
fn received(receiver: &mut Process) -> Vec<String> {
    receiver.signal(Signal::INT);
    wait_until("the end of the capture", PATIENCE, || !receiver.is_running());
    let log = receiver.log();
    assert!(log.contains("0 packets dropped by kernel"), "{log}");
    let mut lines: Vec<_> =
        log.lines().filter(|line| line.contains("10.77.0.1")).map(str::to_owned).collect();
    lines.sort();
    lines
}

fn counts(daemon: &Daemon) -> Counted {
    let of = |port: vmlan_api::Port| {
        let vmlan_api::Counters { rx_frames, rx_octets, tx_frames, tx_octets, drops, .. } = port.counters;
        (port.port, ([rx_frames, rx_octets, tx_frames, tx_octets], drops))
    };
    daemon.ports().into_iter().map(of).collect()
}

/// Returns the difference of counts.
fn since(before: &Counted, now: Counted) -> Counted {
    let of = |(port, (counts, drops)): (String, ([u64; 4], BTreeMap<String, u64>))| {
        let (former, former_drops) = &before[&port];
        let counts = std::array::from_fn(|at| counts[at] - former[at]);
        let less = |(reason, count): (String, u64)| {
            let former = former_drops.get(&reason).copied().unwrap_or(0);
            (reason, count - former)
        };
        (port, (counts, drops.into_iter().map(less).filter(|(_, count)| *count > 0).collect()))
    };
    now.into_iter().map(of).collect()
}

/// xorshift64 (Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % limit
    }
}
