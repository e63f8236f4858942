//! The guard of a network's services: what only the port that has them may say.
//!
//! Theory of operation. Where a port of the network serves the others with addresses and a way out
//! ([`ServiceGuard`](crate::ServiceGuard)), guests believe whoever answers first. So the frames of all other guests are
//! looked at, and those that only a server, a router or the owner of its addresses sends go nowhere:
//!
//! - what DHCP servers send, in both families: UDP from a server's port, or to a client's, since clients take answers
//!   from any port (RFC 2131 section 4.1, RFC 8415 section 7.2);
//! - router advertisements and redirects (RFC 6105);
//! - ARP and neighbour discovery whose sender, or whose target in an advertisement, is an address of the services.
//!
//! A packet that may hide one of these is treated as one (RFC 7113): IPv6 whose headers cannot be followed to their
//! end, neighbour discovery in fragments, which receivers should ignore (RFC 6980), and a first fragment that ends
//! before the ports do. Later fragments come to nothing without the first.
//!
//! It holds in the VLANs that the port with the services is in. Most frames are settled by [`concern`], which looks at
//! fixed places only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use vmlan_frame::wire::{EtherType, Icmpv6Type, IpProtocol, Ipv4Packet, Ipv6Packet, Ipv6Repr, Upper};
use vmlan_frame::{ETHERNET_HEADER, Frame, VlanId};

use super::tags::{Behind, behind_tags, is_elsewhere};
use crate::port::Port;
use crate::vlan::TPIDS;

/// The services of a network as the data path knows them.
pub(crate) struct Services {
    /// The port that has them.
    pub(crate) port: Arc<Port>,
    /// The addresses that no other port may claim.
    pub(crate) addresses: Box<[IpAddr]>,
}

/// A statement that a guest's frame must not make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reserved {
    /// That its sender has this address.
    Address(IpAddr),
    /// A message of a server or router, or what may hide one.
    Message,
}

/// UDP ports of DHCP (RFC 2131 section 4.1, RFC 8415 section 7.2): of the server, and of clients.
const DHCP: [u16; 2] = [67, 68];
const DHCPV6: [u16; 2] = [547, 546];

/// Octets of the ports of UDP.
const PORTS: usize = 4;

/// Where the frame has what tells most packets apart, without tags among its octets.
const IPV4_LENGTH: usize = ETHERNET_HEADER;
const IPV4_FRAGMENT: usize = ETHERNET_HEADER + 6;
const IPV4_PROTOCOL: usize = ETHERNET_HEADER + 9;
const IPV4_END: usize = ETHERNET_HEADER + 20;
const IPV6_NEXT_HEADER: usize = ETHERNET_HEADER + 6;
const IPV6_END: usize = ETHERNET_HEADER + Ipv6Repr::HEADER_LEN;

/// True if the guard has to look at a frame with this type. With `dhcp`, what DHCP servers send is reserved too.
#[inline]
pub(crate) fn concern(frame: &Frame, ethertype: u16, dhcp: bool) -> bool {
    let octets = frame.octets();
    let at = |place: usize| octets.get(place).copied().unwrap_or_default();
    match EtherType(ethertype) {
        EtherType::ARP => true,
        EtherType::IPV4 => {
            let is_datagram = dhcp && IpProtocol(at(IPV4_PROTOCOL)) == IpProtocol::UDP;
            let is_plain = || at(IPV4_LENGTH) & 0xf == 5 && at(IPV4_FRAGMENT) & 0x3f == 0;
            is_datagram
                && !(is_plain() && at(IPV4_FRAGMENT + 1) == 0 && !may_be_of_server(octets, IPV4_END, DHCP))
        }
        EtherType::IPV6 => match IpProtocol(at(IPV6_NEXT_HEADER)) {
            IpProtocol::TCP => false,
            IpProtocol::UDP => dhcp && may_be_of_server(octets, IPV6_END, DHCPV6),
            _ => true,
        },
        ethertype => ethertype.is_length() || TPIDS.contains(&ethertype.0),
    }
}

/// True if the ports of UDP that are at this place are those of a server's message to a client, or are not there.
#[inline]
fn may_be_of_server(octets: &[u8], at: usize, [server, client]: [u16; 2]) -> bool {
    match octets.get(at..at + PORTS) {
        Some(&[a, b, c, d]) => u16::from_be_bytes([a, b]) == server || u16::from_be_bytes([c, d]) == client,
        _ => true,
    }
}

