//! Fragments: of guests, put together; and of what is larger than the guests' MTU.
//!
//! Theory of operation. A guest has room for [`PACKETS`] packets that are not whole yet, of 64 KiB at most, for
//! [`LIFETIME`] from the first fragment on. Any overlap spoils a packet (RFC 5722): what is there is dropped, and so is
//! every further fragment of it, until its time is over. A whole packet is checked again as any other: what its
//! fragments hid from the first look does not get further than the second.

mod ranges;

use std::collections::VecDeque;
use std::mem;
use std::net::IpAddr;
use std::time::Duration;

use vmlan_frame::checksum::Addresses;
use vmlan_frame::wire::{EtherType, EthernetRepr, IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr};
use vmlan_frame::{ETHERNET_HEADER, Frame, Instant, MacAddr, Pool, Size};

use crate::datagrams::Drop;
use crate::{Envelope, Packet};
use ranges::{Added, Ranges};

/// Packets of one guest that are put together at a time.
pub const PACKETS: usize = 16;

/// The time that the fragments of a packet may take.
pub const LIFETIME: Duration = Duration::from_secs(5);

/// Octets of the longest IP packet.
const LONGEST: usize = u16::MAX as usize;

/// Octets of IPv6's fragment header (RFC 8200 section 4.5).
const FRAGMENT_HEADER: usize = 8;

/// A packet that was put together.
#[derive(Debug)]
pub struct Whole {
    mac: MacAddr,
    ingress: u16,
    octets: Vec<u8>,
}

impl Whole {
    /// The packet. It may be fragmented again on its way, as it was before.
    pub fn packet(&self) -> Packet<'_> {
        let parsed = Packet::parse_ip(&self.octets).expect("it was read when it became whole");
        Packet { mac: self.mac, ingress: self.ingress, dont_fragment: false, ..parsed }
    }
}

/// The fate of a fragment.
#[derive(Debug)]
pub(crate) enum Assembly {
    /// It is kept. So many fragments were given up for it.
    Waiting { given_up: u64 },
    /// It was the last one.
    Whole { whole: Whole, fragments: u64 },
    /// It is dropped, with all that were kept.
    Dropped { reason: Drop, fragments: u64 },
}

/// The fragments of one packet.
#[derive(Debug)]
struct Partial {
    key: (IpAddr, IpAddr, IpProtocol, u32),
    until: Instant,
    mac: MacAddr,
    /// IP headers in front of the fragmentable part, as of the whole packet but for lengths; of the first fragment.
    headers: Vec<u8>,
    payload: Vec<u8>,
    ranges: Ranges,
    /// Octets of the whole payload, once the last fragment is there.
    total: Option<usize>,
    fragments: u64,
    /// Nothing of it will be whole.
    spoilt: bool,
}

/// The fragments of all guests, by number of the port.
#[derive(Debug, Default)]
pub(crate) struct Fragments {
    guests: Vec<Vec<Partial>>,
    /// A time before which nothing is over.
    soonest: Option<Instant>,
}

impl Fragments {
    pub fn new() -> Fragments {
        Fragments::default()
    }

    /// Takes one fragment.
    pub fn take(&mut self, packet: &Packet<'_>, now: Instant) -> Assembly {
        let Some(piece) = Piece::of(packet) else {
            return Assembly::Dropped { reason: Drop::BadHeader, fragments: 1 };
        };
        let ingress = usize::from(packet.ingress);
        if self.guests.len() <= ingress {
            self.guests.resize_with(ingress + 1, Vec::new);
        }
        let partials = &mut self.guests[ingress];
        let mut given_up = 0;
        let is_mine =
            |partial: &Partial| partial.key == piece.key && partial.mac == packet.mac && partial.until > now;
        let index = partials.iter().position(is_mine).unwrap_or_else(|| {
            if partials.len() >= PACKETS {
                // The oldest one is the first.
                given_up = partials.remove(0).fragments;
            }
            partials.push(Partial::new(piece.key, packet.mac, now + LIFETIME));
            partials.len() - 1
        });
        self.soonest = Some(self.soonest.map_or(now + LIFETIME, |soonest| soonest.min(now + LIFETIME)));
        let partial = &mut partials[index];
        if partial.spoilt {
            return Assembly::Dropped { reason: Drop::FragmentOverlap, fragments: 1 };
        }
        if let Err(reason) = partial.add(&piece) {
            let fragments = partial.spoil();
            return Assembly::Dropped { reason, fragments };
        }
        if !partial.is_whole() {
            return Assembly::Waiting { given_up };
        }
        let partial = partials.remove(index);
        let fragments = partial.fragments;
        match partial.into_whole(packet.ingress) {
            Some(whole) => Assembly::Whole { whole, fragments },
            None => Assembly::Dropped { reason: Drop::BadHeader, fragments },
        }
    }

