//! Workers, connections' threads and guests beside each other.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant as Clock};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::super::device::Setup;
use super::super::ring::{Intake, Ring};
use super::*;

/// Far more than anything here takes.
const SOON: Duration = Duration::from_secs(60);

/// The largest count that an eventfd can have: a write to it waits.
const FULL: u64 = u64::MAX - 1;

/// A worker, which is its thread's from its beginning.
struct Worker {
    queue: Box<dyn Queue>,
    pool: Pool,
    counters: Arc<Counters>,
}

impl Worker {
    fn new(device: &Device, number: usize) -> Worker {
        let counters = Arc::new(Counters::new(2));
        let settings = Settings::of_test(number, counters.clone(), 64);
        let queue = device.queue(settings).unwrap();
        Worker { queue, pool: Pool::new(PoolSizes::default()), counters }
    }

    fn receive(&mut self) -> Vec<Vec<u8>> {
        let mut batch = Batch::new();
        let cx = Context { worker: 0, now: Instant::ZERO, pool: &self.pool };
        self.queue.receive(&cx, &mut batch).unwrap();
        batch.iter().map(|frame| frame.octets().to_vec()).collect()
    }

    fn transmit(&mut self, frames: &[Vec<u8>]) {
        let mut batch: Batch = frames.iter().map(|octets| self.pool.copy(octets).unwrap()).collect();
        let cx = Context { worker: 0, now: Instant::ZERO, pool: &self.pool };
        self.queue.transmit(&cx, &mut batch).unwrap();
    }
}

/// Tells other threads that it is over, also when a check fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Lets other threads run until a condition holds.
#[track_caller]
fn yield_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Clock::now();
    while !condition() {
        assert!(start.elapsed() < SOON, "gave up waiting for {what}");
        thread::yield_now();
    }
}

/// A frame that says who sent it, and as which.
fn numbered(sender: usize, number: u32) -> Vec<u8> {
    let mut octets = frame(sender as u8, 60);
    octets[14..18].copy_from_slice(&number.to_ne_bytes());
    octets
}

/// A device with a pair of rings, whose frames are received.
fn admitted(workers: usize) -> Device {
    let device = Device::new(2, workers, RingCounters::new(workers)).unwrap();
    device.rings().admit();
    device
}

fn number(frame: &[u8]) -> u32 {
    u32::from_ne_bytes(frame[14..18].try_into().unwrap())
}

#[test]
fn case_11_a_ring_is_stopped_after_the_turn_that_has_it() {
    for packed in BOTH {
        let mut tx = GuestRing::new(packed, 64);
        let device = admitted(1);
        let rings = device.rings();
        rings.start(1, tx.setup(BASIC));
        (0..32).for_each(|_| {
            tx.offer(&[(GuestRing::at(0), 72, false)]);
        });
        let (is_over, barrier) = (AtomicBool::new(false), Barrier::new(2));
        thread::scope(|scope| {
            let stopper = scope.spawn(|| {
                barrier.wait();
                let stopped = rings.stop(1).unwrap();
                (is_over.load(Ordering::SeqCst), stopped.base)
            });
            // As a worker has it.
            let mut held = rings.slot(1).try_lock().unwrap();
            barrier.wait();
            for _ in 0..4 {
                turn(held.as_mut().unwrap().ring().unwrap().0, 8);
                thread::yield_now();
            }
            is_over.store(true, Ordering::SeqCst);
            drop(held);
            let (was_over, base) = stopper.join().unwrap();
            assert!(was_over, "it was stopped within a turn");
            assert_eq!((tx.used().len(), tx.position()), (32, base), "{packed}");
        });
    }
}

/// Receives up to so many frames from a ring.
fn turn(ring: &mut Ring, count: usize) {
    let pool = Pool::new(PoolSizes { small: count, large: 0, bulk: 0 });
    let mut batch = Batch::new();
    let refuse = |_, _| {};
    let mut intake = Intake { pool: &pool, batch: &mut batch, refuse: &refuse, octets: 0, descriptors: 0 };
    assert!(ring.receive(&mut intake).unwrap().any);
}

