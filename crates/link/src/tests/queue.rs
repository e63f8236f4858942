//! The input queue and its reader.

use core::task::Waker;
use std::task::Wake;

use super::*;

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Woken {
    fn reader(self: &Arc<Woken>) -> Waker {
        Waker::from(self.clone())
    }

    fn take(&self) -> usize {
        self.0.swap(0, SeqCst)
    }
}

/// Takes a batch from the queue; the marks of its frames.
fn dequeued(link: &Link, worker: &Worker) -> Vec<u8> {
    let mut batch = Batch::new();
    link.dequeue(&worker.cx(), &mut batch);
    marks(&batch)
}

#[test]
fn a_reader_is_woken_when_the_queue_is_no_longer_empty() {
    let (registry, worker, woken) = (registry(), Worker::new(), Arc::new(Woken::default()));
    let link = attached(&registry);
    link.set_reader(woken.reader()).unwrap();
    link.enqueue(&worker.cx(), &mut Batch::new());
    assert_eq!(woken.take(), 0);
    link.enqueue(&worker.cx(), &mut worker.frames(70));
    link.enqueue(&worker.cx(), &mut worker.frames(3));
    assert_eq!(woken.take(), 1);
    // What is left is the reader's to take, who knows of it.
    assert_eq!(dequeued(&link, &worker).len(), Batch::LIMIT);
    link.enqueue(&worker.cx(), &mut worker.frames(1));
    assert_eq!(woken.take(), 0);
    assert_eq!(dequeued(&link, &worker).len(), 10);
    link.enqueue(&worker.cx(), &mut worker.frames(1));
    assert_eq!((woken.take(), dequeued(&link, &worker)), (1, vec![1]));
}

#[test]
fn a_reader_without_buffers_is_woken_for_what_still_waits() {
    let (registry, worker, woken) = (registry(), Worker::new(), Arc::new(Woken::default()));
    let link = attached(&registry);
    link.set_reader(woken.reader()).unwrap();
    link.enqueue(&worker.cx(), &mut worker.frames(70));
    let held = worker.frames(128);
    assert_eq!((woken.take(), dequeued(&link, &worker)), (1, vec![]));
    assert_eq!((woken.take(), dropped(&link, DropReason::NoBuffer)), (1, Batch::LIMIT as u64));
    drop(held);
    assert_eq!(dequeued(&link, &worker).len(), 70 - Batch::LIMIT);
}

#[test]
fn a_reader_that_comes_late_is_woken_for_what_waits() {
    let (registry, worker, woken) = (registry(), Worker::new(), Arc::new(Woken::default()));
    let link = attached(&registry);
    link.enqueue(&worker.cx(), &mut worker.frames(1));
    link.set_reader(woken.reader()).unwrap();
    assert_eq!(woken.take(), 1);
}

#[test]
fn a_reader_goes_with_the_link() {
    let (registry, worker, woken) = (registry(), Worker::new(), Arc::new(Woken::default()));
    let link = acquired(&registry);
    assert_eq!(link.set_reader(woken.reader()), Err(Error::NotAttached));
    link.attach(Arc::new(()), None).unwrap();
    link.set_reader(woken.reader()).unwrap();
    link.detach().unwrap();
    assert_eq!(Arc::strong_count(&woken), 1);
    link.attach(Arc::new(()), None).unwrap();
    link.enqueue(&worker.cx(), &mut worker.frames(1));
    assert_eq!(woken.take(), 0);
}
