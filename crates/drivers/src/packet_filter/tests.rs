//! A socket stands for the device: a datagram is a read, or a frame that was written.

use std::io::Write;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use vmlan_frame::{Counters, Instant, MacAddr, Pool, PoolSizes, VlanTag};
use vmlan_sys::darwin::bpf::emit;

use super::*;

struct Fixture {
    pool: Pool,
    counters: Arc<Counters>,
    device: Device,
    queue: Box<dyn Queue>,
    /// Every filter that was set, and whether a frame had left before.
    filters: Arc<Mutex<Vec<ValidProgram>>>,
    /// The kernel's count of losses.
    lost: Arc<AtomicU32>,
    now: Instant,
}

fn fixture(fd: OwnedFd, buffer: usize) -> Fixture {
    rustix::io::ioctl_fionbio(&fd, true).unwrap();
    let filters = Arc::new(Mutex::new(Vec::new()));
    let seen = filters.clone();
    let set_filter: SetFilter = Box::new(move |program: &ValidProgram| {
        seen.lock().unwrap().push(program.clone());
        Ok(())
    });
    let stations = Stations::new([GUEST]);
    let lost = Arc::new(AtomicU32::new(0));
    let losses: Losses = Box::new({
        let lost = lost.clone();
        move || Ok(lost.load(Relaxed))
    });
    let device = Device::new(Parts { fd, buffer, sides: Sides::WIRE, stations, set_filter, losses });
    let counters = Arc::new(Counters::new(1));
    let settings = Settings::of_test(0, counters.clone(), 64);
    let queue = device.queue(settings).unwrap();
    let pool = Pool::new(PoolSizes::default());
    Fixture { pool, counters, device, queue, filters, lost, now: Instant::ZERO }
}

/// A device whose other side is a datagram socket.
fn datagrams() -> (Fixture, UnixDatagram) {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    (fixture(ours.into(), BUFFER), theirs)
}

impl Fixture {
    /// Receives until the queue has nothing more; every batch was within its limit.
    fn receive(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        loop {
            let mut batch = Batch::new();
            let cx = Context { worker: 0, now: self.now, pool: &self.pool };
            let progress = self.queue.receive(&cx, &mut batch).unwrap();
            assert!(batch.len() <= Batch::LIMIT);
            assert!(batch.iter().all(|frame| frame.meta.sides == Sides::WIRE));
            frames.extend(batch.iter().map(|frame| frame.octets().to_vec()));
            if progress == Progress::Done {
                return frames;
            }
        }
    }

    fn transmit(&mut self, frames: &[Vec<u8>]) {
        let mut batch: Batch = frames.iter().map(|octets| self.pool.copy(octets).unwrap()).collect();
        let cx = Context { worker: 0, now: self.now, pool: &self.pool };
        self.queue.transmit(&cx, &mut batch).unwrap();
        assert!(batch.is_empty());
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.counters.snapshot().dropped(reason)
    }
}

const GUEST: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
const OTHER: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 2]);

/// A frame from `source` that tells its number.
fn frame_from(source: MacAddr, number: u8) -> Vec<u8> {
    [&[0xff; 6][..], &source.0, &[8, 0], &[number; 46]].concat()
}

fn records(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut octets = Vec::new();
    frames.iter().for_each(|frame| emit(&mut octets, frame, frame.len() as u32));
    octets
}

fn all_of(theirs: &UnixDatagram) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut buffer = [0; 2048];
    while let Ok(len) = theirs.recv(&mut buffer) {
        frames.push(buffer[..len].to_vec());
    }
    frames
}

#[test]
fn one_read_gives_many_batches_in_order() {
    let (mut fixture, theirs) = datagrams();
    let frames: Vec<_> = (0..200).map(|i| frame_from(OTHER, i)).collect();
    theirs.send(&records(&frames)).unwrap();
    assert_eq!(fixture.receive(), frames);
    assert_eq!(fixture.pool.out(), 0);
}

#[test]
fn a_read_asks_for_what_was_granted() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    // Two records of 18 and 60 octets, each padded to 80.
    let mut fixture = fixture(ours.into(), 160);
    let frames: Vec<_> = (0..4).map(|i| frame_from(OTHER, i)).collect();
    let mut octets = records(&frames);
    octets.resize(320, 0);
    theirs.write_all(&octets).unwrap();
    // More would have been there, and the next read begins with a record again.
    assert_eq!(fixture.receive(), frames[..2]);
    assert_eq!(fixture.receive(), frames[2..]);
    assert_eq!(fixture.receive(), Vec::<Vec<u8>>::new());
}

