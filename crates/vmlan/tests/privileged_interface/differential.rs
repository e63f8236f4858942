//! The same frames through two networks of the same ports, of which the kernel carries one: what comes out is the same,
//! and so is what is counted.
//!
//! Addresses stay behind their ports, and are known before the frames of a case come, so the order in which the
//! frames of different ports pass a network decides nothing. Left out of the comparison are the counters of traffic
//! classes, which the kernel does not keep.
//!
//! `VMLAN_DIFFERENTIAL_FRAMES=100000` makes it long, `VMLAN_DIFFERENTIAL_SEED` another run.

mod case;

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use attack::books::imbalances;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use rustix::net::{AddressFamily, SocketType, netdevice, socket};
use testbed::{Interface, Netns, poll_until, require, wait_until};
use vmlan_api::{Counters, Port, PortState};
use vmlan_frame::MacAddr;
use vmlan_sys::packet::{Place, Ring};
use vmlan_sys::{netns, tap};

use self::case::{ADDRESSES, Case, PORTS, Role, Written, address};
use crate::support::{Daemon, PATIENCE, directory};

/// Cases of one daemon, whose forwarding database has room for the addresses of them all.
const CASES: u32 = 100;
/// Frames of a run that nobody asked to be long, about.
const FRAMES: u64 = 1900;
/// Frames of a case on the average.
const OF_A_CASE: u64 = 128;
const NETWORKS: [&str; 2] = ["auto", "off"];

/// The guest's end of a port: a veth's other end, or the program that has a TAP open.
enum End {
    Veth(Ring),
    Tap(OwnedFd),
}

/// A frame that a guest got: protocol and control information of the tag that the kernel keeps beside it, the part of
/// the virtio-net header that says what is open, and the octets.
type Received = (Option<(u16, u16)>, Vec<u8>, Vec<u8>);

impl End {
    /// True if the kernel takes it.
    fn send(&self, frame: &Written) -> bool {
        let written = match self {
            End::Veth(ring) => rustix::io::write(ring.socket(), &[&frame.header[..], &frame.octets].concat()),
            End::Tap(tap) => rustix::io::write(tap, &[&frame.header[..], &[0, 0], &frame.octets].concat()),
        };
        written.is_ok()
    }

    fn receive(&mut self, received: &mut Vec<Received>) {
        let mut buffer = vec![0; 70_000];
        match self {
            End::Veth(ring) => {
                while let Some(slot) = ring.front() {
                    let tag = slot.tag();
                    let whole = match slot.place() {
                        Place::Here(header, octets) => [&header[..], octets].concat(),
                        place => {
                            assert_eq!(place, Place::Queue);
                            Vec::new()
                        }
                    };
                    slot.give_back();
                    let whole = match whole.is_empty() {
                        false => whole,
                        true => {
                            let len =
                                rustix::io::read(ring.socket(), &mut buffer).expect("the frame of the slot");
                            buffer[..len].to_vec()
                        }
                    };
                    received.push((tag, open(&whole), whole[10..].to_vec()));
                }
            }
            End::Tap(tap) => {
                while let Ok(len) = rustix::io::read(tap.as_fd(), &mut buffer) {
                    received.push((None, open(&buffer), buffer[tap::HEADER..len].to_vec()));
                }
            }
        }
    }
}

/// The part of a virtio-net header that says what is open, without the length of the headers, which is a hint.
fn open(header: &[u8]) -> Vec<u8> {
    let checksum = header[0] & 1;
    let place = if checksum == 1 { &header[6..10] } else { &[] };
    [&[checksum, header[1]], &header[4..6], place].concat()
}

struct Lab {
    daemon: Daemon,
    /// Of each network, of each port.
    ends: [Vec<End>; 2],
    /// Frames of cases that each of the networks got.
    sent: u64,
    _host: Netns,
    _guests: Netns,
}

/// MTU of a port's interface; the networks have 1500.
const MTUS: [u32; PORTS] = [1500, 1200, 2000, 1500, 1500];

