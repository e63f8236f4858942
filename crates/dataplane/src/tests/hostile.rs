//! Ports that do their worst, beside an honest pair.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use vmlan_drivers::{Endpoint, Fault, Progress, Queue, Settings, Status};
use vmlan_frame::{Batch, Context};

use super::*;

/// A scripted port's reaction to a call.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Act {
    #[default]
    Nothing,
    Panic,
    /// There is always more.
    Endless,
}

/// An endpoint that follows a script.
#[derive(Clone, Default)]
struct Script {
    queue: Act,
    receive: Act,
    transmit: Act,
    drop: Act,
    /// Frames that it receives, a batch at a time.
    frames: Vec<Vec<u8>>,
    /// Ends what is endless.
    end: Arc<AtomicBool>,
    received: Arc<AtomicU64>,
}

struct ScriptQueue {
    script: Script,
    ready: OwnedFd,
    _other: UnixDatagram,
    frames: VecDeque<Vec<u8>>,
}

fn act(act: Act) {
    assert!(act != Act::Panic, "a panic of the test's own");
}

impl Endpoint for Script {
    fn queue(&self, _: Settings) -> io::Result<Box<dyn Queue>> {
        act(self.queue);
        // Nothing takes this away, so it is ready from now on.
        let (ready, other) = UnixDatagram::pair()?;
        other.send(&[1])?;
        let (script, frames) = (self.clone(), self.frames.clone().into());
        Ok(Box::new(ScriptQueue { script, ready: ready.into(), _other: other, frames }))
    }

    fn mechanism(&self) -> String {
        String::new()
    }
}

impl Queue for ScriptQueue {
    fn descriptor(&self, number: usize) -> Option<BorrowedFd<'_>> {
        (number == 0).then(|| self.ready.as_fd())
    }

    fn receive(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<Progress, Fault> {
        act(self.script.receive);
        let endless = self.script.receive == Act::Endless && !self.script.end.load(Ordering::Relaxed);
        while batch.room() > 0 {
            let Some(frame) = self.frames.pop_front() else { break };
            batch.push(cx.pool.copy(&frame).unwrap());
            if endless {
                self.frames.push_back(frame);
            }
        }
        self.script.received.fetch_add(batch.len() as u64, Ordering::Relaxed);
        Ok(if self.frames.is_empty() { Progress::Done } else { Progress::Again })
    }

    fn transmit(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<(), Fault> {
        act(self.script.transmit);
        let _ = cx;
        batch.clear();
        Ok(())
    }

    fn status(&self) -> Status {
        Status::default()
    }
}

impl Drop for ScriptQueue {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            act(self.script.drop);
        }
    }
}

