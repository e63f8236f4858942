use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

use vmlan_frame::checksum::checksum;
use vmlan_frame::{Batch, Context, Counters, Instant, Offload, Pool, PoolSizes, VlanId, VlanTag};
use vmlan_sys::packet::{Place, Ring};
use vmlan_sys::xdp::Options;
use vmlan_sys::{netdev, netns, packet};

use super::*;
use crate::datagram;

/// One socket on the loopback interface of a namespace of its own, and a datagram socket in the packet socket's place.
struct Fixture {
    pool: Pool,
    counters: Arc<Counters>,
    queue: Box<dyn Queue>,
    /// Sees what goes by AF_XDP.
    loopback: Ring,
    /// Gets the rest.
    rest: UnixDatagram,
}

/// None without the right to such sockets.
fn fixture() -> Option<Fixture> {
    let namespace = netns::create().ok()?;
    let path = format!("/proc/self/fd/{}", namespace.as_raw_fd());
    let made = netns::within(path.as_ref(), || {
        netdev::set_up("lo")?;
        let socket = Socket::open(Options { chunk: 2048, receive: 8, send: 4 })?;
        // The loopback interface is the first of every namespace.
        socket.bind(1, 0, true)?;
        Ok((socket, Ring::listener(1, &[(6, 0, 0, u32::MAX)])?))
    });
    let (socket, loopback) = made.expect("a socket");
    let (ours, rest) = UnixDatagram::pair().unwrap();
    rest.set_nonblocking(true).unwrap();
    let packet = Arc::new(datagram::Socket::new(ours.into(), None));
    let endpoint = XdpSockets::new(vec![Attached { socket, sends: true }], false, packet, 2);
    assert!(!endpoint.has_queue_for(0), "a single queue is the receiver's");
    let counters = Arc::new(Counters::new(2));
    let counted = counters.clone();
    let settings = Settings {
        worker: 1,
        receives: true,
        account: counted.into(),
        backlog: 16,
        share: None,
        longest: 9018,
    };
    let queue = endpoint.queue(settings).unwrap();
    Some(Fixture { pool: Pool::new(PoolSizes::default()), counters, queue, loopback, rest })
}

impl Fixture {
    fn transmit(&mut self, frames: impl IntoIterator<Item = vmlan_frame::Frame>) {
        let cx = Context { worker: 1, now: Instant::ZERO, pool: &self.pool };
        let mut batch = Batch::from_iter(frames);
        self.queue.transmit(&cx, &mut batch).unwrap();
        assert!(batch.is_empty());
    }

    /// The next frame that went by AF_XDP.
    fn sent(&mut self) -> Option<Vec<u8>> {
        let listener = self.loopback.socket().clone();
        let slot = self.loopback.front()?;
        let mut large = [0; 4096];
        let octets = match slot.place() {
            Place::Here(_, octets) => octets,
            Place::Queue => {
                let read = rustix::io::read(&listener, &mut large).expect("what the slot told of");
                &large[packet::HEADER..read]
            }
            place => panic!("{place:?}"),
        };
        // What the kernel takes off on reception is put back.
        let frame = match slot.tag() {
            Some((_, tci)) => [&octets[..12], &VlanTag { tci }.octets(), &octets[12..]].concat(),
            None => octets.to_vec(),
        };
        slot.give_back();
        Some(frame)
    }

    fn left(&self) -> usize {
        std::iter::from_fn(|| self.rest.recv(&mut [0; 9000]).ok()).count()
    }
}

/// A packet of this protocol over IPv4 whose checksum is left open, and the request that says so.
fn ip(protocol: u8, field: u16) -> (Vec<u8>, Offload) {
    let mut header = [0x45, 0, 0, 60, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2];
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    let frame = [&[2; 12][..], &[8, 0], &header, &[0; 40]].concat();
    let request = Offload {
        flags: Offload::NEEDS_CHECKSUM,
        checksum_start: 34,
        checksum_offset: field,
        ..Offload::NONE
    };
    (frame, request)
}