#[test]
fn case_11_nothing_is_written_to_a_ring_that_was_stopped() {
    const ROUNDS: usize = 20;
    for packed in BOTH {
        let mut guest = [GuestRing::new(packed, 256), GuestRing::new(packed, 256)];
        let device = admitted(1);
        let rings = device.rings();
        for (index, ring) in guest.iter().enumerate() {
            rings.start(index, ring.setup(BASIC));
        }
        let (turns, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut worker = Worker::new(&device, 0);
                while !over.load(Ordering::Relaxed) {
                    worker.receive();
                    worker.transmit(&[frame(1, 60), frame(2, 60)]);
                    turns.fetch_add(1, Ordering::Relaxed);
                }
            });
            let _over = Over(&over);
            let wait_for_turns = |count| {
                let before = turns.load(Ordering::Relaxed);
                yield_until("turns", || turns.load(Ordering::Relaxed) >= before + count);
            };
            for round in 0..ROUNDS {
                for (index, ring) in guest.iter_mut().enumerate() {
                    for number in 0..250 {
                        ring.offer(&[(GuestRing::at(number * 2048), 2048, index == 0)]);
                    }
                    // Sooner in some rounds, later in others.
                    (0..round * 50).for_each(|_| std::hint::spin_loop());
                    let stopped = rings.stop(index).unwrap();
                    let before = ring.read(guest::GUEST, guest::SIZE as usize);
                    // One may have begun before.
                    wait_for_turns(3);
                    assert!(
                        ring.read(guest::GUEST, guest::SIZE as usize) == before,
                        "{packed} {index} {round}"
                    );
                    let mut done = ring.used().len();
                    assert_eq!(ring.position(), stopped.base, "{packed} {index} {round}");
                    rings.start(index, Setup { base: stopped.base, ..stopped.setup });
                    // All of them in the end, and none twice.
                    yield_until("the rest", || {
                        done += ring.used().len();
                        done == 250
                    });
                }
            }
        });
    }
}

/// Rounds of case 27 for each kind of ring. `VMLAN_REST_ROUNDS` asks for others; 300,000 take some minutes.
const ROUNDS: u64 = 5_000;

#[test]
fn case_27_no_wake_up_is_lost_on_the_way_to_rest() {
    let rounds = std::env::var("VMLAN_REST_ROUNDS").map_or(ROUNDS, |count| count.parse().expect("a number"));
    for (packed, event_idx) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut tx = GuestRing::new(packed, 8);
        let device = admitted(1);
        let kick = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        let mut setup = tx.setup(BASIC | if event_idx { feature::EVENT_IDX } else { 0 });
        setup.kick = Some(kick.try_clone().unwrap());
        device.rings().start(1, setup);
        let mut kicks = 0;
        let rests = thread::scope(|scope| {
            let device = &device;
            let worker = scope.spawn(move || {
                let mut worker = Worker::new(device, 0);
                let poller = vmlan_sys::Poller::new().unwrap();
                poller.add(worker.queue.descriptor(0).unwrap(), 1, vmlan_sys::Interest::READ).unwrap();
                let (mut events, mut came, mut rests) = (Vec::new(), 0, 0);
                while came < rounds {
                    let now = worker.receive().len() as u64;
                    came += now;
                    if now == 0 && !worker.queue.rest() {
                        rests += 1;
                        poller.wait(&mut events, Some(SOON)).unwrap();
                        assert!(
                            !events.is_empty(),
                            "a wake-up was lost after {came} frames: {packed} {event_idx}"
                        );
                        worker.queue.is_ready(0);
                    }
                }
                rests
            });
            for round in 0..rounds {
                if tx.offer_and_look((GuestRing::at(0), 72, false), event_idx) {
                    kicks += 1;
                    rustix::io::write(&kick, &1u64.to_ne_bytes()).unwrap();
                }
                yield_until("a frame to be taken", || !tx.used().is_empty());
                // So that the next one meets each step of the other thread.
                (0..round % 256).for_each(|_| std::hint::spin_loop());
            }
            worker.join().unwrap()
        });
        // A kick wakes once, and the only other thing that does is the start.
        assert!(rests <= kicks + 1, "{rests} rests, {kicks} kicks: {packed} {event_idx}");
    }
}

