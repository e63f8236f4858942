//! The host's side of a flow, as far as a flow needs it.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::path::Path;

use vmlan_frame::MacAddr;

/// The name of a flow's socket: a slot, and how often the slot was used before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowId {
    /// A small number, used again.
    pub slot: u32,
    /// Tells the slot's uses apart.
    pub generation: u32,
}

/// The guest's end of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestEnd {
    /// Its address and port.
    pub address: SocketAddr,
    /// Its link address.
    pub mac: MacAddr,
    /// Its port of the network.
    pub ingress: u16,
}

/// The end that a flow is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// An address, over the host's routes.
    Address(SocketAddr),
    /// A socket in the file system.
    Unix(&'a Path),
    /// The network's own DNS.
    Names,
}

/// Why a socket failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No listener.
    Refused,
    /// The other side reset the connection, or it broke in another way.
    Reset,
    /// There is no route.
    NetworkUnreachable,
    /// The host does not answer, or a router said so.
    HostUnreachable,
    /// The system does not permit it.
    Denied,
    /// No descriptor is left.
    NoDescriptor,
}

/// The outcome of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// So many octets, at least one.
    Octets(usize),
    /// Nothing now; readiness will be told.
    Nothing,
    /// The other side has shut down its half.
    End,
    /// The connection failed.
    Failed(Failure),
}

/// Stream sockets by the ids of their flows. No call waits.
pub trait Sockets {
    /// Makes a socket for the flow and begins to connect it; the outcome is told as readiness to write.
    ///
    /// # Errors
    /// The failure, where it is known at once. Nothing is left to be closed then.
    fn connect(&mut self, flow: FlowId, guest: GuestEnd, to: &Target<'_>) -> Result<(), Failure>;

    /// Sends the slices, as far as there is room; returns how many octets were taken. When it is fewer, readiness will
    /// be told.
    ///
    /// # Errors
    /// The connection failed.
    fn send(&mut self, flow: FlowId, slices: &[IoSlice<'_>]) -> Result<usize, Failure>;

    /// Reads what is there.
    fn receive(&mut self, flow: FlowId, buffer: &mut [u8]) -> Read;

    /// Shuts down the sending half.
    fn shutdown(&mut self, flow: FlowId);

    /// Closes the socket so that the other side sees a reset, or in order. Called once for each socket that there is.
    fn close(&mut self, flow: FlowId, reset: bool);

    /// Fetches the error of a socket that was connecting, or that may have failed behind the end of its data.
    fn error(&mut self, flow: FlowId) -> Option<Failure>;
}
