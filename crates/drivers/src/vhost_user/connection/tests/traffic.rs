//! Frames that pass while front ends do what they do.

use std::sync::atomic::AtomicBool;

use vmlan_frame::{Batch, Context, Counters, Pool, PoolSizes};
use vmlan_sys::guest_memory::Mapping;

use super::super::super::tests::guest::{GUEST, GuestRing, SIZE};
use super::*;
use crate::queue::Settings;

/// Receives what comes in at a port until there is so much of it, as a worker does that has other ports as well.
/// Returns the numbers of the frames.
fn receive(device: &dyn Endpoint, others: &[&dyn Endpoint], count: usize) -> Vec<u32> {
    let queue = |device: &&dyn Endpoint| {
        let settings = Settings::of_test(0, Arc::new(Counters::new(1)), 64);
        device.queue(settings).unwrap()
    };
    let (mut queue, mut others) = (queue(&device), others.iter().map(queue).collect::<Vec<_>>());
    let pool = Pool::new(PoolSizes::default());
    let mut numbers = Vec::new();
    let start = Instant::now();
    while numbers.len() < count && start.elapsed() < SOON {
        let now = vmlan_frame::Instant::from_nanos(start.elapsed().as_nanos() as u64);
        let cx = Context { worker: 0, now, pool: &pool };
        for other in &mut others {
            other.receive(&cx, &mut Batch::new()).unwrap();
        }
        let mut batch = Batch::new();
        queue.receive(&cx, &mut batch).unwrap();
        numbers.extend(batch.iter().map(|frame| {
            u32::from_ne_bytes(frame.octets()[14..18].try_into().expect("a number is behind the header"))
        }));
        thread::yield_now();
    }
    numbers
}

/// Starts ring 1, which is in the file and is polled, as QEMU does.
fn start(front_end: &FrontEnd, ring: &GuestRing, memory: &OwnedFd) {
    let setup = ring.setup(0);
    let features = ACCEPTED | if ring.packed { feature::RING_PACKED } else { 0 };
    front_end.send(Kind::SetFeatures, &longs(&[features]), &[]);
    front_end.send(Kind::SetProtocolFeatures, &longs(&[protocol::REPLY_ACK]), &[]);
    front_end.send(Kind::AddMemReg, &longs(&[0, GUEST, SIZE, USER, 0]), &[memory]);
    front_end.send(Kind::SetVringEnable, &words(&[1, 1]), &[]);
    front_end.send(Kind::SetVringNum, &words(&[1, setup.num]), &[]);
    front_end.send(Kind::SetVringBase, &words(&[1, setup.base]), &[]);
    let addresses = setup.addresses;
    let addresses = longs(&[addresses.descriptors, addresses.device, addresses.driver, 0]);
    front_end.send(Kind::SetVringAddr, &[words(&[1, 0]), addresses].concat(), &[]);
    front_end.send(Kind::SetVringKick, &longs(&[1 | 1 << 8]), &[]);
}

/// A front end whose guest can send by a ring that is polled, that ring, and the file that it is in.
fn sender(packed: bool) -> (FrontEnd, GuestRing, OwnedFd) {
    let mut front_end = FrontEnd::new();
    let memory = memfd(SIZE);
    let mut ring = GuestRing::new(packed, 256);
    ring.mapping = Arc::new(Mapping::new(memory.as_fd(), 0, SIZE).unwrap());
    start(&front_end, &ring, &memory);
    // The answer comes once all of it is done.
    assert_eq!(front_end.ask_whether(Kind::SetVringEnable, &words(&[1, 1])), 0);
    (front_end, ring, memory)
}