/// Fills an eventfd that blocks whenever it is not full.
fn keep_full(eventfd: &OwnedFd, over: &AtomicBool) {
    let flags = fcntl_getfl(eventfd).unwrap();
    while !over.load(Ordering::Relaxed) {
        // Another one that rings it meanwhile would have us wait as well.
        fcntl_setfl(eventfd, flags | OFlags::NONBLOCK).unwrap();
        while rustix::io::write(eventfd, &FULL.to_ne_bytes()).is_err() {
            let _ = rustix::io::read(eventfd, &mut [0; 8]);
        }
        fcntl_setfl(eventfd, flags).unwrap();
        thread::yield_now();
    }
}

#[test]
fn case_29_a_call_that_is_full_and_blocks_holds_no_worker_up() {
    const TURNS: u8 = 250;
    for packed in BOTH {
        // Each blocks, and is full before it is given to us.
        let calls = [(); 2].map(|()| Arc::new(eventfd(0, EventfdFlags::empty()).unwrap()));
        calls.iter().for_each(|call| {
            rustix::io::write(call, &FULL.to_ne_bytes()).unwrap();
        });
        let over = Arc::new(AtomicBool::new(false));
        let fillers = calls.clone().map(|call| {
            let over = over.clone();
            thread::spawn(move || keep_full(&call, &over))
        });
        // One that waits for ever cannot be waited for.
        let (done, result) = channel();
        thread::spawn(move || {
            let mut lab = Fixture::with(packed, 8, BASIC);
            for (index, call) in calls.iter().enumerate() {
                let mut stopped = lab.rings.stop(index).unwrap();
                stopped.setup.call = Some(call.try_clone().unwrap());
                stopped.setup.base = stopped.base;
                lab.rings.start(index, stopped.setup);
            }
            for turn in 0..TURNS {
                lab.send(0, &frame(turn, 60));
                assert_eq!(lab.receive(), [&frame(turn, 60)[..]]);
                lab.give(0, 2048);
                lab.transmit(&[&frame(turn, 60)]);
                assert_eq!((lab.tx.used().len(), lab.rx.used().len()), (1, 1));
            }
            done.send(lab.counters.snapshot().tx_frames).unwrap();
        });
        assert_eq!(result.recv_timeout(SOON), Ok(TURNS.into()), "{packed}");
        over.store(true, Ordering::Relaxed);
        fillers.into_iter().for_each(|filler| filler.join().unwrap());
    }
}