impl Lab {
    fn new() -> Lab {
        let (host, guests) = (Netns::new("host"), Netns::new("guests"));
        for namespace in [&host, &guests] {
            // Nobody but the test sends.
            namespace.sysctl("net.ipv6.conf.default.disable_ipv6", "1");
        }
        let ends = NETWORKS.map(|network| {
            (0..PORTS).map(|port| end(&host, &guests, &format!("{network}{port}"), port)).collect()
        });
        let plain = vec![String::new(); PORTS];
        let daemon = Daemon::start_within(&host, directory(), &config(&plain));
        let lab = Lab { daemon, ends, sent: 0, _host: host, _guests: guests };
        lab.wait_up();
        lab
    }

    fn wait_up(&self) {
        wait_until("all ports", PATIENCE, || {
            self.daemon.ports().iter().filter(|port| port.state == PortState::Up).count() == 2 * PORTS
        });
    }

    /// The ports of each network, in order.
    fn ports(&self) -> [Vec<Port>; 2] {
        let ports = self.daemon.ports();
        NETWORKS.map(|network| {
            let find = |port: usize| {
                let is_it = |known: &&Port| known.network == network && known.port == format!("p{port}");
                ports.iter().find(is_it).expect("a port of ours").clone()
            };
            (0..PORTS).map(find).collect()
        })
    }

    fn apply(&self, case: &Case, number: u16) {
        let settings: Vec<_> = (0..PORTS).map(|port| settings(case, number, port)).collect();
        self.daemon.write_config(&config(&settings));
        self.daemon.cli(&["apply"]).expect_success();
        self.wait_up();
    }

    /// Sends to both networks; the numbers of frames that the kernel took from each port.
    fn send<'a>(&mut self, frames: impl Iterator<Item = (usize, &'a Written)>) -> [u64; PORTS] {
        let mut taken = [0; PORTS];
        for (port, frame) in frames {
            let [auto, off] = self.ends.each_ref().map(|ends| ends[port].send(frame));
            assert_eq!(auto, off, "one kernel, two opinions about {frame:?}");
            taken[port] += u64::from(auto);
        }
        taken
    }

    /// Makes the addresses of the case known, to the networks and to the kernel.
    fn acquaint(&mut self, case: &Case, number: u16) -> [u64; PORTS] {
        let learnt = case.learnt();
        let hello = |&(of, port, vlan, is_tagged): &(usize, usize, Option<u16>, bool)| {
            let MacAddr(source) = address(number, of);
            let tag = vlan.filter(|_| is_tagged).map(|vlan| [[0x81, 0], vlan.to_be_bytes()].concat());
            let octets = [&[0xff; 6][..], &source, &tag.unwrap_or_default(), &[0x88, 0xb5], &[of as u8; 46]];
            (port, Written { octets: octets.concat(), ..Written::default() })
        };
        let hellos: Vec<_> = learnt.iter().map(hello).collect();
        let ours: Vec<_> = (0..ADDRESSES).map(|of| address(number, of).to_string()).collect();
        let mut sent = [0; PORTS];
        let mut rounds = 0;
        wait_until("addresses that are known", PATIENCE, || {
            let fdb = NETWORKS.map(|network| self.daemon.fdb(network));
            let is_known = |&(of, port, vlan, _): &(usize, usize, Option<u16>, bool)| {
                let (mac, port, vlan) = (&ours[of], format!("p{port}"), vlan.map(u64::from));
                let is_it = |entry: &vmlan_api::FdbEntry| {
                    entry.mac == *mac && entry.port == port && entry.vlan == vlan
                };
                fdb.iter().all(|entries| entries.iter().any(is_it))
            };
            let is_all = learnt.iter().all(is_known);
            // A worker that finds the database busy learns at the next occasion.
            if !is_all && rounds % 20 == 0 {
                let taken = self.send(hellos.iter().map(|(port, frame)| (*port, frame)));
                sent.iter_mut().zip(taken).for_each(|(sent, taken)| *sent += taken);
            }
            rounds += 1;
            let mut of_case = fdb[0].iter().filter(|entry| ours.contains(&entry.mac));
            is_all && of_case.all(|entry| entry.fast)
        });
        sent
    }

    /// Waits until both networks have dealt with everything in the same way.
    fn compare(
        &mut self,
        before: &[Vec<Port>; 2],
        sent: [u64; PORTS],
        limit: Duration,
    ) -> Result<(), String> {
        let mut received: [[Vec<Received>; PORTS]; 2] = Default::default();
        let mut faults = Vec::new();
        let is_same = poll_until(limit, || {
            faults = self.faults(before, sent);
            for (ends, received) in self.ends.iter_mut().zip(&mut received) {
                for (end, received) in ends.iter_mut().zip(received) {
                    end.receive(received);
                    received.sort();
                }
            }
            let [auto, off] = &received;
            for (port, (auto, off)) in auto.iter().zip(off).enumerate() {
                if auto != off {
                    let (more, less) = (without(auto, off), without(off, auto));
                    faults.push(format!("port {port} got with auto {more:02x?}, with off {less:02x?}"));
                }
            }
            faults.is_empty()
        });
        if is_same { Ok(()) } else { Err(faults.join("\n")) }
    }

    /// Differences between the counters of both networks, and from what was sent.
    fn faults(&self, before: &[Vec<Port>; 2], sent: [u64; PORTS]) -> Vec<String> {
        let now = self.ports();
        let mut faults = imbalances(&now.concat());
        for port in 0..PORTS {
            let [auto, off] = now.each_ref().map(|ports| comparable(&ports[port].counters));
            if auto != off {
                faults.push(format!("port {port} counts with auto {auto:?}, with off {off:?}"));
            }
            let heard = auto.rx_frames - before[0][port].counters.rx_frames;
            if heard != sent[port] || auto.queued > 0 {
                faults.push(format!("port {port} heard {heard} of {}, {} wait", sent[port], auto.queued));
            }
        }
        faults
    }
}