/// Sends numbered frames from the guest, as its driver does.
fn send_frames(ring: &mut GuestRing, count: u32) {
    let mut out = 0;
    let start = Instant::now();
    for number in 0..count {
        while out == 200 {
            assert!(start.elapsed() < SOON, "no frame is taken any more");
            out -= ring.used().len();
            thread::yield_now();
        }
        let at = GuestRing::at(u64::from(number % 256) * 128);
        let mut frame = [0; 12 + 60];
        frame[24..26].copy_from_slice(&[0x88, 0xb5]);
        frame[26..30].copy_from_slice(&number.to_ne_bytes());
        ring.write(at, &frame);
        ring.offer(&[(at, 72, false)]);
        out += 1;
    }
}

#[test]
fn case_13_memory_grows_while_a_ring_runs_and_no_frame_is_lost() {
    const FRAMES: u32 = 20_000;
    for packed in [false, true] {
        let ((mut front_end, mut ring, memory), more) = (sender(packed), memfd(SIZE));
        let device = front_end.device.clone();
        let received = thread::scope(|scope| {
            let worker = scope.spawn(|| receive(&*device, &[], FRAMES as usize));
            let driver = scope.spawn(|| send_frames(&mut ring, FRAMES));
            let table = [[GUEST, SIZE, USER, 0], [GUEST + SIZE, SIZE, USER + SIZE, 0]];
            let mut replaced = 0;
            while !driver.is_finished() {
                let count = 1 + replaced % 2;
                let body = [words(&[count as u32, 0]), longs(&table[..count].concat())].concat();
                front_end.send(Kind::SetMemTable, &body, &[&memory, &more][..count]);
                // The answer comes once the memory is replaced.
                assert_eq!(front_end.ask_whether(Kind::SetVringEnable, &words(&[1, 1])), 0);
                replaced += 1;
            }
            assert!(replaced > 1);
            worker.join().unwrap()
        });
        assert!(received.iter().copied().eq(0..FRAMES), "{} of {FRAMES}, packed {packed}", received.len());
    }
}

/// Octets of a message that switches a ring.
const SWITCH: u64 = HEADER as u64 + 8;

#[test]
fn case_38_a_front_end_that_switches_its_rings_without_end_is_held_to_a_rate() {
    const FRAMES: u32 = 20_000;
    let (ours, theirs) = UnixStream::pair().unwrap();
    let unread = theirs.try_clone().unwrap();
    let mut hostile = FrontEnd::over(ours, theirs, |_| {});
    hostile.run(&memfd(MEMORY));
    let (neighbour, mut ring, _memory) = sender(false);
    let (socket, over) = (&hostile.socket, AtomicBool::new(false));
    let start = Instant::now();
    let (sent, received) = thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let mut sent = 0;
            // More than it may, however soon the neighbour is done: the rest fits into the socket.
            while sent < DISTURBANCES.1 + 100 || !over.load(Ordering::Relaxed) {
                let switch = message(Kind::SetVringEnable as u32, 1, &words(&[1, sent % 2]));
                send_octets(socket, &switch, &[]);
                sent += 1;
            }
            sent
        });
        let devices = [&neighbour, &hostile].map(|front_end| front_end.device.clone());
        let worker = scope.spawn(move || receive(&*devices[0], &[&*devices[1]], FRAMES as usize));
        let driver = scope.spawn(|| send_frames(&mut ring, FRAMES));
        let (driven, received) = (driver.join(), worker.join().unwrap());
        over.store(true, Ordering::Relaxed);
        driven.unwrap();
        (flood.join().unwrap(), received)
    });
    assert!(received.iter().copied().eq(0..FRAMES), "{} of {FRAMES}", received.len());
    let done = u64::from(sent) - rustix::io::ioctl_fionread(&unread).unwrap() / SWITCH;
    // One more is in hand.
    let most = f64::from(DISTURBANCES.1 + 1) + f64::from(DISTURBANCES.0) * start.elapsed().as_secs_f64();
    assert!(done as f64 <= most, "{done} of {sent} were done, no more than {most} may be");
    assert!(hostile.reports.try_iter().all(|report| matches!(report, Report::State(_))));
}

