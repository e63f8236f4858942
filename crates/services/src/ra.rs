//! Router advertisements (RFC 4861 sections 4.2 and 6.2, RFC 8106, RFC 8781).
//!
//! [`message`] writes one; a [`Schedule`] says when one goes out: on its own now and then, soon again after a change,
//! and in answer to a solicitation. To all it goes at most once in three seconds; what is asked for in between is
//! answered to the guest alone.

use std::net::Ipv6Addr;
use std::time::Duration;

use vmlan_frame::{Instant, MacAddr};
use vmlan_nat::Envelope;

use crate::Settings;
use crate::name::Name;
use crate::packet::{ALL_NODES, group_mac, icmpv6_frame};

/// Seconds for which a guest uses the router, if there is a way out.
const ROUTER_LIFETIME: u16 = 1800;
/// Seconds for which resolvers, domains and the NAT64 prefix hold.
const SERVICE_LIFETIME: u16 = 1800;
/// Seconds for which addresses of the prefix are valid, and preferred.
const VALID: u32 = 86_400;
const PREFERRED: u32 = 14_400;
/// The well-known prefix of NAT64 (RFC 6052 section 2.1), 96 bits.
const NAT64: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);

/// Seconds between advertisements that nobody asked for.
const INTERVAL: std::ops::RangeInclusive<u64> = 200..=600;
/// The time between advertisements to all (RFC 4861 section 10).
const BETWEEN: Duration = Duration::from_secs(3);
/// Advertisements after a change, and the time between them (RFC 4861 section 10).
const AFTER_CHANGE: u32 = 3;
const CHANGE_INTERVAL: Duration = Duration::from_secs(16);

/// The state of the network that guests are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The host has a route to the IPv6 internet.
    Open,
    /// The host has none: guests keep their addresses among each other, and are not told a router.
    Closed,
    /// The network ends: its router, resolvers and domains are withdrawn.
    Ending,
}

/// Writes the advertisement of a network; `None` if it has no IPv6. The checksum is left 0.
pub fn message(settings: &Settings, way: Way) -> Option<Vec<u8>> {
    /// Other things are told by DHCPv6 (RFC 4861 section 4.2).
    const OTHER: u8 = 0x40;
    /// The prefix is on the link, and guests make addresses of it (RFC 4861 section 4.6.2).
    const ON_LINK_AND_AUTONOMOUS: u8 = 0xc0;

    let subnet = settings.subnet6?;
    // What is mapped to IPv4 leads out whatever the host's IPv6 does.
    let leads_out = way == Way::Open || settings.ipv6_only && way == Way::Closed;
    let is_router = settings.router && leads_out;
    let router = if is_router { ROUTER_LIFETIME } else { 0 };
    let service = if way == Way::Ending { 0 } else { SERVICE_LIFETIME };
    let flags = if settings.dhcp.is_some() { OTHER } else { 0 };
    let mut octets = vec![134, 0, 0, 0, Envelope::HOP_LIMIT, flags];
    octets.extend(router.to_be_bytes());
    octets.extend([0; 8]);
    octets.extend([1, 1]);
    octets.extend(settings.mac.0);
    octets.extend([5, 1, 0, 0]);
    octets.extend(u32::from(settings.mtu).to_be_bytes());
    octets.extend([3, 4, 64, ON_LINK_AND_AUTONOMOUS]);
    for part in [VALID, PREFERRED, 0] {
        octets.extend(part.to_be_bytes());
    }
    octets.extend(subnet.network.octets());
    if settings.dns.is_some() {
        octets.extend([25, 3, 0, 0]);
        octets.extend(u32::from(service).to_be_bytes());
        octets.extend(subnet.host(1).octets());
        search_list(&mut octets, settings.search(), service);
    }
    if settings.ipv6_only {
        octets.extend(pref64(service));
    }
    Some(octets)
}

