//! The words between an uplink's engine and the control side.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use vmlan_frame::MacAddr;
use vmlan_nat::datagrams::{Counts, FlowEntry};
use vmlan_nat::guests::Limits;
use vmlan_nat::reach::{Egress, Service};
use vmlan_nat::tcp::{FlowReport, Statistics};

/// A forward's number.
pub type ForwardId = u64;

/// The flows of an uplink, and counts of what happened.
#[derive(Debug, Clone)]
pub struct Flows {
    /// TCP flows, each with its number.
    pub tcp: Vec<(u64, FlowReport)>,
    /// Flows of UDP and echo, and forwards of UDP, each with its number.
    pub datagrams: Vec<(u64, FlowEntry)>,
    /// Counts of TCP.
    pub statistics: Statistics,
    /// Counts of datagrams.
    pub counts: Counts,
}

/// The receiver of an answer; runs in a worker, so it must not wait.
pub type Answer<T> = Box<dyn FnOnce(T) + Send>;

/// Something for the engine to do.
pub enum Command {
    /// An address is a guest's, at this port.
    Bind(IpAddr, MacAddr, u16),
    /// An address is nobody's any more.
    Unbind(IpAddr),
    /// The addresses that are set, each with the port that it is for.
    SetAddresses(Vec<(IpAddr, u16)>),
    /// A port has left the network.
    PortGone(u16),
    /// Nothing reaches the guest at a port for now.
    PortAway(u16),
    /// The guest at a port is reached again.
    PortBack(u16),
    /// The guest at a port may have been started anew.
    PortMayBeNew(u16),
    /// A guest got an address for a name.
    Learned {
        /// The guest's port.
        ingress: u16,
        /// The name.
        name: String,
        /// The address.
        address: IpAddr,
        /// How long it is good.
        ttl: Duration,
    },
    /// The host's own addresses.
    HostAddresses(Vec<IpAddr>),
    /// The part of the world that is open to all guests. Flows that are not any more end.
    Egress(Egress),
    /// Guests are not told that a destination is not open, or are.
    DenySilently(bool),
    /// The part that is open to the guest at a port; as to all when `None`.
    PortEgress(u16, Option<Egress>),
    /// Services of the host that are open.
    Services(Vec<Service>),
    /// Limits for each guest.
    Limits(Limits),
    /// Octets a second of all guests together, each way; any number when 0.
    Rate(u64),
    /// Datagrams of strangers come in to guests' ports, or do not.
    OpenFilter(bool),
    /// A listening TCP or Unix socket of a forward; without a guest's address callers are reset.
    ///
    /// Callers are counted.
    Listen(ForwardId, OwnedFd, Option<SocketAddr>, Arc<AtomicU64>),
    /// A bound UDP socket of a forward; without a guest's address datagrams are not read.
    ListenUdp(ForwardId, OwnedFd, Option<SocketAddr>),
    /// The guest of a forward has another address; flows to the one before end.
    Aim(ForwardId, Option<SocketAddr>),
    /// A forward is no more, and its flows end.
    Unlisten(ForwardId),
    /// Report the flows.
    Flows(Answer<Flows>),
    /// End the flow with this number; answers if there was one.
    CloseFlow(u64, Answer<bool>),
}

/// A flow's number for people and programs: whose it is, its slot, and as many bits of how often the slot was used as
/// every reader of JSON takes.
pub(super) fn number(is_datagram: bool, slot: u32, generation: u32) -> u64 {
    u64::from(is_datagram) | u64::from(slot & 0x00ff_ffff) << 1 | u64::from(generation & 0x000f_ffff) << 25
}