fn comparable(counters: &Counters) -> Counters {
    Counters { classes: Default::default(), ..counters.clone() }
}

/// The frames that the first has beyond the second.
fn without(one: &[Received], other: &[Received]) -> Vec<Received> {
    let mut other = other.to_vec();
    let is_left = |frame: &&Received| match other.iter().position(|known| known == *frame) {
        Some(at) => {
            other.remove(at);
            false
        }
        None => true,
    };
    one.iter().filter(is_left).cloned().collect()
}

/// Makes the interface of a port, and opens the guest's end of it.
fn end(host: &Netns, guests: &Netns, name: &str, port: usize) -> End {
    let interface = Interface::new().mtu(MTUS[port]);
    if let 2 | 3 = port {
        let device = netns::within(&host.path(), || Ok(tap::open(name, tap::Options::default())?.0));
        let device = device.expect("a TAP");
        // The kernel cuts for the other one.
        vmlan_drivers::tap::set_offloads(&device, port == 2).expect("offloads");
        host.configure(name, &interface);
        return End::Tap(device);
    }
    // The last one's guest is in the host's own namespace.
    let (guest, other) = if port == 4 { (host, format!("{name}g")) } else { (guests, name.to_owned()) };
    host.veth(name, guest, &other);
    host.configure(name, &interface);
    guest.configure(&other, &interface);
    let listen = || {
        let any = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
        // Everything.
        Ring::listener(netdevice::name_to_index(&any, &other)?, &[(6, 0, 0, u32::MAX)])
    };
    End::Veth(netns::within(&guest.path(), listen).expect("a listener"))
}

fn config(settings: &[String]) -> String {
    let mut config = String::new();
    for network in NETWORKS {
        config +=
            &format!("[network.{network}]\nmtu = 1500\nfast = \"{network}\"\nfdb = {{ size = 16384 }}\n");
        for (port, settings) in settings.iter().enumerate() {
            config += &format!(
                "[network.{network}.port.p{port}]\ninterface = {{ name = \"{network}{port}\" }}\nquota = \
                 8192\nstorm = 0\ncopies = 0\n{settings}\n"
            );
        }
    }
    config
}

