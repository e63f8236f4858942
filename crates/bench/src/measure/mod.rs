//! One measurement a module, each on something that is set up and quiet.

mod connect;
mod counter;
mod flow;
mod memory;
mod names;
mod processors;
mod rate;
mod round_trip;
mod senders;
mod taps;
mod tcp;

pub use connect::{connects, idle, is_reached, octet_round_trip};
pub use flow::{Frames, datagrams, flood_patiently, streams, teach};
pub use memory::memory;
pub use names::names;
pub use processors::{Placement, first_two, place};
pub use rate::{PacketRate, ip_rate, packet_rate, udp_rate};
pub use round_trip::round_trip;
pub use senders::senders;
pub use taps::{large_frames, small_frames};
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

/// UDP over IPv4 (RFC 768, RFC 791) from and to addresses that nobody has, with a good header checksum and none of
/// UDP's, with this many octets.
fn ip_frame(to: [u8; 6], from: [u8; 6], octets: usize) -> Vec<u8> {
    let mut frame = frame(to, from, octets);
    frame[12..14].copy_from_slice(&0x0800_u16.to_be_bytes());
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&((octets - 14) as u16).to_be_bytes());
    frame[22..24].copy_from_slice(&[64, 17]);
    frame[26..34].copy_from_slice(&[10, 9, 1, 1, 10, 9, 1, 2]);
    frame[34..38].copy_from_slice(&[0x1b, 0x58, 0x1b, 0x58]);
    frame[38..40].copy_from_slice(&((octets - 34) as u16).to_be_bytes());
    seal(&mut frame);
    frame
}

/// Writes the checksum of the IPv4 header.
fn seal(frame: &mut [u8]) {
    frame[24..26].fill(0);
    let checksum = vmlan_frame::checksum::checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
}
