use std::io::IoSlice;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use vmlan_frame::{
    Batch, Context, Counters, Direction, DropReason, Frame, Instant, MacAddr, Pool, PoolSizes,
};
use vmlan_link::{Error, Link, Mtu, ProtocolFamily, ProtocolOptions, Registry, Tap};

use super::message::{Refusal, Request, option};
use super::{Host, Interface, Options, Tunnel, options};
use crate::{Endpoint, Fault, Queue, Settings};

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
const NEIGHBOUR: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

fn registry() -> Registry {
    Registry::new(1, std::time::SystemTime::now)
}

fn unit(unit: u32) -> Options {
    Options {
        unit: NonZeroU32::new(unit),
        mtu: Mtu::ETHERNET,
        addresses: vec!["10.0.0.9".parse().unwrap(), "fd00::9".parse().unwrap()],
        max_pending: NonZeroU32::new(8).unwrap(),
    }
}

/// A tunnel with everything around it.
struct Bench {
    registry: Registry,
    interface: Arc<Interface>,
    tunnel: Tunnel,
    queue: Box<dyn Queue>,
    client: OwnedFd,
    counters: Arc<Counters>,
    pool: Pool,
    now: Instant,
    seen: Passed,
}

/// The frames that a tap saw.
type Passed = Arc<Mutex<Vec<(Direction, Vec<u8>)>>>;

struct Seen(Passed);

impl Tap for Seen {
    fn frame(&self, _: &Context<'_>, direction: Direction, frame: &Frame) {
        self.0.lock().unwrap().push((direction, frame.octets().to_vec()));
    }
}

impl Bench {
    fn new() -> Bench {
        let registry = registry();
        let interface = Interface::create(&registry, unit(0)).unwrap();
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (client, socket) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let host = Host {
            mac: MAC,
            addresses: vec!["10.0.0.9/24".parse().unwrap(), "fd00::9/64".parse().unwrap()],
            gateways: vec!["10.0.0.1".parse().unwrap()],
            seed: 1,
        };
        let tunnel = Tunnel::to_client(socket.into(), &host, interface.clone()).unwrap();
        let counters = Arc::new(Counters::new(1));
        let settings = Settings::of_test(0, counters.clone(), 16);
        let queue = tunnel.queue(settings).unwrap();
        let seen = Arc::default();
        interface.link().attach_tap(Arc::new(Seen(Arc::clone(&seen)))).unwrap();
        let now = Instant::from_nanos(vmlan_sys::monotonic_nanos());
        let pool = Pool::new(PoolSizes::default());
        Bench { registry, interface, tunnel, queue, client, counters, pool, now, seen }
    }

    /// Returns the frames that the network gets.
    fn receive(&mut self) -> Vec<Vec<u8>> {
        self.try_receive().unwrap()
    }

    fn try_receive(&mut self) -> Result<Vec<Vec<u8>>, Fault> {
        let mut batch = Batch::new();
        let cx = Context { worker: 0, now: self.now, pool: &self.pool };
        self.queue.receive(&cx, &mut batch)?;
        Ok(batch.iter().map(|frame| frame.octets().to_vec()).collect())
    }

    /// The network sends these.
    fn transmit(&mut self, frames: &[Vec<u8>]) -> Result<(), Fault> {
        let mut batch: Batch = frames.iter().map(|frame| self.pool.copy(frame).unwrap()).collect();
        let cx = Context { worker: 0, now: self.now, pool: &self.pool };
        let result = self.queue.transmit(&cx, &mut batch);
        assert!(batch.is_empty());
        result
    }

    fn send(&self, record: &[u8]) {
        send(&self.client, record, SendFlags::empty()).unwrap();
    }

    fn records(&self) -> Vec<Vec<u8>> {
        let mut octets = [0; 2000];
        let one = |_| {
            recv(&self.client, &mut octets, RecvFlags::DONTWAIT).ok().map(|(len, _)| octets[..len].to_vec())
        };
        (0..).map_while(one).collect()
    }

