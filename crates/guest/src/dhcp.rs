//! A lease by DHCPv4 (RFC 2131), which a guest asks for when it starts and renews for as long as it lives.
//!
//! smoltcp's client does the protocol; [`LeaseTask`] carries what it agreed on to the stack and to the [`Board`], where
//! the guest's owner waits for it. The client does not tell the domain, so [`Heard`] reads it from the acknowledgement.

use std::net::Ipv4Addr;
use std::sync::{Arc, Condvar, PoisonError};
use std::time::{Duration, Instant};

use smoltcp::iface::SocketHandle;
use smoltcp::socket::dhcpv4::{Event, Socket};
use smoltcp::wire::{
    DHCP_CLIENT_PORT, DHCP_SERVER_PORT, DhcpPacket, EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet,
    UdpPacket,
};
use vmlan_frame::{MacAddr, Mutex};

use crate::Error;
use crate::stack::Stack;
use crate::worker::{Step, Task};

/// Options that are asked for (RFC 2132): subnet mask, router, domain name servers, domain name.
const WANTED: &[u8] = &[1, 3, 6, DOMAIN_NAME];
/// Option of the domain name (RFC 2132 3.17).
const DOMAIN_NAME: u8 = 15;
/// Option of the message's type, and that of an acknowledgement (RFC 2132 9.6).
const MESSAGE_TYPE: u8 = 53;
const ACK: u8 = 5;
/// Octets of a name as text, at most (RFC 1035 2.3.4).
const LONGEST_NAME: usize = 253;

/// An address that a guest got by DHCP, and what came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The guest's address.
    pub address: Ipv4Addr,
    /// Bits of the network's prefix.
    pub prefix: u8,
    /// The way to other networks, if there is one.
    pub router: Option<Ipv4Addr>,
    /// Servers of DNS, the preferred one first.
    pub servers: Vec<Ipv4Addr>,
    /// The domain of the network's names, if it was told.
    pub domain: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    lease: Option<Lease>,
    /// Why the attachment ended.
    ended: Option<String>,
}

/// The place where a guest's lease can be seen.
#[derive(Debug, Default)]
pub(crate) struct Board {
    state: Mutex<State>,
    changed: Condvar,
}

impl Board {
    /// The lease as it is.
    pub(crate) fn lease(&self) -> Option<Lease> {
        self.state.lock().lease.clone()
    }

    /// Waits for a lease.
    ///
    /// # Errors
    /// [`Error::Timeout`] and [`Error::Disconnected`], in the name of `guest`.
    pub(crate) fn wait(&self, guest: &str, timeout: Duration) -> Result<Lease, Error> {
        let nothing = |state: &mut State| state.lease.is_none() && state.ended.is_none();
        let waited = self.changed.wait_timeout_while(self.state.lock(), timeout, nothing);
        let state = waited.unwrap_or_else(PoisonError::into_inner).0;
        match (&state.lease, &state.ended) {
            (_, Some(reason)) => Err(Error::Disconnected { guest: guest.to_owned(), reason: reason.clone() }),
            (Some(lease), None) => Ok(lease.clone()),
            (None, None) => Err(Error::Timeout {
                guest: guest.to_owned(),
                operation: "no lease by DHCP".to_owned(),
                waited: timeout,
            }),
        }
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }
}

/// The client of a guest, which lives as long as the guest.
pub(crate) struct LeaseTask {
    socket: Option<SocketHandle>,
    board: Arc<Board>,
}

impl LeaseTask {
    pub(crate) fn new(board: Arc<Board>) -> LeaseTask {
        LeaseTask { socket: None, board }
    }
}

impl Task for LeaseTask {
    fn poll(&mut self, stack: &mut Stack, _now: Instant) -> Step {
        let handle = *self.socket.get_or_insert_with(|| {
            let mut socket = Socket::new();
            socket.set_parameter_request_list(WANTED);
            stack.sockets.add(socket)
        });
        let lease = match stack.sockets.get_mut::<Socket>(handle).poll() {
            None => return Step::Wait(None),
            Some(Event::Deconfigured) => None,
            Some(Event::Configured(config)) => Some(Lease {
                address: config.address.address(),
                prefix: config.address.prefix_len(),
                router: config.router,
                servers: config.dns_servers.to_vec(),
                domain: None,
            }),
        };
        let domain = stack.device.heard.as_ref().and_then(|heard| heard.domain.clone());
        let lease = lease.map(|lease| Lease { domain, ..lease });
        stack.set_lease(lease.as_ref());
        self.board.set(|state| state.lease = lease);
        Step::Wait(None)
    }

    fn disconnected(&mut self, error: Error) {
        let reason = match error {
            Error::Disconnected { reason, .. } => reason,
            other => other.to_string(),
        };
        self.board.set(|state| state.ended = Some(reason));
    }
}

/// Everything that a guest hears of its lease beside what its client tells.
pub(crate) struct Heard {
    mac: MacAddr,
    /// The domain in the last acknowledgement.
    domain: Option<String>,
}

impl Heard {
    pub(crate) fn new(mac: MacAddr) -> Heard {
        Heard { mac, domain: None }
    }

    /// Looks at a received frame.
    pub(crate) fn observe(&mut self, frame: &[u8]) {
        if let Some(domain) = acknowledged(self.mac, frame) {
            self.domain = domain;
        }
    }
}

/// The domain in an acknowledgement for `mac`, if the frame is one.
#[expect(clippy::option_option, reason = "an acknowledgement without a domain is one as well")]
fn acknowledged(mac: MacAddr, frame: &[u8]) -> Option<Option<String>> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    if frame.ethertype() != EthernetProtocol::Ipv4 {
        return None;
    }
    let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
    if packet.next_header() != IpProtocol::Udp || packet.more_frags() || packet.frag_offset() != 0 {
        return None;
    }
    let datagram = UdpPacket::new_checked(packet.payload()).ok()?;
    if (datagram.src_port(), datagram.dst_port()) != (DHCP_SERVER_PORT, DHCP_CLIENT_PORT) {
        return None;
    }
    let message = DhcpPacket::new_checked(datagram.payload()).ok()?;
    let option = |kind| message.options().find(|option| option.kind == kind).map(|option| option.data);
    if message.client_hardware_address().0 != mac.0 || option(MESSAGE_TYPE) != Some(&[ACK]) {
        return None;
    }
    Some(option(DOMAIN_NAME).and_then(domain))
}

/// A domain as option 15 has it; some servers end it with a zero.
fn domain(octets: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(octets).ok()?.trim_end_matches('\0').trim_end_matches('.');
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (!text.is_empty() && text.len() <= LONGEST_NAME && text.chars().all(legal)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_text_that_can_be_a_name() {
        let cases: [(&[u8], Option<&str>); 6] = [
            (b"lab.internal", Some("lab.internal")),
            (b"lab.internal.\0", Some("lab.internal")),
            (b"", None),
            (b"lab internal", None),
            (b"\xff", None),
            (&[b'a'; 254], None),
        ];
        for (octets, expected) in cases {
            assert_eq!(domain(octets).as_deref(), expected, "{octets:?}");
        }
    }

    #[test]
    fn nobody_elses_frame_is_an_acknowledgement() {
        let mac = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
        for frame in [&[][..], &[0; 60], &[0xff; 400]] {
            assert_eq!(acknowledged(mac, frame), None);
        }
    }
}