impl Services {
    /// The statement that a guest's frame must not make; `None` when it may go on.
    pub(crate) fn reserved(&self, frame: &Frame, vlan: VlanId, dhcp: bool) -> Option<Reserved> {
        if !self.port.vlan.includes(vlan) {
            return None;
        }
        match behind_tags(frame.octets()) {
            Behind::Nothing => None,
            Behind::TooDeep => (!is_elsewhere(frame)).then_some(Reserved::Message),
            Behind::Packet { tags, .. } if tags > 0 && is_elsewhere(frame) => None,
            Behind::Packet { ethertype, payload, .. } => self.packet(ethertype, payload, dhcp),
        }
    }

    fn packet(&self, ethertype: EtherType, payload: &[u8], dhcp: bool) -> Option<Reserved> {
        match ethertype {
            EtherType::ARP => self.arp(payload),
            EtherType::IPV4 => (dhcp && ipv4(payload)).then_some(Reserved::Message),
            EtherType::IPV6 => self.ipv6(payload, dhcp),
            // A bridge to Wi-Fi makes the usual form of it (RFC 1042, IEEE 802.1H).
            ethertype if ethertype.is_length() => match payload {
                [0xaa, 0xaa, 0x03, 0, 0, 0 | 0xf8, a, b, rest @ ..] => {
                    let ethertype = EtherType(u16::from_be_bytes([*a, *b]));
                    let is_tag = TPIDS.contains(&ethertype.0);
                    if is_tag {
                        Some(Reserved::Message)
                    } else if ethertype.is_length() {
                        None
                    } else {
                        self.packet(ethertype, rest, dhcp)
                    }
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// Whatever the hardware type: Linux takes 6 for Ethernet too.
    fn arp(&self, payload: &[u8]) -> Option<Reserved> {
        let &[_, _, 8, 0, 6, 4, ..] = payload else { return None };
        let sender: [u8; 4] = payload.get(14..18)?.try_into().ok()?;
        self.claim(Ipv4Addr::from(sender).into())
    }

    fn ipv6(&self, payload: &[u8], dhcp: bool) -> Option<Reserved> {
        // Receivers discard one whose length is wrong.
        let packet = Ipv6Packet::new_checked(payload).ok()?;
        let headers = packet.extension_headers();
        let (protocol, offset) = match headers.upper {
            Upper::Header { protocol, offset } => (protocol, offset - Ipv6Repr::HEADER_LEN),
            Upper::LaterFragment { .. } | Upper::Absent => return None,
            Upper::Undecidable(_) => return Some(Reserved::Message),
        };
        let body = packet.payload().get(offset..).unwrap_or_default();
        match protocol {
            IpProtocol::ICMPV6 => self.icmpv6(packet.source(), body, headers.fragment.is_some()),
            IpProtocol::UDP if dhcp => {
                let is_whole = headers.fragment.is_none_or(|fragment| !fragment.more);
                is_server(body, is_whole, DHCPV6).then_some(Reserved::Message)
            }
            _ => None,
        }
    }

    fn icmpv6(&self, sender: Ipv6Addr, message: &[u8], is_fragment: bool) -> Option<Reserved> {
        let Some(kind) = message.first() else { return is_fragment.then_some(Reserved::Message) };
        match Icmpv6Type(*kind) {
            Icmpv6Type::ROUTER_ADVERTISEMENT | Icmpv6Type::REDIRECT => Some(Reserved::Message),
            Icmpv6Type::ROUTER_SOLICITATION
            | Icmpv6Type::NEIGHBOR_SOLICITATION
            | Icmpv6Type::NEIGHBOR_ADVERTISEMENT
                if is_fragment =>
            {
                Some(Reserved::Message)
            }
            Icmpv6Type::ROUTER_SOLICITATION | Icmpv6Type::NEIGHBOR_SOLICITATION => self.claim(sender.into()),
            Icmpv6Type::NEIGHBOR_ADVERTISEMENT => {
                let target = message.get(8..24).and_then(|target| <[u8; 16]>::try_from(target).ok());
                let target = target.map(|target| Ipv6Addr::from(target).into());
                self.claim(sender.into()).or_else(|| self.claim(target?))
            }
            _ => None,
        }
    }

    fn claim(&self, address: IpAddr) -> Option<Reserved> {
        self.addresses.contains(&address).then_some(Reserved::Address(address))
    }
}

fn ipv4(payload: &[u8]) -> bool {
    // Receivers discard one whose length is wrong.
    let Ok(packet) = Ipv4Packet::new_checked(payload) else { return false };
    let is_first = packet.fragment_offset() == 0;
    packet.protocol() == IpProtocol::UDP
        && is_first
        && is_server(packet.payload(), !packet.more_fragments(), DHCP)
}

/// True if a datagram is a DHCP server's to a client, or may be when its other fragments are there.
fn is_server(datagram: &[u8], is_whole: bool, ports: [u16; 2]) -> bool {
    match datagram.len() < PORTS {
        true => !is_whole,
        false => may_be_of_server(datagram, 0, ports),
    }
}

#[cfg(test)]
mod tests;
