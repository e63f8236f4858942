use super::layout::{Ip, Layout, SCTP_CHECKSUM, Tunnel};
use super::{MAX_DATAGRAMS, MAX_HEADERS, MAX_MADE, MAX_SEGMENTS, Offload};
use crate::wire::field::u16_at;
use crate::wire::{
    Headers, IpProtocol, Ipv6Repr, Network, TCP_CHECKSUM, TcpFlags, UDP_CHECKSUM, UdpRepr, Undecidable, Upper,
};

/// Where the checksum is in an ICMPv6 header (RFC 4443 section 2.1).
const ICMPV6_CHECKSUM: usize = 2;

/// How an offload request contradicts its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadOffload {
    /// A flag that is not known, or that changes what the other fields mean.
    #[error("the offload request has the unknown flags {0:#04x}")]
    UnknownFlags(u8),
    /// A segmentation type that is not known.
    #[error("the offload request has the unknown segmentation type {0:#04x}")]
    UnknownType(u8),
    /// Segmentation of complete checksums, which could be none of the segments' (virtio 1.3 5.1.6.2.1).
    #[error("the offload request asks for segments, but not for their checksums")]
    MissingChecksum,
    /// The sum starts or goes where no such header has its checksum.
    #[error("the offload request has a checksum where the frame has none")]
    ChecksumPlace,
    /// The headers are not those of the segmentation type.
    #[error("the offload request has a segmentation type that does not fit the headers")]
    WrongHeaders,
    /// The headers reach beyond the frame, or are longer than [`MAX_HEADERS`].
    #[error("the offload request's headers are too long")]
    HeaderLength,
    /// None, more than there is, of a frame with nothing behind its headers, or for fragments no multiple of 8.
    #[error("the offload request has a bad segment size of {0} octets")]
    SegmentSize(u16),
    /// More than [`MAX_SEGMENTS`], or of UDP [`MAX_DATAGRAMS`], or than [`MAX_MADE`] octets together.
    #[error("the offload request asks for too many segments: {0}")]
    TooManySegments(usize),
}

/// Checks a request against its frame, once, on entry.
///
/// The frame may have tags inside its octets, IPv4 options, IPv6 extension headers, and one IP tunnel in IP. The answer
/// is the canonical request: nothing in it that is not used, for segmentation the true length of all headers, and
/// the ECN bit if the TCP header has CWR.
///
/// A checksum goes only where a transport header has one, or into the payload of a tunnel, so it can change nothing
/// that has been looked at by a guard: an address, a port, a type.
///
/// # Errors
/// [`BadOffload`] says what contradicts the frame.
#[inline]
pub fn validate(octets: &[u8], request: Offload) -> Result<Offload, BadOffload> {
    if request.is_segmentation() {
        return Cut::new(octets, request).map(|cut| cut.request);
    }
    check_flags(request)?;
    if request.needs_checksum() {
        checksum_only(octets, request)
    } else {
        Ok(Offload { flags: request.flags, ..Offload::NONE })
    }
}

#[inline]
fn check_flags(request: Offload) -> Result<(), BadOffload> {
    let unknown = request.flags & !(Offload::NEEDS_CHECKSUM | Offload::CHECKSUM_VALID);
    if unknown == 0 { Ok(()) } else { Err(BadOffload::UnknownFlags(request.flags)) }
}

/// Checks where a checksum is to be finished when there is nothing to cut.
fn checksum_only(octets: &[u8], request: Offload) -> Result<Offload, BadOffload> {
    let start = usize::from(request.checksum_start);
    let offset = usize::from(request.checksum_offset);
    let canonical = Offload {
        flags: Offload::NEEDS_CHECKSUM,
        checksum_start: request.checksum_start,
        checksum_offset: request.checksum_offset,
        ..Offload::NONE
    };
    if start + offset + 2 > octets.len() {
        return Err(BadOffload::ChecksumPlace);
    }
    let headers = Headers::parse(octets);
    let fits = match (headers.network, headers.upper) {
        (Network::Ipv4 | Network::Ipv6, Upper::Header { protocol, offset: transport })
            if headers.fragment.is_none() =>
        {
            match protocol {
                IpProtocol::TCP => start == transport && offset == TCP_CHECKSUM,
                // The payload may be that of a tunnel (VXLAN, Geneve).
                IpProtocol::UDP => {
                    start == transport && offset == UDP_CHECKSUM || start >= transport + UdpRepr::HEADER_LEN
                }
                // CRC32c, of four octets.
                IpProtocol::SCTP => {
                    start == transport && offset == SCTP_CHECKSUM && octets.len() >= start + offset + 4
                }
                IpProtocol::ICMP | IpProtocol::ICMPV6 | IpProtocol::IGMP => start == transport && offset == 2,
                // GRE, IP in IP and others that guards do not look into.
                _ => start >= transport,
            }
        }
        // The walk over the extension headers ended at its bounds, so no guard has seen what the packet carries. The
        // sum can be finished nevertheless, where a transport header has one, behind the header with the addresses.
        (Network::Ipv6, Upper::Undecidable(Undecidable::TooMany | Undecidable::TooLong)) => {
            let places = [TCP_CHECKSUM, UDP_CHECKSUM, ICMPV6_CHECKSUM];
            start >= headers.network_offset() + Ipv6Repr::HEADER_LEN && places.contains(&offset)
        }
        // As PPPoE or MPLS, which carry IP.
        (Network::Other, _) => start >= headers.network_offset() && headers.ethertype().0 >= 0x600,
        _ => false,
    };
    if fits { Ok(canonical) } else { Err(BadOffload::ChecksumPlace) }
}

/// The kind of the segments that a frame is cut into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Tcp,
    Datagrams,
    Fragments,
}

