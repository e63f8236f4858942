//! One measurement a module, each on a world that is joined.

mod counter;
mod processors;
mod rate;
mod round_trip;
mod tcp;

pub use processors::Placement;
pub use rate::{PacketRate, packet_rate};
pub use round_trip::{RoundTrip, round_trip};
pub use tcp::{Tcp, tcp};

/// Octets of the small frames, with the Ethernet header, without FCS.
const SMALL: usize = 64;
