//! The walk over IPv6 extension headers.
//!
//! A packet's sender chooses how many there are and how long, so the walk is bounded in both. What it cannot
//! follow to the end is [`Upper::Undecidable`], so that a guard can drop what may hide a header from it
//! (RFC 7113 section 3); a receiver need not agree with the bounds.

use super::field::{u16_at, u32_at};
use super::{Fragment, IpProtocol, Ipv6Packet, Ipv6Repr, Undecidable, Upper};

/// How many extension headers are followed: each of RFC 8200's once, destination options twice, and one to spare.
pub const MAX_EXTENSION_HEADERS: usize = 8;

/// How many octets of extension headers are followed; real ones (router alert, segment routing, AH) take less.
pub const MAX_EXTENSION_OCTETS: usize = 512;

/// The content of the extension headers of an IPv6 packet (RFC 8200 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtensionHeaders {
    /// From the fragment header, if there is one; also there with offset 0 and no more to follow (RFC 6946).
    pub fragment: Option<Fragment>,
    /// The part behind the extension headers, with its offset from the start of the IPv6 header.
    pub upper: Upper,
    /// How many there are, as far as they were followed.
    pub count: usize,
}

impl ExtensionHeaders {
    /// Follows the headers to the upper layer, to the payload of a later fragment, or to a bound.
    pub fn walk<T: AsRef<[u8]>>(packet: &Ipv6Packet<T>) -> Self {
        let mut headers = ExtensionHeaders { fragment: None, upper: Upper::Absent, count: 0 };
        headers.upper =
            headers.follow(packet.next_header(), packet.payload()).unwrap_or_else(Upper::Undecidable);
        headers
    }

    fn follow(&mut self, first: IpProtocol, payload: &[u8]) -> Result<Upper, Undecidable> {
        let mut protocol = first;
        let mut at = 0;
        loop {
            let octets = &payload[at..];
            let Some(len) = header_len(protocol, octets)? else {
                let offset = Ipv6Repr::HEADER_LEN + at;
                return Ok(match protocol {
                    IpProtocol::NO_NEXT_HEADER => Upper::Absent,
                    _ => Upper::Header { protocol, offset },
                });
            };
            if protocol == IpProtocol::HOP_BY_HOP && self.count > 0 {
                return Err(Undecidable::Misplaced);
            }
            if self.count == MAX_EXTENSION_HEADERS {
                return Err(Undecidable::TooMany);
            }
            if at + len > MAX_EXTENSION_OCTETS {
                return Err(Undecidable::TooLong);
            }
            if len > octets.len() {
                return Err(Undecidable::Truncated);
            }
            self.count += 1;
            at += len;
            let next = IpProtocol(octets[0]);
            if protocol == IpProtocol::FRAGMENT {
                let fragment = fragment(octets);
                if self.fragment.replace(fragment).is_some() {
                    return Err(Undecidable::Repeated);
                }
                if !fragment.is_first() {
                    return Ok(Upper::LaterFragment { protocol: next, offset: Ipv6Repr::HEADER_LEN + at });
                }
            }
            protocol = next;
        }
    }
}

/// Octets of the extension header at the front, or nothing if `protocol` is none.
#[inline]
fn header_len(protocol: IpProtocol, octets: &[u8]) -> Result<Option<usize>, Undecidable> {
    let [unit, base] = match protocol {
        IpProtocol::HOP_BY_HOP
        | IpProtocol::ROUTING
        | IpProtocol::DESTINATION_OPTIONS
        | IpProtocol::MOBILITY
        | IpProtocol::HIP
        | IpProtocol::SHIM6 => [8, 8],
        // The second octet is reserved, not a length.
        IpProtocol::FRAGMENT => [0, 8],
        // In words of 4 octets, less 2 (RFC 4302 section 2.2).
        IpProtocol::AUTHENTICATION => [4, 8],
        _ => return Ok(None),
    };
    match octets {
        [_, length, ..] => Ok(Some(base + unit * usize::from(*length))),
        _ => Err(Undecidable::Truncated),
    }
}

/// Reads a fragment header (RFC 8200 section 4.5).
#[inline]
fn fragment(octets: &[u8]) -> Fragment {
    let place = u16_at(octets, 2);
    Fragment { offset: place & 0xfff8, more: place & 1 != 0, identification: u32_at(octets, 4) }
}

#[cfg(test)]
mod tests;
