//! User tunnels: a program, or the host's own stack, joins a network with packets instead of frames.
//!
//! Theory of operation. A tunnel has three parts. The *medium* carries records, one packet each: the data socket of a
//! client of the control socket, or a device of the kernel. The *interface* is a link of the link layer, which comes
//! and goes with the client: every record passes it, seen by taps and decided on by filters and the client's flags. The
//! *proxy* makes an Ethernet host of it: it answers ARP and neighbour solicitations for the tunnel's addresses and for
//! no other, finds next hops, puts link headers in front of packets and takes them off. The port of the network is the
//! proxy's; what its link counts are frames.
//!
//! ```text
//! client ⇄ medium ⇄ interface (link tunnelN) ⇄ proxy ⇄ link of the port ⇄ network
//! ```
//!
//! Packets whose next hop is not known wait in the resolver, bounded, and come out by [`Queue::receive`] when an
//! answer came, as its questions and answers do; [`Status::deadline`](crate::Status::deadline) says when. Control is
//! apart: a client asks on its control connection ([`message`]), which a task serves ([`options`]), and the data socket
//! that it gets for an answer has nothing but records.

#[cfg_attr(target_os = "linux", path = "linux/carrier.rs")]
#[cfg_attr(target_os = "macos", path = "macos/carrier.rs")]
mod carrier;
pub mod client;
mod interface;
mod medium;
pub mod message;
pub mod options;
mod outlet;
mod proxy;
mod queue;
pub mod record;
#[cfg(test)]
mod tests;
mod too_big;

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use vmlan_frame::{Counters, Instant, MacAddr};

pub use interface::{Interface, Options, Statistics};
pub use proxy::Host;

use self::medium::Medium;
use self::proxy::Proxy;
use self::record::Form;
use crate::{Endpoint, PeerSocket, Queue, Settings};

/// An open tunnel, ready for traffic.
pub struct Tunnel {
    medium: Medium,
    proxy: Proxy,
    interface: Arc<Interface>,
}

impl Tunnel {
    /// A tunnel to the client at the other end of `socket`, which keeps records apart (`SOCK_SEQPACKET`).
    ///
    /// # Errors
    /// `EINVAL`, `EEXIST` or `ENOBUFS` for the host's addresses.
    pub fn to_client(
        socket: PeerSocket,
        host: &Host,
        interface: Arc<Interface>,
    ) -> Result<Tunnel, vmlan_link::Error> {
        Tunnel::new(Medium::socket(socket), host, interface)
    }

    /// A tunnel to the host's own stack through `device`, which does not wait and writes records in this form.
    ///
    /// # Errors
    /// `EINVAL`, `EEXIST` or `ENOBUFS` for the host's addresses.
    pub fn to_device(
        device: OwnedFd,
        form: Form,
        host: &Host,
        interface: Arc<Interface>,
    ) -> Result<Tunnel, vmlan_link::Error> {
        Tunnel::new(Medium::device(device, form), host, interface)
    }

    fn new(medium: Medium, host: &Host, interface: Arc<Interface>) -> Result<Tunnel, vmlan_link::Error> {
        let proxy = Proxy::new(host, Instant::from_nanos(vmlan_sys::monotonic_nanos()))?;
        Ok(Tunnel { medium, proxy, interface })
    }

    /// The addresses of the tunnel that somebody else on the network was heard to use since the last call, and who.
    pub fn conflicts(&self) -> Vec<(IpAddr, MacAddr)> {
        self.proxy.conflicts()
    }
}

impl Endpoint for Tunnel {
    fn queue(&self, settings: Settings) -> io::Result<Box<dyn Queue>> {
        queue::queue(&self.medium, &self.proxy, &self.interface, settings)
    }

    fn mechanism(&self) -> String {
        "one read, one write a packet, neighbour proxy".to_owned()
    }

    fn inner(&self) -> Option<&Counters> {
        Some(self.interface.link().counters())
    }

    fn set_carrier(&self, carrier: bool) -> io::Result<()> {
        self.medium.set_carrier(carrier)
    }
}
