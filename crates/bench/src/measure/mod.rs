//! One measurement a module, each on something that is set up and quiet.

mod counter;
mod flow;
mod memory;
mod processors;
mod rate;
mod round_trip;
mod tcp;

pub use flow::{Frames, datagrams, flood_patiently, streams, teach};
pub use memory::memory;
pub use processors::{Placement, place};
pub use rate::{PacketRate, packet_rate, udp_rate};
pub use round_trip::round_trip;
pub use tcp::tcp;

/// Octets of the small frames, with the Ethernet header, without FCS.
pub const SMALL: usize = 64;

/// Of the type that IEEE 802 leaves for experiments (IEEE 802-2014 9.2.3), with this many octets.
pub fn frame(to: [u8; 6], from: [u8; 6], octets: usize) -> Vec<u8> {
    let mut frame = vec![0; octets];
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&from);
    frame[12..14].copy_from_slice(&0x88b5_u16.to_be_bytes());
    frame
}
