//! Errors to guests about their packets: ICMP (RFC 792, RFC 1812 section 4.3) and ICMPv6 (RFC 4443).

use std::net::IpAddr;

use vmlan_frame::checksum::Addresses;
use vmlan_frame::ip::is_station;
use vmlan_frame::wire::{
    IcmpType, Icmpv4Packet, Icmpv4Type, Icmpv6Packet, Icmpv6Type, IpProtocol, Ipv4Repr, Ipv6Repr,
};
use vmlan_frame::{Frame, MacAddr, Pool};

use crate::{Envelope, Packet};

/// The way that a packet came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unreachable {
    /// There is no route to the network.
    Network,
    /// The station does not answer, or there is none.
    Host,
    /// The protocol is not carried, or the station does not know it.
    Protocol,
    /// Nothing listens at the port.
    Port,
    /// The packet may not go there.
    Prohibited,
    /// The packet is larger than the path's MTU, which is this many octets.
    TooBig(u32),
    /// The hop limit came to its end on the way.
    HopLimit,
}

/// The sender of an error: the gateway, or a router or host beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reporter {
    /// The gateway's link address.
    pub mac: MacAddr,
    /// The address that tells of the error.
    pub address: IpAddr,
}

/// Octets of an ICMP error in front of the packet that it quotes.
const HEADER: usize = 8;

/// Most octets of an ICMP error, IP header included (RFC 1812 section 4.3.2.3).
const MOST_V4: usize = 576;

/// Most octets of an ICMPv6 error, IP header included: the least MTU (RFC 4443 section 2.4).
const MOST_V6: usize = 1280;

/// Internetwork control, as errors of routers have it (RFC 1812 section 4.3.2.5).
const CLASS: u8 = 0xc0;

/// The least MTU that is told for IPv6 (RFC 8200 section 5).
const LEAST_MTU_V6: u32 = 1280;

/// Makes the frame that tells a guest of an error about its packet, and quotes the packet.
///
/// `None` where no error may be sent: about an error, a group, a later fragment, or a sender that is none (RFC 1122
/// section 3.2.2, RFC 4443 section 2.4); and when no buffer is free or the addresses are of two families.
pub fn error(packet: &Packet<'_>, from: Reporter, kind: Unreachable, pool: &Pool) -> Option<Frame> {
    let is_group = match packet.destination() {
        IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
        // Too big is told of groups as well, which are not carried here.
        IpAddr::V6(address) => address.is_multicast(),
    };
    let is_later = packet.fragment.is_some_and(|fragment| !fragment.is_first());
    if is_group || is_later || is_error(packet.protocol, packet.upper) {
        return None;
    }
    let quote = Quote { headers: packet.ip, payload: &[] };
    report(packet.mac, packet.source(), from, kind, quote, pool)
}

/// A packet in an error. It may be in two pieces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quote<'a> {
    /// The packet from its IP header on.
    pub headers: &'a [u8],
    /// The octets that follow.
    pub payload: &'a [u8],
}

/// Makes an error for the guest at `mac` and `to`.
pub(crate) fn report(
    mac: MacAddr,
    to: IpAddr,
    from: Reporter,
    kind: Unreachable,
    quote: Quote<'_>,
    pool: &Pool,
) -> Option<Frame> {
    if !is_station(to) {
        return None;
    }
    let (protocol, most, header) = match to {
        IpAddr::V4(_) => (IpProtocol::ICMP, MOST_V4 - Ipv4Repr::MIN_HEADER_LEN, header_v4(kind)),
        IpAddr::V6(_) => (IpProtocol::ICMPV6, MOST_V6 - Ipv6Repr::HEADER_LEN, header_v6(kind, quote.headers)),
    };
    let envelope = Envelope { class: CLASS, ..Envelope::new(mac, from.mac, (from.address, to), protocol)? };
    let headers = quote.headers.len().min(most - HEADER);
    let payload = quote.payload.len().min(most - HEADER - headers);
    envelope.frame(pool, HEADER + headers + payload, |message, addresses| {
        let (start, quoted) = message.split_at_mut(HEADER);
        start.copy_from_slice(&header);
        let (first, second) = quoted.split_at_mut(headers);
        first.copy_from_slice(&quote.headers[..headers]);
        second.copy_from_slice(&quote.payload[..payload]);
        fill_checksum(message, addresses);
    })
}