/// How a frame is to be cut: a checked request with what was found on the way.
#[derive(Debug)]
pub(super) struct Cut {
    pub request: Offload,
    pub kind: Kind,
    pub layout: Layout,
    /// Octets that each segment starts with.
    pub headers: usize,
    /// Octets of each segment after that, but the last.
    pub size: usize,
    /// How many segments there will be, at least one.
    pub count: usize,
}

impl Cut {
    /// Checks a segmentation request.
    pub fn new(octets: &[u8], request: Offload) -> Result<Cut, BadOffload> {
        check_flags(request)?;
        let kind = match request.gso_type & !Offload::NESTED {
            0x01 | 0x81 | 0x04 | 0x84 => Kind::Tcp,
            Offload::UDP => Kind::Datagrams,
            Offload::UDP_FRAGMENTS => Kind::Fragments,
            _ => return Err(BadOffload::UnknownType(request.gso_type)),
        };
        if !request.needs_checksum() && kind != Kind::Fragments {
            return Err(BadOffload::MissingChecksum);
        }
        if usize::from(request.header_len) > octets.len() {
            return Err(BadOffload::HeaderLength);
        }
        let mut layout = Layout::parse(octets).ok_or(BadOffload::WrongHeaders)?;
        let start = usize::from(request.checksum_start);
        if request.needs_checksum() && start > layout.transport && kind != Kind::Fragments {
            let protocol = if kind == Kind::Tcp { IpProtocol::TCP } else { IpProtocol::UDP };
            layout = layout.enter_tunnel(octets, start, protocol).unwrap_or(layout);
        }
        if request.gso_type & Offload::NESTED != 0 && layout.tunnel == Tunnel::None {
            return Err(BadOffload::UnknownType(request.gso_type));
        }
        if !fits(kind, request, &layout, octets) {
            return Err(BadOffload::WrongHeaders);
        }
        let header_len = layout.header_len(octets).ok_or(BadOffload::WrongHeaders)?;
        if header_len > MAX_HEADERS {
            return Err(BadOffload::HeaderLength);
        }
        let checksum = if kind == Kind::Tcp { TCP_CHECKSUM } else { UDP_CHECKSUM };
        let place = (usize::from(request.checksum_start), usize::from(request.checksum_offset));
        if request.needs_checksum() && place != (layout.transport, checksum) {
            return Err(BadOffload::ChecksumPlace);
        }
        // Of a datagram that is cut into fragments, the UDP header is payload as the rest.
        let headers = if kind == Kind::Fragments { layout.transport } else { header_len };
        let (size, payload) = (usize::from(request.gso_size), octets.len() - headers);
        let whole_units = kind != Kind::Fragments || size.is_multiple_of(8);
        // A datagram of nothing but its header has nothing to cut either.
        if size == 0 || size > payload || header_len == octets.len() || !whole_units {
            return Err(BadOffload::SegmentSize(request.gso_size));
        }
        let count = payload.div_ceil(size);
        let most = if kind == Kind::Datagrams { MAX_DATAGRAMS } else { MAX_SEGMENTS };
        if count > most || payload + count * headers > MAX_MADE {
            return Err(BadOffload::TooManySegments(count));
        }
        let request = canonical(kind, request, &layout, header_len, octets);
        Ok(Cut { request, kind, layout, headers, size, count })
    }
}

/// True if the headers match the request's type and their lengths agree with the frame's length.
fn fits(kind: Kind, request: Offload, layout: &Layout, octets: &[u8]) -> bool {
    let v4 = matches!(layout.inner, Ip::V4 { .. });
    match kind {
        Kind::Tcp => {
            let type_v4 = request.gso_type & !(Offload::ECN | Offload::NESTED) == Offload::TCPV4;
            layout.protocol == IpProtocol::TCP && !layout.is_fragment && v4 == type_v4
        }
        Kind::Datagrams => {
            layout.protocol == IpProtocol::UDP && !layout.is_fragment && is_whole_datagram(layout, octets)
        }
        // What is a fragment already may be cut further, but then its checksum cannot be finished.
        Kind::Fragments => {
            let end = layout.fragment_offset + octets.len() - layout.transport;
            layout.protocol == IpProtocol::UDP
                && v4
                && end <= usize::from(u16::MAX)
                && if layout.is_fragment {
                    !request.needs_checksum()
                } else {
                    is_whole_datagram(layout, octets)
                }
        }
    }
}

/// True if the length in the UDP header is the length of the rest of the packet.
fn is_whole_datagram(layout: &Layout, octets: &[u8]) -> bool {
    let datagram = &octets[layout.transport..];
    datagram.len() >= UdpRepr::HEADER_LEN && usize::from(u16_at(datagram, 4)) == datagram.len()
}

fn canonical(kind: Kind, request: Offload, layout: &Layout, header_len: usize, octets: &[u8]) -> Offload {
    // The headers are at most MAX_HEADERS long.
    let mut canonical = Offload {
        flags: request.flags & Offload::NEEDS_CHECKSUM,
        gso_type: request.gso_type,
        header_len: header_len as u16,
        gso_size: request.gso_size,
        ..Offload::NONE
    };
    if request.needs_checksum() {
        canonical.checksum_start = request.checksum_start;
        canonical.checksum_offset = request.checksum_offset;
    }
    if layout.tunnel != Tunnel::None {
        canonical.gso_type |= Offload::NESTED;
    }
    if kind == Kind::Tcp && TcpFlags(u16_at(octets, layout.transport + 12)).contains(TcpFlags::CWR) {
        canonical.gso_type |= Offload::ECN;
    }
    canonical
}

const _: () = assert!(
    65_535 + MAX_SEGMENTS * (14 + 20 + 32) <= MAX_MADE,
    "what a TCP with small segments makes of a packet is not too much"
);
