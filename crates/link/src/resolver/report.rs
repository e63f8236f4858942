use core::net::IpAddr;

use vmlan_frame::MacAddr;

use super::NeighbourState;

/// An event of an own address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// No other host has the address: it is in use from now on.
    Assigned(IpAddr),
    /// Another host uses the address.
    Conflict {
        /// The address.
        address: IpAddr,
        /// The link address of the other host.
        with: MacAddr,
        /// The address was tentative, and is not used. One that was assigned is kept and defended.
        lost: bool,
    },
}

/// One entry of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neighbour {
    /// Its address.
    pub address: IpAddr,
    /// The neighbour's state.
    pub state: NeighbourState,
    /// Its link address, when it is known.
    pub link: Option<MacAddr>,
}

/// The counters of a resolver. Every packet that waited is in one of the first five, or still waits.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Statistics {
    /// Packets that waited and were sent.
    pub sent: u64,
    /// Packets dropped because the next hop did not answer.
    pub unanswered: u64,
    /// Packets dropped for a newer one to the same next hop.
    pub replaced: u64,
    /// Packets dropped because their next hop was forgotten for another.
    pub displaced: u64,
    /// Packets dropped because no buffer was free when they were to be sent.
    pub no_buffer: u64,
    /// Packets that were refused because too many waited.
    pub no_room: u64,
    /// Requests sent.
    pub requests: u64,
    /// Requests of others answered.
    pub answers: u64,
    /// Messages of our own that were not sent: too many waited, or no buffer was free.
    pub messages_lost: u64,
    /// Received messages that are not valid.
    pub ignored: u64,
    /// Uses of own addresses by others.
    pub conflicts: u64,
}
