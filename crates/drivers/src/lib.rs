#![forbid(unsafe_code)]
//! Drivers: one module for each kind of attachment.
//!
//! A driver has two halves. An [`Endpoint`] is what a port is attached to: it owns the descriptors, is made by
//! whoever sets the port up, and can be handed between threads. From it each worker gets a [`Queue`] of its own: the
//! half that moves frames, and that never leaves its worker. Drivers hold no policy: what may be sent where, and
//! what happens after a fault, is decided above.

mod closer;
pub mod datagram;
mod flows;
pub mod inject;
pub mod packet_filter;
mod parts;
pub mod peer;
mod queue;
pub mod stream;
#[cfg(all(test, target_os = "linux"))]
mod test_segments;
pub mod tunnel;
pub mod unix;
pub mod uplink;
pub mod vde;
mod waits;

#[cfg(target_os = "linux")]
#[path = "linux/host/mod.rs"]
pub mod host;
#[cfg(target_os = "linux")]
pub mod tap;
#[cfg(target_os = "linux")]
pub mod vhost_user;

pub use flows::Flows;
pub use peer::PeerSocket;
pub use queue::{Endpoint, Fault, Progress, Queue, RingCounts, Settings, Status};
pub use waits::Waits;

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
