//! The Internet checksum: sums, pseudo headers and incremental updates (RFC 1071, RFC 1624).
//!
//! [`Sum`] adds octets in any number of pieces of any length; [`Sum::checksum`] is what goes into a header.
//! A header whose checksum is right adds up to `0xffff`, see [`Sum::is_valid`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::IpProtocol;

/// A ones' complement sum over octets, not yet inverted (RFC 1071 section 1).
///
/// The octets are 16-bit words in network order; a piece of odd length leaves the next piece to start in
/// the middle of a word, so that splitting the octets anywhere gives the same sum.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum {
    /// Folded after every addition, so it never holds more than 17 bits.
    words: u32,
    odd: bool,
}

impl Sum {
    /// The sum of no octets.
    #[inline]
    pub const fn new() -> Self {
        Sum { words: 0, odd: false }
    }

    /// Adds octets that follow those added before.
    #[inline]
    #[must_use]
    pub fn add_octets(self, octets: &[u8]) -> Self {
        let mut word = sum_octets(octets);
        if self.odd {
            // RFC 1071 section 2(B): octets in the other halves of their words add up to the swapped sum.
            word = word.swap_bytes();
        }
        Sum { words: u32::from(self.fold()) + u32::from(word), odd: self.odd ^ (octets.len() % 2 == 1) }
    }

    /// Adds one 16-bit word that stands at an even place, wherever the octets added so far end.
    #[inline]
    #[must_use]
    pub const fn add_word(self, word: u16) -> Self {
        Sum { words: self.fold() as u32 + word as u32, odd: self.odd }
    }

    /// The 16-bit sum.
    #[inline]
    pub const fn fold(self) -> u16 {
        // At most 2 × 0xffff is held: one carry, and adding it cannot carry again.
        ((self.words & 0xffff) + (self.words >> 16)) as u16
    }

    /// The checksum: the inverted sum.
    #[inline]
    pub const fn checksum(self) -> u16 {
        !self.fold()
    }

    /// The checksum as UDP sends it: a computed 0 goes out as `0xffff`, since 0 means "none" (RFC 768).
    #[inline]
    pub const fn udp_checksum(self) -> u16 {
        match self.checksum() {
            0 => 0xffff,
            checksum => checksum,
        }
    }

    /// True if octets that hold their own checksum add up as they should.
    #[inline]
    pub const fn is_valid(self) -> bool {
        self.fold() == 0xffff
    }
}

/// The checksum of octets that stand alone, such as an IPv4 header with its checksum field zero.
#[inline]
pub fn checksum(octets: &[u8]) -> u16 {
    Sum::new().add_octets(octets).checksum()
}

/// The checksum after one 16-bit word under it changed from `old` to `new` (RFC 1624 equation 3).
///
/// UDP's rule for 0 is the caller's: a UDP checksum of 0 must not be updated, and a result of 0 is sent as `0xffff`.
#[inline]
#[must_use]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    !Sum::new().add_word(!checksum).add_word(!old).add_word(new).fold()
}

/// The checksum after octets under it changed from `old` to `new`, such as an address (RFC 1624 equation 3).
///
/// Both start at an even place of what the checksum covers and have one length, which is even.
///
/// # Panics
/// If the lengths differ or are odd.
#[inline]
#[must_use]
pub fn update_octets(checksum: u16, old: &[u8], new: &[u8]) -> u16 {
    assert!(old.len() == new.len() && old.len().is_multiple_of(2), "whole words replace as many words");
    // The inverse of a sum is the sum of the inverses, so equation 3 holds for any number of words at once.
    update(checksum, sum_octets(old), sum_octets(new))
}

/// The addresses that a transport checksum covers through its pseudo header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Addresses {
    /// Of an IPv4 packet.
    V4 {
        /// The sender.
        source: Ipv4Addr,
        /// The final receiver.
        destination: Ipv4Addr,
    },
    /// Of an IPv6 packet.
    V6 {
        /// The sender.
        source: Ipv6Addr,
        /// The final receiver: with a routing header that still has segments left, not the one in the IPv6 header.
        destination: Ipv6Addr,
    },
}

impl Addresses {
    /// The sender.
    pub fn source(&self) -> IpAddr {
        match *self {
            Addresses::V4 { source, .. } => source.into(),
            Addresses::V6 { source, .. } => source.into(),
        }
    }

    /// The receiver.
    pub fn destination(&self) -> IpAddr {
        match *self {
            Addresses::V4 { destination, .. } => destination.into(),
            Addresses::V6 { destination, .. } => destination.into(),
        }
    }

    /// The sum of the pseudo header (RFC 9293 section 3.1, RFC 768, RFC 8200 section 8.1).
    ///
    /// `length` is that of the transport header and its payload, in octets.
    #[inline]
    pub fn pseudo_header(&self, protocol: IpProtocol, length: u32) -> Sum {
        let sum = match self {
            Addresses::V4 { source, destination } => {
                Sum::new().add_octets(&source.octets()).add_octets(&destination.octets())
            }
            Addresses::V6 { source, destination } => {
                Sum::new().add_octets(&source.octets()).add_octets(&destination.octets())
            }
        };
        sum.add_word((length >> 16) as u16).add_word(length as u16).add_word(u16::from(protocol.0))
    }
}

/// The folded sum of octets as network-order words, an odd last octet padded with zero.
#[inline]
fn sum_octets(octets: &[u8]) -> u16 {
    // The sum does not depend on the order of the octets in a word (RFC 1071 section 2(B)), so words are
    // added as the machine loads them, 32 bits to a 64-bit lane: no carry is lost below 2^32 additions. Four
    // independent lanes are what the compiler turns into vector additions.
    let mut lanes = [0u64; 4];
    let (blocks, rest) = octets.as_chunks::<32>();
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += halves(u64::from_ne_bytes(*word));
        }
    }
    let mut sum: u64 = lanes.iter().map(|&lane| halves(lane)).sum();
    let (words, rest) = rest.as_chunks::<8>();
    for word in words {
        sum += halves(u64::from_ne_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    sum += halves(u64::from_ne_bytes(last));

    sum = halves(sum);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::from_be(sum as u16)
}

/// Both 32-bit halves of a word added up; the ones' complement sum of its 16-bit words stays the same.
#[inline]
const fn halves(word: u64) -> u64 {
    (word & 0xffff_ffff) + (word >> 32)
}

#[cfg(test)]
mod tests;