#[test]
fn case_48_two_workers_share_one_pair() {
    const FRAMES: u32 = 2_000;
    for packed in BOTH {
        let (mut rx, mut tx) = (GuestRing::new(packed, 256), GuestRing::new(packed, 256));
        let device = admitted(2);
        let rings = device.rings();
        rings.start(0, rx.setup(BASIC));
        rings.start(1, tx.setup(BASIC));
        let over = AtomicBool::new(false);
        let received = [(); 2].map(|()| Mutex::new(Vec::new()));
        let counters = thread::scope(|scope| {
            let workers = [0, 1].map(|sender| {
                let (device, over, received) = (&device, &over, &received[sender]);
                scope.spawn(move || {
                    let mut worker = Worker::new(device, sender);
                    let mut sent = 0;
                    while !over.load(Ordering::Relaxed) {
                        let came = worker.receive();
                        received.lock().unwrap().extend(came.iter().map(|frame| number(frame)));
                        // No more than the backlog holds.
                        let is_free = worker.queue.status().waiting == 0;
                        let count = if is_free { (FRAMES - sent).min(1 + sent % 40) } else { 0 };
                        let frames: Vec<_> =
                            (sent..sent + count).map(|number| numbered(sender, number)).collect();
                        worker.transmit(&frames);
                        sent += count;
                    }
                    worker.counters
                })
            });
            let is_over = Over(&over);
            // Numbers that the guest expects of each worker.
            let mut next = [0, 0];
            let mut free: Vec<u64> = (0..200).map(|place| GuestRing::at(place * 2048)).collect();
            let mut places = vec![0; 256];
            let (mut sent, mut out) = (0, 0);
            yield_until("all frames", || {
                for place in free.drain(..) {
                    places[usize::from(rx.offer(&[(place, 2048, true)]))] = place;
                }
                while sent < FRAMES && out < 200 {
                    let at = GuestRing::at(u64::from(sent % 200) * 2048);
                    tx.write(at, &[&[0; 12][..], &numbered(2, sent)].concat());
                    tx.offer(&[(at, 72, false)]);
                    (sent, out) = (sent + 1, out + 1);
                }
                out -= tx.used().len();
                for (id, len) in rx.used() {
                    let place = places[usize::from(id)];
                    let frame = rx.read(place, len as usize).split_off(12);
                    let sender = usize::from(frame[0]);
                    assert_eq!(number(&frame), next[sender], "worker {sender}, packed {packed}");
                    next[sender] += 1;
                    free.push(place);
                }
                let came = received[0].lock().unwrap().len();
                next == [FRAMES; 2] && came == FRAMES as usize && out == 0
            });
            drop(is_over);
            workers.map(|worker| worker.join().unwrap())
        });
        let [first, second] = received.map(|numbers| numbers.into_inner().unwrap());
        assert!(first.into_iter().eq(0..FRAMES), "packed {packed}");
        assert!(second.is_empty(), "a ring has one worker that receives from it");
        for counters in counters {
            let sum = counters.snapshot();
            assert_eq!((sum.tx_frames, sum.queued), (FRAMES.into(), 0));
        }
    }
}

#[test]
fn case_38_a_ring_that_is_switched_without_end_costs_a_neighbour_nothing() {
    const FRAMES: u32 = 5_000;
    const TOGGLES: u32 = 200_000;
    let device = || {
        let device = admitted(1);
        let ring = GuestRing::new(false, 256);
        device.rings().start(1, ring.setup(BASIC));
        (device, ring)
    };
    let ((hostile, mut its_ring), (neighbour, mut ring)) = (device(), device());
    let rings = hostile.rings();
    let over = AtomicBool::new(false);
    let (mut offered, mut completed) = (0, 0);
    let (received, passed, dropped) = thread::scope(|scope| {
        scope.spawn(|| {
            for toggle in 0..TOGGLES {
                rings.set_enabled(1, toggle % 2 == 1);
            }
        });
        let worker = scope.spawn(|| {
            let [mut hostile, mut neighbour] = [&hostile, &neighbour].map(|device| Worker::new(device, 0));
            let (mut received, mut passed) = (Vec::new(), 0);
            while !over.load(Ordering::Relaxed) {
                passed += hostile.receive().len();
                received.extend(neighbour.receive().iter().map(|frame| number(frame)));
            }
            (received, passed, hostile.counters.snapshot().dropped(DropReason::NotAttached))
        });
        let is_over = Over(&over);
        let (mut sent, mut out) = (0, 0);
        yield_until("all frames", || {
            while sent < FRAMES && out < 200 {
                let at = GuestRing::at(u64::from(sent % 200) * 2048);
                ring.write(at, &[&[0; 12][..], &numbered(0, sent)].concat());
                ring.offer(&[(at, 72, false)]);
                its_ring.offer(&[(at, 72, false)]);
                (sent, out, offered) = (sent + 1, out + 1, offered + 1);
                // It keeps no more out than there is room for.
                if offered - completed == 200 {
                    yield_until("the other ring's frames", || {
                        completed += its_ring.used().len();
                        offered - completed < 200
                    });
                }
            }
            out -= ring.used().len();
            sent == FRAMES && out == 0
        });
        yield_until("the other ring's frames", || {
            completed += its_ring.used().len();
            offered == completed
        });
        drop(is_over);
        worker.join().unwrap()
    });
    assert!(received.into_iter().eq(0..FRAMES));
    // Its own frames were taken as well, each of them once: while it was disabled they were dropped.
    assert_eq!(passed as u64 + dropped, u64::from(FRAMES));
    assert_eq!(rings.states()[1], RingState::Started { enabled: true });
}