    /// Forgets packets whose time is over; answers how many fragments they had.
    pub fn expire(&mut self, now: Instant) -> u64 {
        if self.soonest.is_none_or(|soonest| soonest > now) {
            return 0;
        }
        let mut lost = 0;
        for partials in &mut self.guests {
            partials.retain(|partial| {
                let is_over = partial.until <= now;
                lost += if is_over { partial.fragments } else { 0 };
                !is_over
            });
        }
        self.soonest = self.guests.iter().flatten().map(|partial| partial.until).min();
        lost
    }

    /// The time at which the first packet may be over.
    pub fn next_end(&self) -> Option<Instant> {
        self.soonest
    }

    /// Forgets the fragments of a guest; answers how many there were.
    pub fn forget_guest(&mut self, ingress: u16) -> u64 {
        let partials = self.guests.get_mut(usize::from(ingress)).map(mem::take);
        partials.into_iter().flatten().map(|partial| partial.fragments).sum()
    }
}

/// One fragment, read.
struct Piece<'a> {
    key: (IpAddr, IpAddr, IpProtocol, u32),
    offset: usize,
    more: bool,
    /// The headers of the whole packet, if this is the first fragment: up to the second place without the fragment
    /// header in between, and where the number of what follows stands.
    headers: &'a [u8],
    /// For IPv6: the place of the number of the fragment header, and the number that replaces it.
    next: Option<(usize, IpProtocol)>,
    payload: &'a [u8],
}

impl<'a> Piece<'a> {
    fn of(packet: &Packet<'a>) -> Option<Piece<'a>> {
        let fragment = packet.fragment?;
        let (headers, next, payload) = match packet.addresses {
            Addresses::V4 { .. } => {
                let (headers, payload) = packet.ip.split_at(packet.ip.len() - packet.upper.len());
                (headers, None, payload)
            }
            Addresses::V6 { .. } => {
                let (place, at) = fragment_header(packet.ip)?;
                let next = IpProtocol(*packet.ip.get(at)?);
                (&packet.ip[..at], Some((place, next)), packet.ip.get(at + FRAGMENT_HEADER..)?)
            }
        };
        let offset = usize::from(fragment.offset);
        // All but the last have whole units of 8 octets.
        let is_even = !fragment.more || payload.len().is_multiple_of(8);
        let protocol = if packet.source().is_ipv4() { packet.protocol } else { IpProtocol::FRAGMENT };
        (is_even && !payload.is_empty()).then_some(Piece {
            key: (packet.source(), packet.destination(), protocol, fragment.identification),
            offset,
            more: fragment.more,
            headers,
            next,
            payload,
        })
    }
}

/// Finds the number of the fragment header in an IPv6 packet, and the header itself.
fn fragment_header(ip: &[u8]) -> Option<(usize, usize)> {
    let (mut place, mut at) = (6, Ipv6Repr::HEADER_LEN);
    loop {
        let (protocol, length) = (IpProtocol(*ip.get(place)?), usize::from(*ip.get(at + 1)?));
        let len = match protocol {
            IpProtocol::FRAGMENT => return Some((place, at)),
            IpProtocol::HOP_BY_HOP
            | IpProtocol::ROUTING
            | IpProtocol::DESTINATION_OPTIONS
            | IpProtocol::MOBILITY
            | IpProtocol::HIP
            | IpProtocol::SHIM6 => 8 + 8 * length,
            IpProtocol::AUTHENTICATION => 8 + 4 * length,
            _ => return None,
        };
        (place, at) = (at, at + len);
    }
}

impl Partial {
    fn new(key: (IpAddr, IpAddr, IpProtocol, u32), mac: MacAddr, until: Instant) -> Partial {
        Partial {
            key,
            until,
            mac,
            headers: Vec::new(),
            payload: Vec::new(),
            ranges: Ranges::default(),
            total: None,
            fragments: 0,
            spoilt: false,
        }
    }

    fn add(&mut self, piece: &Piece<'_>) -> Result<(), Drop> {
        self.fragments += 1;
        let end = piece.offset + piece.payload.len();
        if end > LONGEST {
            return Err(Drop::FragmentLimit);
        }
        match self.ranges.add(piece.offset, end) {
            Added::Yes => {}
            Added::Overlap => return Err(Drop::FragmentOverlap),
            Added::TooMany => return Err(Drop::FragmentLimit),
        }
        if !piece.more && self.total.replace(end).is_some() {
            return Err(Drop::FragmentOverlap);
        }
        if self.total.is_some_and(|total| self.ranges.end() > total) {
            return Err(Drop::FragmentOverlap);
        }
        if self.payload.len() < end {
            self.payload.resize(end, 0);
        }
        self.payload[piece.offset..end].copy_from_slice(piece.payload);
        if piece.offset == 0 {
            self.headers = piece.headers.to_vec();
            if let Some((place, next)) = piece.next {
                self.headers[place] = next.0;
            }
        }
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.total.is_some_and(|total| self.ranges.is_all(total))
    }

