//! Events of a network's services.

use std::net::{IpAddr, Ipv4Addr};

use vmlan_frame::MacAddr;

/// An event that the network's user may want to know of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A client got an address that it did not have before.
    Lease {
        /// The address.
        address: Ipv4Addr,
        /// The client's link address.
        mac: MacAddr,
        /// The client's port.
        port: String,
        /// The client's name, made safe.
        name: Option<String>,
    },
    /// A lease ended: it ran out, or its client gave it back.
    LeaseExpired {
        /// The address.
        address: Ipv4Addr,
        /// The client's link address.
        mac: MacAddr,
        /// The client's port.
        port: String,
    },
    /// No address is left for a client.
    PoolExhausted {
        /// The client's link address.
        mac: MacAddr,
        /// The client's port.
        port: String,
    },
    /// A client found that another guest uses the address that it was given.
    AddressConflict {
        /// The address.
        address: IpAddr,
        /// The link address of the client that found it.
        mac: MacAddr,
        /// Its port.
        port: String,
    },
}