/// Adds option 31: domains without compression, padded to a multiple of 8 octets (RFC 8106 section 5.2).
fn search_list<'a>(octets: &mut Vec<u8>, names: impl Iterator<Item = &'a Name>, lifetime: u16) {
    /// Octets of names that the option's length can tell.
    const MOST: usize = 255 * 8 - 8;
    /// Octets of names that leave the message within the least MTU.
    const FITTING: usize = 1000;
    let mut list = Vec::new();
    for name in names {
        if list.len() + name.wire().len() > FITTING.min(MOST) {
            break;
        }
        list.extend(name.wire());
    }
    list.resize(list.len().next_multiple_of(8), 0);
    octets.extend([31, (1 + list.len() / 8) as u8, 0, 0]);
    octets.extend(u32::from(lifetime).to_be_bytes());
    octets.extend(list);
}

/// Option 38 for the well-known prefix (RFC 8781 section 4): 13 bits of lifetime in units of 8 seconds, and a code for
/// the prefix's length, 0 for 96.
fn pref64(lifetime: u16) -> [u8; 16] {
    let mut octets = [0; 16];
    octets[..2].copy_from_slice(&[38, 2]);
    octets[2..4].copy_from_slice(&((lifetime / 8) << 3).to_be_bytes());
    octets[4..].copy_from_slice(&NAT64.octets()[..12]);
    octets
}

/// The receiver of an advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receiver {
    /// All guests.
    All,
    /// The guest that asked.
    One(MacAddr, Ipv6Addr),
}

/// The whole frame of an advertisement; `None` if the network has no IPv6.
pub fn frame(settings: &Settings, way: Way, receiver: Receiver) -> Option<Vec<u8>> {
    let message = message(settings, way)?;
    let (mac, address) = match receiver {
        Receiver::All => (group_mac(ALL_NODES), ALL_NODES),
        // A guest without an address yet: to its link address, as RFC 6085 allows.
        Receiver::One(mac, address) if address.is_unspecified() => (mac, ALL_NODES),
        Receiver::One(mac, address) => (mac, address),
    };
    Some(icmpv6_frame(settings.mac, mac, address, &message))
}

/// The times of advertisements.
#[derive(Debug)]
pub struct Schedule {
    next: Instant,
    last: Option<Instant>,
    soon: u32,
}

impl Schedule {
    /// A schedule that begins with advertisements as after a change.
    pub fn new(now: Instant) -> Schedule {
        Schedule { next: now, last: None, soon: AFTER_CHANGE }
    }

    /// Notes that something changed that guests must hear of, as soon as another advertisement may follow the last one
    /// (RFC 4861 section 6.2.6).
    pub fn changed(&mut self, now: Instant) {
        self.soon = AFTER_CHANGE;
        self.next = self.last.map_or(now, |last| now.max(last + BETWEEN));
    }

    /// Decides to whom a solicitation is answered.
    pub fn solicited(&mut self, mac: MacAddr, from: Ipv6Addr, now: Instant) -> Receiver {
        if self.last.is_some_and(|last| now.since(last) < BETWEEN) {
            return Receiver::One(mac, from);
        }
        self.last = Some(now);
        Receiver::All
    }

    /// True if an advertisement to all is due, which then has to be sent. `random` is any number.
    pub fn is_due(&mut self, now: Instant, random: u64) -> bool {
        if now < self.next {
            return false;
        }
        self.last = Some(now);
        self.soon = self.soon.saturating_sub(1);
        let wait = if self.soon > 0 {
            CHANGE_INTERVAL
        } else {
            Duration::from_secs(INTERVAL.start() + random % (INTERVAL.end() - INTERVAL.start() + 1))
        };
        self.next = now + wait;
        true
    }

    /// The time at which the next one is due.
    pub fn next(&self) -> Instant {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use vmlan_frame::wire::{Icmpv6Packet, Ipv6Packet};

    use super::*;
    use crate::dhcp4::tests::settings;

    const GUEST: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);

