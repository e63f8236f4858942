use core::iter::FusedIterator;
use core::ops::BitOr;

use super::field::{array, cut, put, u16_at, u32_at};
use super::{IpProtocol, Malformed, Options};
use crate::checksum::{Addresses, Sum};

/// The 12 bits after a TCP header's data offset: three reserved and nine control bits (RFC 9293 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TcpFlags(pub u16);

impl TcpFlags {
    /// The sender has finished.
    pub const FIN: TcpFlags = TcpFlags(0x001);
    /// Synchronises sequence numbers.
    pub const SYN: TcpFlags = TcpFlags(0x002);
    /// Resets the connection.
    pub const RST: TcpFlags = TcpFlags(0x004);
    /// Data to be delivered without waiting for more.
    pub const PSH: TcpFlags = TcpFlags(0x008);
    /// The acknowledgement number counts.
    pub const ACK: TcpFlags = TcpFlags(0x010);
    /// The urgent pointer counts.
    pub const URG: TcpFlags = TcpFlags(0x020);
    /// ECN echo (RFC 3168).
    pub const ECE: TcpFlags = TcpFlags(0x040);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: TcpFlags = TcpFlags(0x080);
    /// Accurate ECN, the former nonce sum (RFC 9768).
    pub const AE: TcpFlags = TcpFlags(0x100);

    /// True if all of `flags` are set.
    #[inline]
    pub const fn contains(self, flags: TcpFlags) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// True if any of `flags` is set.
    #[inline]
    pub const fn intersects(self, flags: TcpFlags) -> bool {
        self.0 & flags.0 != 0
    }

    /// These flags without `flags`.
    #[inline]
    #[must_use]
    pub const fn without(self, flags: TcpFlags) -> TcpFlags {
        TcpFlags(self.0 & !flags.0)
    }
}

impl BitOr for TcpFlags {
    type Output = TcpFlags;

    #[inline]
    fn bitor(self, other: TcpFlags) -> TcpFlags {
        TcpFlags(self.0 | other.0)
    }
}

const SOURCE: usize = 0;
const DESTINATION: usize = 2;
const SEQUENCE: usize = 4;
const ACKNOWLEDGEMENT: usize = 8;
const OFFSET_FLAGS: usize = 12;
const WINDOW: usize = 14;
pub(crate) const CHECKSUM: usize = 16;
const URGENT: usize = 18;
const OPTIONS: usize = 20;

const FLAGS: u16 = 0x0fff;

/// A view of a TCP segment (RFC 9293 section 3.1). The octets end where the IP packet does.
#[derive(Debug, Clone, Copy)]
pub struct TcpSegment<T> {
    octets: T,
}

impl<T: AsRef<[u8]>> TcpSegment<T> {
    /// Checks that the header with its options is there.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] below 20 octets, [`Malformed::Length`] unless 20 ≤ data offset ≤ octets.
    #[inline]
    pub fn new_checked(octets: T) -> Result<Self, Malformed> {
        let segment = octets.as_ref();
        if segment.len() < TcpRepr::MIN_HEADER_LEN {
            return Err(Malformed::Truncated);
        }
        let header = 4 * usize::from(segment[OFFSET_FLAGS] >> 4);
        if header < TcpRepr::MIN_HEADER_LEN || header > segment.len() {
            return Err(Malformed::Length);
        }
        Ok(TcpSegment { octets })
    }

    /// The octets back.
    #[inline]
    pub fn into_inner(self) -> T {
        self.octets
    }

    /// The sender's port.
    #[inline]
    pub fn source_port(&self) -> u16 {
        u16_at(self.octets.as_ref(), SOURCE)
    }

    /// The receiver's port.
    #[inline]
    pub fn destination_port(&self) -> u16 {
        u16_at(self.octets.as_ref(), DESTINATION)
    }

    /// The sequence number of the first octet of payload, or of SYN.
    #[inline]
    pub fn sequence(&self) -> u32 {
        u32_at(self.octets.as_ref(), SEQUENCE)
    }

