use core::fmt;

use super::field::{put, u16_at};
use super::{Malformed, VlanTags};
use crate::{ETHERNET_HEADER, MacAddr};

/// The type field of an Ethernet header (IEEE 802.3 3.2.6, numbers of the IEEE Registration Authority).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EtherType(pub u16);

impl EtherType {
    /// IPv4 (RFC 894).
    pub const IPV4: EtherType = EtherType(0x0800);
    /// ARP (RFC 826).
    pub const ARP: EtherType = EtherType(0x0806);
    /// Reverse ARP, which hypervisors broadcast after a migration (RFC 903).
    pub const RARP: EtherType = EtherType(0x8035);
    /// Customer VLAN tag (IEEE 802.1Q-2022 table 9-1).
    pub const CUSTOMER_TAG: EtherType = EtherType(0x8100);
    /// IPv6 (RFC 2464).
    pub const IPV6: EtherType = EtherType(0x86dd);
    /// MAC control: PAUSE and priority flow control (IEEE 802.3 31.4).
    pub const MAC_CONTROL: EtherType = EtherType(0x8808);
    /// Slow protocols: LACP, marker, OAM (IEEE 802.3 57A).
    pub const SLOW: EtherType = EtherType(0x8809);
    /// EAP over LAN (IEEE 802.1X).
    pub const EAPOL: EtherType = EtherType(0x888e);
    /// First of the two types for local experiments (IEEE 802-2014 9.2.3).
    pub const LOCAL_EXPERIMENTAL_1: EtherType = EtherType(0x88b5);
    /// Second of the two types for local experiments (IEEE 802-2014 9.2.3).
    pub const LOCAL_EXPERIMENTAL_2: EtherType = EtherType(0x88b6);
    /// Service VLAN tag (IEEE 802.1Q-2022 table 9-1).
    pub const SERVICE_TAG: EtherType = EtherType(0x88a8);
    /// Link Layer Discovery Protocol (IEEE 802.1AB).
    pub const LLDP: EtherType = EtherType(0x88cc);
    /// Configuration testing protocol, the loop probe that switches send (Ethernet V2.0 8).
    pub const LOOPBACK: EtherType = EtherType(0x9000);

    /// True if the field is a length in octets and an LLC header follows (IEEE 802.3 3.2.6: at most 1500).
    #[inline]
    pub const fn is_length(self) -> bool {
        self.0 <= 1500
    }

    /// True if a tag control field follows, and another type after it.
    #[inline]
    pub const fn is_tag(self) -> bool {
        self.0 == Self::CUSTOMER_TAG.0 || self.0 == Self::SERVICE_TAG.0
    }
}

impl fmt::Display for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:04x}", self.0)
    }
}

impl fmt::Debug for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

const DESTINATION: usize = 0;
const SOURCE: usize = 6;
const TYPE: usize = 12;

/// A view of an Ethernet frame without preamble and FCS (IEEE 802.3 3.1.1).
#[derive(Debug, Clone, Copy)]
pub struct EthernetFrame<T> {
    octets: T,
}

impl<T: AsRef<[u8]>> EthernetFrame<T> {
    /// Checks that the 14-octet header is there.
    ///
    /// # Errors
    /// [`Malformed::Truncated`].
    #[inline]
    pub fn new_checked(octets: T) -> Result<Self, Malformed> {
        if octets.as_ref().len() < ETHERNET_HEADER {
            return Err(Malformed::Truncated);
        }
        Ok(EthernetFrame { octets })
    }

    /// The octets back.
    #[inline]
    pub fn into_inner(self) -> T {
        self.octets
    }

    /// The destination address.
    #[inline]
    pub fn destination(&self) -> MacAddr {
        MacAddr::from_slice(&self.octets.as_ref()[DESTINATION..])
    }

    /// The source address.
    #[inline]
    pub fn source(&self) -> MacAddr {
        MacAddr::from_slice(&self.octets.as_ref()[SOURCE..])
    }

    /// The type or length field right after the addresses; of a tagged frame the tag's.
    #[inline]
    pub fn ethertype(&self) -> EtherType {
        EtherType(u16_at(self.octets.as_ref(), TYPE))
    }

