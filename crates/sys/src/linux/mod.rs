//! Linux.

pub mod bell;
pub mod datagrams;
pub mod ebpf;
pub mod eventfd;
pub mod guest_memory;
pub mod inet;
mod memory;
pub mod netdev;
pub mod netns;
pub mod packet;
pub mod poller;
pub mod priority;
pub mod rights;
pub mod socket;
pub mod tap;
pub mod tun;
pub mod waker;
pub mod xdp;
