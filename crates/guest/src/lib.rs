#![forbid(unsafe_code)]
//! Guests that live in the process, attached to a network as virtual machines are.
//!
//! A [`Guest`] has a TCP/IP stack (smoltcp) on a thread of its own and pings, serves and sends; it has addresses set,
//! or asks for a lease by DHCP and resolves names by the servers that this names. A [`RawGuest`] has none: it sends and
//! receives frames, or breaks the protocol on purpose. Both take an [`Attachment`]: QEMU's stream and datagram sockets,
//! a VDE switch, or a descriptor. Nothing here needs privileges.
//!
//! ```
//! use std::os::unix::net::UnixStream;
//! use std::time::Duration;
//!
//! use vmlan_guest::{Amount, Attachment, Guest, GuestConfig, Ping};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (left, right) = UnixStream::pair()?;
//! let a = Guest::spawn(
//!     GuestConfig::new("a", "52:54:00:00:00:01".parse()?, Attachment::StreamFd(left.into()))
//!         .ipv4("10.0.0.1".parse()?, 24),
//! )?;
//! let b = Guest::spawn(
//!     GuestConfig::new("b", "52:54:00:00:00:02".parse()?, Attachment::StreamFd(right.into()))
//!         .ipv4("10.0.0.2".parse()?, 24),
//! )?;
//!
//! assert!(a.ping("10.0.0.2".parse()?, Ping::default())?.is_complete());
//!
//! let server = b.tcp_serve(5001)?;
//! let sent = a.tcp_send("10.0.0.2:5001".parse()?, Amount::Octets(100_000))?;
//! let taken = server.wait(Duration::from_secs(5), |report| report.finished == 1);
//! assert_eq!(taken.octets, sent.octets);
//! assert_eq!(taken.corrupt, 0);
//! # Ok(())
//! # }
//! ```

mod attachment;
pub mod client;
mod device;
mod dhcp;
mod error;
mod guest;
mod neighbour;
pub mod pattern;
mod ping;
mod raw;
mod resolve;
mod stack;
mod tcp;
mod wait;
mod worker;

pub use attachment::Attachment;
pub use device::Counters;
pub use dhcp::Lease;
pub use error::Error;
pub use guest::{Guest, GuestConfig, Ipv4, Ipv6};
pub use ping::{Ping, PingReport};
pub use raw::{RawGuest, ethernet};
pub use tcp::{Amount, ServeReport, TcpServer, TransferReport};
