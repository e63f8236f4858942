#![forbid(unsafe_code)]
//! Networks: an Ethernet switch that joins ports, with a forwarding database and VLANs.
//!
//! The crate is pure: it does no I/O, reads no clock and writes no log. A [`Network`] is shared by all workers and by
//! the control side; each worker has a [`Forwarder`] and an [`Egress`] of its own for it. A worker hands the frames
//! that a port received to [`Forwarder::forward`], and takes the copies for every other port out of the [`Egress`]:
//!
//! ```text
//! batch of one port → admission → source: learn or guard → stages → destination: FDB or flood → egress queues
//!                     (length, addresses, guard, VLAN)     (services, claims)                   (bounded by room)
//! ```
//!
//! Workers read their shared state without a lock: the ports in an immutable table that is replaced as a whole when
//! control changes something, the FDB in atomic words (see the `fdb` module's source). The outcome for a frame is
//! counted, not returned: a received frame either makes copies, counted at its ingress port, or is dropped there with
//! one reason; a copy either gets into the egress queue or is dropped with a reason at its egress port.

mod discovery;
mod egress;
mod event;
mod fast;
mod fdb;
mod forward;
mod group;
mod guard;
mod known;
mod network;
mod port;
mod port_table;
mod shared_mac;
mod trunk;
mod vlan;

pub use egress::Egress;
pub use event::{Event, Events};
pub use fast::{FastEntry, FastPath, FastPort, SlowReason};
pub use fdb::{EntryKind, FdbConfig, FdbEntry, FdbTally};
pub use forward::Forwarder;
pub use group::Group;
pub use guard::addresses::HostAddress;
pub use network::{Network, NetworkConfig, ServiceGuard, SharedAddress, Station};
pub use port::{Limits, PortConfig, PortError, PortId, PortPolicy, Prefix, Rate, Roles};
pub use trunk::{Diversion, Notify, TrunkConfig, TrunkNotice, TrunkPolicy};
pub use vlan::{VlanRole, VlanSet};

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
