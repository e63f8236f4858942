//! Two honest guests that exchange numbered frames all the time beside whatever a test does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use testbed::wait_until;
use vmlan_guest::{RawGuest, ethernet};

use super::{PATIENCE, Peer, exchange};

/// From one frame to the next, in each direction: a thousand frames a second together.
const INTERVAL: Duration = Duration::from_millis(2);
/// When the probe was late, it catches up with at most so many frames at once.
const BURST: u32 = 50;
/// Frames that are taken before it is time to look at the other side again, however many a flood brings.
const TURN: usize = 4096;
/// Another EtherType than that of the tests' other frames, none of which is counted.
const TYPE: u16 = super::TYPE + 1;

/// A pair of guests that exchange numbered frames until told to stop.
pub struct Probe {
    stop: Arc<AtomicBool>,
    exchanged: Arc<AtomicU32>,
    thread: JoinHandle<Result<u32, String>>,
}

impl Probe {
    /// Starts with two guests that reach each other.
    #[track_caller]
    pub fn start(mut one: Peer, mut other: Peer) -> Probe {
        exchange(&mut one, &mut other);
        let (stop, exchanged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopped, count) = (stop.clone(), exchanged.clone());
        let thread = std::thread::spawn(move || run(one, other, &stopped, &count));
        Probe { stop, exchanged, thread }
    }

    /// Waits until so many more frames were exchanged, each way.
    #[track_caller]
    pub fn wait(&self, frames: u32) {
        let until = self.exchanged.load(Ordering::Relaxed) + frames;
        wait_until("the probe's frames", PATIENCE, || {
            self.exchanged.load(Ordering::Relaxed) >= until || self.thread.is_finished()
        });
    }

    /// Stops the guests and checks that every frame came, once and in order. Answers how many there were, each way.
    #[track_caller]
    pub fn finish(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join().expect("the probe's thread") {
            Ok(exchanged) => exchanged,
            Err(fault) => panic!("the probe suffered: {fault}"),
        }
    }
}

/// One direction: what was sent, and what is expected next.
struct Way {
    name: &'static str,
    from: Peer,
    sent: u32,
}

fn run(one: Peer, other: Peer, stop: &AtomicBool, exchanged: &AtomicU32) -> Result<u32, String> {
    let (mac_one, mac_other) = (one.mac, other.mac);
    let mut there = Way { name: "there", from: one, sent: 0 };
    let mut back = Way { name: "back", from: other, sent: 0 };
    let (mut arrived, mut returned) = (0, 0);
    let start = Instant::now();
    let mut deadline = None;
    loop {
        if deadline.is_none() && stop.load(Ordering::Relaxed) {
            deadline = Some(Instant::now() + PATIENCE);
        }
        if deadline.is_none() {
            let due = (start.elapsed().as_nanos() / INTERVAL.as_nanos()) as u32;
            for _ in 0..due.saturating_sub(there.sent).min(BURST) {
                there.send(mac_other)?;
                back.send(mac_one)?;
            }
        }
        // The wait for what comes is also the wait for the next one's time.
        receive(&mut back.from.raw, mac_one, &mut arrived, "there", INTERVAL / 2)?;
        receive(&mut there.from.raw, mac_other, &mut returned, "back", INTERVAL / 2)?;
        exchanged.store(arrived.min(returned), Ordering::Relaxed);
        match deadline {
            Some(_) if arrived == there.sent && returned == back.sent => return Ok(arrived),
            Some(deadline) if Instant::now() > deadline => {
                return Err(format!(
                    "there: {arrived} of {} came; back: {returned} of {} came",
                    there.sent, back.sent
                ));
            }
            _ => {}
        }
    }
}

impl Way {
    fn send(&mut self, to: vmlan_frame::MacAddr) -> Result<(), String> {
        let frame = ethernet(to, self.from.mac, TYPE, &self.sent.to_be_bytes());
        self.from.raw.send_frame(&frame).map_err(|error| format!("{}: {error}", self.name))?;
        self.sent += 1;
        Ok(())
    }
}

/// Takes everything that is there, after a wait of at most `limit` for the first, and checks the numbers of what the
/// partner sent.
fn receive(
    guest: &mut RawGuest,
    partner: vmlan_frame::MacAddr,
    expected: &mut u32,
    way: &str,
    limit: Duration,
) -> Result<(), String> {
    for turn in 0..TURN {
        let limit = if turn == 0 { limit } else { Duration::ZERO };
        let received = guest.receive(limit).map_err(|error| format!("{way}: {error}"))?;
        let Some(frame) = received else { return Ok(()) };
        // What an attack floods is nothing to the probe.
        if frame.len() < 18 || frame[6..12] != partner.0 || frame[12..14] != TYPE.to_be_bytes() {
            continue;
        }
        let number = u32::from_be_bytes([frame[14], frame[15], frame[16], frame[17]]);
        if number != *expected {
            return Err(format!("{way}: frame {number} came instead of {expected}"));
        }
        *expected += 1;
    }
    Ok(())
}
