#![forbid(unsafe_code)]
//! A way out for guests: their TCP, UDP and echo, carried by sockets of the host.
//!
//! The crate is pure: it does no I/O, reads no clock and writes no log. Frames of guests go in, frames for guests come
//! out, and the sockets are behind traits that a driver implements.

pub mod envelope;
mod keyed;
pub mod packet;
pub mod reach;

pub use envelope::Envelope;
pub use packet::{Packet, Refusal};
