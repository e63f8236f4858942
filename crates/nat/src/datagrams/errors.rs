//! Errors that sockets were told of, back to the guests.

use std::net::{IpAddr, SocketAddr};

use vmlan_frame::checksum::{Addresses, update};
use vmlan_frame::ip::is_station;
use vmlan_frame::wire::{EchoRepr, IpProtocol, Ipv4Repr, Ipv6Repr, UdpRepr};

use super::flow::FlowKind;
use super::inbound::UDP_CHECKSUM;
use super::sockets::{DatagramSockets, Family, Origin, QueuedError};
use super::{Datagrams, ERRORS_A_TURN, Turn};
use crate::envelope::addresses;
use crate::unreachable::{Quote, Reporter, Unreachable, fill_checksum, report};

/// The content of an error queue.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Drained {
    /// True if there were errors of earlier datagrams.
    pub earlier: bool,
    /// The path's MTU that a failed call told; 0 is none.
    pub mtu: u32,
    /// True if there may be more.
    pub more: bool,
}

/// A datagram that an error is about, as the guest sent it.
struct About {
    flow: u32,
    inside: SocketAddr,
    protocol: IpProtocol,
    identification: u16,
    /// Octets behind the IP header.
    len: usize,
}

impl Datagrams {
    /// Empties a socket's error queue, and tells guests of what is in there.
    pub(super) fn drain_errors(
        &mut self,
        sockets: &mut impl DatagramSockets,
        slot: u32,
        turn: &mut Turn<'_>,
    ) -> Drained {
        // Empty where the caller sends from it; the quotes are headers only then.
        let mut buffer = std::mem::take(&mut self.scratch);
        let mut drained = Drained { more: true, ..Drained::default() };
        for _ in 0..ERRORS_A_TURN {
            let Some(queued) = sockets.error(slot, &mut buffer) else {
                drained.more = false;
                break;
            };
            match queued.origin {
                Origin::Local { mtu } => drained.mtu = mtu,
                _ => drained.earlier = true,
            }
            let len = queued.len.min(buffer.len());
            self.pass_on(slot, queued, &mut buffer[..len], turn);
        }
        self.scratch = buffer;
        drained
    }

    /// Tells a guest of one error. It is not told of what it did not send.
    fn pass_on(
        &mut self,
        slot: u32,
        queued: QueuedError,
        payload: &mut [u8],
        turn: &mut Turn<'_>,
    ) -> Option<()> {
        let kind = kind(queued.origin)?;
        let about = self.about(slot, queued.destination, payload.len())?;
        let flow = self.table.get(about.flow)?;
        let (mac, guest, ingress) = (flow.mac, flow.guest, flow.ingress);
        let family = Family::of(guest.ip());
        let kind = match kind {
            // The packet grows by 20 octets on its way into IPv6 (RFC 7915 section 4.2).
            Unreachable::TooBig(mtu) if family == Family::V6 && queued.destination.is_ipv4() => {
                Unreachable::TooBig(mtu.saturating_add(20))
            }
            kind => kind,
        };
        if !self.table.guest(ingress).errors.take(turn.now) {
            return None;
        }
        let mut headers = [0; Ipv6Repr::HEADER_LEN + UdpRepr::HEADER_LEN];
        let len = quoted_headers(&mut headers, guest, &about, kind)?;
        let addresses = addresses(guest.ip(), about.inside.ip())?;
        if about.protocol != IpProtocol::UDP {
            restore_echo(payload, guest, &addresses, about.len);
        } else if about.len == UdpRepr::HEADER_LEN + payload.len() {
            let header = &mut headers[len - UdpRepr::HEADER_LEN..len];
            let sum = addresses.pseudo_header(IpProtocol::UDP, about.len as u32);
            let sum = sum.add_octets(header).add_octets(payload).udp_checksum();
            header[UDP_CHECKSUM..].copy_from_slice(&sum.to_be_bytes());
        }
        let address = self.offender(&queued, about.inside.ip(), family)?;
        let from = Reporter { mac: self.settings.gateway_mac, address };
        let quote = Quote { headers: &headers[..len], payload };
        let frame = report(mac, guest.ip(), from, kind, quote, turn.pool)?;
        self.counts.told += 1;
        turn.out.push_back(frame);
        Some(())
    }

    fn about(&self, slot: u32, destination: SocketAddr, payload: usize) -> Option<About> {
        let flow = self.table.get(slot)?;
        match flow.kind {
            FlowKind::Udp | FlowKind::Echo => {
                let peer = self.peers.find(flow.serial, destination)?;
                Some(About {
                    flow: slot,
                    inside: peer.seen_as(destination),
                    protocol: peer.protocol,
                    identification: peer.identification,
                    len: usize::from(peer.len),
                })
            }
            FlowKind::Forward => {
                let caller = self.callers.of(slot, destination)?;
                Some(About {
                    flow: caller,
                    inside: self.table.get(caller)?.inside,
                    protocol: IpProtocol::UDP,
                    identification: 0,
                    len: UdpRepr::HEADER_LEN + payload,
                })
            }
            // It has no socket of its own.
            FlowKind::Caller => None,
        }
    }

