//! macOS.

pub mod datagrams;
pub mod poller;
pub mod socket;
pub mod utun;
pub mod waker;
