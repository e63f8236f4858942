mod asked;
mod hostile;
mod polled;
mod waits;

use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use vmlan_drivers::{datagram, stream};
use vmlan_frame::{Direction, DropReason, MacAddr, Snapshot};
use vmlan_guest::{Attachment, RawGuest, ethernet};
use vmlan_lan::{FdbConfig, Network, NetworkConfig, PortConfig};
use vmlan_link::{BridgeGuard, LinkOptions, Registry};

use super::*;

const LIMIT: Duration = Duration::from_secs(10);

/// A network in a data plane of its own.
struct Lab {
    plane: Plane,
    network: Arc<Network>,
    registry: Registry,
    notices: Mutex<Receiver<Notice>>,
}

struct LabPort {
    key: PortKey,
    id: vmlan_lan::PortId,
    bridge: BridgeGuard,
}

impl Lab {
    fn new(workers: usize) -> Lab {
        let (sender, notices) = channel();
        let plane = Plane::start(Options { workers, ..Options::default() }, move |notice| {
            // Nobody listens any more when the test is over.
            let _ = sender.send(notice);
        });
        let fdb = FdbConfig::new([1, 2]);
        let config = NetworkConfig { name: "lab".into(), mtu: 1500, fdb, pass_reserved: false };
        Lab {
            plane: plane.unwrap(),
            network: Network::new(config),
            registry: Registry::new(workers, std::time::SystemTime::now),
            notices: Mutex::new(notices),
        }
    }

    fn port(&self, name: &str, backlog: usize) -> LabPort {
        let link = self.registry.acquire(LinkOptions::ethernet("port").unwrap()).unwrap();
        link.attach(Arc::new(()), None).unwrap();
        let bridge = link.attach_bridge().unwrap();
        let id = self.network.add_port(PortConfig::new(name, link.account())).unwrap();
        let network = self.network.clone();
        let key = self.plane.add_port(&PortSetup { network, id, link, backlog, share: None, longest: 1518 });
        LabPort { key, id, bridge }
    }

    fn connect(&self, port: &LabPort, endpoint: impl vmlan_drivers::Endpoint + 'static) -> u64 {
        let (done, wait) = done();
        let attachment = self.plane.connect(port.key, Arc::new(endpoint), done);
        wait.recv_timeout(LIMIT).unwrap();
        self.network.set_active(port.id, true).unwrap();
        self.plane.open(port.key, attachment);
        attachment
    }

    /// A port with a guest at the other end of a pair of datagram sockets.
    fn guest(&self, name: &str) -> (LabPort, RawGuest) {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let port = self.port(name, 64);
        self.connect(&port, datagram::Socket::new(ours.into(), None));
        (port, RawGuest::attach(name, Attachment::Fd(theirs.into()), LIMIT).unwrap())
    }

    fn notice(&self) -> Notice {
        self.notices.lock().unwrap().recv_timeout(LIMIT).unwrap()
    }
}

impl LabPort {
    fn counters(&self) -> Snapshot {
        self.bridge.link().counters().snapshot()
    }
}

fn done() -> (Done, Receiver<()>) {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let tell = move || {
        // The test may not wait for it.
        let _ = sender.lock().unwrap().send(());
    };
    (Done::new(tell), receiver)
}

fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

fn frame(to: MacAddr, from: MacAddr, number: u16) -> Vec<u8> {
    ethernet(to, from, 0x88b5, &number.to_be_bytes())
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < end, "{what} did not come about");
        std::thread::yield_now();
    }
}

/// Every received frame is dropped or makes copies, and every copy is sent, waits or is dropped. A guest may have a
/// frame a moment before it is counted.
fn assert_balanced(ports: &[&LabPort]) {
    wait_until("a balance", || {
        let sums: Vec<_> = ports.iter().map(|port| port.counters()).collect();
        let copies: u64 = sums.iter().map(|sum| sum.copies + sum.segmented).sum();
        let settled =
            |sum: &Snapshot| sum.tx_frames + sum.coalesced + sum.queued + sum.dropped_on(Direction::Egress);
        copies == sums.iter().map(settled).sum()
    });
    for sum in ports.iter().map(|port| port.counters()) {
        assert!(sum.dropped_on(Direction::Ingress) <= sum.rx_frames, "{sum:#?}");
    }
}

#[test]
fn frames_reach_the_other_port_only() {
    let lab = Lab::new(1);
    let ((a, mut guest_a), (b, mut guest_b), (c, mut guest_c)) =
        (lab.guest("a"), lab.guest("b"), lab.guest("c"));
    guest_a.send_frame(&frame(MacAddr::BROADCAST, mac(1), 0)).unwrap();
    assert!(guest_b.receive(LIMIT).unwrap().is_some());
    assert!(guest_c.receive(LIMIT).unwrap().is_some());
    guest_b.send_frame(&frame(mac(1), mac(2), 1)).unwrap();
    assert_eq!(guest_a.receive(LIMIT).unwrap().unwrap(), frame(mac(1), mac(2), 1));
    wait_until("one frame at c", || c.counters().tx_frames == 1);
    assert_eq!(a.counters().copies, 2);
    assert_balanced(&[&a, &b, &c]);
}