    /// Gives the memory back; answers how many fragments are lost.
    fn spoil(&mut self) -> u64 {
        self.spoilt = true;
        (self.headers, self.payload, self.ranges) = Default::default();
        mem::take(&mut self.fragments)
    }

    fn into_whole(self, ingress: u16) -> Option<Whole> {
        let mut octets = self.headers;
        octets.extend_from_slice(&self.payload);
        let total = u16::try_from(octets.len()).ok();
        match self.key.0 {
            IpAddr::V4(_) => {
                // The first fragment's length and place are within the whole packet.
                let mut ip = Ipv4Packet::new_checked(&mut octets[..]).ok()?;
                ip.set_total_length(total?);
                ip.set_fragment(0, false);
                ip.fill_checksum();
            }
            IpAddr::V6(_) => {
                let payload = octets.len().checked_sub(Ipv6Repr::HEADER_LEN)?;
                Ipv6Packet::new_checked(&mut octets[..])
                    .ok()?
                    .set_payload_length(u16::try_from(payload).ok()?);
            }
        }
        let whole = Packet::parse_ip(&octets).ok()?;
        // A fragment header that was hidden in fragments.
        let is_good = whole.fragment.is_none();
        is_good.then_some(Whole { mac: self.mac, ingress, octets })
    }
}

/// Makes the fragments of a packet whose upper layer, header and all, is `upper`, for a guest whose MTU is `mtu`.
/// False, and nothing made, when there are not enough buffers. An IPv4 packet's bit against fragmenting is not set in
/// fragments.
pub(crate) fn fragment(
    envelope: &Envelope,
    upper: &[u8],
    mtu: usize,
    identification: u32,
    pool: &Pool,
    out: &mut VecDeque<Frame>,
) -> bool {
    let (ip, extra) = match envelope.addresses {
        Addresses::V4 { .. } => (Ipv4Repr::MIN_HEADER_LEN, 0),
        Addresses::V6 { .. } => (Ipv6Repr::HEADER_LEN, FRAGMENT_HEADER),
    };
    let headers = ETHERNET_HEADER + ip + extra;
    let each = (mtu.saturating_sub(ip + extra) & !7).max(8);
    let Some(size) = Size::for_octets(headers + each) else { return false };
    if upper.len() > LONGEST || pool.free(size) < upper.len().div_ceil(each) {
        return false;
    }
    for (index, piece) in upper.chunks(each).enumerate() {
        let offset = index * each;
        let more = offset + piece.len() < upper.len();
        let Some(mut buffer) = pool.take(size) else { return false };
        emit(envelope, &mut buffer, piece.len(), (offset as u16, more), identification);
        buffer[headers..headers + piece.len()].copy_from_slice(piece);
        out.push_back(buffer.into_frame(0..headers + piece.len()));
    }
    true
}

/// Writes the headers of one fragment.
fn emit(
    envelope: &Envelope,
    octets: &mut [u8],
    len: usize,
    (offset, more): (u16, bool),
    identification: u32,
) {
    let (ethernet, packet) = octets.split_at_mut(ETHERNET_HEADER);
    let ethertype = match envelope.addresses {
        Addresses::V4 { source, destination } => {
            Ipv4Repr {
                traffic_class: envelope.class,
                identification: identification as u16,
                dont_fragment: false,
                more_fragments: more,
                fragment_offset: offset,
                ttl: envelope.hop_limit,
                protocol: envelope.protocol,
                source,
                destination,
                options: &[],
                payload_len: len,
            }
            .emit(packet);
            EtherType::IPV4
        }
        Addresses::V6 { source, destination } => {
            Ipv6Repr {
                traffic_class: envelope.class,
                flow_label: 0,
                payload_len: (FRAGMENT_HEADER + len) as u16,
                next_header: IpProtocol::FRAGMENT,
                hop_limit: envelope.hop_limit,
                source,
                destination,
            }
            .emit(packet);
            let header = &mut packet[Ipv6Repr::HEADER_LEN..][..FRAGMENT_HEADER];
            header[..2].copy_from_slice(&[envelope.protocol.0, 0]);
            header[2..4].copy_from_slice(&(offset | u16::from(more)).to_be_bytes());
            header[4..].copy_from_slice(&identification.to_be_bytes());
            EtherType::IPV6
        }
    };
    EthernetRepr { destination: envelope.to, source: envelope.from, ethertype }.emit(ethernet);
}

#[cfg(test)]
mod tests;
