//! The facts that the first pass reads of a frame.

use super::super::{Offload, Takes};
use crate::checksum::Sum;
use crate::wire::field::{array, u16_at};
use crate::wire::{EtherType, IpProtocol, TCP_CHECKSUM, TcpFlags, UDP_CHECKSUM};
use crate::{ETHERNET_HEADER, Frame};

const IPV4_TRANSPORT: usize = ETHERNET_HEADER + 20;
const IPV6_TRANSPORT: usize = ETHERNET_HEADER + 40;

/// Which kinds of segments are merged.
#[derive(Clone, Copy)]
pub(super) struct Kinds(Takes);

impl Kinds {
    /// Those that the medium takes merged. A merged frame's checksum is partial, so it has to take that too.
    pub fn of(takes: Takes) -> Kinds {
        let kinds = takes.and(Takes::TSO4 | Takes::TSO6 | Takes::USO | Takes::ECN);
        Kinds(if takes.contains(Takes::CHECKSUM) { kinds } else { Takes::NONE })
    }

    /// True if no segments can be merged.
    pub fn is_empty(self) -> bool {
        self.0.and(Takes::TSO4 | Takes::TSO6 | Takes::USO) == Takes::NONE
    }

    fn contains(self, takes: Takes) -> bool {
        self.0.contains(takes)
    }
}

/// How a frame bears on the runs.
pub(super) enum Look {
    /// It is of no flow that can be merged.
    Aside,
    /// It may be of any flow.
    Unclear,
    /// It is of this flow and stays as it is.
    Ends(u64),
    /// It is of this flow and may be merged.
    Segment(u64, Packet),
}

/// A segment: an untagged IP packet without options or extension headers that ends with its frame, and has payload.
#[derive(Clone, Copy)]
pub(super) struct Packet {
    /// The segmentation type without ECN, and which IP it is.
    pub kind: Kind,
    /// Octets of all headers.
    pub headers: usize,
    /// Octets after them, at least one.
    pub payload: usize,
    /// Of TCP; else 0.
    pub sequence: u32,
    /// Of IPv4; else 0.
    pub identification: u16,
    /// The difference from this segment's identification to the next one's: 0 or 1.
    pub identification_step: u16,
    /// It can only be the first: it has CWR.
    pub begins_run: bool,
    /// It can only be the last: it has PSH.
    pub ends_run: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    TcpV4,
    TcpV6,
    UdpV4,
    UdpV6,
}

impl Kind {
    #[inline]
    pub fn is_v4(self) -> bool {
        matches!(self, Kind::TcpV4 | Kind::UdpV4)
    }

    #[inline]
    fn needed(self) -> Takes {
        match self {
            Kind::TcpV4 => Takes::TSO4,
            Kind::TcpV6 => Takes::TSO6,
            Kind::UdpV4 | Kind::UdpV6 => Takes::USO,
        }
    }

    pub fn gso_type(self) -> u8 {
        match self {
            Kind::TcpV4 => Offload::TCPV4,
            Kind::TcpV6 => Offload::TCPV6,
            Kind::UdpV4 | Kind::UdpV6 => Offload::UDP,
        }
    }
}

/// Looks at a frame's headers; never beyond them.
#[inline]
pub(super) fn look(frame: &Frame, kinds: Kinds) -> Look {
    let octets = frame.octets();
    let Some(ethertype) = frame.ethertype() else { return Look::Aside };
    let (v4, protocol, transport, addresses) = match EtherType(ethertype) {
        EtherType::IPV4 => {
            let Some(header) = octets.first_chunk::<IPV4_TRANSPORT>() else { return Look::Unclear };
            // Options, a fragment.
            if header[14] != 0x45 || u16_at(header, 20) & 0x3fff != 0 {
                return Look::Unclear;
            }
            (true, header[23], IPV4_TRANSPORT, u64::from_ne_bytes(array(header, 26)))
        }
        EtherType::IPV6 => {
            let Some(header) = octets.first_chunk::<IPV6_TRANSPORT>() else { return Look::Unclear };
            let [a, b, c, d] = [22, 30, 38, 46].map(|at| u64::from_ne_bytes(array(header, at)));
            let addresses = a.rotate_left(7) ^ b ^ c.rotate_left(31) ^ d.rotate_left(17);
            (false, header[20], IPV6_TRANSPORT, addresses)
        }
        _ => return Look::Aside,
    };
    let (kind, least) = match (IpProtocol(protocol), v4) {
        (IpProtocol::TCP, true) => (Kind::TcpV4, 20),
        (IpProtocol::TCP, false) => (Kind::TcpV6, 20),
        (IpProtocol::UDP, true) => (Kind::UdpV4, 8),
        (IpProtocol::UDP, false) => (Kind::UdpV6, 8),
        (IpProtocol::ICMPV6, _) | (_, true) => return Look::Aside,
        // Behind an IPv6 extension header may be anything.
        _ => return Look::Unclear,
    };
    if octets.len() < transport + least {
        return Look::Unclear;
    }
    let ports = u64::from(u32::from_ne_bytes(array(octets, transport)));
    let flow = flow(addresses, ports << 8 | u64::from(protocol));
    match Packet::new(octets, kind, transport, kinds) {
        Some(packet) if frame.meta.offload.is_none() => Look::Segment(flow, packet),
        _ => Look::Ends(flow),
    }
}

