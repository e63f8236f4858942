//! Packets that are longer than the way ahead takes: cut, or answered with how long they may be.
//!
//! A tunnel's MTU may be smaller than its network's, and a client may send more than its network takes. Without a word
//! senders would never find out (RFC 2923 section 2.1). So an IPv4 packet that may be cut is cut (RFC 791 section 3.2),
//! and the sender of another gets the ICMP error of a router (RFC 792, RFC 1191 section 4, RFC 4443 section 3.2). What
//! must not be answered is not: ICMP errors, packets to or from groups, and fragments but the first (RFC 1812 section
//! 4.3.2.7, RFC 4443 section 2.4). Answers are few ([`Pace`]).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vmlan_frame::Instant;
use vmlan_frame::checksum::{Addresses, checksum};
use vmlan_frame::ip::is_station;
use vmlan_frame::wire::{
    Icmpv4Packet, Icmpv6Packet, IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, Upper,
};

use super::record::Family;

/// Octets of the longest answer: what every IPv6 link takes, and of IPv4 the 576 that every host takes.
pub(super) const LONGEST: usize = 1280;
const LONGEST_V4: usize = 576;

/// Octets of an IPv4 header without options, and of an ICMP header.
const IPV4: usize = 20;
const ICMP: usize = 8;

/// Octets of the longest IPv4 header.
const LONGEST_HEADER: usize = 60;

/// Answers a second, and how many may come at once.
const RATE: u64 = 100;
const BURST: u64 = 20;

/// How many answers may be given.
#[derive(Debug)]
pub(super) struct Pace {
    left: u64,
    since: Instant,
}

impl Pace {
    pub(super) fn new() -> Pace {
        Pace { left: BURST, since: Instant::ZERO }
    }

    /// Takes one of the answers that may be given, if any is left.
    pub(super) fn may_answer(&mut self, now: Instant) -> bool {
        let earned = now.since(self.since).as_nanos() as u64 / (1_000_000_000 / RATE);
        if earned > 0 {
            (self.left, self.since) = (BURST.min(self.left.saturating_add(earned)), now);
        }
        let may = self.left > 0;
        self.left -= u64::from(may);
        may
    }
}

/// Tells whether an IPv4 packet may be cut into fragments: it says so, and is in order.
pub(super) fn may_be_cut(packet: &[u8]) -> bool {
    const DO_NOT_FRAGMENT: u8 = 0x40;
    Ipv4Packet::new_checked(packet).is_ok() && packet[6] & DO_NOT_FRAGMENT == 0
}

/// Shows `make` the fragments of an IPv4 packet that are no longer than `mtu`, each as its header and its part of the
/// payload, as long as it wants another.
pub(super) fn cut(packet: &[u8], mtu: usize, mut make: impl FnMut(&[u8], &[u8]) -> bool) {
    const MORE: u16 = 0x2000;
    let Ok(whole) = Ipv4Packet::new_checked(packet) else { return };
    let (header_len, end) = (usize::from(packet[0] & 0xf) * 4, usize::from(whole.total_length()));
    let size = mtu.saturating_sub(header_len) & !7;
    let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    // What this one is of a packet that was cut before.
    let (first, more) = (word(6) & 0x1fff, word(6) & MORE);
    let payload = packet.get(header_len..end).unwrap_or_default();
    if size == 0 {
        return;
    }
    let count = payload.len().div_ceil(size);
    let mut header = [0; LONGEST_HEADER];
    for (index, part) in payload.chunks(size).enumerate() {
        let header = &mut header[..header_len];
        header.copy_from_slice(&packet[..header_len]);
        if index > 0 {
            forget_options(&mut header[IPV4..]);
        }
        let offset = first + (index * size / 8) as u16;
        let flags = if index + 1 < count { MORE } else { more };
        header[2..4].copy_from_slice(&((header_len + part.len()) as u16).to_be_bytes());
        header[6..8].copy_from_slice(&(offset & 0x1fff | flags).to_be_bytes());
        fill_checksum(header, 10);
        if !make(header, part) {
            return;
        }
    }
}

