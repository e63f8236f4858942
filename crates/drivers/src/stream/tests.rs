use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use vmlan_frame::{Batch, Counters, Instant, Pool, PoolSizes};

use super::*;

struct Fixture {
    pool: Pool,
    counters: Arc<Counters>,
    queue: Box<dyn Queue>,
    now: Instant,
}

fn fixture() -> (Fixture, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let counters = Arc::new(Counters::new(1));
    let settings = Settings::of_test(0, counters.clone(), 64);
    let queue = Socket::new(ours.into()).queue(settings).unwrap();
    let pool = Pool::new(PoolSizes::default());
    (Fixture { pool, counters, queue, now: Instant::ZERO }, theirs)
}

impl Fixture {
    /// Receives until the queue has nothing more.
    fn receive(&mut self) -> (Result<(), Fault>, Vec<Vec<u8>>) {
        let mut frames = Vec::new();
        loop {
            let mut batch = Batch::new();
            let cx = Context { worker: 0, now: self.now, pool: &self.pool };
            let result = self.queue.receive(&cx, &mut batch);
            frames.extend(batch.iter().map(|frame| frame.octets().to_vec()));
            match result {
                Ok(Progress::Again) => {}
                Ok(Progress::Done | Progress::Polled { .. }) => return (Ok(()), frames),
                Err(fault) => return (Err(fault), frames),
            }
        }
    }

    fn transmit(&mut self, frames: &[Vec<u8>]) -> Result<(), Fault> {
        let mut batch: Batch = frames.iter().map(|octets| self.pool.copy(octets).unwrap()).collect();
        let cx = Context { worker: 0, now: self.now, pool: &self.pool };
        let result = self.queue.transmit(&cx, &mut batch);
        assert!(batch.is_empty());
        result
    }
}

fn framed(frame: &[u8]) -> Vec<u8> {
    [&(frame.len() as u32).to_be_bytes()[..], frame].concat()
}

#[test]
fn one_read_gives_many_batches_in_order() {
    let (mut fixture, mut theirs) = fixture();
    let frames: Vec<_> = (0..200).map(|i| vec![i as u8; 60]).collect();
    theirs.write_all(&frames.iter().flat_map(|frame| framed(frame)).collect::<Vec<_>>()).unwrap();
    assert_eq!(fixture.receive().1, frames);
    assert_eq!(fixture.pool.out(), 0);
}

#[test]
fn a_read_is_given_out_a_batch_at_a_time_even_while_its_frames_are_held() {
    let (mut fixture, mut theirs) = fixture();
    let mut tagged = vec![7; 12];
    tagged.extend([0x81, 0, 0, 10, 8, 0, 1, 2]);
    let runts: Vec<_> = framed(&[1]).repeat(100).into_iter().chain(framed(&tagged)).collect();
    theirs.write_all(&runts).unwrap();
    let mut held = Vec::new();
    let mut counts = Vec::new();
    loop {
        let mut batch = Batch::new();
        let cx = Context { worker: 0, now: fixture.now, pool: &fixture.pool };
        let progress = fixture.queue.receive(&cx, &mut batch).unwrap();
        counts.push(batch.len());
        held.extend(batch.drain());
        if progress == Progress::Done {
            break;
        }
    }
    assert_eq!(counts, [Batch::LIMIT, 101 - Batch::LIMIT]);
    let last = held.last().unwrap();
    assert_eq!((last.meta.tag.unwrap().vid(), last.len()), (10, 16));
    assert!(held[..100].iter().all(|frame| frame.octets() == [1]));
    drop(held);
    assert_eq!(fixture.pool.out(), 0);
}

/// A queue for which so many frames wait although its medium has room, and who reads what it sends.
fn waiting(frames: usize, pool: &Pool) -> (Box<dyn Queue>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let counters = Arc::new(Counters::new(1));
    let settings = Settings {
        worker: 0,
        receives: false,
        account: counters.into(),
        backlog: 1000,
        share: None,
        longest: 1518,
    };
    let socket = Socket::new(ours.into());
    let mut queue = socket.queue(settings).unwrap();
    let cx = Context { worker: 0, now: Instant::ZERO, pool };
    let _other = socket.shared.sender.lock().unwrap();
    queue.transmit(&cx, &mut batch(pool, frames)).unwrap();
    (queue, theirs)
}

fn batch(pool: &Pool, frames: usize) -> Batch {
    (0..frames).map(|_| pool.copy(&[9; 60]).unwrap()).collect()
}

#[test]
fn a_long_backlog_is_sent_a_batch_at_a_time() {
    let pool = Pool::new(PoolSizes::default());
    let (mut queue, _theirs) = waiting(150, &pool);
    let cx = Context { worker: 0, now: Instant::ZERO, pool: &pool };
    for left in [150 - Batch::LIMIT, 150 - 2 * Batch::LIMIT, 0] {
        queue.transmit(&cx, &mut Batch::new()).unwrap();
        // The medium has room, so it would tell nothing new.
        assert_eq!(queue.status(), Status { waiting: left, retry: left > 0, ..Status::default() });
    }
}

#[test]
fn a_backlog_that_the_medium_can_take_ends_however_much_comes() {
    let pool = Pool::new(PoolSizes::default());
    let (mut queue, _theirs) = waiting(150, &pool);
    let cx = Context { worker: 0, now: Instant::ZERO, pool: &pool };
    // A turn of who sends to it, and one of its own, for as long as it says that it needs some.
    for _ in 0..4 {
        queue.transmit(&cx, &mut batch(&pool, Batch::LIMIT)).unwrap();
        if queue.status().retry {
            queue.transmit(&cx, &mut Batch::new()).unwrap();
        }
    }
    assert_eq!(queue.status(), Status::default());
}