/// Completes the checksum of a whole ICMP or ICMPv6 message.
pub(crate) fn fill_checksum(message: &mut [u8], addresses: &Addresses) {
    const LEAST: &str = "a message has a header";
    match addresses {
        Addresses::V4 { .. } => Icmpv4Packet::new_checked(message).expect(LEAST).fill_checksum(),
        Addresses::V6 { .. } => Icmpv6Packet::new_checked(message).expect(LEAST).fill_checksum(addresses),
    }
}

/// True for messages that tell of an error or change routes, and for what is too short to tell.
fn is_error(protocol: IpProtocol, message: &[u8]) -> bool {
    let Some(number) = message.first() else { return protocol == IpProtocol::ICMP };
    match protocol {
        IpProtocol::ICMP => matches!(number, 3..=5 | 11 | 12),
        // RFC 4443 section 2.1: errors have the types below 128.
        IpProtocol::ICMPV6 => *number < 128 || *number == Icmpv6Type::REDIRECT.number(),
        _ => false,
    }
}

/// RFC 792, RFC 1191, RFC 1812 section 5.2.7.1.
fn header_v4(kind: Unreachable) -> [u8; HEADER] {
    let unreachable = |code, mtu: u16| {
        let [high, low] = mtu.to_be_bytes();
        [Icmpv4Type::DESTINATION_UNREACHABLE.0, code, 0, 0, 0, 0, high, low]
    };
    match kind {
        Unreachable::Network => unreachable(0, 0),
        Unreachable::Host => unreachable(1, 0),
        Unreachable::Protocol => unreachable(2, 0),
        Unreachable::Port => unreachable(3, 0),
        Unreachable::TooBig(mtu) => unreachable(4, u16::try_from(mtu).unwrap_or(u16::MAX)),
        Unreachable::Prohibited => unreachable(13, 0),
        Unreachable::HopLimit => [Icmpv4Type::TIME_EXCEEDED.0, 0, 0, 0, 0, 0, 0, 0],
    }
}

/// RFC 4443 section 3.
fn header_v6(kind: Unreachable, packet: &[u8]) -> [u8; HEADER] {
    const TIME_EXCEEDED: u8 = 3;
    const PARAMETER_PROBLEM: u8 = 4;
    let header = |kind: u8, code: u8, value: u32| {
        let [a, b, c, d] = value.to_be_bytes();
        [kind, code, 0, 0, a, b, c, d]
    };
    let unreachable = |code| header(Icmpv6Type::DESTINATION_UNREACHABLE.0, code, 0);
    match kind {
        Unreachable::Network => unreachable(0),
        Unreachable::Prohibited => unreachable(1),
        Unreachable::Host => unreachable(3),
        Unreachable::Port => unreachable(4),
        Unreachable::TooBig(mtu) => header(Icmpv6Type::PACKET_TOO_BIG.0, 0, mtu.max(LEAST_MTU_V6)),
        Unreachable::HopLimit => header(TIME_EXCEEDED, 0, 0),
        // "Unrecognized next header type encountered", with the place of its number.
        Unreachable::Protocol => header(PARAMETER_PROBLEM, 1, last_next_header(packet) as u32),
    }
}

