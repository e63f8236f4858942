use crate::checksum::{Addresses, Sum};
use crate::wire::field::{array, u16_at};
use crate::wire::{
    Headers, IpProtocol, Ipv4Packet, Ipv6Packet, Ipv6Repr, Network, TCP_CHECKSUM, TcpRepr, UDP_CHECKSUM,
    UdpRepr, Upper,
};

/// Where the checksum is in an SCTP header (RFC 9260 section 3.1).
pub(super) const SCTP_CHECKSUM: usize = 8;

/// Where an IP header is, and which version it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ip {
    V4 { at: usize },
    V6 { at: usize },
}

/// The header that carries an inner packet in an outer one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tunnel {
    /// Nothing, or there is no tunnel.
    None,
    /// GRE without checksum, key and number.
    Gre,
    /// VXLAN, Geneve or another header behind that of UDP, which is here.
    Udp { at: usize },
}

/// Where the headers of a frame are that carries one whole IP packet to its end; in octets from the frame's start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Layout {
    /// The IP header around the inner one, in a tunnel.
    pub outer: Option<Ip>,
    /// The header between the outer and the inner one: nothing in IP in IP.
    pub tunnel: Tunnel,
    /// The IP header in front of the transport header.
    pub inner: Ip,
    /// Where the transport header starts, or the payload of a later fragment.
    pub transport: usize,
    /// Whose header it is.
    pub protocol: IpProtocol,
    /// Octets of the inner IP packet's payload before this fragment's; 0 for whole packets.
    pub fragment_offset: usize,
    /// True if the packet is a fragment, the first or another.
    pub is_fragment: bool,
}

impl Layout {
    /// Finds the headers. `None` unless every IP packet is in order and ends with the frame, and for headers beyond
    /// the bounds of the walk.
    pub fn parse(octets: &[u8]) -> Option<Layout> {
        let headers = Headers::parse(octets);
        let first = headers.network_offset();
        let whole = headers.network_end == octets.len();
        let (ip, upper) = match (headers.network, headers.upper) {
            (Network::Ipv4, upper) if whole => (Ip::V4 { at: first }, upper),
            (Network::Ipv6, upper) if whole => (Ip::V6 { at: first }, upper),
            _ => return None,
        };
        let (protocol, transport) = place(upper)?;
        let (offset, is_fragment) =
            headers.fragment.map_or((0, false), |fragment| (usize::from(fragment.offset), true));
        let layout = Layout {
            outer: None,
            tunnel: Tunnel::None,
            inner: ip,
            transport,
            protocol,
            fragment_offset: offset,
            is_fragment,
        };
        match protocol {
            IpProtocol::IPV4 | IpProtocol::IPV6 if !is_fragment => layout.enter(octets),
            _ => Some(layout),
        }
    }

    /// Goes on into the packet that the transport "header" is; a tunnel in a tunnel is not followed.
    fn enter(self, octets: &[u8]) -> Option<Layout> {
        let at = self.transport;
        let packet = &octets[at..];
        let (inner, upper, fragment) = if self.protocol == IpProtocol::IPV4 {
            let packet = Ipv4Packet::new_checked(packet).ok()?;
            if at + usize::from(packet.total_length()) != octets.len() {
                return None;
            }
            (Ip::V4 { at }, packet.upper(), packet.fragment())
        } else {
            let packet = Ipv6Packet::new_checked(packet).ok()?;
            if at + packet.total_len() != octets.len() {
                return None;
            }
            let extensions = packet.extension_headers();
            (Ip::V6 { at }, extensions.upper, extensions.fragment)
        };
        let (protocol, transport) = place(upper)?;
        let (fragment_offset, is_fragment) =
            fragment.map_or((0, false), |fragment| (usize::from(fragment.offset), true));
        Some(Layout {
            outer: Some(self.inner),
            tunnel: Tunnel::None,
            inner,
            transport: at + transport,
            protocol,
            fragment_offset,
            is_fragment,
        })
    }

    /// Goes on into the packet that a tunnel of UDP or GRE carries, whose header of `protocol` is at `transport`. What
    /// the tunnel has in front of the packet is not known, and need not be: every segment has it as it is.
    pub fn enter_tunnel(self, octets: &[u8], transport: usize, protocol: IpProtocol) -> Option<Layout> {
        if self.outer.is_some() || self.is_fragment {
            return None;
        }
        let header = &octets[self.transport..];
        let (tunnel, least) = match self.protocol {
            IpProtocol::UDP if usize::from(u16_at(header, 4)) == header.len() => {
                (Tunnel::Udp { at: self.transport }, UdpRepr::HEADER_LEN)
            }
            GRE if header.first_chunk() == Some(&[0, 0]) => (Tunnel::Gre, 4),
            _ => return None,
        };
        let inner = inner_packet(octets, transport, protocol)?;
        let (Ip::V4 { at } | Ip::V6 { at }) = inner;
        (at >= self.transport + least).then_some(Layout {
            outer: Some(self.inner),
            tunnel,
            inner,
            transport,
            protocol,
            fragment_offset: 0,
            is_fragment: false,
        })
    }

