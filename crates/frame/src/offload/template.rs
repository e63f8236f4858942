//! The headers of a segmentation frame, taken apart so that each segment's are patched with few additions.

use super::layout::{Ip, Layout, Tunnel};
use super::validate::{Cut, Kind};
use crate::checksum::Sum;
use crate::wire::field::{array, put_u16, u16_at};
use crate::wire::{IpProtocol, TCP_CHECKSUM, TcpFlags, UDP_CHECKSUM};

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// Turns copies of a segmentation frame's headers into those of its segments.
pub(super) struct Template {
    outer: Option<IpHeader>,
    inner: IpHeader,
    upper: Upper,
    tunnel: Option<TunnelHeader>,
    last: usize,
}

/// The header of UDP around an inner packet.
struct TunnelHeader {
    at: usize,
    /// Pseudo header without length, when the sender wants a checksum.
    sum: Option<Sum>,
}

enum IpHeader {
    V4 {
        at: usize,
        identification: u16,
        /// Added to the identification from one segment to the next: 0 or 1.
        step: u16,
        flags: u16,
        /// Units of 8 octets from one fragment to the next; 0 when the segments are no fragments.
        fragment_units: u16,
        /// The sum of all words of the header that no segment changes.
        sum: Sum,
    },
    V6 {
        at: usize,
    },
}

enum Upper {
    Tcp {
        at: usize,
        sequence: u32,
        size: u32,
        /// The word with data offset and flags, as it came.
        flags: u16,
        /// Pseudo header without length, and all words of the TCP header that no segment changes.
        sum: Sum,
        partial: bool,
    },
    Datagram {
        at: usize,
        /// Pseudo header without length, and the ports.
        sum: Sum,
        partial: bool,
    },
    /// The first fragment has the checksum of the whole datagram, if it has to be written.
    Fragment { checksum: Option<(usize, u16)> },
}

impl Template {
    /// Takes apart the headers of the frame in `octets`. With `partial` the segments' checksum fields hold the sum of
    /// the pseudo header only.
    pub fn new(octets: &[u8], cut: &Cut, partial: bool) -> Template {
        let Layout { outer, inner, tunnel, .. } = cut.layout;
        let tunnel = match (tunnel, outer) {
            (Tunnel::Udp { at }, Some(outer)) => {
                let has_sum = u16_at(octets, at + UDP_CHECKSUM) != 0;
                let sum = has_sum.then(|| outer.pseudo_header(octets, IpProtocol::UDP));
                Some(TunnelHeader { at, sum })
            }
            _ => None,
        };
        let outer = outer.map(|ip| IpHeader::new(octets, ip));
        let mut inner = IpHeader::new(octets, inner);
        if let (Kind::Fragments, IpHeader::V4 { step, fragment_units, .. }) = (cut.kind, &mut inner) {
            *step = 0;
            // A segment has less than 64 KiB.
            *fragment_units = (cut.size / 8) as u16;
        }
        Template { outer, inner, upper: Upper::new(octets, cut, partial), tunnel, last: cut.count - 1 }
    }

    /// Patches the headers of segment `index`, which is whole: headers as in the frame, and its own payload.
    #[inline]
    pub fn patch(&self, segment: &mut [u8], index: usize) {
        if let Some(outer) = &self.outer {
            outer.patch(segment, index, self.last);
        }
        self.inner.patch(segment, index, self.last);
        self.upper.patch(segment, index, self.last);
        // The last, as its checksum covers the rest.
        if let Some(tunnel) = &self.tunnel {
            tunnel.patch(segment);
        }
    }
}

impl IpHeader {
    fn new(octets: &[u8], ip: Ip) -> IpHeader {
        match ip {
            Ip::V6 { at } => IpHeader::V6 { at },
            Ip::V4 { at } => {
                let header = &octets[at..at + 4 * usize::from(octets[at] & 0x0f)];
                let (identification, flags) = (u16_at(header, 4), u16_at(header, 6));
                // A sender that numbers nothing that must not be fragmented keeps it at 0 (RFC 6864 section 4.1).
                let fixed = identification == 0 && flags & DONT_FRAGMENT != 0;
                let sum =
                    Sum::new().add_octets(&header[..2]).add_octets(&header[8..10]).add_octets(&header[12..]);
                let step = u16::from(!fixed);
                IpHeader::V4 { at, identification, step, flags, fragment_units: 0, sum }
            }
        }
    }

