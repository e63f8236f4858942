//! The host's network on macOS: bridges, feth pairs, interfaces.
//!
//! Decisions are made against [`Kernel`], and tested on every system with one that is made up; only `system.rs` and
//! `events.rs` call macOS.

mod address;
mod hold;
mod mark;
mod pair;
mod trunk;

#[cfg(target_os = "macos")]
mod events;
#[cfg(target_os = "macos")]
pub mod leftovers;
#[cfg(target_os = "macos")]
mod system;

#[cfg(test)]
mod fake;

use std::io;

use vmlan_frame::MacAddr;
use vmlan_sys::darwin::InterfaceName;

#[cfg(target_os = "macos")]
pub(crate) use events::Events;
#[cfg(target_os = "macos")]
pub(crate) use hold::hold;
#[cfg(target_os = "macos")]
pub(crate) use pair::Pair;
#[cfg(target_os = "macos")]
pub(crate) use system::{Host, System, addresses};
#[cfg(target_os = "macos")]
pub(crate) use trunk::{Look, Target, Trunk};

/// An interface of the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Interface {
    /// Its name.
    pub name: InterfaceName,
    /// Its address; `None` for one without.
    pub mac: Option<MacAddr>,
    /// True for Ethernet, which includes bridges.
    pub is_ethernet: bool,
}

/// The requests to the system.
pub(crate) trait Kernel {
    /// Every interface.
    fn interfaces(&self) -> io::Result<Vec<Interface>>;
    /// Largest packet of an interface in octets, without the Ethernet header.
    fn mtu(&self, name: InterfaceName) -> io::Result<u32>;
    /// Brings an interface up.
    fn set_up(&self, name: InterfaceName) -> io::Result<()>;
    /// Makes a feth interface, which the system numbers.
    fn create_feth(&self) -> io::Result<InterfaceName>;
    /// Gives a feth interface its address and MTU.
    fn prepare_feth(&self, name: InterfaceName, mac: MacAddr, mtu: u32) -> io::Result<()>;
    /// Joins two feth interfaces to a pair.
    fn pair_feths(&self, one: InterfaceName, other: InterfaceName) -> io::Result<()>;
    /// Takes a feth interface away.
    fn destroy_feth(&self, name: InterfaceName) -> io::Result<()>;
    /// The members of a bridge.
    fn members(&self, bridge: InterfaceName) -> io::Result<Vec<InterfaceName>>;
    /// Makes an interface a member of a bridge.
    fn join(&self, bridge: InterfaceName, member: InterfaceName) -> io::Result<()>;
}