    #[test]
    fn an_advertisement_to_the_octet() {
        let expected: &[&[u8]] = &[
            &[134, 0, 0, 0, 64, 0x40, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0],
            &[1, 1, 0x52, 0x54, 0, 0xff, 0, 1],
            &[5, 1, 0, 0, 0, 0, 0x05, 0xdc],
            &[3, 4, 64, 0xc0, 0, 1, 0x51, 0x80, 0, 0, 0x38, 0x40, 0, 0, 0, 0],
            &[0xfd, 0, 0, 1, 0, 2, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0],
            &[25, 3, 0, 0, 0, 0, 0x07, 0x08],
            &[0xfd, 0, 0, 1, 0, 2, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1],
            &[31, 3, 0, 0, 0, 0, 0x07, 0x08],
            b"\x03lab\x08internal\0\0\0",
        ];
        assert_eq!(message(&settings(), Way::Open).unwrap(), expected.concat());
    }

    #[test]
    fn case_41_pref64() {
        let expected = [0x26, 2, 7, 8, 0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(pref64(1800), expected);
        let mut settings = settings();
        settings.ipv6_only = true;
        assert!(message(&settings, Way::Open).unwrap().ends_with(&expected));
        // The prefix leads out without a way of the host's.
        let router = |way| message(&settings, way).unwrap()[6..8].to_vec();
        assert_eq!([Way::Open, Way::Closed, Way::Ending].map(router), [[7, 8], [7, 8], [0, 0]]);
    }

    #[test]
    fn case_52_the_router_is_told_only_while_there_is_a_way() {
        let lifetimes = |way| {
            let octets = message(&settings(), way).unwrap();
            let word = |at: usize| u16::from_be_bytes([octets[at], octets[at + 1]]);
            // The router's, the valid time of the prefix in its lower half, and the resolver's.
            (word(6), word(38), word(70))
        };
        assert_eq!(lifetimes(Way::Open), (1800, 0x5180, 1800));
        assert_eq!(lifetimes(Way::Closed), (0, 0x5180, 1800));
        assert_eq!(lifetimes(Way::Ending), (0, 0x5180, 0));
        let mut settings = settings();
        settings.subnet6 = None;
        assert_eq!(message(&settings, Way::Open), None);
    }

    #[test]
    fn frames_are_from_the_gateways_link_local_address() {
        let own = "fe80::5054:ff:fe00:1".parse().unwrap();
        for (receiver, mac, address) in [
            (Receiver::All, "33:33:00:00:00:01", ALL_NODES),
            (Receiver::One(GUEST, own), "52:54:00:00:00:01", own),
            (Receiver::One(GUEST, Ipv6Addr::UNSPECIFIED), "52:54:00:00:00:01", ALL_NODES),
        ] {
            let frame = frame(&settings(), Way::Open, receiver).unwrap();
            assert_eq!(MacAddr::from_slice(&frame).to_string(), mac);
            let packet = Ipv6Packet::new_checked(&frame[14..]).unwrap();
            assert_eq!((packet.hop_limit(), packet.destination()), (255, address));
            assert_eq!(packet.source().to_string(), "fe80::1");
            let message = Icmpv6Packet::new_checked(packet.payload()).unwrap();
            assert!(message.verify_checksum(&packet.addresses()));
        }
    }

    #[test]
    fn times() {
        let at = |seconds: u64| Instant::from_secs(1000 + seconds);
        let mut schedule = Schedule::new(at(0));
        let due = (0..300).filter(|second| schedule.is_due(at(*second), 0));
        assert_eq!(due.collect::<Vec<_>>(), [0, 16, 32, 232]);
        schedule.changed(at(300));
        assert!(schedule.is_due(at(300), 400));
        let from = "fe80::1".parse().unwrap();
        assert_eq!(schedule.solicited(GUEST, from, at(302)), Receiver::One(GUEST, from));
        assert_eq!(schedule.solicited(GUEST, from, at(303)), Receiver::All);
        assert_eq!(schedule.solicited(GUEST, from, at(304)), Receiver::One(GUEST, from));
        // A route that comes and goes makes no more of them.
        let due = (304..310).filter(|second| {
            schedule.changed(at(*second));
            schedule.is_due(at(*second), 0)
        });
        assert_eq!(due.collect::<Vec<_>>(), [306, 309]);
    }
}