/// A number for the flow that others rarely have, its high bits mixed best.
#[inline]
fn flow(addresses: u64, ports: u64) -> u64 {
    (addresses ^ ports.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

/// True if the IPv4 sender does not number its packets: DF is set and the identification is 0.
#[inline]
fn is_unnumbered(octets: &[u8]) -> bool {
    u16_at(octets, 18) == 0 && octets[20] & 0x40 != 0
}

impl Packet {
    /// `None` when it cannot be part of any run. The transport header is there, of TCP without its options.
    #[inline]
    fn new(octets: &[u8], kind: Kind, transport: usize, kinds: Kinds) -> Option<Packet> {
        let is_whole = if kind.is_v4() {
            // A checksum of 0xffff would be right as well as 0, but nobody computes it.
            usize::from(u16_at(octets, 16)) == octets.len() - ETHERNET_HEADER && u16_at(octets, 24) != 0xffff
        } else {
            octets[14] >> 4 == 6 && usize::from(u16_at(octets, 18)) == octets.len() - IPV6_TRANSPORT
        };
        if !is_whole || !kinds.contains(kind.needed()) {
            return None;
        }
        let (identification, identification_step) = match kind.is_v4() {
            true => (u16_at(octets, 18), u16::from(!is_unnumbered(octets))),
            false => (0, 0),
        };
        let header = &octets[transport..];
        let mut packet = Packet {
            kind,
            headers: transport + 8,
            payload: 0,
            sequence: 0,
            identification,
            identification_step,
            begins_run: false,
            ends_run: false,
        };
        if packet.is_tcp() {
            let word = u16_at(header, 12);
            let flags = TcpFlags(word & 0x0fff);
            let refused = TcpFlags::FIN | TcpFlags::SYN | TcpFlags::RST | TcpFlags::URG;
            let cwr = flags.contains(TcpFlags::CWR);
            let is_plain = flags.contains(TcpFlags::ACK) && !flags.intersects(refused);
            if !is_plain || cwr && !kinds.contains(Takes::ECN) || u16_at(header, TCP_CHECKSUM) == 0xffff {
                return None;
            }
            let len = 4 * usize::from(word >> 12);
            packet.headers = if len >= 20 { transport + len } else { return None };
            packet.sequence = u32::from_be_bytes(array(header, 4));
            packet.begins_run = cwr;
            packet.ends_run = flags.contains(TcpFlags::PSH);
        } else if usize::from(u16_at(header, 4)) != header.len() || u16_at(header, UDP_CHECKSUM) == 0 {
            return None;
        }
        packet.payload = octets.len().checked_sub(packet.headers).filter(|payload| *payload > 0)?;
        Some(packet)
    }

    #[inline]
    pub fn is_tcp(&self) -> bool {
        matches!(self.kind, Kind::TcpV4 | Kind::TcpV6)
    }

    #[inline]
    pub fn transport(&self) -> usize {
        if self.kind.is_v4() { IPV4_TRANSPORT } else { IPV6_TRANSPORT }
    }

    /// True if the headers of two frames agree in all that the segments of one frame have in common. Both frames are of
    /// one kind.
    #[inline]
    pub fn has_same_headers(&self, own: &[u8], other: &Packet, others: &[u8]) -> bool {
        let same = |from: usize, to: usize| own[from..to] == others[from..to];
        let ip = if self.kind.is_v4() {
            // All but length, identification and checksum.
            same(0, 16) && same(20, 24) && same(26, 34)
        } else {
            same(0, 18) && same(20, 54)
        };
        let at = self.transport();
        let transport = if self.is_tcp() {
            // All but sequence number, PSH, CWR and checksum.
            let flags = |octets: &[u8]| u16_at(octets, at + 12) & !(TcpFlags::PSH | TcpFlags::CWR).0;
            same(at, at + 4)
                && same(at + 8, at + 12)
                && flags(own) == flags(others)
                && same(at + 14, at + 16)
                && same(at + 18, self.headers)
        } else {
            same(at, at + 4)
        };
        self.headers == other.headers && ip && transport
    }

    /// True if a frame of this segment's run can be the first of a merged frame. It cannot if numbering on from 0 would
    /// be taken for not numbering.
    #[inline]
    pub fn may_begin(&self, octets: &[u8]) -> bool {
        self.identification_step == 0 || !is_unnumbered(octets)
    }

    /// True if the frame's checksums are right.
    #[inline]
    pub fn is_intact(&self, octets: &[u8]) -> bool {
        let transport = self.transport();
        let header_is_intact = !self.kind.is_v4() || Sum::new().add_octets(&octets[14..transport]).is_valid();
        let length = (octets.len() - transport) as u16;
        let sum = self.pseudo_header(octets).add_word(length).add_octets(&octets[transport..]);
        header_is_intact && sum.is_valid()
    }

    /// The sum of the pseudo header without the length.
    #[inline]
    pub fn pseudo_header(&self, octets: &[u8]) -> Sum {
        let addresses = if self.kind.is_v4() { &octets[26..34] } else { &octets[22..54] };
        let protocol = if self.is_tcp() { IpProtocol::TCP } else { IpProtocol::UDP };
        Sum::new().add_octets(addresses).add_word(u16::from(protocol.0))
    }
}