    /// Lets the announcements go and tells the neighbour's address.
    fn meet(&mut self) {
        while !self.receive().is_empty() {}
        self.send(&record4([10, 0, 0, 1], b"first"));
        assert!(self.receive().is_empty(), "the packet waits");
        let asked = self.receive();
        assert_eq!(asked[0][12..14], [8, 6]);
        self.transmit(&[arp(2, NEIGHBOUR, [10, 0, 0, 1], MAC, [10, 0, 0, 9])]).unwrap();
        let sent = self.receive();
        assert_eq!(sent, [framed(NEIGHBOUR, MAC, 0x0800, &packet4([10, 0, 0, 9], [10, 0, 0, 1], b"first"))]);
        self.seen.lock().unwrap().clear();
    }

    fn drops(&self, reason: DropReason) -> u64 {
        self.counters.snapshot().dropped(reason)
    }

    fn errors(&self) -> (u64, u64) {
        let sum = self.interface.statistics();
        (sum.errors_in, sum.errors_out)
    }
}

fn packet4(from: [u8; 4], to: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
    packet[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    packet.extend(from);
    packet.extend(to);
    packet.extend(payload);
    packet
}

fn record4(to: [u8; 4], payload: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 2], &packet4([10, 0, 0, 9], to, payload)[..]].concat()
}

fn framed(to: MacAddr, from: MacAddr, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&to.0, &from.0, &ethertype.to_be_bytes()[..], payload].concat()
}

fn arp(operation: u8, mac: MacAddr, ip: [u8; 4], to: MacAddr, target: [u8; 4]) -> Vec<u8> {
    let who = if operation == 1 { MacAddr([0; 6]) } else { to };
    let payload = [&[0, 1, 8, 0, 6, 4, 0, operation], &mac.0[..], &ip, &who.0, &target].concat();
    framed(if operation == 1 { MacAddr::BROADCAST } else { to }, mac, 0x0806, &payload)
}

#[test]
fn case_1_the_lowest_free_unit() {
    let registry = registry();
    let one = Interface::create(&registry, unit(1)).unwrap();
    let three = Interface::create(&registry, unit(3)).unwrap();
    let two = Interface::create(&registry, unit(0)).unwrap();
    assert_eq!([one.unit(), two.unit(), three.unit()], [1, 2, 3]);
    assert_eq!(two.link().name().to_string(), "tunnel1");
    assert_eq!(Interface::create(&registry, unit(0)).unwrap().unit(), 4);
}

#[test]
fn case_2_a_unit_that_is_taken_is_busy() {
    let registry = registry();
    let first = Interface::create(&registry, unit(2)).unwrap();
    assert!(matches!(Interface::create(&registry, unit(2)), Err(Error::Busy)));
    drop(first);
    assert_eq!(Interface::create(&registry, unit(2)).unwrap().unit(), 2);
}