#[test]
fn changes_of_started_rings_and_broken_ones_are_counted_from_connection_to_connection() {
    let counters = RingCounters::new(1);
    for round in 1..=2 {
        let mut front_end = FrontEnd::with(|options| options.counters = counters.clone());
        front_end.run(&memfd(MEMORY));
        let before = counters.snapshot();
        assert_eq!(before.broken_rings, 2 * (round - 1));
        // Nothing is started there.
        assert_eq!(front_end.ask_whether(Kind::SetVringEnable, &words(&[2, 1])), 0);
        assert_eq!(counters.snapshot(), before);
        for enabled in [0, 1] {
            assert_eq!(front_end.ask_whether(Kind::SetVringEnable, &words(&[0, enabled])), 0);
        }
        assert_eq!(counters.snapshot().quiesces, before.quiesces + 2);
        front_end.send(Kind::RemMemReg, &longs(&[0, 0, MEMORY, USER, 0]), &[]);
        front_end.wait_for(|state| state.reason.as_ref().is_some_and(|reason| reason.contains("is broken")));
        assert_eq!(front_end.device.rings(), Some(counters.snapshot()));
        assert_eq!(counters.snapshot().broken_rings, 2 * round);
    }
}

/// A front end with this file, which starts ring 1 as QEMU does, whatever became of it before.
fn with_checkpoints(checkpoints: &Arc<Checkpoints>, ring: &GuestRing, memory: &OwnedFd) -> FrontEnd {
    let process = Process::of(std::process::id()).unwrap();
    let front_end = FrontEnd::with(|options| options.checkpoints = Some((checkpoints.clone(), process)));
    start(&front_end, ring, memory);
    front_end
}

#[test]
fn packed_rings_go_on_unless_the_front_end_stopped_them_or_left() {
    const FRAMES: u32 = 3000;
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = directory.path().join("lab:a.rings");
    let checkpoints = Arc::new(Checkpoints::open(&path).unwrap());
    let memory = memfd(SIZE);
    let mut ring = GuestRing::new(true, 256);
    ring.mapping = Arc::new(Mapping::new(memory.as_fd(), 0, SIZE).unwrap());
    let beginning = 0x8000_8000;
    let at = |frames: u32| {
        let round = if (frames / 256).is_multiple_of(2) { 0x8000 } else { 0 };
        let position = (frames % 256) | round;
        position << 16 | position
    };

    // Twice an end of ours: the ring goes on behind what was used.
    for turn in 0..2 {
        let mut front_end = with_checkpoints(&checkpoints, &ring, &memory);
        let device = front_end.device.clone();
        let received = thread::scope(|scope| {
            let worker = scope.spawn(|| receive(&*device, &[], FRAMES as usize));
            send_frames(&mut ring, FRAMES);
            worker.join().unwrap()
        });
        assert_eq!(received, (0..FRAMES).collect::<Vec<_>>(), "{turn}");
        ring.used();
        drop(front_end.connection.take());
        front_end.wait_for_threads(0);
    }
    // It is stopped in order, and started at the same BASE: so it was set up anew, whatever is in it.
    let mut front_end = with_checkpoints(&checkpoints, &ring, &memory);
    assert_eq!(front_end.base(1), words(&[1, at(2 * FRAMES)]));
    drop(front_end);
    let mut front_end = with_checkpoints(&checkpoints, &ring, &memory);
    assert_eq!(front_end.base(1), words(&[1, beginning]));
    drop(front_end);

    // A front end that leaves takes its entries along.
    let front_end = with_checkpoints(&checkpoints, &ring, &memory);
    let FrontEnd { socket, reports, connection: _connection, .. } = front_end;
    drop(socket);
    let ended = reports.iter().any(|report| matches!(report, Report::Ended(Fault::Closed)));
    assert!(ended);
    drop(checkpoints);
    testbed::wait_until("the file to go", SOON, || !path.exists());
}
