#![forbid(unsafe_code)]
//! The data link layer: what stands between drivers and those who use frames.
//!
//! A [`Link`] is acquired from a [`Registry`] and attached with a [`Driver`]. The driver hands what it receives to
//! [`Link::input`], in batches: taps see it, [`Filter`]s decide on it, and a network (a link that is bridged) or
//! [`Protocol`]s get it. What a network or a protocol sends goes through [`Link::output`] to a [`Transmit`]. Links,
//! filters, protocols and taps come and go while frames flow in other threads. Every frame that enters leaves once,
//! and is counted: sent, consumed, or dropped with a reason.
//!
//! The crate is pure: it does no I/O, reads no clock, writes no log and starts no thread. It knows errors by their
//! errno ([`Error::errno_name`]) and counts what happens to frames ([`vmlan_frame::Counters`]).

mod address;
mod arp;
mod chain;
mod control;
mod driver;
mod ending;
mod error;
mod event;
mod filter;
mod gate;
mod hook;
mod input;
mod lifecycle;
#[allow(clippy::module_inception, reason = "the crate and its central type share the field's word")]
mod link;
mod media;
mod multicast;
mod name;
mod options;
mod output;
mod properties;
mod protocol;
mod queue;
mod registry;
pub mod resolver;
mod sync;
mod tap;
#[cfg(test)]
mod tests;
mod transmit;
mod users;

pub use address::{Address, LinkAddress, ProtocolFamily};
pub use arp::{Arp, ArpOperation};
pub use control::{Answer, ControlResult, Request};
pub use driver::Driver;
pub use error::Error;
pub use event::{Event, EventCode, Notice, Subscription};
pub use filter::{Filter, FilterId, FilterOptions, Verdict};
pub use lifecycle::{BridgeGuard, IoRef};
pub use link::{Flags, Link};
pub use media::{Demux, Ethernet, FamilyHeader, Header, Media, Receiver};
pub use name::{InvalidName, Name};
pub use options::{InvalidMtu, Kind, LinkFamily, LinkOptions, Mtu};
pub use protocol::{PerFrame, PreOutput, Protocol, ProtocolOptions};
pub use registry::Registry;
pub use tap::{Tap, TapId};
pub use transmit::Transmit;

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
