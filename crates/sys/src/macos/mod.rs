//! macOS.

pub mod bpf;
pub mod bridge;
mod control;
pub mod datagrams;
pub mod feth;
pub mod inet;
pub mod interface;
pub mod kernel_events;
pub mod poller;
pub mod priority;
pub mod rights;
pub mod socket;
pub mod utun;
pub mod waker;