#[test]
fn what_a_guest_says_first_is_heard_when_it_can_be_answered() {
    let lab = Lab::new(1);
    let (b, mut guest_b) = lab.guest("b");
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let mut guest_a = RawGuest::attach("a", Attachment::Fd(theirs.into()), LIMIT).unwrap();
    guest_a.send_frame(&frame(MacAddr::BROADCAST, mac(1), 0)).unwrap();
    let a = lab.port("a", 64);
    let (sender, wait) = done();
    let attachment = lab.plane.connect(a.key, Arc::new(datagram::Socket::new(ours.into(), None)), sender);
    wait.recv_timeout(LIMIT).unwrap();
    // The worker looks at its ports between commands.
    (0..10).for_each(|number| drop(lab.guest(&format!("later {number}"))));
    assert_eq!(a.counters().rx_frames, 0);
    lab.network.set_active(a.id, true).unwrap();
    lab.plane.open(a.key, attachment + 1);
    (0..10).for_each(|number| drop(lab.guest(&format!("other {number}"))));
    assert_eq!(a.counters().rx_frames, 0, "another attachment was opened");
    lab.plane.open(a.key, attachment);
    assert!(guest_b.receive(LIMIT).unwrap().is_some());
    guest_b.send_frame(&frame(mac(1), mac(2), 1)).unwrap();
    assert!(guest_a.receive(LIMIT).unwrap().is_some());
    assert_eq!((a.counters().rx_frames, b.counters().dropped(DropReason::NoDestination)), (1, 0));
}

#[test]
fn a_peer_that_leaves_is_told_once_and_others_go_on() {
    let lab = Lab::new(1);
    let ((a, mut guest_a), (b, mut guest_b)) = (lab.guest("a"), lab.guest("b"));
    let c = lab.port("c", 64);
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let attachment = lab.connect(&c, stream::Socket::new(ours.into()));
    drop(theirs);
    match lab.notice() {
        Notice::Fault { port, attachment: told, fault: vmlan_drivers::Fault::Closed } => {
            assert_eq!((port, told), (c.key, attachment));
        }
        other => panic!("{other:?}"),
    }
    guest_a.send_frame(&frame(MacAddr::BROADCAST, mac(1), 0)).unwrap();
    assert!(guest_b.receive(LIMIT).unwrap().is_some());
    wait_until("the drop at c", || c.counters().dropped(DropReason::NoPeer) == 1);
    assert_balanced(&[&a, &b, &c]);
}

#[test]
fn a_port_that_stops_reading_costs_the_others_nothing() {
    let lab = Lab::new(1);
    let ((a, mut guest_a), (b, mut guest_b)) = (lab.guest("a"), lab.guest("b"));
    let (c, _silent) = lab.guest("c");
    // More than the silent guest's socket and queue take, and fewer than the broadcasts that may come at once: a fast
    // machine sends more a second than a port may.
    let count = 900;
    for number in 0..count {
        guest_a.send_frame(&frame(MacAddr::BROADCAST, mac(1), number)).unwrap();
        assert!(guest_b.receive(LIMIT).unwrap().is_some(), "frame {number}");
    }
    wait_until("all copies of c", || {
        let sum = c.counters();
        sum.tx_frames + sum.queued + sum.dropped(DropReason::QueueFull) == u64::from(count)
    });
    assert!(c.counters().queued <= 64);
    assert_eq!(b.counters().dropped_on(Direction::Egress), 0);
    assert_balanced(&[&a, &b, &c]);
}

#[test]
fn removal_and_return_under_traffic_lose_nothing_elsewhere() {
    let lab = Lab::new(2);
    let ((a, mut guest_a), (b, mut guest_b)) = (lab.guest("a"), lab.guest("b"));
    for number in 0..500 {
        let (other, _guest) = lab.guest("other");
        guest_a.send_frame(&frame(MacAddr::BROADCAST, mac(1), number)).unwrap();
        assert_eq!(guest_b.receive(LIMIT).unwrap().unwrap(), frame(MacAddr::BROADCAST, mac(1), number));
        let (done, wait) = done();
        assert!(lab.network.remove_port(other.id));
        lab.plane.remove_port(other.key, done);
        wait.recv_timeout(LIMIT).unwrap();
        other.bridge.link().detach().unwrap();
    }
    assert_eq!(b.counters().dropped_on(Direction::Egress), 0);
    assert_eq!(a.counters().dropped_on(Direction::Ingress), 0);
}