#[test]
fn what_is_behind_a_bad_record_is_counted_and_not_forwarded() {
    let (mut fixture, theirs) = datagrams();
    let mut octets = records(&[frame_from(OTHER, 1), frame_from(OTHER, 2), frame_from(OTHER, 3)]);
    octets[80 + 8..80 + 12].copy_from_slice(&u32::MAX.to_ne_bytes());
    theirs.send(&octets).unwrap();
    assert_eq!(fixture.receive(), [frame_from(OTHER, 1)]);
    assert_eq!(fixture.dropped(DropReason::Malformed), 1);
    // The next read is none the worse for it.
    theirs.send(&records(&[frame_from(OTHER, 4)])).unwrap();
    assert_eq!(fixture.receive(), [frame_from(OTHER, 4)]);
    assert_eq!(fixture.pool.out(), 0);
}

#[test]
fn what_the_kernel_lost_is_counted_once() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut fixture = fixture(ours.into(), 160);
    let mut octets = records(&[frame_from(OTHER, 1), frame_from(OTHER, 2)]);
    octets.resize(160, 0);
    for (lost, counted) in [(u32::MAX - 1, u64::from(u32::MAX) - 1), (u32::MAX - 1, u64::from(u32::MAX) - 1)]
    {
        fixture.lost.store(lost, Relaxed);
        theirs.write_all(&octets).unwrap();
        assert_eq!(fixture.receive().len(), 2);
        assert_eq!(fixture.dropped(DropReason::InputQueue), counted);
    }
    // The kernel's counter has 32 bits.
    fixture.lost.store(3, Relaxed);
    theirs.write_all(&octets).unwrap();
    assert_eq!(fixture.receive().len(), 2);
    assert_eq!(fixture.dropped(DropReason::InputQueue), u64::from(u32::MAX) + 4);
}

#[test]
fn a_cut_frame_is_counted_and_not_forwarded() {
    let (mut fixture, theirs) = datagrams();
    let mut octets = Vec::new();
    emit(&mut octets, &frame_from(OTHER, 1), 1514);
    emit(&mut octets, &frame_from(OTHER, 2), 60);
    theirs.send(&octets).unwrap();
    assert_eq!(fixture.receive(), [frame_from(OTHER, 2)]);
    assert_eq!(fixture.dropped(DropReason::Malformed), 1);
}

#[test]
fn without_a_buffer_nothing_is_read_and_nothing_is_lost() {
    let (mut fixture, theirs) = datagrams();
    theirs.send(&records(&[frame_from(OTHER, 1)])).unwrap();
    let taken: Vec<_> = std::iter::from_fn(|| fixture.pool.take(Size::Bulk)).collect();
    assert_eq!(fixture.receive(), Vec::<Vec<u8>>::new());
    drop(taken);
    assert_eq!(fixture.receive(), [frame_from(OTHER, 1)]);
}

#[test]
fn a_write_is_a_frame_with_its_tag() {
    let (mut fixture, theirs) = datagrams();
    let mut tagged = fixture.pool.copy(&frame_from(GUEST, 2)).unwrap();
    tagged.meta.tag = Some(VlanTag { tci: 10 });
    let mut batch: Batch = [fixture.pool.copy(&frame_from(GUEST, 1)).unwrap(), tagged].into_iter().collect();
    let cx = Context { worker: 0, now: fixture.now, pool: &fixture.pool };
    fixture.queue.transmit(&cx, &mut batch).unwrap();
    let with_tag = [&frame_from(GUEST, 2)[..12], &[0x81, 0, 0, 10], &frame_from(GUEST, 2)[12..]].concat();
    assert_eq!(all_of(&theirs), [frame_from(GUEST, 1), with_tag]);
}

/// Sends until the interface takes nothing more; answers how many frames were sent, waiting ones among them.
fn fill(fixture: &mut Fixture) -> u8 {
    for number in 0..=u8::MAX {
        fixture.transmit(&[frame_from(GUEST, number)]);
        if fixture.queue.status().waiting > 0 {
            return number + 1;
        }
    }
    panic!("a socket that takes everything");
}

#[test]
fn what_the_interface_does_not_take_waits_and_keeps_its_order() {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    rustix::net::sockopt::set_socket_send_buffer_size(&ours, 4096).unwrap();
    let mut fixture = fixture(ours.into(), BUFFER);
    let count = fill(&mut fixture);
    // Nothing tells when there is room, so it is asked again, less often as long as there is none.
    let mut pauses = Vec::new();
    for _ in 0..7 {
        let Status { waiting: 1, waits, retry: false, deadline: Some(again) } = fixture.queue.status() else {
            panic!("{:?}", fixture.queue.status())
        };
        assert!(!waits.is_for_room());
        pauses.push(again.since(fixture.now).as_micros());
        fixture.transmit(&[]);
    }
    assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 8000, 8000]);
    fixture.transmit(&[frame_from(GUEST, count)]);
    assert_eq!(fixture.queue.status().waiting, 2);
    let mut arrived = all_of(&theirs);
    fixture.transmit(&[]);
    assert_eq!(fixture.queue.status(), Status::default());
    arrived.extend(all_of(&theirs));
    assert_eq!(arrived, (0..=count).map(|number| frame_from(GUEST, number)).collect::<Vec<_>>());
    assert_eq!(fixture.counters.snapshot().tx_frames, u64::from(count) + 1);
}

