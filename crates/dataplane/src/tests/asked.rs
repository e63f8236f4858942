//! Media that never tell of room: only a deadline says when they are tried again.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use vmlan_drivers::{Endpoint, Fault, Progress, Queue, Settings, Status};
use vmlan_frame::{Batch, Context, Instant};

use super::*;

const PAUSE: Duration = Duration::from_millis(1);

/// A medium that takes what it was given once `has_room`.
#[derive(Clone, Default)]
struct Asked {
    has_room: Arc<AtomicBool>,
    /// How often it was asked in vain.
    asked: Arc<AtomicUsize>,
    taken: Arc<AtomicUsize>,
}

struct AskedQueue {
    medium: Asked,
    waiting: usize,
    again: Instant,
    fd: OwnedFd,
    _other: OwnedFd,
}

impl Endpoint for Asked {
    fn queue(&self, _: Settings) -> std::io::Result<Box<dyn Queue>> {
        let (fd, other) = UnixDatagram::pair()?;
        let (fd, other) = (fd.into(), other.into());
        Ok(Box::new(AskedQueue { medium: self.clone(), waiting: 0, again: Instant::ZERO, fd, _other: other }))
    }

    fn mechanism(&self) -> String {
        String::new()
    }
}

impl Queue for AskedQueue {
    fn descriptor(&self, number: usize) -> Option<BorrowedFd<'_>> {
        (number == 0).then(|| self.fd.as_fd())
    }

    fn receive(&mut self, _: &Context<'_>, _: &mut Batch) -> Result<Progress, Fault> {
        Ok(Progress::Done)
    }

    fn transmit(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<(), Fault> {
        self.waiting += batch.drain().len();
        if self.medium.has_room.load(Relaxed) {
            self.medium.taken.fetch_add(std::mem::take(&mut self.waiting), Relaxed);
        } else {
            self.medium.asked.fetch_add(1, Relaxed);
            self.again = cx.now + PAUSE;
        }
        Ok(())
    }

    fn status(&self) -> Status {
        let deadline = Some(self.again).filter(|_| self.waiting > 0);
        Status { waiting: self.waiting, deadline, ..Status::default() }
    }
}

/// The medium's port comes first.
fn lab() -> (Lab, Asked, [LabPort; 2], RawGuest) {
    let lab = Lab::new(1);
    let port = lab.port("asked", 64);
    let medium = Asked::default();
    lab.connect(&port, medium.clone());
    let (other, mut guest) = lab.guest("guest");
    guest.send_frame(&frame(MacAddr::BROADCAST, mac(1), 0)).unwrap();
    (lab, medium, [port, other], guest)
}

#[test]
fn a_full_medium_is_asked_again_until_it_takes_what_waits() {
    let (_lab, medium, [port, _other], _guest) = lab();
    wait_until("several questions", || medium.asked.load(Relaxed) > 3);
    assert_eq!(port.counters().queued, 1);
    medium.has_room.store(true, Relaxed);
    wait_until("a frame", || medium.taken.load(Relaxed) == 1);
    wait_until("nothing waiting", || port.counters().queued == 0);
}

#[test]
fn a_full_medium_is_asked_before_the_end_too() {
    let (lab, medium, _ports, _guest) = lab();
    wait_until("a question", || medium.asked.load(Relaxed) > 0);
    let asked = medium.clone();
    let other = std::thread::spawn(move || {
        let before = asked.asked.load(Relaxed);
        wait_until("questions", || asked.asked.load(Relaxed) > before + 3);
        asked.has_room.store(true, Relaxed);
    });
    lab.plane.stop(LIMIT);
    other.join().unwrap();
    assert_eq!(medium.taken.load(Relaxed), 1);
}
