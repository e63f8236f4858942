//! How many frames come through from one socket to another.
//!
//! A thread sends as fast as the switch takes them, another receives; a switch that is slower makes the sender wait,
//! since nothing is lost on the way into it. Both stay on the first processor where there are only two, so that the
//! switch has the other.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use vmlan_sys::datagrams::{self, LIMIT, Received};

use super::PacketRate;
use super::processors::{stay_on_first, stay_with_sender};
use testbed::interrupt;

/// Until caches, queues and the scheduler have settled.
const WARM_UP: Duration = Duration::from_millis(200);

/// The longest time to warm up; a candidate that takes longer has stopped.
const WARM_UP_LIMIT: Duration = Duration::from_secs(60);

/// After which a thread looks whether it is to end.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Octets that one read of a stream takes at most.
const READ: usize = 256 << 10;

/// Longest frame.
const FRAME: usize = 2048;

/// The frames that one call sends.
pub type Frames = Vec<Vec<u8>>;

/// The frames that each batch is made of: none when all are alike.
pub type Refill<'a> = &'a mut (dyn FnMut(&mut Frames) + Send);

/// Sends `frames` again and again, as `refill` changes them, and counts those that arrive, once `warm_up` have been
/// sent and a moment has passed.
///
/// # Errors
/// When nothing arrives, or a socket fails.
pub fn datagrams(
    from: &UnixDatagram,
    to: &UnixDatagram,
    frames: Frames,
    refill: Refill<'_>,
    warm_up: u64,
    duration: Duration,
) -> anyhow::Result<PacketRate> {
    run(
        |state| send_datagrams(from, frames, refill, state),
        |state| receive_datagrams(to, state),
        warm_up,
        duration,
    )
}

/// Writes `octets`, which hold whole frames of `frame` octets with their length before each, again and again with one
/// call each time, and counts the frames that arrive.
///
/// # Errors
/// When nothing arrives, or a socket fails.
pub fn streams(
    from: &UnixStream,
    to: &UnixStream,
    octets: &[u8],
    frame: usize,
    duration: Duration,
) -> anyhow::Result<PacketRate> {
    let each = (frame + 4) as u64;
    let rate = run(|state| write_stream(from, octets, state), |state| read_stream(to, state), 0, duration)?;
    // What was counted are octets.
    let of = |rate: f64| rate / each as f64;
    Ok(PacketRate { received_mpps: of(rate.received_mpps), sent_mpps: of(rate.sent_mpps) })
}

/// The counts of both threads, which go on until they are stopped.
#[derive(Default)]
pub(super) struct State {
    sent: AtomicU64,
    pub(super) received: AtomicU64,
    stop: AtomicBool,
}

impl State {
    pub(super) fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

/// Has one thread send and another receive, and counts once `warm_up` have been sent and a moment has passed.
pub(super) fn run(
    send: impl FnOnce(&State) -> io::Result<()> + Send,
    receive: impl FnOnce(&State) -> io::Result<()> + Send,
    warm_up: u64,
    duration: Duration,
) -> anyhow::Result<PacketRate> {
    let state = State::default();
    let rate = thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(&state));
        let sender = scope.spawn(|| send(&state));
        let rate = count(&state, warm_up, duration);
        state.stop.store(true, Ordering::Relaxed);
        sender.join().expect("the sender does not panic").context("sending")?;
        receiver.join().expect("the receiver does not panic").context("receiving")?;
        rate
    })?;
    ensure!(rate.received_mpps > 0.0, "no frame came through");
    Ok(rate)
}

fn count(state: &State, warm_up: u64, duration: Duration) -> anyhow::Result<PacketRate> {
    let look = || {
        let (sent, received) = (state.sent.load(Ordering::Relaxed), state.received.load(Ordering::Relaxed));
        (Instant::now(), sent, received)
    };
    let start = Instant::now();
    thread::sleep(WARM_UP);
    while state.sent.load(Ordering::Relaxed) < warm_up {
        ensure!(
            start.elapsed() < WARM_UP_LIMIT,
            "fewer than {warm_up} frames were taken in {WARM_UP_LIMIT:?}"
        );
        ensure!(!interrupt::requested(), "interrupted");
        thread::sleep(WARM_UP);
    }
    let before = look();
    interrupt::sleep(duration);
    let after = look();
    let micros = (after.0 - before.0).as_secs_f64() * 1e6;
    Ok(PacketRate {
        received_mpps: (after.2 - before.2) as f64 / micros,
        sent_mpps: (after.1 - before.1) as f64 / micros,
    })
}

fn send_datagrams(
    socket: &UnixDatagram,
    mut frames: Frames,
    refill: Refill<'_>,
    state: &State,
) -> io::Result<()> {
    stay_on_first()?;
    while state.goes_on() {
        refill(&mut frames);
        match datagrams::send(socket, frames.len(), |i| [&frames[i], &[], &[]]) {
            Ok(count) => drop(state.sent.fetch_add(count as u64, Ordering::Relaxed)),
            Err(error) => match Errno::from_io_error(&error) {
                // The switch has not taken the last ones yet.
                Some(Errno::AGAIN | Errno::NOBUFS) => wait(socket, PollFlags::OUT)?,
                _ => return Err(error),
            },
        }
    }
    Ok(())
}

