//! Queues that have to be looked at, until they rest.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use vmlan_drivers::{Endpoint, Fault, Progress, Queue, Settings, Status};
use vmlan_frame::{Batch, Context};

use super::*;

/// A medium that has as many frames as are left, and tells of none before it rests.
#[derive(Clone)]
struct Polled(Arc<Shared>);

struct Shared {
    bell: (UnixDatagram, UnixDatagram),
    left: AtomicUsize,
    looks: AtomicUsize,
    rests: AtomicUsize,
    /// Something comes in the moment in which it is to rest.
    late: AtomicBool,
}

impl Polled {
    fn new(left: usize) -> Polled {
        Polled(Arc::new(Shared {
            bell: UnixDatagram::pair().unwrap(),
            left: left.into(),
            looks: 0.into(),
            rests: 0.into(),
            late: false.into(),
        }))
    }

    fn tell(&self) {
        self.0.bell.1.send(&[0]).unwrap();
    }

    fn rests(&self) -> usize {
        self.0.rests.load(SeqCst)
    }
}

impl Endpoint for Polled {
    fn queue(&self, _: Settings) -> io::Result<Box<dyn Queue>> {
        Ok(Box::new(self.clone()))
    }

    fn mechanism(&self) -> String {
        "a test's own".to_owned()
    }
}

impl Queue for Polled {
    fn descriptor(&self, number: usize) -> Option<BorrowedFd<'_>> {
        (number == 0).then(|| self.0.bell.0.as_fd())
    }

    fn is_ready(&mut self, _: usize) {
        self.0.bell.0.recv(&mut [0; 8]).unwrap();
    }

    fn receive(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<Progress, Fault> {
        self.0.looks.fetch_add(1, SeqCst);
        let take = |left: usize| left.checked_sub(1);
        let any = self.0.left.fetch_update(SeqCst, SeqCst, take).is_ok();
        if any {
            batch.push(cx.pool.copy(&frame(MacAddr::BROADCAST, mac(9), 1)).unwrap());
        }
        Ok(Progress::Polled { any })
    }

    fn rest(&mut self) -> bool {
        self.0.rests.fetch_add(1, SeqCst);
        if self.0.late.swap(false, SeqCst) {
            self.0.left.fetch_add(1, SeqCst);
            return true;
        }
        false
    }

    fn transmit(&mut self, _: &Context<'_>, batch: &mut Batch) -> Result<(), Fault> {
        batch.clear();
        Ok(())
    }

    fn status(&self) -> Status {
        Status::default()
    }
}

#[test]
fn a_queue_is_looked_at_until_it_has_nothing_and_then_rests() {
    for polling in [Polling::Adaptive, Polling::Sleep] {
        let lab = Lab::new(1);
        lab.plane.set_polling(polling);
        let port = lab.port("polled", 64);
        let medium = Polled::new(500);
        lab.connect(&port, medium.clone());
        medium.tell();
        wait_until("all frames", || port.counters().rx_frames == 500);
        wait_until("a rest", || medium.rests() == 1);
        // It sleeps until it is told.
        let looks = medium.0.looks.load(SeqCst);
        lab.port("another", 64);
        medium.0.left.store(3, SeqCst);
        assert_eq!(port.counters().rx_frames, 500);
        assert_eq!(medium.0.looks.load(SeqCst), looks, "{polling:?}");
        medium.0.late.store(true, SeqCst);
        medium.tell();
        wait_until("the one that came late as well", || port.counters().rx_frames == 504);
        wait_until("another rest", || medium.rests() == 3);
    }
}

#[test]
fn a_busy_worker_lets_no_queue_rest() {
    let lab = Lab::new(1);
    lab.plane.set_polling(Polling::Busy);
    let port = lab.port("polled", 64);
    let medium = Polled::new(0);
    lab.connect(&port, medium.clone());
    medium.tell();
    wait_until("many looks", || medium.0.looks.load(SeqCst) > 10_000);
    medium.0.left.store(100, SeqCst);
    wait_until("all frames", || port.counters().rx_frames == 100);
    assert_eq!(medium.rests(), 0);
    lab.plane.set_polling(Polling::Adaptive);
    wait_until("a rest", || medium.rests() == 1);
}

/// A worker that receives from no port has nothing to send either, however busy it is to be.
#[test]
#[cfg(target_os = "linux")]
fn a_busy_worker_without_ports_sleeps() {
    use std::fs::{read_dir, read_to_string};
    let lab = Lab::new(9);
    lab.plane.set_polling(Polling::Busy);
    let port = lab.port("polled", 64);
    let medium = Polled::new(0);
    lab.connect(&port, medium.clone());
    medium.tell();
    wait_until("looks of the first", || medium.0.looks.load(SeqCst) > 0);
    // No other test has so many.
    let is_last = |task: &str| task.contains("(vmlan-worker-8)");
    let sleeps = || {
        let mut tasks = read_dir("/proc/self/task").unwrap().flatten();
        tasks.any(|task| {
            let stat = read_to_string(task.path().join("stat")).unwrap_or_default();
            is_last(&stat) && stat.contains(") S ")
        })
    };
    wait_until("the last one asleep", sleeps);
}
