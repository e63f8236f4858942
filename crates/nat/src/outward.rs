//! The packets that another carrier has: with the host's kernel as the way out, all that a socket is not needed for.
//!
//! Theory of operation. The kernel routes and translates a packet by itself, so it gets each one that is open to its
//! guest and whose destination is what it says. The rest stays with the engine: what is denied, which it answers;
//! services of the host; destinations that stand for an IPv4 address; and the flows that began with a caller at one of
//! its sockets. Every packet is decided on, since what is decided by may change while a connection lasts.

use std::net::SocketAddr;

use vmlan_frame::Instant;
use vmlan_frame::wire::{Icmpv4Type, Icmpv6Type, IpProtocol};

use crate::engine::{NAMES, Nat, Taken};
use crate::neighbour;
use crate::packet::Packet;
use crate::reach::Verdict;

impl Nat {
    /// Has another carrier, as the host's kernel, take what leaves the network ([`Taken::Outward`]). Sockets carry only
    /// what that cannot: callers of forwards, services of the host, destinations that stand for others.
    #[must_use]
    pub fn with_other_carrier(mut self) -> Nat {
        self.other_carrier = true;
        self
    }

    /// The fate of a message of a neighbour: the other carrier has to hear answers, as it asked.
    pub(crate) fn told(&self, heard: &neighbour::Heard) -> Taken {
        if self.other_carrier && heard.answer.is_none() { Taken::Both } else { Taken::Done }
    }

    /// True if the other carrier has the packet.
    pub(crate) fn is_outward(&self, packet: &Packet<'_>, now: Instant) -> bool {
        if !self.other_carrier {
            return false;
        }
        let (from, to) = ends(packet);
        match self.reach.decide(packet.ingress, to, packet.protocol, now) {
            // Fragments are alike in one thing, that all or none of a packet's are carried: none has a port here. A
            // list that asks for ports needs the whole packet.
            Verdict::Connect(outside) => {
                outside == to
                    && !(packet.fragment.is_some() && self.reach.asks_for_ports(packet.ingress))
                    && !self.has_flow(packet, from, to)
            }
            Verdict::Gateway => {
                self.guests.is_gateway(to.ip())
                    && !is_answered_here(packet, to)
                    && !self.has_flow(packet, from, to)
            }
            Verdict::Host(_) | Verdict::Closed | Verdict::Group | Verdict::Deny => false,
        }
    }

    /// True if the packet belongs to a flow that began at a socket of the engine's.
    fn has_flow(&self, packet: &Packet<'_>, from: SocketAddr, to: SocketAddr) -> bool {
        match packet.protocol {
            IpProtocol::TCP => self.tcp.has_flow(from, to),
            IpProtocol::UDP => self.datagrams.is_for_caller(from, to),
            _ => false,
        }
    }
}

/// True for a packet to the gateway that the engine answers: echo, and connections to the network's DNS.
fn is_answered_here(packet: &Packet<'_>, to: SocketAddr) -> bool {
    match packet.protocol {
        IpProtocol::TCP => to.port() == NAMES,
        IpProtocol::ICMP => packet.upper.first() == Some(&Icmpv4Type::ECHO_REQUEST.0),
        IpProtocol::ICMPV6 => packet.upper.first() == Some(&Icmpv6Type::ECHO_REQUEST.0),
        _ => false,
    }
}

/// Both ends; without ports for fragments and for protocols that have none.
fn ends(packet: &Packet<'_>) -> (SocketAddr, SocketAddr) {
    let ports = match packet.protocol {
        IpProtocol::TCP | IpProtocol::UDP if packet.fragment.is_none() => packet.upper.first_chunk(),
        _ => None,
    };
    let [a, b, c, d] = *ports.unwrap_or(&[0; 4]);
    let from = SocketAddr::new(packet.source(), u16::from_be_bytes([a, b]));
    (from, SocketAddr::new(packet.destination(), u16::from_be_bytes([c, d])))
}

#[cfg(test)]
#[path = "outward_tests.rs"]
mod tests;
