//! Cutting a segmentation frame into segments.
//!
//! The headers are taken apart once: what no segment changes is summed up beforehand, so that a segment costs one copy
//! of its payload, one sum over it, and a handful of additions.

use super::layout::Tunnel;
use super::template::Template;
use super::validate::{Cut, Kind};
use super::{BadOffload, Offload};
use crate::{Batch, Frame, Meta, Pool, Size, WriteBuf};

/// Why a frame was not cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// The pool has not enough free buffers for all segments.
    #[error("not enough buffers for the segments")]
    NoBuffer,
    /// The request does not fit the frame: it was not validated, or the frame was changed since.
    #[error(transparent)]
    NotValid(#[from] BadOffload),
}

/// Cuts a segmentation frame into segments with complete checksums and adds them to `out`; answers how many.
///
/// The frame has a validated segmentation request. The segments have its meta, but no request, and buffers of `pool`.
/// The frame is not changed: it may be shared.
///
/// | Type | Segment *i* |
/// |---|---|
/// | TCP | IP lengths; IPv4 identification + *i*, kept when DF is set and it is 0; sequence number + *i* · size; FIN and PSH only on the last; CWR only on the first |
/// | UDP | a datagram of its own: lengths and identification |
/// | in a tunnel | the same of the outer IP header; UDP length, and its checksum unless that is 0 |
/// | UDP fragments | the same identification; fragment offset; MF except on the last, unless it was set; DF stays; the UDP header in the first only, with the checksum of the whole datagram |
///
/// A frame of 64 KiB takes some 45 buffers at an MTU of 1500, so transmit between one frame and the next.
///
/// # Errors
/// [`SegmentError::NoBuffer`] when `pool` has not enough buffers; `out` is then as it was. [`SegmentError::NotValid`]
/// for a request that [`validate`](super::validate) refuses, or that is none for segmentation.
pub fn segment(frame: &Frame, pool: &Pool, out: &mut Batch) -> Result<usize, SegmentError> {
    cut(frame, pool, out, false)
}

/// As [`segment`], for a medium that takes partial checksums: the segments ask for theirs to be finished, and nobody
/// has to read their payload but to copy it. Fragments are complete.
///
/// # Errors
/// As [`segment`].
pub fn segment_partial(frame: &Frame, pool: &Pool, out: &mut Batch) -> Result<usize, SegmentError> {
    cut(frame, pool, out, true)
}

fn cut(frame: &Frame, pool: &Pool, out: &mut Batch, partial: bool) -> Result<usize, SegmentError> {
    let octets = frame.octets();
    let cut = Cut::new(octets, frame.meta.offload)?;
    let (headers, payload) = octets.split_at(cut.headers);
    let space =
        Space::for_segments(pool, headers.len() + cut.size, cut.count).ok_or(SegmentError::NoBuffer)?;

    // A sum of the tunnel's is over finished segments.
    let in_udp = matches!(cut.layout.tunnel, Tunnel::Udp { .. });
    let partial = partial && cut.kind != Kind::Fragments && !in_udp;
    let template = Template::new(octets, &cut, partial);
    let meta = Meta { offload: if partial { checksum_request(&cut) } else { Offload::NONE }, ..frame.meta };
    let mut pieces = payload.chunks(cut.size).enumerate().peekable();
    while pieces.peek().is_some() {
        let mut buffer = pool.take(space.size).expect("the free buffers have been counted");
        let mut written = 0;
        let mut last_len = 0;
        // The target comes first in the pair, so that the end of the buffer takes no piece.
        for (target, (index, piece)) in buffer.chunks_exact_mut(space.segment_len).zip(&mut pieces) {
            last_len = headers.len() + piece.len();
            let target = &mut target[..last_len];
            target[..headers.len()].copy_from_slice(headers);
            target[headers.len()..].copy_from_slice(piece);
            template.patch(target, index);
            written += 1;
        }
        space.deliver(buffer, written, last_len, meta, out);
    }
    Ok(cut.count)
}

fn checksum_request(cut: &Cut) -> Offload {
    let Offload { flags, checksum_start, checksum_offset, .. } = cut.request;
    Offload { flags, checksum_start, checksum_offset, ..Offload::NONE }
}

/// Where segments are written: in buffers of the smallest size of which enough are free. Several share one that holds
/// them, since there are few large ones.
struct Space {
    size: Size,
    /// Octets of every segment but the last, and so from one to the next in a buffer.
    segment_len: usize,
}

impl Space {
    fn for_segments(pool: &Pool, segment_len: usize, count: usize) -> Option<Space> {
        let enough = |size: &Size| {
            let per_buffer = size.octets() / segment_len;
            per_buffer > 0 && pool.free(*size) >= count.div_ceil(per_buffer)
        };
        Size::ALL.into_iter().find(enough).map(|size| Space { size, segment_len })
    }

    /// Makes frames of the first `count` segments in `buffer`, the last of which has `last_len` octets.
    fn deliver(&self, buffer: WriteBuf, count: usize, last_len: usize, meta: Meta, out: &mut Batch) {
        if count == 1 {
            let mut frame = buffer.into_frame(0..last_len);
            frame.meta = meta;
            return out.push(frame);
        }
        let shared = buffer.share();
        for index in 0..count {
            let len = if index + 1 == count { last_len } else { self.segment_len };
            let start = index * self.segment_len;
            let mut frame = shared.frame(start..start + len);
            frame.meta = meta;
            out.push(frame);
        }
    }
}