/// Makes those options that stand in the first fragment only into ones that say nothing.
fn forget_options(mut options: &mut [u8]) {
    const END: u8 = 0;
    const NOTHING: u8 = 1;
    const COPIED: u8 = 0x80;
    while let [kind, rest @ ..] = options {
        let len = match (*kind, rest.first()) {
            (END, _) => return,
            (NOTHING, _) => 1,
            (_, Some(len)) => usize::from(*len),
            _ => return,
        };
        if len == 0 || len > options.len() {
            return;
        }
        let (option, others) = options.split_at_mut(len);
        if option[0] & COPIED == 0 {
            option.fill(NOTHING);
        }
        options = others;
    }
}

/// Writes the answer to the sender of `packet`, from `from`, that packets longer than `mtu` do not pass. Answers its
/// length, or `None` where there must be no answer.
pub(super) fn answer(out: &mut [u8; LONGEST], from: IpAddr, packet: &[u8], mtu: usize) -> Option<usize> {
    match (Family::of_packet(packet)?, from) {
        (Family::V4, IpAddr::V4(from)) => answer_v4(out, from, packet, mtu),
        (Family::V6, IpAddr::V6(from)) => answer_v6(out, from, packet, mtu),
        _ => None,
    }
}

fn answer_v4(out: &mut [u8; LONGEST], from: Ipv4Addr, packet: &[u8], mtu: usize) -> Option<usize> {
    let whole = Ipv4Packet::new_checked(packet).ok()?;
    let is_one = |address: Ipv4Addr| is_station(address.into());
    if !is_one(whole.source()) || !is_one(whole.destination()) || !may_answer(whole.upper(), packet) {
        return None;
    }
    let quoted = &packet[..packet.len().min(LONGEST_V4 - IPV4 - ICMP)];
    let len = IPV4 + ICMP + quoted.len();
    let (header, message) = out[..len].split_at_mut(IPV4);
    let repr = Ipv4Repr {
        traffic_class: 0,
        identification: 0,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        ttl: 64,
        protocol: IpProtocol::ICMP,
        source: from,
        destination: whole.source(),
        options: &[],
        payload_len: message.len(),
    };
    repr.emit(header);
    message[..ICMP].fill(0);
    // Destination unreachable: fragmentation needed and DF set, with the next hop's MTU.
    (message[0], message[1]) = (3, 4);
    message[6..8].copy_from_slice(&u16::try_from(mtu).unwrap_or(u16::MAX).to_be_bytes());
    message[ICMP..].copy_from_slice(quoted);
    Icmpv4Packet::new_checked(message).ok()?.fill_checksum();
    Some(len)
}

fn answer_v6(out: &mut [u8; LONGEST], from: Ipv6Addr, packet: &[u8], mtu: usize) -> Option<usize> {
    let whole = Ipv6Packet::new_checked(packet).ok()?;
    let source = whole.source();
    // A packet to a group may be answered here (RFC 4443 section 2.4 (e.3)), and a flood of them would be.
    let upper = whole.extension_headers().upper;
    if !is_station(source.into()) || whole.destination().is_multicast() || !may_answer(upper, packet) {
        return None;
    }
    let quoted = &packet[..packet.len().min(LONGEST - Ipv6Repr::HEADER_LEN - ICMP)];
    let len = Ipv6Repr::HEADER_LEN + ICMP + quoted.len();
    let (header, message) = out[..len].split_at_mut(Ipv6Repr::HEADER_LEN);
    let repr = Ipv6Repr {
        traffic_class: 0,
        flow_label: 0,
        payload_len: (ICMP + quoted.len()) as u16,
        next_header: IpProtocol::ICMPV6,
        hop_limit: 64,
        source: from,
        destination: source,
    };
    repr.emit(header);
    message[..ICMP].fill(0);
    // Packet too big, with the next hop's MTU.
    message[0] = 2;
    message[4..8].copy_from_slice(&u32::try_from(mtu).unwrap_or(u32::MAX).to_be_bytes());
    message[ICMP..].copy_from_slice(quoted);
    let ends = Addresses::V6 { source: from, destination: source };
    Icmpv6Packet::new_checked(message).ok()?.fill_checksum(&ends);
    Some(len)
}