    /// The tags and the type after them.
    ///
    /// # Errors
    /// As [`VlanTags::parse`].
    #[inline]
    pub fn tags(&self) -> Result<VlanTags, Malformed> {
        VlanTags::parse(self.octets.as_ref())
    }

    /// Returns the octets behind the 14-octet header, tags and padding included.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.octets.as_ref()[ETHERNET_HEADER..]
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> EthernetFrame<T> {
    /// Sets the destination address.
    #[inline]
    pub fn set_destination(&mut self, address: MacAddr) {
        put(self.octets.as_mut(), DESTINATION, &address.0);
    }

    /// Sets the source address.
    #[inline]
    pub fn set_source(&mut self, address: MacAddr) {
        put(self.octets.as_mut(), SOURCE, &address.0);
    }

    /// Sets the type right after the addresses.
    #[inline]
    pub fn set_ethertype(&mut self, ethertype: EtherType) {
        put(self.octets.as_mut(), TYPE, &ethertype.0.to_be_bytes());
    }

    /// Returns the payload behind the 14-octet header, mutable.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.octets.as_mut()[ETHERNET_HEADER..]
    }
}

/// The fields of an untagged Ethernet header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EthernetRepr {
    /// The destination address.
    pub destination: MacAddr,
    /// The source address.
    pub source: MacAddr,
    /// The type of the payload.
    pub ethertype: EtherType,
}

impl EthernetRepr {
    /// Octets that [`EthernetRepr::emit`] writes.
    pub const HEADER_LEN: usize = ETHERNET_HEADER;

    /// Reads the fields.
    #[inline]
    pub fn parse<T: AsRef<[u8]>>(frame: &EthernetFrame<T>) -> Self {
        EthernetRepr {
            destination: frame.destination(),
            source: frame.source(),
            ethertype: frame.ethertype(),
        }
    }

    /// Writes the header to the first 14 octets.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline]
    pub fn emit(&self, octets: &mut [u8]) {
        put(octets, DESTINATION, &self.destination.0);
        put(octets, SOURCE, &self.source.0);
        put(octets, TYPE, &self.ethertype.0.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: [u8; 16] =
        [0x33, 0x33, 0x00, 0x00, 0x00, 0x01, 0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 0x86, 0xdd, 0x60, 0x00];

    #[test]
    fn fields() {
        let frame = EthernetFrame::new_checked(&FRAME).unwrap();

        assert_eq!(frame.destination(), MacAddr([0x33, 0x33, 0, 0, 0, 1]));
        assert_eq!(frame.source(), MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]));
        assert_eq!(frame.ethertype(), EtherType::IPV6);
        assert_eq!(frame.payload(), [0x60, 0x00]);
    }

    #[test]
    fn thirteen_octets_are_no_frame() {
        assert_eq!(EthernetFrame::new_checked(&FRAME[..13]).unwrap_err(), Malformed::Truncated);
        assert!(EthernetFrame::new_checked(&FRAME[..14]).unwrap().payload().is_empty());
    }

    #[test]
    fn emit_writes_what_parse_read() {
        let repr = EthernetRepr::parse(&EthernetFrame::new_checked(&FRAME).unwrap());
        let mut octets = [0; 14];
        repr.emit(&mut octets);
        assert_eq!(octets, FRAME[..14]);
    }

    #[test]
    fn setters() {
        let mut frame = EthernetFrame::new_checked(FRAME).unwrap();
        frame.set_destination(MacAddr([1, 2, 3, 4, 5, 6]));
        frame.set_source(MacAddr([7, 8, 9, 10, 11, 12]));
        frame.set_ethertype(EtherType::ARP);
        frame.payload_mut()[1] = 0xff;
        assert_eq!(frame.into_inner(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 8, 6, 0x60, 0xff]);
    }

    #[test]
    fn length_or_type() {
        assert!(EtherType(1500).is_length());
        assert!(!EtherType(1501).is_length());
        assert!(!EtherType::IPV4.is_length());
        assert_eq!(EtherType::LLDP.to_string(), "0x88cc");
    }
}
