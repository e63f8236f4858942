#![forbid(unsafe_code)]
//! DHCP, router advertisements and names for the guests of a network.
//!
//! The crate is pure: it does no I/O, reads no clock and writes no log. Octets of messages go in, octets and events
//! come out. [`packet`] takes a guest's frame apart and makes the frames of answers; [`dhcp4`], [`dhcp6`], [`ra`] and
//! [`names`] answer; [`leases`] is the table of addresses that the first and the last share; [`proxy`] keeps the
//! questions that wait for a resolver of the host.
//!
//! Messages are read and written here rather than by a library: of DHCP and DNS little is needed, answers have to be
//! right to the octet, and what is read comes from guests.

pub mod dhcp4;
pub mod dhcp6;
pub mod event;
pub mod leases;
pub mod name;
pub mod names;
pub mod packet;
pub mod ports;
pub mod proxy;
pub mod ra;
pub mod rate;
pub mod settings;

pub use event::Event;
pub use leases::Leases;
pub use name::Name;
pub use ports::{Client, Port, Ports};
pub use settings::Settings;
