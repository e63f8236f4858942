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

use vmlan_frame::{Account, Backlog, Batch, Context, DropReason, Instant, Pool, PoolSizes, Tally};
use vmlan_link::{Driver, Link, LinkOptions, Registry, Transmit};

/// One direction of the cable.
type Wire = Arc<Mutex<Backlog>>;

/// One end of the cable: the half that moves frames.
struct End<'a> {
    out: Wire,
    into: Wire,
    account: Account,
    cx: Context<'a>,
    loses: u64,
    sent: u64,
}

impl Transmit for End<'_> {
    fn transmit(&mut self, batch: &mut Batch) {
        let mut wire = self.out.lock().expect("nobody panics with the lock");
        let mut tally = Tally::default();
        for frame in batch.drain() {
            self.sent += 1;
            if self.sent.is_multiple_of(self.loses) {
                self.account.lose(&self.cx, &frame, DropReason::TransmitError);
            } else if wire.push(&frame) {
                tally.add(&frame);
            } else {
                self.account.lose(&self.cx, &frame, DropReason::QueueFull);
            }
        }
        self.account.counters().sent(self.cx.worker, &tally);
    }
}

impl End<'_> {
    /// Fills `batch` with frames that arrived; those that find no buffer wait for the next call.
    fn receive(&mut self, batch: &mut Batch) {
        let mut wire = self.into.lock().expect("nobody panics with the lock");
        let mut taken = 0;
        for entry in wire.iter().take(batch.room()) {
            let Some(mut frame) = self.cx.pool.copy(entry.octets) else { break };
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
fn plug<'a>(
    (registry, cx): (&Registry, Context<'a>),
    base: &str,
    out: &Wire,
    into: &Wire,
) -> Result<(Link, End<'a>), Box<dyn Error>> {
    let link = registry.acquire(LinkOptions::ethernet(base)?)?;
    link.attach(Arc::new(Hooks), None)?;
    let (out, into, account) = (out.clone(), into.clone(), link.account());
    Ok((link, End { out, into, account, cx, loses: 4, sent: 0 }))
}

fn main() -> Result<(), Box<dyn Error>> {
    let registry = Registry::new(1, SystemTime::now);
    let wire = || Arc::new(Mutex::new(Backlog::new(256, 1 << 20)));
    let (there, back) = (wire(), wire());
    let pool = Pool::new(PoolSizes::default());
    let cx = Context { worker: 0, now: Instant::ZERO, pool: &pool };
    let (left, mut left_end) = plug((&registry, cx), "left", &there, &back)?;
    let (right, mut right_end) = plug((&registry, cx), "right", &back, &there)?;
    let mut batch = Batch::from_iter((0..8).filter_map(|mark| pool.copy(&[mark; 60])));
    left.output(&cx, &mut batch, &mut left_end)?;
    right_end.receive(&mut batch);
    right.input(&cx, &mut batch);
    let (tx, rx) = (left.counters().snapshot(), right.counters().snapshot());
    let lost = tx.dropped(DropReason::TransmitError);
    println!("{} sent, {lost} lost, {} received", tx.tx_frames, rx.rx_frames);
    left.detach()?;
    Ok(right.detach()?)
}
