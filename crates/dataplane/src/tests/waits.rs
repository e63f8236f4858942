//! A queue with several descriptors: each is waited for as the queue says, and it hears which became ready.

use std::os::fd::{AsFd, BorrowedFd};

use vmlan_drivers::{Endpoint, Fault, Progress, Queue, Settings, Status, Waits};
use vmlan_frame::{Batch, Context};

use super::*;

/// Frames come by the first two descriptors. That there is room is told by the third, which nobody reads, or by the
/// fourth, once it takes an octet more.
#[derive(Clone)]
struct Several {
    ours: [Arc<UnixDatagram>; 4],
    waits: Arc<Mutex<Waits>>,
    /// The descriptors that the queue was told of, and what it was called for then.
    told: Arc<Mutex<Vec<(usize, Call)>>>,
    /// Frames that wait for room.
    waiting: Arc<Mutex<usize>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Call {
    Receive,
    Transmit,
}

struct SeveralQueue {
    medium: Several,
    ready: Vec<usize>,
}

impl Endpoint for Several {
    fn queue(&self, _: Settings) -> std::io::Result<Box<dyn Queue>> {
        Ok(Box::new(SeveralQueue { medium: self.clone(), ready: Vec::new() }))
    }

    fn mechanism(&self) -> String {
        String::new()
    }
}

impl SeveralQueue {
    fn note(&mut self, call: Call) {
        self.medium.told.lock().unwrap().extend(self.ready.drain(..).map(|number| (number, call)));
    }
}

impl Queue for SeveralQueue {
    fn descriptor(&self, number: usize) -> Option<BorrowedFd<'_>> {
        self.medium.ours.get(number).map(|descriptor| descriptor.as_fd())
    }

    fn is_ready(&mut self, number: usize) {
        self.ready.push(number);
    }

    fn receive(&mut self, _: &Context<'_>, _: &mut Batch) -> Result<Progress, Fault> {
        if let [number] = self.ready[..] {
            self.medium.ours[number].recv(&mut [0; 16]).unwrap();
        }
        self.note(Call::Receive);
        Ok(Progress::Done)
    }

    fn transmit(&mut self, _: &Context<'_>, batch: &mut Batch) -> Result<(), Fault> {
        let mut waiting = self.medium.waiting.lock().unwrap();
        *waiting += batch.drain().len();
        if !self.ready.is_empty() {
            *waiting = 0;
        }
        drop(waiting);
        self.note(Call::Transmit);
        Ok(())
    }

    fn status(&self) -> Status {
        let waiting = *self.medium.waiting.lock().unwrap();
        let waits = *self.medium.waits.lock().unwrap();
        Status { waiting, waits, ..Status::default() }
    }
}

struct Bench {
    lab: Lab,
    medium: Several,
    theirs: [UnixDatagram; 4],
    port: LabPort,
    _other: LabPort,
    guest: RawGuest,
}

fn bench(waits: Waits) -> Bench {
    let lab = Lab::new(1);
    let pairs = [(); 4].map(|()| UnixDatagram::pair().unwrap());
    let medium = Several {
        ours: [0, 1, 2, 3].map(|number: usize| {
            let ours = pairs[number].0.try_clone().unwrap();
            ours.set_nonblocking(true).unwrap();
            Arc::new(ours)
        }),
        waits: Arc::new(Mutex::new(waits)),
        told: Arc::default(),
        waiting: Arc::default(),
    };
    let port = lab.port("several", 64);
    lab.connect(&port, medium.clone());
    let (other, guest) = lab.guest("guest");
    Bench { lab, medium, theirs: pairs.map(|(_, theirs)| theirs), port, _other: other, guest }
}

impl Bench {
    fn told(&self, count: usize) -> Vec<(usize, Call)> {
        wait_until("a call", || self.medium.told.lock().unwrap().len() >= count);
        self.medium.told.lock().unwrap().clone()
    }
}

#[test]
fn a_queue_hears_which_of_its_descriptors_became_ready() {
    let bench = bench(Waits::NONE.receive(0).receive(1));
    let mut expected = Vec::new();
    for number in [0, 1, 1, 0] {
        bench.theirs[number].send(&[1]).unwrap();
        expected.push((number, Call::Receive));
        assert_eq!(bench.told(expected.len()), expected);
    }
}

#[test]
fn room_that_another_descriptor_tells_of_by_being_readable_is_used() {
    let mut bench = bench(Waits::NONE.receive(0).room_told(2).edge(2));
    bench.guest.send_frame(&frame(MacAddr::BROADCAST, mac(1), 0)).unwrap();
    wait_until("a frame that waits", || *bench.medium.waiting.lock().unwrap() == 1);
    let mut expected = Vec::new();
    for _ in 0..3 {
        // Nobody reads it, and it is told of once each time nevertheless.
        bench.theirs[2].send(&[1]).unwrap();
        expected.push((2, Call::Transmit));
        bench.told(expected.len());
        bench.theirs[0].send(&[1]).unwrap();
        expected.push((0, Call::Receive));
        assert_eq!(bench.told(expected.len()), expected);
    }
    assert_eq!(*bench.medium.waiting.lock().unwrap(), 0);
    wait_until("nothing waiting", || bench.port.counters().queued == 0);
}

#[test]
fn descriptors_are_waited_for_from_when_the_queue_says_so() {
    let mut bench = bench(Waits::NONE.receive(0));
    bench.theirs[1].send(&[1]).unwrap();
    bench.theirs[0].send(&[1]).unwrap();
    assert_eq!(bench.told(1), [(0, Call::Receive)]);
    *bench.medium.waits.lock().unwrap() = Waits::NONE.receive(1).room(3);
    // With its next frame the worker asks.
    bench.guest.send_frame(&frame(MacAddr::BROADCAST, mac(1), 0)).unwrap();
    let told = bench.told(3);
    assert!(told.contains(&(1, Call::Receive)) && told.contains(&(3, Call::Transmit)), "{told:?}");
    bench.theirs[0].send(&[1]).unwrap();
    bench.lab.plane.stop(Duration::ZERO);
    assert_eq!(bench.medium.told.lock().unwrap().iter().filter(|(number, _)| *number == 0).count(), 1);
}