#[test]
fn a_split_at_any_octet_is_legal() {
    let (mut fixture, mut theirs) = fixture();
    let octets = [framed(&[1; 20]), framed(&[2; 30])].concat();
    let mut frames = Vec::new();
    for octet in octets {
        theirs.write_all(&[octet]).unwrap();
        frames.extend(fixture.receive().1);
    }
    assert_eq!(frames, [vec![1; 20], vec![2; 30]]);
}

#[test]
fn a_garbage_length_is_a_violation_after_the_good_frames() {
    let (mut fixture, mut theirs) = fixture();
    theirs.write_all(&[framed(&[1; 60]), vec![0xff; 8]].concat()).unwrap();
    let (result, frames) = fixture.receive();
    assert_eq!(frames.len(), 1);
    assert!(matches!(result, Err(Fault::Violation(text)) if text.contains("4294967295")));
}

#[test]
fn half_a_frame_is_waited_for_but_not_for_ever() {
    let (mut fixture, mut theirs) = fixture();
    fixture.now = Instant::from_secs(10);
    theirs.write_all(&framed(&[1; 60])[..20]).unwrap();
    assert!(fixture.receive().0.is_ok());
    let deadline = fixture.queue.status().deadline.unwrap();
    assert_eq!(deadline, Instant::from_secs(15));
    fixture.now = deadline + Duration::from_millis(1);
    assert!(matches!(fixture.receive().0, Err(Fault::Violation(_))));
}

#[test]
fn an_octet_now_and_then_does_not_extend_the_time() {
    let (mut fixture, mut theirs) = fixture();
    for (second, octet) in framed(&[1; 60]).into_iter().take(6).enumerate() {
        fixture.now = Instant::from_secs(second as u64);
        theirs.write_all(&[octet]).unwrap();
        assert!(fixture.receive().0.is_ok());
    }
    assert_eq!(fixture.queue.status().deadline, Some(Instant::from_secs(5)));
}

#[test]
fn the_end_of_the_stream_is_told() {
    let (mut fixture, theirs) = fixture();
    drop(theirs);
    assert!(matches!(fixture.receive().0, Err(Fault::Closed)));
}

#[test]
fn partial_writes_never_mix_frames() {
    let (mut fixture, mut theirs) = fixture();
    let frames: Vec<_> = (0..400usize).map(|i| vec![i as u8; 40 + i * 37 % 1400]).collect();
    // Nobody reads for a while: the socket fills up in the middle of a frame.
    for chunk in frames.chunks(16) {
        fixture.transmit(chunk).unwrap();
    }
    let dropped = fixture.counters.snapshot().dropped(DropReason::QueueFull);
    assert!(dropped > 0 && fixture.queue.status().waiting > 0);
    assert_eq!(fixture.pool.out(), 0);

    theirs.set_nonblocking(true).unwrap();
    let mut octets = Vec::new();
    let mut buffer = vec![0; 5000];
    let mut idle = 0;
    while idle < 2 {
        match theirs.read(&mut buffer) {
            Ok(len) => octets.extend(&buffer[..len]),
            Err(_) => idle += 1,
        }
        fixture.transmit(&[]).unwrap();
    }
    let mut pieces = Vec::new();
    assert_eq!(framing::split(&mut octets, usize::MAX, &mut pieces), Ok(octets.len()));
    let expected: Vec<_> = frames[..pieces.len()].to_vec();
    assert_eq!(pieces.into_iter().map(|piece| octets[piece.range].to_vec()).collect::<Vec<_>>(), expected);
    assert_eq!(fixture.counters.snapshot().tx_frames + dropped, 400);
}

#[test]
fn a_reader_that_left_is_a_fault_and_every_frame_is_counted() {
    let (mut fixture, theirs) = fixture();
    drop(theirs);
    assert!(matches!(fixture.transmit(&[vec![1; 60], vec![2; 60]]), Err(Fault::Closed)));
    assert_eq!(fixture.counters.snapshot().dropped(DropReason::NoPeer), 2);
}

#[test]
fn a_worker_that_finds_the_sender_locked_tries_again() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let socket = Socket::new(ours.into());
    let counters = Arc::new(Counters::new(2));
    let settings = Settings {
        worker: 1,
        receives: false,
        account: counters.into(),
        backlog: 4,
        share: None,
        longest: 1518,
    };
    let mut queue = socket.queue(settings).unwrap();
    let pool = Pool::new(PoolSizes::default());
    let cx = Context { worker: 1, now: Instant::ZERO, pool: &pool };

    let other = socket.shared.sender.lock().unwrap();
    queue.transmit(&cx, &mut Batch::from_iter([pool.copy(&[9; 60]).unwrap()])).unwrap();
    assert!(queue.status().retry && queue.status().waiting > 0);
    drop(other);
    queue.transmit(&cx, &mut Batch::new()).unwrap();
    let mut buffer = [0; 64];
    theirs.read_exact(&mut buffer).unwrap();
    assert_eq!(buffer[4..], [9; 60]);
    assert_eq!(queue.status(), Status::default());
}

#[test]
fn a_peer_over_tcp_that_vanishes_is_noticed() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let watched = connected.try_clone().unwrap();
    let _socket = Socket::new(PeerSocket::without_descriptors(connected.into()));
    assert!(sockopt::socket_keepalive(&watched).unwrap());
    assert_eq!(sockopt::tcp_keepidle(&watched).unwrap(), IDLE);
    assert_eq!(sockopt::tcp_keepintvl(&watched).unwrap(), PROBES_APART);
}