    /// The sequence number expected next, with ACK.
    #[inline]
    pub fn acknowledgement(&self) -> u32 {
        u32_at(self.octets.as_ref(), ACKNOWLEDGEMENT)
    }

    /// Octets of the header with its options.
    #[inline]
    pub fn header_len(&self) -> usize {
        4 * usize::from(self.octets.as_ref()[OFFSET_FLAGS] >> 4)
    }

    /// The control bits.
    #[inline]
    pub fn flags(&self) -> TcpFlags {
        TcpFlags(u16_at(self.octets.as_ref(), OFFSET_FLAGS) & FLAGS)
    }

    /// The window, not scaled.
    #[inline]
    pub fn window(&self) -> u16 {
        u16_at(self.octets.as_ref(), WINDOW)
    }

    /// The checksum as sent.
    #[inline]
    pub fn checksum(&self) -> u16 {
        u16_at(self.octets.as_ref(), CHECKSUM)
    }

    /// The urgent pointer, with URG.
    #[inline]
    pub fn urgent(&self) -> u16 {
        u16_at(self.octets.as_ref(), URGENT)
    }

    /// True if the checksum is right.
    #[inline]
    pub fn verify_checksum(&self, addresses: &Addresses) -> bool {
        self.sum(addresses).is_valid()
    }

    /// The options as they stand in the header, padding included.
    #[inline]
    pub fn raw_options(&self) -> &[u8] {
        cut(self.octets.as_ref(), OPTIONS, self.header_len())
    }

    /// Walks the options.
    #[inline]
    pub fn options(&self) -> impl FusedIterator<Item = Result<TcpOption<'_>, Malformed>> {
        Options::new(self.raw_options())
            .map(|option| option.map(|field| TcpOption::new(field.kind, field.data)))
    }

    /// Returns the octets behind the header.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        let octets = self.octets.as_ref();
        cut(octets, self.header_len(), octets.len())
    }

    #[inline]
    fn sum(&self, addresses: &Addresses) -> Sum {
        let octets = self.octets.as_ref();
        addresses.pseudo_header(IpProtocol::TCP, octets.len() as u32).add_octets(octets)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> TcpSegment<T> {
    /// Sets the sender's port; the checksum is left as it was, as by all setters.
    #[inline]
    pub fn set_source_port(&mut self, port: u16) {
        put(self.octets.as_mut(), SOURCE, &port.to_be_bytes());
    }

    /// Sets the receiver's port.
    #[inline]
    pub fn set_destination_port(&mut self, port: u16) {
        put(self.octets.as_mut(), DESTINATION, &port.to_be_bytes());
    }

    /// Sets the sequence number.
    #[inline]
    pub fn set_sequence(&mut self, sequence: u32) {
        put(self.octets.as_mut(), SEQUENCE, &sequence.to_be_bytes());
    }

    /// Sets the acknowledgement number.
    #[inline]
    pub fn set_acknowledgement(&mut self, acknowledgement: u32) {
        put(self.octets.as_mut(), ACKNOWLEDGEMENT, &acknowledgement.to_be_bytes());
    }

    /// Sets the 12 bits after the data offset.
    #[inline]
    pub fn set_flags(&mut self, flags: TcpFlags) {
        let kept = u16_at(self.octets.as_ref(), OFFSET_FLAGS) & !FLAGS;
        put(self.octets.as_mut(), OFFSET_FLAGS, &(kept | flags.0 & FLAGS).to_be_bytes());
    }

    /// Sets the window.
    #[inline]
    pub fn set_window(&mut self, window: u16) {
        put(self.octets.as_mut(), WINDOW, &window.to_be_bytes());
    }

    /// Sets the checksum.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        put(self.octets.as_mut(), CHECKSUM, &checksum.to_be_bytes());
    }

    /// Sets the urgent pointer.
    #[inline]
    pub fn set_urgent(&mut self, urgent: u16) {
        put(self.octets.as_mut(), URGENT, &urgent.to_be_bytes());
    }

    /// Computes the checksum and sets it.
    #[inline]
    pub fn fill_checksum(&mut self, addresses: &Addresses) {
        self.set_checksum(0);
        let sum = self.sum(addresses).checksum();
        self.set_checksum(sum);
    }

    /// Returns the payload behind the header, mutable.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let start = self.header_len();
        &mut self.octets.as_mut()[start..]
    }
}

