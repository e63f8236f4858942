#![forbid(unsafe_code)]
//! A way out for guests: their TCP, UDP and echo, carried by sockets of the host.
//!
//! The crate is pure: it does no I/O, reads no clock and writes no log. Frames of guests go in, frames for guests come
//! out, and the sockets are behind traits that a driver implements.

mod bucket;
mod chain;
pub mod datagrams;
mod drop;
mod engine;
pub mod envelope;
pub mod fragments;
pub mod guests;
mod keyed;
mod neighbour;
mod outward;
pub mod packet;
mod rate;
pub mod reach;
pub mod tcp;
#[cfg(test)]
mod testing;
pub mod unreachable;
mod wheel;

pub use datagrams::Datagrams;
pub use drop::Drop;
pub use engine::{Io, Nat, Notice, Settings, Taken};
pub use envelope::Envelope;
pub use keyed::Keyed;
pub use packet::{Packet, Refusal};
pub use rate::Rates;
pub use reach::Reach;
pub use unreachable::Unreachable;
