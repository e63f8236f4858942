//! A packet socket and its ring on a pair of interfaces, whose other end the test sends from.
#![cfg(target_os = "linux")]

#[path = "../src/test_segments.rs"]
mod test_segments;

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};
use std::time::{self, Duration};
use std::{fs, thread};

use test_segments::segments;
use testbed::{Netns, poll_until, require};
use vmlan_drivers::host::PacketSocket;
use vmlan_drivers::{Endpoint, Fault, Queue, Settings};
use vmlan_frame::{Batch, Context, Counters, DropReason, Frame, Instant, Offload, Pool, PoolSizes, VlanTag};
use vmlan_sys::packet::{HEADER, Instruction, Ring, SLOTS, listener};

const PATIENCE: Duration = Duration::from_secs(20);

/// Programs of classic BPF: a constant for an answer.
const EVERYTHING: [Instruction; 1] = [(6, 0, 0, u32::MAX)];
const NOTHING: [Instruction; 1] = [(6, 0, 0, 0)];

/// The EtherType of the test's frames; others are left out.
const TYPE: [u8; 2] = [0x88, 0xb5];

struct Fixture {
    netns: Netns,
    pool: Pool,
    counters: Arc<Counters>,
    queue: Box<dyn Queue>,
    sender: OwnedFd,
}

impl Fixture {
    /// A pair of interfaces, `near` with the queue and `far` with the sender.
    #[track_caller]
    fn new(sizes: PoolSizes) -> Fixture {
        let netns = Netns::new("packet");
        netns.sysctl("net.ipv6.conf.default.disable_ipv6", "1");
        netns.ip(["link", "add", "near", "type", "veth", "peer", "name", "far"]);
        for interface in ["near", "far"] {
            netns.ip(["link", "set", interface, "up"]);
        }
        let counters = Arc::new(Counters::new(1));
        let sender = open(&netns, "far", |index| listener(index, &NOTHING));
        let queue = ring(&netns, "near").queue(settings(&counters)).expect("the ring");
        Fixture { pool: Pool::new(sizes), netns, counters, queue, sender }
    }

    /// Sends a frame whose checksum or segments may be left to the other end.
    #[track_caller]
    fn send(&self, request: Offload, frame: &[u8]) {
        let octets = [&request.to_virtio()[..HEADER], frame].concat();
        assert_eq!(rustix::io::write(&self.sender, &octets).expect("room for a frame"), octets.len());
    }

    fn turn(&mut self) -> (Batch, Result<(), Fault>) {
        let mut batch = Batch::new();
        let cx = Context { worker: 0, now: Instant::ZERO, pool: &self.pool };
        let result = self.queue.receive(&cx, &mut batch);
        (batch, result.map(drop))
    }

    /// Waits until so many frames have come, and answers what `look` sees in them.
    #[track_caller]
    fn receive<T>(&mut self, count: usize, look: impl Fn(&Frame) -> T) -> Vec<T> {
        let mut seen = Vec::new();
        let arrived = poll_until(PATIENCE, || {
            let (batch, result) = self.turn();
            result.expect("an interface");
            seen.extend(batch.iter().map(&look));
            seen.len() >= count
        });
        assert!(arrived && seen.len() == count, "of {count} frames came {}", seen.len());
        seen
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.counters.snapshot().dropped(reason)
    }
}

/// A socket on an interface of the namespace, which `make` gets the index of.
fn open<T: Send>(netns: &Netns, interface: &str, make: impl FnOnce(u32) -> io::Result<T> + Send) -> T {
    let index = netns.exec("cat", [format!("/sys/class/net/{interface}/ifindex")]).stdout;
    let index = index.trim().parse().expect("an index");
    vmlan_sys::netns::within(&netns.path(), || make(index)).expect("a packet socket")
}

/// One that hears everything.
fn ring(netns: &Netns, interface: &str) -> PacketSocket {
    PacketSocket::new(open(netns, interface, |index| Ring::listener(index, &EVERYTHING)))
}

fn settings(counters: &Arc<Counters>) -> Settings {
    let counters = counters.clone();
    Settings { worker: 0, receives: true, account: counters.into(), backlog: 4, share: None, longest: 1518 }
}

/// A frame of 64 octets with a number.
fn numbered(number: u32) -> Vec<u8> {
    let mut frame = [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1][..], &TYPE, &number.to_be_bytes()].concat();
    frame.resize(64, 0);
    frame
}

fn number(frame: &Frame) -> u32 {
    u32::from_be_bytes(*frame.octets()[14..].first_chunk().expect("a frame of the test's"))
}

/// The same with this tag.
fn tagged(frame: &[u8], tag: [u8; 4]) -> Vec<u8> {
    [&frame[..12], &tag, &frame[12..]].concat()
}