/// Finds the number of the upper-layer protocol in an IPv6 packet, whose headers have been followed before.
fn last_next_header(packet: &[u8]) -> usize {
    let mut place = 6;
    let mut at = Ipv6Repr::HEADER_LEN;
    while let (Some(&protocol), Some(&length)) = (packet.get(place), packet.get(at + 1)) {
        let length = usize::from(length);
        let len = match IpProtocol(protocol) {
            IpProtocol::HOP_BY_HOP
            | IpProtocol::ROUTING
            | IpProtocol::DESTINATION_OPTIONS
            | IpProtocol::MOBILITY
            | IpProtocol::HIP
            | IpProtocol::SHIM6 => 8 + 8 * length,
            IpProtocol::FRAGMENT => 8,
            IpProtocol::AUTHENTICATION => 8 + 4 * length,
            _ => break,
        };
        (place, at) = (at, at + len);
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{GATEWAY_MAC, GATEWAY4, GATEWAY6, GUEST_MAC, Guest, pool};
    use vmlan_frame::ETHERNET_HEADER;

    fn reporter(address: IpAddr) -> Reporter {
        Reporter { mac: GATEWAY_MAC, address }
    }

    fn message(guest: &Guest, to: &str, kind: Unreachable, payload: usize) -> (Vec<u8>, Vec<u8>) {
        let pool = pool();
        let frame = guest.udp(&pool, 4000, to, &vec![7; payload]);
        let packet = Packet::parse(&frame).unwrap();
        let gateway = if packet.source().is_ipv4() { GATEWAY4 } else { GATEWAY6 };
        let told = error(&packet, reporter(gateway), kind, &pool).unwrap();
        let told_packet = Packet::parse(&told).unwrap();
        assert_eq!((told.destination(), told_packet.destination()), (Some(GUEST_MAC), packet.source()));
        match told_packet.addresses {
            Addresses::V4 { .. } => {
                assert!(Icmpv4Packet::new_checked(told_packet.upper).unwrap().verify_checksum());
            }
            addresses @ Addresses::V6 { .. } => {
                let message = Icmpv6Packet::new_checked(told_packet.upper).unwrap();
                assert!(message.verify_checksum(&addresses));
            }
        }
        (told_packet.upper.to_vec(), packet.ip.to_vec())
    }

    #[test]
    fn types_and_codes_of_both_families() {
        use Unreachable as U;
        for (kind, v4, v6) in [
            (U::Network, [3, 0, 0, 0], [1, 0, 0, 0, 0, 0]),
            (U::Host, [3, 1, 0, 0], [1, 3, 0, 0, 0, 0]),
            (U::Protocol, [3, 2, 0, 0], [4, 1, 0, 0, 0, 6]),
            (U::Port, [3, 3, 0, 0], [1, 4, 0, 0, 0, 0]),
            (U::Prohibited, [3, 13, 0, 0], [1, 1, 0, 0, 0, 0]),
            (U::TooBig(1400), [3, 4, 0x05, 0x78], [2, 0, 0, 0, 0x05, 0x78]),
            (U::HopLimit, [11, 0, 0, 0], [3, 0, 0, 0, 0, 0]),
        ] {
            let (told, quoted) = message(&Guest::V4, "203.0.113.7:9", kind, 20);
            assert_eq!([told[0], told[1], told[6], told[7]], v4, "{kind:?}");
            assert_eq!(told[HEADER..], quoted, "{kind:?}");
            let (told, quoted) = message(&Guest::V6, "[2001:db8::7]:9", kind, 20);
            assert_eq!([told[0], told[1], told[4], told[5], told[6], told[7]], v6, "{kind:?}");
            assert_eq!(told[HEADER..], quoted, "{kind:?}");
        }
    }

    #[test]
    fn quotes_are_as_long_as_the_family_allows() {
        let (told, quoted) = message(&Guest::V4, "203.0.113.7:9", Unreachable::Port, 1400);
        assert_eq!((told.len(), &told[HEADER..]), (556, &quoted[..548]));
        let (told, quoted) = message(&Guest::V6, "[2001:db8::7]:9", Unreachable::TooBig(600), 1400);
        assert_eq!((told.len(), &told[HEADER..]), (1240, &quoted[..1232]));
        assert_eq!(told[4..8], [0, 0, 5, 0], "no less than IPv6's least MTU");
    }

    #[test]
    fn no_error_about_errors_and_groups() {
        let pool = pool();
        let about = |frame: &Frame| {
            error(&Packet::parse(frame).unwrap(), reporter(GATEWAY4), Unreachable::Port, &pool).is_some()
        };
        assert!(!about(&Guest::V4.udp(&pool, 1, "224.0.0.1:9", &[])));
        assert!(!about(&Guest::V4.udp(&pool, 1, "255.255.255.255:9", &[])));
        for (kind, told) in [(3, false), (11, false), (8, true), (0, true)] {
            let message = [kind, 0, 0, 0, 0, 0, 0, 0];
            let frame = Guest::V4.packet(&pool, IpProtocol::ICMP, "203.0.113.7", &message);
            assert_eq!(about(&frame), told, "{kind}");
        }
        let mut octets = Guest::V4.udp(&pool, 1, "203.0.113.7:9", &[0; 16]).octets().to_vec();
        let ip = &mut octets[ETHERNET_HEADER..];
        ip[6..8].copy_from_slice(&[0, 1]);
        vmlan_frame::wire::Ipv4Packet::new_checked(ip).unwrap().fill_checksum();
        assert!(!about(&pool.copy(&octets).unwrap()), "a later fragment");
    }

    #[test]
    fn an_unknown_protocol_is_pointed_at_behind_extension_headers() {
        let mut packet = vec![0; 40 + 8 + 16];
        (packet[6], packet[40], packet[41], packet[48], packet[49]) = (0, 60, 0, 132, 1);
        assert_eq!(last_next_header(&packet), 48);
        assert_eq!(last_next_header(&packet[..6]), 6);
    }
}
