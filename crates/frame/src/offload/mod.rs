//! Offloads: the work that a sender leaves to be done to a frame, and doing it by checksums, segmentation and
//! coalescing.
//!
//! Theory of operation. A virtio-net header in front of a frame may ask for a checksum to be finished, or for a frame
//! of up to 64 KiB to be cut into segments (virtio 1.3 5.1.6). Ports that differ in what they can take live in one
//! network, so the request travels with the frame ([`Meta::offload`](crate::Meta::offload)) and is met where the
//! frame leaves:
//!
//! 1. On entry [`validate`] compares the request with the frame once. What comes out is *canonical*: known flags
//!    only, the sum in the transport header that it belongs to, the true length of all headers. What contradicts the
//!    frame is refused, so that a request can neither make anyone read beyond the frame nor change octets that a
//!    guard has already looked at.
//! 2. At egress [`Takes::takes`] says whether the medium takes the frame as it is. Else [`finish_checksum`] or
//!    [`segment`] do in software what was left.
//! 3. In the other direction [`Coalescer`] merges the plain segments of a flow, toward media that take them merged,
//!    so that [`segment`] would give the very same segments back.
//!
//! Positions count from the start of a frame's octets, which is without the outer tag; [`Offload::shifted`] is for
//! where the tag is put in or taken out.

mod coalesce;
mod divide;
mod finish;
mod layout;
mod open;
mod request;
mod segment;
mod takes;
mod template;
mod validate;

pub use coalesce::Coalescer;
pub use divide::{divide, parts};
pub use finish::finish_checksum;
pub use open::open_checksum;
pub use request::{Offload, VIRTIO_HEADER};
pub use segment::{SegmentError, segment, segment_partial};
pub use takes::Takes;
pub use validate::{BadOffload, validate};

/// Most segments, of TCP or as fragments, that are made of one frame. Their size is not bounded, their number is: with
/// a segment of one octet each, a frame would be turned into a flood of 65,000, and a frame is the least that a worker
/// does at once. 64 KiB in segments of 128 octets are as many; a TCP with smaller ones sends fewer at once when it
/// loses those that are too many.
pub const MAX_SEGMENTS: usize = 512;

/// Most datagrams that are made of one frame: as many as kernels take at once (Linux's `UDP_MAX_SEGMENTS`).
pub const MAX_DATAGRAMS: usize = 128;

/// Most octets of the headers that are put in front of each segment: two tags, an IPv6 header with the longest
/// extension headers that are followed, and TCP, or IP in IP around that.
pub const MAX_HEADERS: usize = 768;

/// Most octets that the segments of one frame have together: 64 KiB and the headers of as many of the smallest segments
/// as a TCP sends. With the longest headers in front of the smallest segments it would be 1.5 MiB.
pub const MAX_MADE: usize = 256 << 10;
