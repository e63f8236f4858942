//! A new driver: a cable between two links that loses every n-th frame.
//!
//! A driver has two halves. [`Driver`] is what the link asks of it besides moving frames, from any thread. The other
//! half moves frames, in the worker whose buffers they use: [`Transmit`] takes what leaves the link, and `receive`
//! fills a batch for `Link::input`. Three rules make one: it owns the frames that it is given, and counts each as sent
//! or dropped; what waits is bounded, and counted when it finds no room; it copies what leaves the worker.
//! Run it with `cargo run -p vmlan-link --example new_driver`.

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use vmlan_frame::{Backlog, Batch, Context, Counters, DropReason, Instant, Pool, PoolSizes, Tally};
use vmlan_link::{Driver, Link, LinkOptions, Registry, Transmit};

/// One direction of the cable.
type Wire = Arc<Mutex<Backlog>>;

/// One end of the cable: the half that moves frames.
struct End {
    out: Wire,
    into: Wire,
    counters: Arc<Counters>,
    worker: usize,
    loses: u64,
    sent: u64,
}

impl Transmit for End {
    fn transmit(&mut self, batch: &mut Batch) {
        let mut wire = self.out.lock().expect("nobody panics with the lock");
        let mut tally = Tally::default();
        for frame in batch.drain() {
            self.sent += 1;
            if self.sent.is_multiple_of(self.loses) {
                self.counters.dropped(self.worker, DropReason::TransmitError, 1);
            } else if wire.push(&frame) {
                tally.add(&frame);
            } else {
                self.counters.dropped(self.worker, DropReason::QueueFull, 1);
            }
        }
        self.counters.sent(self.worker, &tally);
    }
}

impl End {
    /// Fills `batch` with frames that arrived; those that find no buffer wait for the next call.
    fn receive(&mut self, pool: &Pool, batch: &mut Batch) {
        let mut wire = self.into.lock().expect("nobody panics with the lock");
        let mut taken = 0;
        for entry in wire.iter().take(batch.room()) {
            let Some(mut frame) = pool.copy(entry.octets) else { break };
            frame.meta = entry.meta;
            batch.push(frame);
            taken += 1;
        }
        wire.pop(taken);
    }
}

/// The half that the link asks; a driver without hooks would be `()`.
struct Hooks;

impl Driver for Hooks {
    fn detached(&self) {
        println!("the driver is free again");
    }
}

/// Plugs one end into a new link.
fn plug(registry: &Registry, base: &str, out: &Wire, into: &Wire) -> Result<(Link, End), Box<dyn Error>> {
    let link = registry.acquire(LinkOptions::ethernet(base)?)?;
    link.attach(Arc::new(Hooks), None)?;
    let (out, into, counters) = (out.clone(), into.clone(), link.counters().clone());
    Ok((link, End { out, into, counters, worker: 0, loses: 4, sent: 0 }))
}

fn main() -> Result<(), Box<dyn Error>> {
    let registry = Registry::new(1, SystemTime::now);
    let wire = || Arc::new(Mutex::new(Backlog::new(256, 1 << 20)));
    let (there, back) = (wire(), wire());
    let (left, mut left_end) = plug(&registry, "left", &there, &back)?;
    let (right, mut right_end) = plug(&registry, "right", &back, &there)?;
    let pool = Pool::new(PoolSizes::default());
    let cx = Context { worker: 0, now: Instant::ZERO, pool: &pool };
    let mut batch = Batch::from_iter((0..8).filter_map(|mark| pool.copy(&[mark; 60])));
    left.output(&cx, &mut batch, &mut left_end)?;
    right_end.receive(&pool, &mut batch);
    right.input(&cx, &mut batch);
    let (tx, rx) = (left.counters().snapshot(), right.counters().snapshot());
    let lost = tx.dropped(DropReason::TransmitError);
    println!("{} sent, {lost} lost, {} received", tx.tx_frames, rx.rx_frames);
    left.detach()?;
    Ok(right.detach()?)
}