/// True if the packet may be answered: it is no later fragment, and carries no ICMP error.
fn may_answer(upper: Upper, packet: &[u8]) -> bool {
    let Upper::Header { protocol, offset } = upper else { return false };
    let kind = packet.get(offset).copied();
    match protocol {
        // Echo, timestamp and their replies; others are errors or unknown.
        IpProtocol::ICMP => matches!(kind, Some(0 | 8 | 13 | 14)),
        IpProtocol::ICMPV6 => kind.is_some_and(|kind| kind >= 128),
        _ => true,
    }
}

/// Computes the Internet checksum of `octets`, and writes it at `at`.
fn fill_checksum(octets: &mut [u8], at: usize) {
    octets[at..at + 2].fill(0);
    let sum = checksum(octets);
    octets[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HERE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
    const THERE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    fn v4(flags: u16, protocol: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
        let header_len = IPV4 + options.len();
        let mut packet = vec![0; IPV4];
        packet.extend(options);
        packet.extend(payload);
        packet[0] = 0x40 | (header_len / 4) as u8;
        let len = packet.len() as u16;
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        packet[4..6].copy_from_slice(&[0xab, 0xcd]);
        packet[6..8].copy_from_slice(&flags.to_be_bytes());
        (packet[8], packet[9]) = (64, protocol);
        packet[12..16].copy_from_slice(&THERE.octets());
        packet[16..20].copy_from_slice(&HERE.octets());
        fill_checksum(&mut packet[..header_len], 10);
        packet
    }

    fn v6(next: IpProtocol, payload: &[u8]) -> Vec<u8> {
        let repr = Ipv6Repr {
            traffic_class: 0,
            flow_label: 0,
            payload_len: payload.len() as u16,
            next_header: next,
            hop_limit: 64,
            source: "fd00::1".parse().unwrap(),
            destination: "fd00::9".parse().unwrap(),
        };
        let mut packet = vec![0; 40];
        repr.emit(&mut packet);
        packet.extend(payload);
        packet
    }

    fn fragments(packet: &[u8], mtu: usize) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        cut(packet, mtu, |header, part| {
            all.push([header, part].concat());
            true
        });
        all
    }

    #[test]
    fn fragments_are_as_long_as_the_mtu_and_make_the_packet_again() {
        let payload: Vec<u8> = (0..1400u16).map(|n| n as u8).collect();
        let packet = v4(0, 17, &[], &payload);
        assert!(may_be_cut(&packet) && !may_be_cut(&v4(0x4000, 17, &[], &payload)));
        let all = fragments(&packet, 576);
        assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [572, 572, 316]);
        let mut joined: Vec<u8> = Vec::new();
        for (index, fragment) in all.iter().enumerate() {
            let checked = Ipv4Packet::new_checked(&fragment[..]).unwrap();
            assert!(checked.verify_checksum());
            let place = checked.fragment().unwrap();
            assert_eq!(usize::from(place.offset), joined.len());
            assert_eq!(fragment[6] & 0x20 != 0, index < 2, "more follow");
            assert_eq!(fragment[4..6], [0xab, 0xcd]);
            joined.extend(&fragment[20..]);
        }
        assert_eq!(joined, payload);
        // A fragment is cut further, and its last part is not the packet's last.
        let again = fragments(&all[0], 300);
        assert_eq!(again.iter().map(Vec::len).collect::<Vec<_>>(), [300, 292]);
        assert!(again.iter().all(|fragment| fragment[6] & 0x20 != 0));
    }

    #[test]
    fn options_that_are_not_copied_are_in_the_first_fragment_alone() {
        // A record route, a copied option (router alert), nothing, and the end.
        let options = [7, 7, 4, 0, 0, 0, 0, 0x94, 4, 0, 0, 1, 0, 0, 0, 0];
        let all = fragments(&v4(0, 17, &options, &[5; 400]), 200);
        assert_eq!(all[0][20..36], options);
        for later in &all[1..] {
            assert_eq!(later[20..36], [1, 1, 1, 1, 1, 1, 1, 0x94, 4, 0, 0, 1, 0, 0, 0, 0]);
            assert!(Ipv4Packet::new_checked(&later[..]).unwrap().verify_checksum());
        }
        // Those that make no sense stay as they are.
        for wrong in [[7, 0, 0, 0], [7, 40, 0, 0], [1, 1, 1, 7]] {
            assert_eq!(fragments(&v4(0, 17, &wrong, &[5; 400]), 200)[1][20..24], wrong);
        }
    }

    #[test]
    fn the_sender_learns_how_long_packets_may_be() {
        let mut out = [0xee; LONGEST];
        let packet = v4(0x4000, 17, &[], &[5; 1400]);
        let len = answer(&mut out, HERE.into(), &packet, 1280).unwrap();
        assert_eq!(len, 576);
        let error = Ipv4Packet::new_checked(&out[..len]).unwrap();
        assert!(error.verify_checksum());
        assert_eq!((error.source(), error.destination()), (HERE, THERE));
        assert_eq!(out[20..22], [3, 4]);
        assert_eq!((&out[26..28], checksum(&out[20..len])), (&1280u16.to_be_bytes()[..], 0));
        assert_eq!(out[28..len], packet[..548]);

        let packet = v6(IpProtocol::UDP, &[5; 1400]);
        let len = answer(&mut out, "fd00::9".parse().unwrap(), &packet, 1300).unwrap();
        assert_eq!(len, 1280);
        let error = Ipv6Packet::new_checked(&out[..len]).unwrap();
        let message = Icmpv6Packet::new_checked(error.payload()).unwrap();
        assert!(message.verify_checksum(&error.addresses()));
        assert_eq!((out[40], &out[44..48]), (2, &1300u32.to_be_bytes()[..]));
        assert_eq!(out[48..len], packet[..1232]);
    }

    #[test]
    fn what_must_not_be_answered_is_not() {
        let mut out = [0; LONGEST];
        let mut said = |packet: &[u8]| {
            let from = if packet.first().is_some_and(|first| first >> 4 == 6) {
                "fd00::9".parse().unwrap()
            } else {
                IpAddr::from(HERE)
            };
            answer(&mut out, from, packet, 1280).is_some()
        };
        let icmp = |kind: u8| [&[kind, 0][..], &[0; 1400]].concat();
        assert!(said(&v4(0x4000, 1, &[], &icmp(8))) && !said(&v4(0x4000, 1, &[], &icmp(3))));
        assert!(said(&v6(IpProtocol::ICMPV6, &icmp(128))) && !said(&v6(IpProtocol::ICMPV6, &icmp(1))));
        // A later fragment.
        assert!(!said(&v4(0x4001, 17, &[], &[5; 1400])));
        for (at, address) in [(12, [0, 0, 0, 0]), (12, [224, 0, 0, 1]), (16, [255; 4]), (12, [127, 0, 0, 1])]
        {
            let mut packet = v4(0x4000, 17, &[], &[5; 1400]);
            packet[at..at + 4].copy_from_slice(&address);
            assert!(!said(&packet), "{address:?} at {at}");
        }
        for (at, first) in [(8, 0xff), (24, 0xff)] {
            let mut packet = v6(IpProtocol::UDP, &[5; 1400]);
            packet[at] = first;
            assert!(!said(&packet), "{at}");
        }
        let unspecified = [&v6(IpProtocol::UDP, &[5; 1400])[..8], &[0; 16], &[5; 1416]].concat();
        assert!(!said(&unspecified));
        // What is no packet.
        for len in 0..48 {
            said(&v4(0x4000, 17, &[], &[5; 1400])[..len]);
            said(&v6(IpProtocol::UDP, &[5; 1400])[..len]);
        }
        assert!(
            answer(&mut out, "fd00::9".parse().unwrap(), &v4(0x4000, 17, &[], &[5; 1400]), 1280).is_none()
        );
    }

    #[test]
    fn answers_are_few() {
        let mut pace = Pace::new();
        let mut now = Instant::from_secs(5);
        let mut given = |now| (0..1000).filter(|_| pace.may_answer(now)).count();
        assert_eq!((given(now), given(now)), (20, 0));
        now = now + Duration::from_millis(50);
        assert_eq!(given(now), 5);
        assert_eq!(given(now + Duration::from_secs(60)), 20);
    }
}
