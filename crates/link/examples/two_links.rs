//! Two links, a filter between them, a protocol, and frames that move from one to the other.
//!
//! This is the way of a frame through an embedder's own data plane, with the media left out: what one side's driver
//! receives goes through its link's input, and what the filters leave goes out of the other link. What that link
//! receives is for its protocol. Run it with
//! `cargo run -p vmlan-link --example two_links`.

use std::error::Error;
use std::sync::Arc;
use std::time::SystemTime;

use vmlan_frame::{Batch, Context, Counters, DropReason, Frame, Instant, MacAddr, Pool, PoolSizes, Tally};
use vmlan_link::{
    Filter, FilterOptions, Link, LinkOptions, PerFrame, ProtocolFamily, ProtocolOptions, Registry, Transmit,
    Verdict,
};

/// The type of the frames: for local experiments (IEEE 802-2014 9.2.3).
const ETHERTYPE: u16 = 0x88b5;

/// A rule: frames from one station are dropped.
struct Blocked(MacAddr);

impl Filter for Blocked {
    fn input(&self, _: &Context<'_>, frame: &mut Frame) -> Verdict {
        if frame.source() == Some(self.0) {
            Verdict::Drop(DropReason::SourceGuard)
        } else {
            Verdict::Continue
        }
    }

    fn detached(&self) {
        println!("the filter is gone: no callback runs any more");
    }
}

/// A driver's transmit side: it owns the frames, and counts what it did with them.
struct Printer {
    name: String,
    counters: Arc<Counters>,
}

impl Transmit for Printer {
    fn transmit(&mut self, batch: &mut Batch) {
        let mut sent = Tally::default();
        for frame in batch.drain() {
            sent.add(&frame);
            println!("{} sends {} octets from {:?}", self.name, frame.len(), frame.source());
        }
        self.counters.sent(0, &sent);
    }
}

/// Attaches an Ethernet link whose driver has no hooks.
fn attach(registry: &Registry, base: &str) -> Result<Link, Box<dyn Error>> {
    let link = registry.acquire(LinkOptions::ethernet(base)?)?;
    link.attach(Arc::new(()), None)?;
    Ok(link)
}

/// A broadcast from `source`, as a driver would read it into a buffer of its worker.
fn broadcast(pool: &Pool, source: MacAddr) -> Option<Frame> {
    let mut octets = [0; 60];
    octets[..6].copy_from_slice(&MacAddr::BROADCAST.0);
    octets[6..12].copy_from_slice(&source.0);
    octets[12..14].copy_from_slice(&ETHERTYPE.to_be_bytes());
    pool.copy(&octets)
}

fn main() -> Result<(), Box<dyn Error>> {
    let registry = Registry::new(1, SystemTime::now);
    let (left, right) = (attach(&registry, "left")?, attach(&registry, "right")?);

    // Takes the place of a network: input leaves us the frames instead of giving them to protocols.
    let _bridge = left.attach_bridge()?;

    let (good, bad): (MacAddr, MacAddr) = ("52:54:00:00:00:01".parse()?, "52:54:00:00:00:02".parse()?);
    let filter = left.attach_filter(FilterOptions::new("blocked"), Arc::new(Blocked(bad)))?;

    // Each worker thread has a pool of its own; frames do not leave their thread.
    let pool = Pool::new(PoolSizes::default());
    let cx = Context { worker: 0, now: Instant::ZERO, pool: &pool };
    let mut wire = Printer { name: right.name().to_string(), counters: right.counters().clone() };
    let mut batch = Batch::new();
    for source in [good, bad, good] {
        batch.push(broadcast(&pool, source).ok_or("no buffer is free")?);
    }
    left.input(&cx, &mut batch);
    right.output(&cx, &mut batch, &mut wire)?;

    // A protocol gets the frames of its family that a link receives which no network has taken.
    let family = ProtocolFamily::from_ethertype(ETHERTYPE);
    let protocol = PerFrame(|_: &Context<'_>, frame: &mut Frame| {
        println!("the protocol gets {} octets from {:?}", frame.len(), frame.source());
        Ok(())
    });
    right.attach_protocol(ProtocolOptions { family, promiscuous: false }, Arc::new(protocol))?;
    batch.push(broadcast(&pool, good).ok_or("no buffer is free")?);
    right.input(&cx, &mut batch);

    let (rx, tx) = (left.counters().snapshot(), right.counters().snapshot());
    println!(
        "{}: {} frames received, {} dropped",
        left.name(),
        rx.rx_frames,
        rx.dropped(DropReason::SourceGuard)
    );
    println!("{}: {} frames sent; {} buffers are out", right.name(), tx.tx_frames, pool.out());

    left.detach_filter(filter)?;
    right.detach_protocol(family)?;
    left.detach()?;
    right.detach()?;
    Ok(())
}