    /// Octets of all headers, with a TCP or UDP header that is there whole; `None` for other protocols.
    pub fn header_len(&self, octets: &[u8]) -> Option<usize> {
        if self.fragment_offset > 0 {
            return Some(self.transport);
        }
        let transport = &octets[self.transport..];
        let len = match self.protocol {
            IpProtocol::TCP => 4 * usize::from(transport.get(12)? >> 4),
            IpProtocol::UDP => UdpRepr::HEADER_LEN,
            _ => return None,
        };
        let least =
            if self.protocol == IpProtocol::TCP { TcpRepr::MIN_HEADER_LEN } else { UdpRepr::HEADER_LEN };
        (len >= least && len <= transport.len()).then_some(self.transport + len)
    }

    /// The sum of the pseudo header without the length.
    ///
    /// With a routing header that has segments left the final receiver's address stands there, and the sender has
    /// put the sum that belongs to it in the checksum field (RFC 8200 section 8.1).
    pub fn pseudo_header(&self, octets: &[u8]) -> Sum {
        match self.inner {
            Ip::V6 { at } if self.is_routed(octets, at) => {
                let offset = if self.protocol == IpProtocol::TCP { TCP_CHECKSUM } else { UDP_CHECKSUM };
                let length = (octets.len() - self.transport) as u16;
                Sum::new().add_word(u16_at(octets, self.transport + offset)).add_word(!length)
            }
            ip => ip.pseudo_header(octets, self.protocol),
        }
    }

    /// True if the checksum covers the addresses that stand in the IP header. With a routing header it covers the last
    /// address on the way (RFC 8200 8.1), which is somewhere in the routing header.
    pub fn has_both_addresses(&self, octets: &[u8]) -> bool {
        !matches!(self.inner, Ip::V6 { at } if self.is_routed(octets, at))
    }

    /// True if a routing header with segments left stands between the IPv6 header at `at` and the transport header.
    /// The walk that found the transport header has checked the lengths.
    fn is_routed(&self, octets: &[u8], at: usize) -> bool {
        let mut protocol = IpProtocol(octets[at + 6]);
        let mut header = at + Ipv6Repr::HEADER_LEN;
        while header < self.transport {
            let [next, length, _, segments_left] = array::<4>(octets, header);
            if protocol == IpProtocol::ROUTING && segments_left > 0 {
                return true;
            }
            header += match protocol {
                IpProtocol::FRAGMENT => 8,
                IpProtocol::AUTHENTICATION => 8 + 4 * usize::from(length),
                _ => 8 + 8 * usize::from(length),
            };
            protocol = IpProtocol(next);
        }
        false
    }
}

/// RFC 2784.
const GRE: IpProtocol = IpProtocol(47);

impl Ip {
    /// The sum of the pseudo header without the length, of the addresses in this header.
    pub fn pseudo_header(self, octets: &[u8], protocol: IpProtocol) -> Sum {
        let addresses = match self {
            Ip::V4 { at } => {
                let [a, b, c, d, e, f, g, h] = array::<8>(octets, at + 12);
                Addresses::V4 { source: [a, b, c, d].into(), destination: [e, f, g, h].into() }
            }
            Ip::V6 { at } => Addresses::V6 {
                source: array::<16>(octets, at + 8).into(),
                destination: array::<16>(octets, at + 24).into(),
            },
        };
        addresses.pseudo_header(protocol, 0)
    }
}

/// The IP header right in front of a transport header, without options, whose packet ends with the frame.
fn inner_packet(octets: &[u8], transport: usize, protocol: IpProtocol) -> Option<Ip> {
    let v4 = |at: usize| {
        let header = octets.get(at..)?.first_chunk::<20>()?;
        let is_whole = usize::from(u16_at(header, 2)) == octets.len() - at && u16_at(header, 6) & 0x3fff == 0;
        (header[0] == 0x45 && header[9] == protocol.0 && is_whole).then_some(Ip::V4 { at })
    };
    let v6 = |at: usize| {
        let header = octets.get(at..)?.first_chunk::<40>()?;
        let is_whole = usize::from(u16_at(header, 4)) == octets.len() - at - 40;
        (header[0] >> 4 == 6 && header[6] == protocol.0 && is_whole).then_some(Ip::V6 { at })
    };
    let v4 = transport.checked_sub(20).and_then(v4);
    v4.or_else(|| transport.checked_sub(40).and_then(v6))
}

fn place(upper: Upper) -> Option<(IpProtocol, usize)> {
    match upper {
        Upper::Header { protocol, offset } | Upper::LaterFragment { protocol, offset } => {
            Some((protocol, offset))
        }
        Upper::Absent | Upper::Undecidable(_) => None,
    }
}