    #[inline]
    fn patch(&self, segment: &mut [u8], index: usize, last: usize) {
        match *self {
            // Validation has bounded the length to 16 bits and the index to nine.
            IpHeader::V4 { at, identification, step, flags, fragment_units, sum } => {
                let length = (segment.len() - at) as u16;
                let identification = identification.wrapping_add(step * index as u16);
                let fragment = if fragment_units == 0 {
                    flags
                } else {
                    let more = if index < last { MORE_FRAGMENTS } else { 0 };
                    let offset = (flags & FRAGMENT_OFFSET) + fragment_units * index as u16;
                    flags & !FRAGMENT_OFFSET | more | offset
                };
                let sum = sum.add_word(length).add_word(identification).add_word(fragment);
                put_u16(segment, at + 2, length);
                put_u16(segment, at + 4, identification);
                put_u16(segment, at + 6, fragment);
                put_u16(segment, at + 10, sum.checksum());
            }
            IpHeader::V6 { at } => {
                let length = (segment.len() - at - 40) as u16;
                put_u16(segment, at + 4, length);
            }
        }
    }
}

impl TunnelHeader {
    fn patch(&self, segment: &mut [u8]) {
        let datagram = &mut segment[self.at..];
        let length = datagram.len() as u16;
        put_u16(datagram, 4, length);
        if let Some(sum) = self.sum {
            put_u16(datagram, UDP_CHECKSUM, 0);
            let checksum = sum.add_word(length).add_octets(datagram).udp_checksum();
            put_u16(datagram, UDP_CHECKSUM, checksum);
        }
    }
}

impl Upper {
    fn new(octets: &[u8], cut: &Cut, partial: bool) -> Upper {
        let at = cut.layout.transport;
        match cut.kind {
            Kind::Tcp => {
                let header = &octets[at..cut.headers];
                let pseudo = cut.layout.pseudo_header(octets);
                let sum = if partial {
                    pseudo
                } else {
                    // All but sequence number, flags and checksum.
                    pseudo
                        .add_octets(&header[..4])
                        .add_octets(&header[8..12])
                        .add_octets(&header[14..16])
                        .add_octets(&header[18..])
                };
                Upper::Tcp {
                    at,
                    sequence: u32::from_be_bytes(array(header, 4)),
                    size: cut.size as u32,
                    flags: u16_at(header, 12),
                    sum,
                    partial,
                }
            }
            Kind::Datagrams => {
                let pseudo = cut.layout.pseudo_header(octets);
                let sum = if partial { pseudo } else { pseudo.add_octets(&octets[at..at + 4]) };
                Upper::Datagram { at, sum, partial }
            }
            Kind::Fragments => {
                let datagram = &octets[at..];
                let checksum = cut.request.needs_checksum().then(|| {
                    let sum = cut.layout.pseudo_header(octets).add_word(datagram.len() as u16);
                    let sum = sum.add_octets(&datagram[..UDP_CHECKSUM]);
                    (at + UDP_CHECKSUM, sum.add_octets(&datagram[UDP_CHECKSUM + 2..]).udp_checksum())
                });
                Upper::Fragment { checksum }
            }
        }
    }

    #[inline]
    fn patch(&self, segment: &mut [u8], index: usize, last: usize) {
        match *self {
            Upper::Tcp { at, sequence, size, flags, sum, partial } => {
                let header = &mut segment[at..];
                let length = header.len() as u16;
                let sequence = sequence.wrapping_add(size * index as u32);
                let flags = flags & flags_kept(index, last);
                header[4..8].copy_from_slice(&sequence.to_be_bytes());
                put_u16(header, 12, flags);
                let sum = sum.add_word(length);
                let checksum = if partial {
                    sum.fold()
                } else {
                    put_u16(header, TCP_CHECKSUM, 0);
                    // What was summed up beforehand is options, in front of the payload: an even number of octets.
                    sum.add_word((sequence >> 16) as u16)
                        .add_word(sequence as u16)
                        .add_word(flags)
                        .add_octets(&header[4 * usize::from(flags >> 12)..])
                        .checksum()
                };
                put_u16(header, TCP_CHECKSUM, checksum);
            }
            Upper::Datagram { at, sum, partial } => {
                let datagram = &mut segment[at..];
                let length = datagram.len() as u16;
                put_u16(datagram, 4, length);
                let sum = sum.add_word(length);
                let checksum = if partial {
                    sum.fold()
                } else {
                    sum.add_word(length).add_octets(&datagram[8..]).udp_checksum()
                };
                put_u16(datagram, UDP_CHECKSUM, checksum);
            }
            Upper::Fragment { checksum: Some((at, checksum)) } if index == 0 => {
                put_u16(segment, at, checksum)
            }
            Upper::Fragment { .. } => {}
        }
    }
}

/// Which bits of the word with the TCP flags a segment keeps: FIN and PSH only the last, CWR only the first.
#[inline]
fn flags_kept(index: usize, last: usize) -> u16 {
    let ends = if index == last { 0 } else { (TcpFlags::FIN | TcpFlags::PSH).0 };
    let begins = if index == 0 { 0 } else { TcpFlags::CWR.0 };
    !(ends | begins)
}
