#![forbid(unsafe_code)]
//! Ethernet frames and what they are made of: addresses, header views, checksums, buffers and batches; and what is
//! counted of them.
//!
//! The crate is pure: it does no I/O, reads no clock and writes no log. A [`Frame`] is an owned handle to a range of
//! a buffer of a worker's [`Pool`]; its octets are an Ethernet frame without FCS, and the outer 802.1Q tag is held
//! beside it ([`Meta::tag`]), never inside, so that filters and forwarding see one form only.

mod account;
mod backlog;
mod batch;
mod buffer;
pub mod checksum;
mod class;
mod context;
mod counters;
mod crc32c;
mod drops;
#[allow(clippy::module_inception, reason = "the crate and its central type share the field's word")]
mod frame;
mod instant;
pub mod ip;
mod mac;
mod mutex;
pub mod offload;
mod sides;
mod slot_map;
mod vlan;
pub mod wire;

pub use account::{Account, Losses, Witness};
pub use backlog::{Backlog, Entry, Share};
pub use batch::Batch;
pub use buffer::{Pool, PoolSizes, SharedBuf, Size, WriteBuf};
pub use context::Context;
pub use counters::{Counters, Snapshot, Tally};
pub use drops::{Direction, DropReason, PerReason};
pub use frame::{Frame, Meta, TrafficClass};
pub use instant::Instant;
pub use mac::{MacAddr, ParseMacError};
pub use mutex::Mutex;
pub use offload::{BadOffload, Coalescer, Offload, SegmentError, Takes};
pub use sides::Sides;
pub use slot_map::{SecondaryMap, SlotKey, SlotMap};
pub use vlan::{InvalidVlanId, VlanId, VlanTag};

/// Octets of an Ethernet header without a tag: two addresses and the type (IEEE 802.3 3.1.1).
pub const ETHERNET_HEADER: usize = 14;

/// Octets that an 802.1Q tag adds to a frame (IEEE 802.1Q-2022 9.3).
pub const VLAN_TAG: usize = 4;

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