fn settings(case: &Case, number: u16, port: usize) -> String {
    let settings = &case.ports[port];
    let mut lines = Vec::new();
    match &settings.role {
        Role::Unset => {}
        Role::Access(vlan) => lines.push(format!("vlan = {{ access = {vlan} }}")),
        Role::Trunk { tagged, native } => {
            let native = native.map(|vlan| format!(", native = {vlan}")).unwrap_or_default();
            lines.push(format!("vlan = {{ tagged = {tagged:?}{native} }}"));
        }
    }
    if settings.set > 0 {
        let macs: Vec<_> = case.macs(port).map(|of| address(number, of).to_string()).collect();
        lines.push(format!("mac = {macs:?}\nguard = \"{}\"", if settings.guard { "on" } else { "off" }));
    }
    if settings.isolated {
        lines.push("isolation = \"isolated\"".to_owned());
    }
    lines.join("\n")
}

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("a number"))
}

/// fast-path.md case 2.
#[test]
fn case_2_what_comes_out_is_what_comes_out_without() {
    require!(namespaces());
    let frames = variable("VMLAN_DIFFERENTIAL_FRAMES").unwrap_or(FRAMES);
    let seed = variable("VMLAN_DIFFERENTIAL_SEED").unwrap_or(0);
    let (mut done, mut fast, mut run) = (0, 0, 0);
    while done < frames {
        let (sent, carried) =
            compare_cases(seed + run, ((frames - done) / OF_A_CASE + 1).min(CASES.into()) as u32);
        (done, fast, run) = (done + sent, fast + carried, run + 1);
    }
    eprintln!("{done} frames, {fast} of them carried by the kernel");
    // Or else nothing was compared.
    assert!(fast * 10 >= done, "the kernel carried {fast} of {done} frames");
}

/// Tries so many cases; answers how many frames there were, and how many of them the kernel carried.
fn compare_cases(seed: u64, cases: u32) -> (u64, u64) {
    let lab = RefCell::new(Lab::new());
    let (number, failed) = (Cell::new(0_u16), Cell::new(false));
    let config = Config {
        cases,
        max_shrink_iters: 200,
        max_shrink_time: 60_000,
        failure_persistence: None,
        ..Config::default()
    };
    let mut octets = [0; 32];
    octets[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &octets);
    let result = TestRunner::new_with_rng(config, rng).run(&case::case(), |case| {
        let mut lab = lab.borrow_mut();
        number.set(number.get() + 1);
        lab.apply(&case, number.get());
        // While a fault is made smaller, a short wait says enough.
        let limit = if failed.get() { Duration::from_secs(1) } else { PATIENCE };
        let before = lab.ports();
        let sent = lab.acquaint(&case, number.get());
        let frames: Vec<_> = case.frames.iter().enumerate().collect();
        let frames: Vec<_> = frames
            .into_iter()
            .map(|(at, frame)| (frame.port, frame.write(&case, number.get(), at)))
            .collect();
        let result = lab.compare(&before, sent, PATIENCE).and_then(|()| {
            let before = lab.ports();
            let sent = lab.send(frames.iter().map(|(port, frame)| (*port, frame)));
            lab.sent += sent.iter().sum::<u64>();
            lab.compare(&before, sent, limit)
        });
        result.map_err(|faults| {
            if !failed.replace(true) {
                eprintln!("seed {seed}, case {}: {faults}", number.get());
            }
            TestCaseError::fail(faults)
        })
    });
    if let Err(fault) = result {
        panic!("seed {seed}: {fault}");
    }
    let lab = lab.into_inner();
    let carried = |port: &Port| port.fast.as_ref().expect("an interface port").rx_frames;
    let [auto, off] = lab.ports().map(|ports| ports.iter().map(carried).sum::<u64>());
    assert_eq!(off, 0);
    let Lab { daemon, sent, .. } = lab;
    daemon.stop();
    (sent, auto)
}
