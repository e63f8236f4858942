use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use rustix::net::SocketAddrUnix;
use vmlan_frame::{Batch, Counters, Instant, Meta, Pool, PoolSizes, VlanId};

use super::*;

struct Fixture {
    pool: Pool,
    counters: Arc<Counters>,
    queue: Box<dyn Queue>,
}

fn fixture(socket: std::os::fd::OwnedFd, peer: Option<SocketAddrAny>) -> Fixture {
    fixture_of(&Socket::new(socket.into(), peer))
}

fn fixture_of(socket: &Socket) -> Fixture {
    let counters = Arc::new(Counters::new(1));
    let settings = Settings::of_test(0, counters.clone(), 4);
    let queue = socket.queue(settings).unwrap();
    Fixture { pool: Pool::new(PoolSizes::default()), counters, queue }
}

impl Fixture {
    fn receive(&mut self) -> Vec<(Vec<u8>, Meta)> {
        let mut batch = Batch::new();
        let cx = Context { worker: 0, now: Instant::ZERO, pool: &self.pool };
        self.queue.receive(&cx, &mut batch).unwrap();
        batch.iter().map(|frame| (frame.octets().to_vec(), frame.meta)).collect()
    }

    fn transmit(&mut self, frames: &[&[u8]]) -> Result<(), Fault> {
        let mut batch: Batch = frames.iter().map(|octets| self.pool.copy(octets).unwrap()).collect();
        let cx = Context { worker: 0, now: Instant::ZERO, pool: &self.pool };
        let result = self.queue.transmit(&cx, &mut batch);
        assert!(batch.is_empty());
        result
    }
}

#[test]
fn frames_go_both_ways_and_tags_beside_them() {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let mut fixture = fixture(ours.into(), None);
    let mut tagged = vec![1; 12];
    tagged.extend([0x81, 0, 0, 10, 8, 0, 42]);
    theirs.send(&tagged).unwrap();
    let frames = fixture.receive();
    assert_eq!(frames[0].0, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 8, 0, 42]);
    assert_eq!(frames[0].1.tag, Some(VlanTag::new(VlanId::new(10).unwrap())));

    let mut frame = fixture.pool.copy(&frames[0].0).unwrap();
    frame.meta = frames[0].1;
    let cx = Context { worker: 0, now: Instant::ZERO, pool: &fixture.pool };
    fixture.queue.transmit(&cx, &mut Batch::from_iter([frame])).unwrap();
    let mut buffer = [0; 100];
    let len = theirs.recv(&mut buffer).unwrap();
    assert_eq!(buffer[..len], tagged);
    assert_eq!(fixture.counters.snapshot().tx_octets, 19);
    assert_eq!(fixture.pool.out(), 0);
}

#[test]
fn too_long_a_datagram_is_dropped_and_the_next_comes() {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let mut fixture = fixture(ours.into(), None);
    theirs.send(&[1; 5000]).unwrap();
    theirs.send(&[2; 60]).unwrap();
    let frames = fixture.receive();
    assert_eq!(frames.len(), 1);
    assert_eq!(fixture.counters.snapshot().dropped(DropReason::Oversize), 1);
}

#[test]
fn a_peer_that_does_not_read_costs_a_bounded_backlog() {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let mut fixture = fixture(ours.into(), None);
    let mut sent = 0;
    while fixture.queue.status().waiting < 4 {
        fixture.transmit(&[&[7; 1000]]).unwrap();
        sent += 1;
    }
    fixture.transmit(&[&[7; 1000], &[8; 1000]]).unwrap();
    assert_eq!(fixture.counters.snapshot().dropped(DropReason::QueueFull), 2);
    assert_eq!(fixture.pool.out(), 0);

    // When it reads again, everything that waited comes, in order.
    let mut buffer = [0; 2000];
    for _ in 0..sent {
        theirs.recv(&mut buffer).unwrap();
        fixture.transmit(&[]).unwrap();
    }
    assert_eq!(fixture.queue.status().waiting, 0);
    assert_eq!(fixture.counters.snapshot().tx_frames, sent);
}