#[test]
fn segments_arrive_whole_and_in_order_between_small_frames() {
    require!(namespaces());
    let mut fixture = Fixture::new(PoolSizes::default());
    // From what just fills a slot to the largest there is.
    let sizes = [1800, 1900, 1920, 2000, 9000, 65_000];
    let large: Vec<_> = sizes.into_iter().map(segments).collect();
    for round in 0..20 {
        for (i, (frame, request)) in (0..).zip(&large) {
            fixture.send(Offload::NONE, &numbered(i));
            fixture.send(*request, frame);
        }
        let seen = fixture.receive(large.len() * 2, |frame| (frame.octets().to_vec(), frame.meta.offload));
        for ((i, (frame, request)), seen) in (0..).zip(&large).zip(seen.chunks_exact(2)) {
            assert_eq!(seen[0], (numbered(i), Offload::NONE), "round {round}");
            assert!(seen[1].0 == *frame, "round {round}: {} octets of {}", seen[1].0.len(), frame.len());
            assert_eq!((seen[1].1.gso_type, seen[1].1.gso_size), (request.gso_type, request.gso_size));
        }
    }
    assert_eq!(fixture.pool.out(), 0);
}

#[test]
fn tags_that_the_kernel_took_off_are_kept() {
    require!(namespaces());
    let mut fixture = Fixture::new(PoolSizes::default());
    let (frame, request) = segments(40_000);
    let shifted = request.shifted(4).expect("offsets that fit");
    let (customer, service) = ([0x81, 0, 0x60, 10], [0x88, 0xa8, 0, 20]);
    for tag in [customer, service] {
        fixture.send(Offload::NONE, &tagged(&numbered(7), tag));
        fixture.send(shifted, &tagged(&frame, tag));
    }
    fixture.send(Offload::NONE, &tagged(&tagged(&numbered(8), customer), service));

    let seen = fixture.receive(5, |frame| (frame.octets().to_vec(), frame.meta.tag, frame.meta.offload));

    let beside = Some(VlanTag { tci: 0x600a });
    assert_eq!((&seen[0].0, seen[0].1), (&numbered(7), beside));
    assert!(seen[1].0 == frame);
    assert_eq!((seen[1].1, seen[1].2.checksum_start), (beside, request.checksum_start));
    assert_eq!((&seen[2].0, seen[2].1), (&tagged(&numbered(7), service), None));
    assert!(seen[3].0 == tagged(&frame, service));
    assert_eq!((seen[3].1, seen[3].2.checksum_start), (None, shifted.checksum_start));
    assert_eq!((&seen[4].0, seen[4].1), (&tagged(&tagged(&numbered(8), customer), service), None));
}

#[test]
fn what_a_full_ring_loses_is_counted_and_the_rest_comes_in_order() {
    require!(namespaces());
    let mut fixture = Fixture::new(PoolSizes::default());
    let slots = SLOTS as u32;
    let mut lost = 0;
    for round in 0..3 {
        for i in 0..slots + 500 {
            fixture.send(Offload::NONE, &numbered(i));
        }
        assert_eq!(fixture.receive(SLOTS, number), Vec::from_iter(0..slots), "round {round}");
        // The next frame tells of those that were lost.
        fixture.send(Offload::NONE, &numbered(9));
        assert_eq!(fixture.receive(1, number), [9]);
        lost += 500;
        assert_eq!(fixture.dropped(DropReason::InputQueue), lost, "round {round}");
    }
    assert_eq!(fixture.counters.snapshot().rx_frames, lost);
}

#[test]
fn segments_that_the_receive_queue_has_no_room_for_are_counted() {
    require!(namespaces());
    let mut fixture = Fixture::new(PoolSizes::default());
    let (frame, request) = segments(65_000);
    let count = 1000;
    for i in 0..count {
        fixture.send(Offload::NONE, &numbered(i));
        fixture.send(request, &frame);
    }
    let mut large = 0;
    let mut small = Vec::new();
    let arrived = poll_until(PATIENCE, || {
        let (batch, result) = fixture.turn();
        result.expect("an interface");
        for seen in batch.iter() {
            if seen.octets()[12..14] == TYPE {
                small.push(number(seen));
            } else {
                assert!(seen.octets() == frame);
                large += 1;
            }
        }
        small.len() == count as usize && batch.is_empty()
    });
    assert!(arrived, "{} small ones, {large} large ones", small.len());
    assert!(small.is_sorted());
    let lost = fixture.dropped(DropReason::InputQueue);
    assert!(large > 20 && lost > 0, "{large} came, {lost} were lost");
    assert_eq!(large + lost, u64::from(count));
    // And on it goes.
    fixture.send(request, &frame);
    assert!(fixture.receive(1, |seen| seen.octets() == frame)[0]);
}