#[test]
fn patience_with_an_interface_that_takes_nothing_ends() {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    rustix::net::sockopt::set_socket_send_buffer_size(&ours, 4096).unwrap();
    let mut fixture = fixture(ours.into(), BUFFER);
    let count = fill(&mut fixture);
    fixture.now = fixture.now + PATIENCE;
    fixture.transmit(&[]);
    assert_eq!(fixture.queue.status().waiting, 1);
    fixture.now = fixture.now + Duration::from_nanos(1);
    fixture.transmit(&[]);
    assert_eq!((fixture.queue.status().waiting, fixture.dropped(DropReason::QueueFull)), (0, 1));
    // What follows does not wait as long again.
    fixture.transmit(&[frame_from(GUEST, 1), frame_from(GUEST, 2)]);
    assert_eq!((fixture.queue.status().waiting, fixture.dropped(DropReason::QueueFull)), (0, 3));
    // Until there is room.
    assert_eq!(all_of(&theirs).len(), usize::from(count) - 1);
    fixture.transmit(&[frame_from(GUEST, 3)]);
    assert_eq!(all_of(&theirs), [frame_from(GUEST, 3)]);
    assert_eq!(fixture.queue.status(), Status::default());
}

#[test]
fn a_new_sender_widens_the_filter_once() {
    let (mut fixture, theirs) = datagrams();
    fixture.transmit(&[frame_from(GUEST, 0)]);
    assert!(fixture.filters.lock().unwrap().is_empty(), "its address passed from the start");
    fixture.transmit(&[frame_from(OTHER, 0), frame_from(GUEST, 0), frame_from(OTHER, 1)]);
    fixture.transmit(&[frame_from(OTHER, 2)]);
    assert_eq!(all_of(&theirs).len(), 5);
    let filters = fixture.filters.lock().unwrap();
    assert_eq!(*filters, [Stations::new([GUEST, OTHER]).program()]);
}

#[test]
fn control_narrows_the_filter_and_a_sender_widens_it_again() {
    let (mut fixture, _theirs) = datagrams();
    fixture.transmit(&[frame_from(OTHER, 0)]);
    fixture.device.set_stations(Stations::new([GUEST, OTHER])).unwrap();
    assert_eq!(fixture.filters.lock().unwrap().len(), 1, "nothing changed");
    fixture.device.set_stations(Stations::new([GUEST])).unwrap();
    fixture.transmit(&[frame_from(OTHER, 1)]);
    let filters = fixture.filters.lock().unwrap();
    let [both, one] = [Stations::new([GUEST, OTHER]), Stations::new([GUEST])].map(|set| set.program());
    assert_eq!(*filters, [both.clone(), one, both]);
}

#[test]
fn a_sender_of_many_addresses_costs_a_filter_a_batch_and_then_none() {
    let (mut fixture, theirs) = datagrams();
    let mut number = 0;
    for _ in 0..100 {
        let frames: Vec<_> = (0..64)
            .map(|_| {
                number += 1;
                frame_from(MacAddr::from_u64(0x0200_0000_0000 | number), 0)
            })
            .collect();
        fixture.transmit(&frames);
        all_of(&theirs);
    }
    let filters = fixture.filters.lock().unwrap().len();
    assert!(filters <= Stations::LIMIT / 64 + 1, "{filters}");
}

#[test]
fn a_filter_that_cannot_be_set_ends_the_attachment() {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let set_filter: SetFilter = Box::new(|_: &ValidProgram| Err(Errno::NXIO.into()));
    let parts = Parts {
        fd: ours.into(),
        buffer: BUFFER,
        sides: Sides::WIRE,
        stations: Stations::default(),
        set_filter,
        losses: Box::new(|| Ok(0)),
    };
    let counters = Arc::new(Counters::new(1));
    let settings = Settings::of_test(0, counters.clone(), 64);
    let mut queue = Device::new(parts).queue(settings).unwrap();
    let pool = Pool::new(PoolSizes::default());
    let mut batch: Batch = [pool.copy(&frame_from(GUEST, 0)).unwrap()].into_iter().collect();
    let cx = Context { worker: 0, now: Instant::ZERO, pool: &pool };
    assert!(matches!(queue.transmit(&cx, &mut batch), Err(Fault::Io(_))));
    assert!(batch.is_empty() && all_of(&theirs).is_empty());
    assert_eq!(counters.snapshot().dropped(DropReason::TransmitError), 1);
}

#[test]
fn an_interface_that_is_gone_or_down_is_told_so() {
    assert!(matches!(fault(Errno::NXIO.into()), Fault::Gone));
    assert!(matches!(fault(Errno::NETDOWN.into()), Fault::Gone));
    assert!(matches!(fault(Errno::IO.into()), Fault::Io(_)));
}