#[test]
fn case_3_an_ipv6_record_starts_00_00_00_1e() {
    let mut bench = Bench::new();
    let mut packet = vec![0x60, 0, 0, 0, 0, 2, 17, 64];
    packet.extend("fd00::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    packet.extend("fd00::9".parse::<std::net::Ipv6Addr>().unwrap().octets());
    packet.extend([1, 2]);
    // With what fills a frame up to its least length.
    let padded = [&packet[..], &[0xee; 10]].concat();
    bench.transmit(&[framed(MAC, NEIGHBOUR, 0x86dd, &padded)]).unwrap();
    assert_eq!(bench.records(), [[&[0, 0, 0, 0x1e], &packet[..]].concat()]);
    assert_eq!(bench.counters.snapshot().tx_octets, 14 + 42);
}

#[test]
fn case_4_what_is_no_record_is_an_input_error_and_the_tunnel_stays() {
    let mut bench = Bench::new();
    bench.meet();
    let good = record4([10, 0, 0, 1], b"good");
    for bad in
        [&[0, 0, 2][..], &[], &[0, 0, 0, 2], &[0, 0, 0, 7, 0x45], &[0, 0, 0, 30, 0x45], &[0, 0, 0, 2, 0x45]]
    {
        bench.send(bad);
    }
    bench.send(&good);
    assert_eq!(bench.receive(), [framed(NEIGHBOUR, MAC, 0x0800, &good[4..])]);
    assert_eq!(bench.errors(), (6, 0));
    assert_eq!(bench.drops(DropReason::Malformed), 6);
    assert!(bench.interface.link().is_attached());
}

#[test]
fn case_5_with_no_input_records_are_tapped_and_not_delivered() {
    let mut bench = Bench::new();
    bench.meet();
    bench.interface.set_flags(Interface::NO_INPUT).unwrap();
    let record = record4([10, 0, 0, 1], b"quiet");
    bench.send(&record);
    assert!(bench.receive().is_empty());
    assert_eq!(*bench.seen.lock().unwrap(), [(Direction::Ingress, record.clone())]);
    assert_eq!((bench.errors(), bench.drops(DropReason::InputFilter)), ((0, 0), 1));

    // The same the other way: success, and nothing sent.
    bench.interface.set_flags(Interface::NO_OUTPUT).unwrap();
    let packet = packet4([10, 0, 0, 1], [10, 0, 0, 9], b"back");
    bench.transmit(&[framed(MAC, NEIGHBOUR, 0x0800, &packet)]).unwrap();
    assert!(bench.records().is_empty());
    assert_eq!(bench.seen.lock().unwrap()[1], (Direction::Egress, [&[0, 0, 0, 2], &packet[..]].concat()));
    assert_eq!((bench.errors(), bench.drops(DropReason::OutputFilter)), ((0, 0), 1));
}

#[test]
fn case_6_options_have_their_errors() {
    let bench = Bench::new();
    let set = |option, value: &[u8], privileged| {
        options::serve(&bench.interface, &Request::Set(option, value), privileged, 1500)
    };
    let get = |option| options::serve(&bench.interface, &Request::Get(option), false, 1500);
    assert_eq!(set(option::FLAGS, &[0, 1], true), Err(Refusal::WrongSize));
    assert_eq!(set(option::FLAGS, &[0, 1], false), Err(Refusal::WrongSize));
    assert_eq!(set(99, &[0, 0, 0, 1], true), Err(Refusal::NoSuchOption));
    assert_eq!(get(99), Err(Refusal::NoSuchOption));
    assert_eq!(set(option::FLAGS, &[0, 0, 0, 1], false), Err(Refusal::NotPermitted));
    assert_eq!(set(option::FLAGS, &[0, 0, 0, 4], true), Err(Refusal::Invalid));
    assert_eq!(set(option::FLAGS, &[0, 0, 0, 3], true), Ok(vec![]));
    assert_eq!(get(option::FLAGS), Ok(vec![0, 0, 0, 3]));
    assert_eq!(get(option::IFNAME), Ok(b"tunnel0".to_vec()));
    assert_eq!(set(option::IFNAME, b"x", true), Err(Refusal::NotPermitted));
    assert_eq!(set(option::MAX_PENDING, &[0; 4], true), Err(Refusal::Invalid));
    assert_eq!(set(option::MAX_PENDING, &[0, 0, 0, 2], false), Ok(vec![]));
    assert_eq!(get(option::MAX_PENDING), Ok(vec![0, 0, 0, 2]));
    for (mtu, expected) in [
        (1500_u32, Ok(vec![])),
        (1280, Ok(vec![])),
        (1279, Err(Refusal::Invalid)),
        (67, Err(Refusal::Invalid)),
        (1501, Err(Refusal::Invalid)),
    ] {
        assert_eq!(set(option::MTU, &mtu.to_be_bytes(), false), expected, "{mtu}");
    }
    assert_eq!(get(option::MTU), Ok(vec![0, 0, 5, 0]));
    let counts: Vec<u8> = [1_u64, 2, 3, 4, 5, u64::MAX].into_iter().flat_map(u64::to_be_bytes).collect();
    assert_eq!(set(option::STATISTICS, &counts, true), Err(Refusal::NotPermitted));
    assert_eq!(set(option::OWN_COUNTS, &[0, 0, 0, 2], true), Err(Refusal::Invalid));
    assert_eq!(set(option::OWN_COUNTS, &[0, 0, 0, 1], false), Ok(vec![]));
    assert_eq!(set(option::STATISTICS, &counts[1..], false), Err(Refusal::WrongSize));
    assert_eq!(set(option::STATISTICS, &counts, false), Ok(vec![]));
    assert_eq!(set(option::STATISTICS, &counts, false), Ok(vec![]));
    let doubled = [2, 4, 6, 8, 10, u64::MAX];
    assert_eq!(get(option::STATISTICS), Ok(doubled.into_iter().flat_map(u64::to_be_bytes).collect()));
    let open = Request::Open { unit: 0, addresses: vec![] };
    assert_eq!(options::serve(&bench.interface, &open, true, 1500), Err(Refusal::AlreadyOpen));
}

#[test]
fn case_7_a_tunnel_that_ends_with_addresses_leaves_nothing() {
    let Bench { registry, interface, tunnel, queue, .. } = Bench::new();
    let link: Link = interface.link().clone();
    let events = registry.subscribe(100);
    assert_eq!(link.addresses().len(), 2);
    interface.close();
    assert!(!link.is_attached() && link.addresses().is_empty() && registry.links().is_empty());
    let codes: Vec<_> = std::iter::from_fn(|| events.try_next()).map(|event| format!("{event:?}")).collect();
    let at = |text: &str| {
        codes.iter().position(|code| code.contains(text)).unwrap_or_else(|| panic!("{text}: {codes:?}"))
    };
    // In order: of each family its addresses and its protocol, then the link.
    assert!(
        at("AddressRemoved(10.0.0.9)") < at("ProtocolDetached(")
            && at("AddressRemoved(fd00::9)") < at("Detaching")
    );
    // Closing again, and what the handles still have, does no harm.
    drop((interface, tunnel, queue));
    assert!(registry.links().is_empty());
}

#[test]
fn case_10_packets_beyond_the_mtu_are_refused_and_counted() {
    let mut bench = Bench::new();
    bench.meet();
    bench.interface.set_mtu(1280).unwrap();
    let whole = |mut packet: Vec<u8>| {
        // It must not be cut.
        packet[6] = 0x40;
        packet
    };
    let packet = |len: usize| whole(packet4([10, 0, 0, 1], [10, 0, 0, 9], &vec![7; len - 20]));
    let record = |len| [&[0, 0, 0, 2], &packet(len)[..]].concat();
    let pool = Pool::new(PoolSizes::default());
    let cx = Context { worker: 0, now: bench.now, pool: &pool };
    let mut records: Batch = [1281, 1280].iter().map(|len| pool.copy(&record(*len)).unwrap()).collect();
    struct Taken(usize);
    impl vmlan_link::Transmit for Taken {
        fn transmit(&mut self, batch: &mut Batch) {
            self.0 += batch.len();
            batch.clear();
        }
    }
    let mut taken = Taken(0);
    let result = bench.interface.output(&cx, &mut records, &mut taken);
    assert_eq!((result, taken.0, bench.errors()), (Err(Error::MessageSize), 1, (0, 1)));

    // On the way from the network the others of the batch arrive.
    bench.transmit(&[1281, 1280].map(|len| framed(MAC, NEIGHBOUR, 0x0800, &packet(len)))).unwrap();
    assert_eq!(bench.records(), [record(1280)]);
    assert_eq!((bench.errors(), bench.drops(DropReason::TooLong)), ((0, 2), 1));
    // Its sender is told, by the tunnel's own address.
    let told = bench.receive();
    let [answer] = &told[..] else { panic!("{told:?}") };
    assert_eq!(answer[..14], framed(NEIGHBOUR, MAC, 0x0800, &[]));
    let is_too_long = |packet: &[u8], from: [u8; 4], to: [u8; 4]| {
        packet[12..16] == from && packet[16..20] == to && packet[20..22] == [3, 4] && packet[26..28] == [5, 0]
    };
    assert!(is_too_long(&answer[14..], [10, 0, 0, 9], [10, 0, 0, 1]), "{answer:?}");
    // And from the client, which is told by whom it sent to.
    let long = whole(packet4([10, 0, 0, 9], [10, 0, 0, 1], &[7; 1261]));
    bench.send(&[&[0, 0, 0, 2], &long[..]].concat());
    assert!(bench.receive().is_empty());
    assert_eq!((bench.errors(), bench.drops(DropReason::Oversize)), ((1, 2), 1));
    let told = bench.records();
    assert!(told.len() == 1 && is_too_long(&told[0][4..], [10, 0, 0, 1], [10, 0, 0, 9]), "{told:?}");
}

#[test]
fn packets_beyond_the_mtu_that_may_be_cut_are_cut_on_both_ways() {
    let mut bench = Bench::new();
    bench.meet();
    bench.interface.set_mtu(1280).unwrap();
    let inward = packet4([10, 0, 0, 1], [10, 0, 0, 9], &[7; 1380]);
    bench.transmit(&[framed(MAC, NEIGHBOUR, 0x0800, &inward)]).unwrap();
    let lengths =
        |packets: &[Vec<u8>], header| packets.iter().map(|one| one.len() - header).collect::<Vec<_>>();
    assert_eq!(lengths(&bench.records(), 4), [1276, 144]);
    bench.send(&record4([10, 0, 0, 1], &[7; 1380]));
    assert_eq!(lengths(&bench.receive(), 14), [1276, 144]);
    assert_eq!((bench.drops(DropReason::TooLong), bench.drops(DropReason::Oversize)), (0, 0));
}

#[test]
fn only_ip_can_be_attached() {
    let bench = Bench::new();
    let family = |family| ProtocolOptions { family, promiscuous: false };
    let attach =
        |options| bench.interface.link().attach_protocol(options, Arc::new(super::interface::Carried));
    assert_eq!(attach(family(ProtocolFamily(7))), Err(Error::NoProtocolOption));
    assert_eq!(attach(family(ProtocolFamily::INET6)), Err(Error::AlreadyExists));
}

#[test]
fn the_proxy_answers_for_its_addresses_and_no_other() {
    let mut bench = Bench::new();
    while !bench.receive().is_empty() {}
    let ask = |target| arp(1, NEIGHBOUR, [10, 0, 0, 1], MAC, target);
    bench.transmit(&[ask([10, 0, 0, 8]), ask([10, 0, 0, 9])]).unwrap();
    assert_eq!(bench.receive(), [arp(2, MAC, [10, 0, 0, 9], NEIGHBOUR, [10, 0, 0, 1])]);
    assert!(bench.receive().is_empty() && bench.records().is_empty());
    assert_eq!(bench.counters.snapshot().tx_frames, 2);
}

#[test]
fn neighbours_that_do_not_answer_cost_their_packets_and_are_counted() {
    let mut bench = Bench::new();
    bench.send(&record4([10, 0, 0, 77], b"lost"));
    bench.send(&record4([192, 0, 2, 1], b"by the gateway"));
    bench.send(&[&[0, 0, 0, 30, 0x60], &[0; 39][..]].concat());
    bench.receive();
    // No next hop leads to ::.
    assert_eq!(bench.drops(DropReason::NoNextHop), 1);
    for _ in 0..20 {
        bench.now = bench.now + std::time::Duration::from_secs(1);
        bench.receive();
    }
    assert_eq!(bench.drops(DropReason::NoNextHop), 3);
    // Failed now: refused at once.
    bench.send(&record4([10, 0, 0, 77], b"lost"));
    bench.receive();
    assert_eq!(bench.pool.out(), 0);
}

#[test]
fn frames_that_are_not_for_the_tunnel_end_at_its_port() {
    let mut bench = Bench::new();
    let packet = packet4([10, 0, 0, 1], [10, 0, 0, 9], b"");
    let other = MacAddr([2, 0, 0, 0, 0, 8]);
    let mut short = packet.clone();
    short[3] = 200;
    bench
        .transmit(&[
            framed(other, NEIGHBOUR, 0x0800, &packet),
            framed(MAC, NEIGHBOUR, 0x88cc, &packet),
            framed(MAC, NEIGHBOUR, 0x86dd, &packet),
            framed(MAC, NEIGHBOUR, 0x0800, &short),
            framed(MAC, NEIGHBOUR, 0x0800, &[]),
            framed(MacAddr::BROADCAST, NEIGHBOUR, 0x0800, &packet),
        ])
        .unwrap();
    assert_eq!(bench.records(), [[&[0, 0, 0, 2], &packet[..]].concat()]);
    assert_eq!(bench.drops(DropReason::NotForTunnel), 5);
}

#[test]
fn a_client_that_does_not_read_has_a_bounded_queue() {
    let mut bench = Bench::new();
    bench.interface.set_max_pending(2).unwrap();
    let packet = packet4([10, 0, 0, 1], [10, 0, 0, 9], &[1; 1000]);
    let burst = vec![framed(MAC, NEIGHBOUR, 0x0800, &packet); 64];
    while bench.queue.status().waiting == 0 {
        bench.transmit(&burst).unwrap();
    }
    bench.transmit(&burst).unwrap();
    assert_eq!(bench.queue.status().waiting, 2);
    assert!(bench.drops(DropReason::QueueFull) >= 64 && bench.queue.status().waits.is_for_room());
    let mut read = 0;
    while !bench.records().is_empty() {
        read += 1;
        bench.transmit(&[]).unwrap();
    }
    assert!(read > 0 && bench.queue.status().waiting == 0);
    assert_eq!(bench.pool.out(), 0);
}

#[test]
fn the_end_of_the_client_is_told_from_an_empty_record() {
    let mut bench = Bench::new();
    bench.send(&[]);
    assert!(bench.try_receive().is_ok());
    bench.send(&record4([10, 0, 0, 77], b"last"));
    let (client, _) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    drop(std::mem::replace(&mut bench.client, client));
    assert!(matches!(bench.try_receive(), Err(Fault::Closed)));
    assert!(matches!(
        bench.transmit(&[framed(MAC, NEIGHBOUR, 0x0800, &packet4([10, 0, 0, 1], [10, 0, 0, 9], b""))]),
        Err(Fault::Closed)
    ));
    assert_eq!(bench.drops(DropReason::NoPeer), 1);
}

#[test]
fn whoever_uses_an_address_of_the_tunnel_is_told_of() {
    let mut bench = Bench::new();
    bench.transmit(&[arp(1, NEIGHBOUR, [10, 0, 0, 9], MAC, [10, 0, 0, 9])]).unwrap();
    assert_eq!(bench.tunnel.conflicts(), [(IpAddr::from([10, 0, 0, 9]), NEIGHBOUR)]);
    assert!(bench.tunnel.conflicts().is_empty());
}

#[test]
fn pieces_make_one_record() {
    let bench = Bench::new();
    let pieces = [IoSlice::new(b"ab"), IoSlice::new(b"c")];
    let mut nothing = rustix::net::SendAncillaryBuffer::default();
    rustix::net::sendmsg(bench.queue.descriptor(0).unwrap(), &pieces, &mut nothing, SendFlags::empty())
        .unwrap();
    assert_eq!(bench.records(), [b"abc"]);
}
