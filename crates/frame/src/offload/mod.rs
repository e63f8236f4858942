//! What a sender leaves to be done to a frame, and doing it: checksums, segmentation and coalescing.
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
mod finish;
mod layout;
mod open;
mod request;
mod segment;
mod takes;
mod template;
mod validate;

pub use coalesce::Coalescer;
pub use finish::finish_checksum;
pub use open::open_checksum;
pub use request::{Offload, VIRTIO_HEADER};
pub use segment::{SegmentError, segment, segment_partial};
pub use takes::Takes;
pub use validate::{BadOffload, validate};

/// Fewest payload octets of a segment: with fewer, one frame would be turned into a flood.
pub const MIN_SEGMENT: usize = 512;

/// Most segments that are made of one frame.
pub const MAX_SEGMENTS: usize = 128;

/// Most octets of the headers that are put in front of each segment.
pub const MAX_HEADERS: usize = 256;