#[test]
fn a_peer_that_left_is_a_fault_and_every_frame_is_counted() {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let mut fixture = fixture(ours.into(), None);
    drop(theirs);
    assert!(matches!(fixture.transmit(&[&[1; 60], &[2; 60]]), Err(Fault::Closed)));
    assert_eq!(fixture.counters.snapshot().dropped(DropReason::NoPeer), 2);
}

#[test]
fn frames_of_strangers_from_before_the_connection_are_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let ours = UnixDatagram::bind(path("ours")).unwrap();
    let peer = UnixDatagram::bind(path("peer")).unwrap();
    let stranger = UnixDatagram::bind(path("stranger")).unwrap();
    stranger.send_to(&[1; 60], path("ours")).unwrap();
    peer.send_to(&[2; 60], path("ours")).unwrap();
    ours.connect(path("peer")).unwrap();
    let address = SocketAddrAny::from(SocketAddrUnix::new(path("peer")).unwrap());
    let mut fixture = fixture(ours.into(), Some(address));
    let frames = fixture.receive();
    assert_eq!(frames.iter().map(|frame| frame.0[0]).collect::<Vec<_>>(), [2]);
    assert_eq!(fixture.counters.snapshot().dropped(DropReason::Stranger), 1);

    peer.send_to(&[3; 60], path("ours")).unwrap();
    assert_eq!(fixture.receive()[0].0[0], 3);
    assert!(stranger.send_to(&[4; 60], path("ours")).is_err());
}

#[test]
fn a_full_peer_that_never_tells_of_room_is_asked_and_gets_all_in_order() {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let socket = Socket { tells_room: false, ..Socket::new(std::os::fd::OwnedFd::from(ours).into(), None) };
    let mut fixture = fixture_of(&socket);
    let mut sent: u16 = 0;
    while fixture.queue.status().waiting == 0 {
        fixture.transmit(&[&sent.to_be_bytes()]).unwrap();
        sent += 1;
    }
    // Writable is what such a socket always is, so it is not waited for.
    let Status { waiting: 1, waits, retry: false, deadline: Some(_) } = fixture.queue.status() else {
        panic!("{:?}", fixture.queue.status())
    };
    assert!(!waits.is_for_room());
    fixture.transmit(&[&sent.to_be_bytes()]).unwrap();
    let mut buffer = [0; 16];
    let mut came = Vec::new();
    let mut read = || {
        while theirs.recv(&mut buffer).is_ok() {
            came.push(u16::from_be_bytes([buffer[0], buffer[1]]));
        }
    };
    read();
    fixture.transmit(&[]).unwrap();
    assert_eq!(fixture.queue.status(), Status::default());
    read();
    assert_eq!(came, (0..=sent).collect::<Vec<_>>());
    assert_eq!(fixture.counters.snapshot().tx_frames, u64::from(sent) + 1);
}

#[test]
fn no_room_at_a_peer_is_no_fault_and_no_memory_is_a_loss() {
    let full = |errno: Errno, tells_room| refused(errno.into(), tells_room).unwrap().full;
    assert!(full(Errno::AGAIN, true) && full(Errno::AGAIN, false) && full(Errno::NOBUFS, false));
    let lost = |errno: Errno, tells_room| refused(errno.into(), tells_room).unwrap().refused;
    assert_eq!(lost(Errno::NOBUFS, true), Some(DropReason::TransmitError));
    assert_eq!(lost(Errno::NOMEM, false), Some(DropReason::TransmitError));
    assert_eq!(lost(Errno::MSGSIZE, false), Some(DropReason::TooLong));
    let error = refused(Errno::CONNREFUSED.into(), false).unwrap_err();
    assert_eq!(Errno::from_io_error(&error), Some(Errno::CONNREFUSED));
}