/// Sends so many frames, as `refill` changes them, and counts nothing.
///
/// # Errors
/// When the switch does not take them, or the socket fails.
pub fn teach(from: &UnixDatagram, mut frames: Frames, refill: Refill<'_>, count: u64) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut sent = 0;
    while sent < count {
        ensure!(start.elapsed() < WARM_UP_LIMIT, "fewer than {count} frames were taken in {WARM_UP_LIMIT:?}");
        ensure!(!interrupt::requested(), "interrupted");
        refill(&mut frames);
        // None may be left out, so that all addresses are heard.
        let mut done = 0;
        while done < frames.len() {
            match datagrams::send(from, frames.len() - done, |i| [&frames[done + i], &[], &[]]) {
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait(from, PollFlags::OUT)?,
                Err(error) => return Err(error).context("sending"),
            }
            ensure!(start.elapsed() < WARM_UP_LIMIT, "the switch takes no frames any more");
        }
        sent += frames.len() as u64;
    }
    Ok(())
}

/// Sends `frame` until `stop`, as fast as the switch takes it, and counts.
///
/// # Errors
/// When the socket fails.
pub fn flood_patiently(
    socket: &UnixDatagram,
    frame: &[u8],
    sent: &AtomicU64,
    stop: &AtomicBool,
) -> io::Result<()> {
    while !stop.load(Ordering::Relaxed) {
        match datagrams::send(socket, LIMIT, |_| [frame, &[], &[]]) {
            Ok(count) => drop(sent.fetch_add(count as u64, Ordering::Relaxed)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait(socket, PollFlags::OUT)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn receive_datagrams(socket: &UnixDatagram, state: &State) -> io::Result<()> {
    stay_with_sender()?;
    let mut buffers: Vec<Vec<u8>> = vec![vec![0; FRAME]; LIMIT];
    let mut received = [Received::default(); LIMIT];
    while state.goes_on() {
        match datagrams::receive(socket, &mut buffers, &mut received, None) {
            Ok(count) => drop(state.received.fetch_add(count as u64, Ordering::Relaxed)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait(socket, PollFlags::IN)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn write_stream(socket: &UnixStream, octets: &[u8], state: &State) -> io::Result<()> {
    stay_on_first()?;
    socket.set_nonblocking(true)?;
    let mut socket = socket;
    let mut done = 0;
    while state.goes_on() {
        match socket.write(&octets[done..]) {
            Ok(count) => {
                done = (done + count) % octets.len();
                state.sent.fetch_add(count as u64, Ordering::Relaxed);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait(socket, PollFlags::OUT)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn read_stream(socket: &UnixStream, state: &State) -> io::Result<()> {
    stay_with_sender()?;
    socket.set_nonblocking(true)?;
    let mut socket = socket;
    let mut octets = vec![0; READ];
    while state.goes_on() {
        match socket.read(&mut octets) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => drop(state.received.fetch_add(count as u64, Ordering::Relaxed)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait(socket, PollFlags::IN)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Until it is ready, or time to look whether there is an end.
pub(super) fn wait(fd: impl AsFd, flags: PollFlags) -> io::Result<()> {
    match poll(&mut [PollFd::new(&fd, flags)], Some(&LOOK)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(100);

    #[test]
    fn frames_that_arrive_are_counted() {
        let (from, to) = UnixDatagram::pair().expect("sockets");
        from.set_nonblocking(true).expect("a socket");
        let mut batches = 0;

        let rate = datagrams(&from, &to, vec![vec![1; 64]; 4], &mut |_| batches += 1, 1000, SHORT);

        let rate = rate.expect("both ends work");
        assert!(rate.received_mpps > 0.0 && batches >= 250, "{rate:?}, {batches} batches");
    }

    #[test]
    fn streams_are_counted_in_frames() {
        let (from, to) = UnixStream::pair().expect("sockets");

        let rate = streams(&from, &to, &[0; 680], 64, SHORT).expect("both ends work");

        assert!(rate.received_mpps > 0.0 && rate.received_mpps < 1e4, "{rate:?}");
    }

    #[test]
    fn a_switch_that_passes_nothing_on_is_an_error() {
        let (from, _into) = UnixDatagram::pair().expect("sockets");
        let (_out, to) = UnixDatagram::pair().expect("sockets");
        from.set_nonblocking(true).expect("a socket");

        let error = datagrams(&from, &to, vec![vec![1; 64]], &mut |_| {}, 0, SHORT).unwrap_err();

        assert!(error.to_string().contains("no frame"), "{error}");
    }
}