/// A frame for many ports goes out in pieces, and what was not sent when its port is removed is a drop.
#[test]
fn a_frame_for_many_ports_reaches_each_once_in_order() {
    let lab = Lab::new(1);
    let (a, mut guest_a) = lab.guest("a");
    let mut others: Vec<_> = (0..100).map(|number| lab.guest(&format!("p{number}"))).collect();
    let flood = |guest: &mut RawGuest, numbers: std::ops::Range<u16>| {
        for number in numbers {
            guest.send_frame(&frame(MacAddr::BROADCAST, mac(1), number)).unwrap();
        }
    };
    flood(&mut guest_a, 0..5);
    for (_, guest) in &mut others {
        for number in 0..5 {
            let arrived = guest.receive(LIMIT).unwrap().unwrap();
            assert_eq!(arrived, frame(MacAddr::BROADCAST, mac(1), number));
        }
    }
    flood(&mut guest_a, 5..15);
    let mut gone = Vec::new();
    for (port, _) in others.drain(40..) {
        let (done, wait) = done();
        assert!(lab.network.remove_port(port.id));
        lab.plane.remove_port(port.key, done);
        wait.recv_timeout(LIMIT).unwrap();
        gone.push(port);
    }
    for (_, guest) in &mut others {
        for number in 5..15 {
            let arrived = guest.receive(LIMIT).unwrap().unwrap();
            assert_eq!(arrived, frame(MacAddr::BROADCAST, mac(1), number));
        }
    }
    let ports: Vec<_> = others.iter().map(|(port, _)| port).chain([&a]).collect();
    assert_eq!(ports.iter().map(|port| port.counters().dropped_on(Direction::Egress)).sum::<u64>(), 0);
    assert_balanced(&ports.into_iter().chain(&gone).collect::<Vec<_>>());
}

#[test]
fn several_workers_keep_the_order_of_a_flow() {
    let lab = Lab::new(2);
    let ((a, mut guest_a), (b, mut guest_b)) = (lab.guest("a"), lab.guest("b"));
    guest_b.send_frame(&frame(MacAddr::BROADCAST, mac(2), 0)).unwrap();
    assert!(guest_a.receive(LIMIT).unwrap().is_some());
    for burst in 0..50u16 {
        for number in 0..32 {
            guest_a.send_frame(&frame(mac(2), mac(1), burst * 32 + number)).unwrap();
        }
        for number in 0..32 {
            let got = guest_b.receive(LIMIT).unwrap().unwrap();
            assert_eq!(got, frame(mac(2), mac(1), burst * 32 + number));
        }
    }
    assert_balanced(&[&a, &b]);
}

#[test]
fn every_way_of_waiting_moves_frames_and_hears_commands() {
    for workers in [1, 2] {
        let lab = Lab::new(workers);
        let ((a, mut guest_a), (b, mut guest_b)) = (lab.guest("a"), lab.guest("b"));
        for polling in [Polling::Busy, Polling::Sleep, Polling::Adaptive, Polling::Busy] {
            lab.plane.set_polling(polling);
            // More ports than a busy worker gives turns unasked.
            let others: Vec<_> = (0..10).map(|_| lab.guest("other")).collect();
            for number in 0..50 {
                guest_a.send_frame(&frame(MacAddr::BROADCAST, mac(1), number)).unwrap();
                assert!(guest_b.receive(LIMIT).unwrap().is_some(), "{polling:?}");
            }
            for (other, _guest) in others {
                let (done, wait) = done();
                lab.network.remove_port(other.id);
                lab.plane.remove_port(other.key, done);
                wait.recv_timeout(LIMIT).unwrap();
                other.bridge.link().detach().unwrap();
            }
            guest_b.send_frame(&frame(mac(1), mac(2), 0)).unwrap();
            assert!(guest_a.receive(LIMIT).unwrap().is_some(), "{polling:?}");
        }
        assert_eq!((a.counters().rx_frames, b.counters().rx_frames), (200, 4));
    }
}

#[test]
fn what_waits_is_sent_before_the_end() {
    let lab = Lab::new(1);
    let (_a, mut guest_a) = lab.guest("a");
    let (b, mut guest_b) = lab.guest("b");
    let mut sent = 0;
    while b.counters().queued < 10 {
        guest_a.send_frame(&frame(MacAddr::BROADCAST, mac(1), sent)).unwrap();
        sent += 1;
    }
    let accepted = |sum: &Snapshot| u64::from(sent) - sum.dropped(DropReason::QueueFull);
    wait_until("everything received", || {
        let sum = b.counters();
        sum.tx_frames + sum.queued == accepted(&sum)
    });
    let expected = accepted(&b.counters());
    let reader = std::thread::spawn(move || (0..expected).all(|_| guest_b.receive(LIMIT).unwrap().is_some()));
    lab.plane.stop(LIMIT);
    assert!(reader.join().unwrap());
    let sum = b.counters();
    assert_eq!((sum.queued, sum.tx_frames), (0, expected));
}