impl Lab {
    fn bug_at(&self, port: &LabPort) {
        match self.notice() {
            Notice::Fault { port: told, fault: Fault::Bug(reason), .. } => {
                assert_eq!((told, reason.contains("of the test's own")), (port.key, true), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// That the honest pair exchanges frames as if nothing was.
fn assert_unharmed(guests: [&mut RawGuest; 2]) {
    let [a, b] = guests;
    for number in 0..100 {
        a.send_frame(&frame(mac(2), mac(1), number)).unwrap();
        assert_eq!(b.receive(LIMIT).unwrap().unwrap(), frame(mac(2), mac(1), number));
        b.send_frame(&frame(mac(1), mac(2), number)).unwrap();
        assert_eq!(a.receive(LIMIT).unwrap().unwrap(), frame(mac(1), mac(2), number));
    }
}

/// Two guests of which the network knows where they are.
fn honest(lab: &Lab) -> [(LabPort, RawGuest); 2] {
    let ((a, mut guest_a), (b, mut guest_b)) = (lab.guest("a"), lab.guest("b"));
    guest_a.send_frame(&frame(MacAddr::BROADCAST, mac(1), 0)).unwrap();
    assert!(guest_b.receive(LIMIT).unwrap().is_some());
    guest_b.send_frame(&frame(mac(1), mac(2), 0)).unwrap();
    assert!(guest_a.receive(LIMIT).unwrap().is_some());
    [(a, guest_a), (b, guest_b)]
}

#[test]
fn a_port_that_always_has_more_lets_the_others_have_their_turns() {
    for polling in [Polling::Adaptive, Polling::Busy, Polling::Sleep] {
        let lab = Lab::new(1);
        lab.plane.set_polling(polling);
        let [(_a, mut guest_a), (_b, mut guest_b)] = honest(&lab);
        // Runts, and frames that go nowhere.
        let kinds = [vec![1], frame(mac(3), mac(3), 0)];
        let frames = kinds.iter().cycle().take(150).cloned().collect();
        let script = Script { receive: Act::Endless, frames, ..Script::default() };
        let (end, received) = (script.end.clone(), script.received.clone());
        let flood = lab.port("flood", 64);
        lab.connect(&flood, script);
        wait_until("a flood", || received.load(Ordering::Relaxed) > 1000);
        let before = received.load(Ordering::Relaxed);
        assert_unharmed([&mut guest_a, &mut guest_b]);
        // Commands are heard, too.
        let (other, _guest) = lab.guest("other");
        let (done, wait) = done();
        lab.network.remove_port(other.id);
        lab.plane.remove_port(other.key, done);
        wait.recv_timeout(LIMIT).unwrap();
        assert!(received.load(Ordering::Relaxed) > before, "it went on");
        end.store(true, Ordering::Relaxed);
        lab.plane.stop(LIMIT);
        // What was received at the end has been forwarded.
        assert_eq!(flood.counters().rx_frames, received.load(Ordering::Relaxed));
    }
}

#[test]
fn a_flood_to_a_port_that_reads_slowly_leaves_others_their_share_of_its_queue() {
    let lab = Lab::new(1);
    let [(a, mut guest_a), (_b, mut guest_b)] = honest(&lab);
    let frames = (0..64).map(|number| frame(mac(1), mac(3), number)).collect();
    let flood = lab.port("flood", 64);
    lab.connect(&flood, Script { receive: Act::Endless, frames, ..Script::default() });
    wait_until("a full queue", || a.counters().dropped(DropReason::QueueFull) > 1000);
    for number in 0..50 {
        let sent = frame(mac(1), mac(2), number);
        guest_b.send_frame(&sent).unwrap();
        // What was lost would never come, and the flood always does.
        let came = (0..100_000).any(|_| guest_a.receive(LIMIT).unwrap().unwrap() == sent);
        assert!(came, "frame {number}");
    }
    assert!(a.counters().queued <= 64);
}

#[test]
fn what_makes_many_copies_takes_several_turns_and_keeps_its_order() {
    let lab = Lab::new(1);
    let [(a, mut guest_a), (b, mut guest_b)] = honest(&lab);
    let others: Vec<_> = (0..8).map(|_| lab.guest("other")).collect();
    let frames: Vec<_> = (0..60).map(|number| frame(MacAddr::BROADCAST, mac(3), number)).collect();
    let flood = lab.port("flood", 64);
    lab.connect(&flood, Script { frames: frames.clone(), ..Script::default() });
    for sent in &frames {
        assert_eq!(guest_a.receive(LIMIT).unwrap().as_ref(), Some(sent));
        assert_eq!(guest_b.receive(LIMIT).unwrap().as_ref(), Some(sent));
    }
    let mut ports: Vec<_> = others.iter().map(|(port, _)| port).collect();
    ports.extend([&a, &b, &flood]);
    assert_balanced(&ports);
    assert_eq!(flood.counters().copies, 600);
}

#[test]
fn a_panic_while_receiving_costs_that_port() {
    let lab = Lab::new(1);
    let [(a, mut guest_a), (b, mut guest_b)] = honest(&lab);
    let bad = lab.port("bad", 64);
    lab.connect(&bad, Script { receive: Act::Panic, ..Script::default() });
    lab.bug_at(&bad);
    assert_unharmed([&mut guest_a, &mut guest_b]);
    // It may be attached again, and again.
    for _ in 0..3 {
        lab.connect(&bad, Script { receive: Act::Panic, drop: Act::Panic, ..Script::default() });
        lab.bug_at(&bad);
    }
    lab.connect(&bad, Script::default());
    assert_unharmed([&mut guest_a, &mut guest_b]);
    assert_balanced(&[&a, &b, &bad]);
}

#[test]
fn a_panic_while_sending_costs_the_port_that_is_sent_to() {
    let lab = Lab::new(1);
    let [(a, mut guest_a), (b, mut guest_b)] = honest(&lab);
    let others: Vec<_> = (0..2)
        .map(|_| {
            let bad = lab.port("bad", 64);
            lab.connect(&bad, Script { transmit: Act::Panic, ..Script::default() });
            bad
        })
        .collect();
    let (c, mut guest_c) = lab.guest("c");
    guest_a.send_frame(&frame(MacAddr::BROADCAST, mac(1), 7)).unwrap();
    for guest in [&mut guest_b, &mut guest_c] {
        assert_eq!(guest.receive(LIMIT).unwrap().unwrap(), frame(MacAddr::BROADCAST, mac(1), 7));
    }
    for bad in &others {
        lab.bug_at(bad);
        assert_eq!(bad.counters().dropped(DropReason::TransmitError), 1);
    }
    assert_unharmed([&mut guest_a, &mut guest_b]);
    assert_balanced(&[&a, &b, &c, &others[0], &others[1]]);
}

#[test]
fn a_panic_while_attaching_or_detaching_costs_that_port() {
    let lab = Lab::new(2);
    let [(_a, mut guest_a), (_b, mut guest_b)] = honest(&lab);
    let bad = lab.port("bad", 64);
    lab.connect(&bad, Script { queue: Act::Panic, ..Script::default() });
    // Each worker tells.
    lab.bug_at(&bad);
    lab.bug_at(&bad);
    assert_unharmed([&mut guest_a, &mut guest_b]);
    lab.connect(&bad, Script { drop: Act::Panic, ..Script::default() });
    let (done, wait) = done();
    lab.plane.disconnect(bad.key, done);
    wait.recv_timeout(LIMIT).unwrap();
    assert_unharmed([&mut guest_a, &mut guest_b]);
}

/// Gives no queue, and panics when it goes, which its worker does for it: `gone` is to be told when the plane's own
/// handle has gone.
struct Bomb {
    gone: Mutex<Receiver<()>>,
}

impl Endpoint for Bomb {
    fn queue(&self, _: Settings) -> io::Result<Box<dyn Queue>> {
        let _ = self.gone.lock().unwrap().recv_timeout(LIMIT);
        Err(io::Error::other("no queue"))
    }

    fn mechanism(&self) -> String {
        String::new()
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a panic of the test's own");
    }
}

impl Lab {
    /// Makes the worker panic outside of what it does for a port; answers how many attachments that cost.
    fn bomb(&self, port: &LabPort) -> usize {
        let (sender, gone) = channel();
        let (done, _) = done();
        self.plane.connect(port.key, Arc::new(Bomb { gone: Mutex::new(gone) }), done);
        sender.send(()).unwrap();
        let mut lost = 0;
        loop {
            match self.notice() {
                Notice::WorkerPanicked { worker: 0, reason } => {
                    assert!(reason.contains("of the test's own"), "{reason}");
                    return lost;
                }
                Notice::Fault { fault: Fault::Bug(_), .. } => lost += 1,
                Notice::Fault { fault: Fault::Io(_), port: told, .. } => assert_eq!(told, port.key),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_worker_that_panics_runs_on_with_its_ports() {
    let lab = Lab::new(1);
    let [(a, mut guest_a), (b, mut guest_b)] = honest(&lab);
    let other = lab.port("other", 64);
    for _ in 0..3 {
        assert_eq!(lab.bomb(&other), 0);
        assert_unharmed([&mut guest_a, &mut guest_b]);
    }
    assert_balanced(&[&a, &b]);
}

#[test]
fn a_worker_that_panics_again_and_again_lets_control_attach_everything_anew() {
    let lab = Lab::new(1);
    let [(a, _guest_a), (b, _guest_b)] = honest(&lab);
    let other = lab.port("other", 64);
    let lost: usize = (0..6).map(|_| lab.bomb(&other)).sum();
    assert_eq!(lost, 2, "each attachment is given up once");
    let mut guests = [&a, &b].map(|port| {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        lab.connect(port, datagram::Socket::new(ours.into(), None));
        RawGuest::attach("guest", Attachment::Fd(theirs.into()), LIMIT).unwrap()
    });
    let [guest_a, guest_b] = &mut guests;
    assert_unharmed([guest_a, guest_b]);
}