    /// The address that the error comes from, towards the guest. The host itself is the gateway.
    fn offender(&self, queued: &QueuedError, inside: IpAddr, family: Family) -> Option<IpAddr> {
        let gateway = self.gateway(family);
        match queued.offender {
            Some(offender) if offender == queued.destination.ip() => Some(inside),
            Some(offender) if is_station(offender) && !self.is_in_subnet(offender) => {
                let seen = self.inside(offender, family);
                if Family::of(seen) == family { Some(seen) } else { gateway }
            }
            _ => gateway,
        }
    }
}

fn kind(origin: Origin) -> Option<Unreachable> {
    match origin {
        // The call that failed tells it, with the packet in hand.
        Origin::Local { .. } => None,
        Origin::Icmpv4 { kind: 3, code, mtu } => Some(match code {
            0 | 5 | 6 | 11 => Unreachable::Network,
            2 => Unreachable::Protocol,
            3 => Unreachable::Port,
            4 => Unreachable::TooBig(mtu),
            9 | 10 | 13 => Unreachable::Prohibited,
            _ => Unreachable::Host,
        }),
        Origin::Icmpv4 { kind: 11, code: 0, .. } => Some(Unreachable::HopLimit),
        Origin::Icmpv6 { kind: 1, code, .. } => Some(match code {
            0 => Unreachable::Network,
            1 | 5 | 6 => Unreachable::Prohibited,
            4 => Unreachable::Port,
            _ => Unreachable::Host,
        }),
        Origin::Icmpv6 { kind: 2, mtu, .. } => Some(Unreachable::TooBig(mtu)),
        Origin::Icmpv6 { kind: 3, code: 0, .. } => Some(Unreachable::HopLimit),
        Origin::Icmpv6 { kind: 4, code: 1, .. } => Some(Unreachable::Protocol),
        Origin::Icmpv4 { .. } | Origin::Icmpv6 { .. } => None,
    }
}

/// Writes the headers of the guest's packet; answers how many octets they are.
fn quoted_headers(headers: &mut [u8], guest: SocketAddr, about: &About, kind: Unreachable) -> Option<usize> {
    let ip = match (guest.ip(), about.inside.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            Ipv4Repr {
                traffic_class: 0,
                identification: about.identification,
                dont_fragment: matches!(kind, Unreachable::TooBig(_)),
                more_fragments: false,
                fragment_offset: 0,
                ttl: 1,
                protocol: about.protocol,
                source,
                destination,
                options: &[],
                payload_len: about.len.min(usize::from(u16::MAX) - Ipv4Repr::MIN_HEADER_LEN),
            }
            .emit(headers);
            Ipv4Repr::MIN_HEADER_LEN
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            Ipv6Repr {
                traffic_class: 0,
                flow_label: 0,
                payload_len: u16::try_from(about.len).unwrap_or(u16::MAX),
                next_header: about.protocol,
                hop_limit: 1,
                source,
                destination,
            }
            .emit(headers);
            Ipv6Repr::HEADER_LEN
        }
        _ => return None,
    };
    if about.protocol != IpProtocol::UDP {
        return Some(ip);
    }
    let udp = headers.get_mut(ip..ip + UdpRepr::HEADER_LEN)?;
    let len = u16::try_from(about.len).unwrap_or(u16::MAX);
    for (place, value) in [guest.port(), about.inside.port(), len, 0].into_iter().enumerate() {
        udp[2 * place..2 * place + 2].copy_from_slice(&value.to_be_bytes());
    }
    Some(ip + UdpRepr::HEADER_LEN)
}

/// Puts the guest's identifier and type back into an echo request. The checksum is the guest's only where the request
/// is whole, of `len` octets, or has no addresses in it.
fn restore_echo(message: &mut [u8], guest: SocketAddr, addresses: &Addresses, len: usize) {
    let is_whole = message.len() == len;
    let Some(header) = message.first_chunk_mut::<{ EchoRepr::HEADER_LEN }>() else { return };
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let kind = u16::from(super::echo::request_type(Family::of(guest.ip()))) << 8;
    let sum = update(update(word(2), word(0), kind), word(4), guest.port());
    header[..2].copy_from_slice(&kind.to_be_bytes());
    header[2..4].copy_from_slice(&sum.to_be_bytes());
    header[4..6].copy_from_slice(&guest.port().to_be_bytes());
    if is_whole {
        fill_checksum(message, addresses);
    }
}