/// A TCP option (IANA TCP option kinds).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpOption<'a> {
    /// Largest segment that the sender of the option takes, in octets of payload (RFC 9293 section 3.7.1).
    MaximumSegmentSize(u16),
    /// By how many bits windows are shifted (RFC 7323 section 2).
    WindowScale(u8),
    /// Selective acknowledgements may be sent (RFC 2018 section 2).
    SackPermitted,
    /// Timestamps (RFC 7323 section 3).
    Timestamps {
        /// The sender's clock.
        value: u32,
        /// The clock that is echoed.
        echo: u32,
    },
    /// Another kind, or one of the above with an unusual length; selective acknowledgements are kind 5.
    Other {
        /// The kind of the option.
        kind: u8,
        /// Its value, without kind and length.
        data: &'a [u8],
    },
}

impl<'a> TcpOption<'a> {
    #[inline]
    fn new(kind: u8, data: &'a [u8]) -> Self {
        match (kind, data) {
            (2, &[high, low]) => TcpOption::MaximumSegmentSize(u16::from_be_bytes([high, low])),
            (3, &[shift]) => TcpOption::WindowScale(shift),
            (4, []) => TcpOption::SackPermitted,
            (8, data) if data.len() == 8 => TcpOption::Timestamps {
                value: u32::from_be_bytes(array(data, 0)),
                echo: u32::from_be_bytes(array(data, 4)),
            },
            _ => TcpOption::Other { kind, data },
        }
    }
}

/// The fields of a TCP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpRepr<'a> {
    /// The sender's port.
    pub source_port: u16,
    /// The receiver's port.
    pub destination_port: u16,
    /// The sequence number.
    pub sequence: u32,
    /// The acknowledgement number.
    pub acknowledgement: u32,
    /// The control bits.
    pub flags: TcpFlags,
    /// The window, not scaled.
    pub window: u16,
    /// The urgent pointer.
    pub urgent: u16,
    /// The options with their padding: a multiple of 4 and at most 40 octets.
    pub options: &'a [u8],
}

impl<'a> TcpRepr<'a> {
    /// Octets of a header without options.
    pub const MIN_HEADER_LEN: usize = OPTIONS;

    /// Reads the fields.
    pub fn parse<T: AsRef<[u8]>>(segment: &'a TcpSegment<T>) -> Self {
        TcpRepr {
            source_port: segment.source_port(),
            destination_port: segment.destination_port(),
            sequence: segment.sequence(),
            acknowledgement: segment.acknowledgement(),
            flags: segment.flags(),
            window: segment.window(),
            urgent: segment.urgent(),
            options: segment.raw_options(),
        }
    }

    /// Octets of the header.
    #[inline]
    pub fn header_len(&self) -> usize {
        OPTIONS + self.options.len()
    }

    /// Writes the header with its checksum in front of the payload, which is the rest of `octets`.
    ///
    /// # Panics
    /// If `octets` is shorter than the header or the options have no valid length.
    pub fn emit(&self, octets: &mut [u8], addresses: &Addresses) {
        assert!(self.options.len() <= 40 && self.options.len().is_multiple_of(4), "options fill whole words");
        let offset_flags = (self.header_len() as u16 / 4) << 12 | self.flags.0 & FLAGS;
        put(octets, SOURCE, &self.source_port.to_be_bytes());
        put(octets, DESTINATION, &self.destination_port.to_be_bytes());
        put(octets, SEQUENCE, &self.sequence.to_be_bytes());
        put(octets, ACKNOWLEDGEMENT, &self.acknowledgement.to_be_bytes());
        put(octets, OFFSET_FLAGS, &offset_flags.to_be_bytes());
        put(octets, WINDOW, &self.window.to_be_bytes());
        put(octets, URGENT, &self.urgent.to_be_bytes());
        put(octets, OPTIONS, self.options);
        TcpSegment { octets }.fill_checksum(addresses);
    }
}

#[cfg(test)]
mod tests;