#[test]
fn each_frame_goes_where_it_is_done_best() {
    let Some(mut fixture) = fixture() else { return };
    let pool = fixture.pool.clone();
    let frame = |octets: &[u8], offload| {
        let mut frame = pool.copy(octets).unwrap();
        frame.meta.offload = offload;
        frame
    };
    let (tcp, segment) = ip(6, 16);
    let (udp, datagram) = ip(17, 6);
    let cut = Offload { gso_type: Offload::UDP, gso_size: 512, header_len: 42, ..datagram };
    let other = [&[2; 12][..], &[0x88, 0xb5], &[7; 46]].concat();
    for (octets, offload, by_xdp) in [
        (&other[..], Offload::NONE, true),
        (&[&other[..], &[7; 2048 - 60]].concat(), Offload::NONE, true),
        (&[&other[..], &[7; 2049 - 60]].concat(), Offload::NONE, false),
        (&udp, datagram, true),
        (&udp, cut, false),
        (&tcp, segment, false),
        (&tcp, Offload::NONE, false),
    ] {
        fixture.transmit([frame(octets, offload)]);
        let sent = fixture.sent();
        assert_eq!((sent.is_some(), fixture.left()), (by_xdp, usize::from(!by_xdp)), "{offload:?}");
        if let Some(sent) = sent {
            assert_eq!(sent.len(), octets.len());
            assert_eq!(sent == octets, offload.is_none(), "a checksum was to be finished");
        }
    }
    assert_eq!(fixture.counters.snapshot().tx_frames, 7);
    assert_eq!(fixture.pool.out(), 0);
}

#[test]
fn a_tag_is_put_in_and_the_checksum_goes_behind_it() {
    let Some(mut fixture) = fixture() else { return };
    let (udp, request) = ip(17, 6);
    let mut frame = fixture.pool.copy(&udp).unwrap();
    frame.meta.offload = request;
    frame.meta.tag = Some(VlanTag::new(VlanId::new(10).unwrap()));
    fixture.transmit([frame]);

    let sent = fixture.sent().expect("a frame");
    assert_eq!(sent[12..18], [0x81, 0, 0, 10, 8, 0]);
    // All else is zero, so the sum is the inverse of nothing: sent as all ones.
    assert_eq!(sent[44..46], [0xff, 0xff]);
}

#[test]
fn what_finds_no_room_goes_by_the_packet_socket() {
    let Some(mut fixture) = fixture() else { return };
    let pool = fixture.pool.clone();
    let other = [&[2; 12][..], &[0x88, 0xb5], &[7; 46]].concat();
    for _ in 0..3 {
        fixture.transmit((0..6).map(|_| pool.copy(&other).unwrap()));
        assert_eq!(std::iter::from_fn(|| fixture.sent()).count(), 4);
        assert_eq!(fixture.left(), 2);
    }
    let status = fixture.queue.status();
    assert_eq!((status.waiting, status.retry, status.deadline), (0, false, None));
}

#[test]
fn the_packet_socket_is_heard_as_well() {
    let Some(mut fixture) = fixture() else { return };
    fixture.rest.send(&[1; 60]).unwrap();
    let mut batch = Batch::new();
    let cx = Context { worker: 1, now: Instant::ZERO, pool: &fixture.pool };
    for _ in 0..2 {
        fixture.queue.receive(&cx, &mut batch).unwrap();
    }
    assert_eq!(batch.len(), 1);
}

/// Which queues workers have to themselves, and who hears the packet socket.
#[test]
fn queues_are_shared_out() {
    let packet = || {
        let (ours, _theirs) = UnixDatagram::pair().unwrap();
        Arc::new(datagram::Socket::new(ours.into(), None))
    };
    let Ok(namespace) = netns::create() else { return };
    let path = format!("/proc/self/fd/{}", namespace.as_raw_fd());
    let sockets = netns::within(path.as_ref(), || {
        let options = Options { chunk: 2048, receive: 8, send: 4 };
        (0..3).map(|_| Socket::open(options)).collect::<io::Result<Vec<_>>>()
    });
    let attached = sockets.unwrap().into_iter().map(|socket| Attached { socket, sends: true }).collect();
    let endpoint = XdpSockets::new(attached, false, packet(), 2);
    assert_eq!([0, 1, 2].map(|worker| endpoint.has_queue_for(worker)), [true, true, false]);
    let settings = |worker| Settings::of_test(worker, Arc::new(Counters::new(2)), 1);
    let shares = [0, 1, 1].map(|worker| endpoint.share(&settings(worker)).len());
    assert_eq!(shares, [2, 1, 0], "a worker gets its share once");
}