#[test]
fn without_buffers_frames_wait_in_the_ring() {
    require!(namespaces());
    let mut fixture = Fixture::new(PoolSizes { small: 2, large: 1, bulk: 0 });
    let (frame, request) = segments(20_000);
    for i in 0..3 {
        fixture.send(Offload::NONE, &numbered(i));
    }
    for _ in 0..2 {
        fixture.send(request, &frame);
    }
    let lengths = |batch: &Batch| batch.iter().map(|frame| frame.octets().len()).collect::<Vec<_>>();
    let (held, _) = fixture.turn();
    assert_eq!(lengths(&held), [64, 64]);
    assert!(fixture.turn().0.is_empty());
    drop(held);
    let (held, _) = fixture.turn();
    assert_eq!(lengths(&held), [64, frame.len()]);
    assert!(fixture.turn().0.is_empty());
    drop(held);
    assert_eq!(lengths(&fixture.turn().0), [frame.len()]);
    assert_eq!(fixture.counters.snapshot().rx_frames, 0);
}

#[test]
fn an_interface_that_goes_down_comes_back_and_one_that_is_deleted_is_gone() {
    require!(namespaces());
    let mut fixture = Fixture::new(PoolSizes::default());
    for round in 0..3 {
        fixture.netns.ip(["link", "set", "near", "down"]);
        // Whoever polls is woken until the socket was asked.
        let quiet = poll_until(PATIENCE, || {
            let (batch, result) = fixture.turn();
            result.expect("an interface");
            batch.is_empty() && !is_ready(&*fixture.queue)
        });
        assert!(quiet, "round {round}");
        fixture.netns.ip(["link", "set", "near", "up"]);
        let came = poll_until(PATIENCE, || {
            fixture.send(Offload::NONE, &numbered(round));
            !fixture.turn().0.is_empty()
        });
        assert!(came, "round {round}");
    }
    fixture.netns.ip(["link", "del", "near"]);
    let gone = poll_until(PATIENCE, || {
        let (batch, result) = fixture.turn();
        result.expect("nothing more than that it went down");
        batch.is_empty() && !is_ready(&*fixture.queue)
    });
    assert!(gone);
    let mut batch = Batch::new();
    batch.push(fixture.pool.copy(&numbered(1)).expect("a buffer"));
    let cx = Context { worker: 0, now: Instant::ZERO, pool: &fixture.pool };
    let fault = fixture.queue.transmit(&cx, &mut batch);
    assert!(matches!(fault, Err(Fault::Gone)), "{fault:?}");
    assert_eq!(fixture.dropped(DropReason::NoPeer), 1);
}

/// It comes up as soon as there is a socket, and as soon as that is bound.
#[test]
fn an_interface_that_comes_up_while_the_socket_is_made_is_heard() {
    require!(namespaces());
    let mut fixture = Fixture::new(PoolSizes::default());
    for round in 0..10 {
        fixture.netns.ip(["link", "set", "near", "down"]);
        let (path, bound) = (fixture.netns.path(), round % 2 == 1);
        let (told, counted) = mpsc::channel();
        let riser = thread::spawn(move || {
            vmlan_sys::netns::within(&path, || {
                let (before, deadline) = (sockets(bound)?, time::Instant::now() + PATIENCE);
                told.send(()).expect("the test is waiting");
                while sockets(bound)? == before && time::Instant::now() < deadline {}
                vmlan_sys::netdev::set_up("near")
            })
        });
        counted.recv().expect("a count");
        let queue = ring(&fixture.netns, "near").queue(settings(&fixture.counters)).expect("the ring");
        riser.join().expect("a thread").expect("an interface to set up");
        // The one before counts until now.
        fixture.queue = queue;
        let came = poll_until(Duration::from_secs(3), || {
            fixture.send(Offload::NONE, &numbered(round));
            !fixture.turn().0.is_empty()
        });
        assert!(came, "round {round}");
    }
}

/// How many packet sockets there are in the thread's namespace, or how many are bound to an interface.
fn sockets(bound: bool) -> io::Result<usize> {
    let text = fs::read_to_string("/proc/thread-self/net/packet")?;
    let interfaces = text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(4));
    Ok(interfaces.filter(|interface| !bound || *interface != "0").count())
}

fn is_ready(queue: &dyn Queue) -> bool {
    let poller = vmlan_sys::Poller::new().expect("a poller");
    let descriptor = queue.descriptor(0).expect("the socket");
    poller.add(descriptor, 1, vmlan_sys::Interest::READ).expect("our own descriptor");
    let mut ready = Vec::new();
    poller.wait(&mut ready, Some(Duration::ZERO)).expect("our own poller");
    !ready.is_empty()
}

#[test]
fn one_worker_receives() {
    require!(namespaces());
    let netns = Netns::new("packet");
    let counters = Arc::new(Counters::new(1));
    let socket = ring(&netns, "lo");
    let first = socket.queue(settings(&counters)).expect("the ring");
    let refused = socket.queue(settings(&counters)).map(drop).expect_err("another has it");
    assert_eq!(refused.kind(), ErrorKind::ResourceBusy, "{refused}");
    // A worker that only sends needs none.
    socket.queue(Settings { receives: false, ..settings(&counters) }).expect("a queue");
    drop(first);
    socket.queue(settings(&counters)).expect("the ring again");
}
