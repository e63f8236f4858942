//! Batches of several flows' frames, and what has to come of them. Shared with the fuzz target.

#![allow(dead_code, reason = "everyone uses a part of it")]

use vmlan_frame::offload::{Coalescer, Takes, segment, validate};
use vmlan_frame::wire::TcpFlags;
use vmlan_frame::{Batch, Meta, Offload, Pool, PoolSizes, VlanTag};

use crate::shape::*;

/// TCP with nothing on its last segment, since FIN is not merged.
pub const PLAIN: Shape = Shape { flags: TcpFlags(0), ..TCP4 };

thread_local! {
    /// Making a pool takes longer than all that is done with it.
    static POOL: Pool = large_pool();
}

/// A pool with enough for any batch here.
pub fn large_pool() -> Pool {
    Pool::new(PoolSizes { small: 2048, large: 80, bulk: 2 })
}

/// A batch of plain frames.
pub fn batch(pool: &Pool, frames: &[Vec<u8>]) -> Batch {
    frames.iter().map(|octets| pool.copy(octets).unwrap()).collect()
}

/// Returns the frames of a batch as a plain medium gets them.
pub fn segmented(batch: &Batch, pool: &Pool) -> Vec<(Vec<u8>, Meta)> {
    let mut out = Batch::new();
    for frame in batch {
        if frame.meta.offload.is_segmentation() {
            let request = frame.meta.offload;
            assert_eq!(validate(frame.octets(), request), Ok(request));
            segment(frame, pool, &mut out).unwrap();
        } else {
            out.push(frame.clone());
        }
    }
    out.iter().map(|frame| (frame.octets().to_vec(), frame.meta)).collect()
}

/// Frames of a generated batch: the next segments of a flow, or something that is not quite.
#[derive(Clone, Debug)]
pub struct Step {
    /// 0 to 5.
    pub flow: usize,
    /// Octets of payload.
    pub len: usize,
    pub times: usize,
    pub twist: Twist,
}

/// The unusual thing about each frame of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Twist {
    None,
    /// Octets are missing before it.
    Hole,
    /// Numbers are missing before it.
    Skip,
    /// Of TCP.
    Flags(u16),
    Ttl,
    Options,
    /// A bit of one octet is wrong.
    Corrupt(usize),
    /// An octet follows the packet.
    Pad,
    Tag,
    /// The sender says that the checksum is right.
    Valid,
    Fragment,
}

/// The frames of a batch, each with its meta.
pub fn generated(steps: &[Step]) -> Vec<(Vec<u8>, Meta)> {
    let mut places = [Place { offset: 0, index: 0, last: true }; 6];
    let mut frames = Vec::new();
    let repeated = steps.iter().flat_map(|step| std::iter::repeat_n(step, step.times));
    for Step { flow, len, twist, .. } in repeated {
        let mut shape = [
            PLAIN,
            Shape { source_port: 7, dont_fragment: true, identification: 0, ..PLAIN },
            Shape { v6: true, tcp_options: TIMESTAMPS, ..PLAIN },
            Shape { dont_fragment: true, ..UDP4 },
            UDP6,
            Shape { source_port: 9, dont_fragment: true, ..PLAIN },
        ][*flow];
        let place = &mut places[*flow];
        let mut meta = Meta::default();
        match *twist {
            Twist::Hole => place.offset += 1,
            Twist::Skip => place.index += 1,
            Twist::Flags(flags) => shape.flags = TcpFlags(flags),
            Twist::Ttl => shape.ttl -= 1,
            Twist::Options => shape.tcp_options = PADDING_OPTIONS,
            Twist::Tag => meta.tag = Some(VlanTag { tci: 9 }),
            Twist::Valid => meta.offload.flags = Offload::CHECKSUM_VALID,
            Twist::None | Twist::Corrupt(_) | Twist::Pad | Twist::Fragment => {}
        }
        // Segments take CWR off all but the first; here it may be on any.
        let index = if shape.flags.contains(TcpFlags::CWR) { 0 } else { place.index };
        let mut octets = shape.segment(Place { index, ..*place }, &payload(*len));
        match *twist {
            Twist::Corrupt(at) => {
                let at = at % octets.len();
                octets[at] ^= 1;
            }
            Twist::Pad => octets.push(0),
            Twist::Fragment => octets[20] ^= 0x20,
            _ => {}
        }
        place.offset += len;
        place.index += 1;
        frames.push((octets, meta));
    }
    frames
}

/// The flow of a generated frame: its type, protocol, addresses and ports.
fn flow_of(octets: &[u8]) -> Vec<u8> {
    let rest = if octets[12] == 0x86 { [20..21, 22..54, 54..58] } else { [23..24, 26..34, 34..38] };
    let [protocol, addresses, ports] = rest.map(|range| &octets[range]);
    [&octets[12..14], protocol, addresses, ports].concat()
}

/// Merges the frames of a batch and cuts them again.
///
/// # Panics
/// Unless that gives the very same frames, in the same order in each flow, and every buffer comes back.
pub fn gives_it_back(frames: &[(Vec<u8>, Meta)], takes: Takes) {
    let pool = POOL.with(Pool::clone);
    let mut batch: Batch = frames
        .iter()
        .map(|(octets, meta)| {
            let mut frame = pool.copy(octets).expect("a buffer");
            frame.meta = *meta;
            frame
        })
        .collect();
    let mut coalescer = Coalescer::new();
    let fewer = coalescer.coalesce(&mut batch, &pool, takes);
    assert_eq!(batch.len() + fewer, frames.len());
    assert!(batch.iter().all(|frame| takes.takes(frame.meta.offload)));
    let sorted = |frames: Vec<(Vec<u8>, Meta)>| {
        let without_request = |meta: Meta| Meta { offload: Offload::NONE, ..meta };
        let with_flow = |(octets, meta): (Vec<u8>, Meta)| (flow_of(&octets), octets, without_request(meta));
        let mut frames: Vec<_> = frames.into_iter().map(with_flow).collect();
        frames.sort_by(|a, b| a.0.cmp(&b.0));
        frames
    };
    assert!(sorted(segmented(&batch, &pool)) == sorted(frames.to_vec()), "other frames, or another order");
    assert_eq!(coalescer.coalesce(&mut batch, &pool, takes), 0, "nothing more can be merged");
    drop(batch);
    assert_eq!(pool.out(), 0);
}
