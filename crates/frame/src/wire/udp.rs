use super::field::{cut, cut_mut, put, u16_at};
use super::{IpProtocol, Malformed};
use crate::checksum::{Addresses, Sum};

const SOURCE: usize = 0;
const DESTINATION: usize = 2;
const LENGTH: usize = 4;
pub(crate) const CHECKSUM: usize = 6;
const PAYLOAD: usize = 8;

/// A view of a UDP datagram (RFC 768).
#[derive(Debug, Clone, Copy)]
pub struct UdpDatagram<T> {
    octets: T,
}

impl<T: AsRef<[u8]>> UdpDatagram<T> {
    /// Checks the length field; a first fragment fails, as its datagram reaches beyond it.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] below 8 octets, [`Malformed::Length`] unless 8 ≤ length ≤ octets (RFC 2675's
    /// length 0 is not supported).
    #[inline]
    pub fn new_checked(octets: T) -> Result<Self, Malformed> {
        let datagram = octets.as_ref();
        if datagram.len() < UdpRepr::HEADER_LEN {
            return Err(Malformed::Truncated);
        }
        let length = usize::from(u16_at(datagram, LENGTH));
        if length < UdpRepr::HEADER_LEN || length > datagram.len() {
            return Err(Malformed::Length);
        }
        Ok(UdpDatagram { octets })
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

    /// Octets of the datagram, header included.
    #[inline]
    pub fn length(&self) -> u16 {
        u16_at(self.octets.as_ref(), LENGTH)
    }

    /// The checksum as sent; 0 is none.
    #[inline]
    pub fn checksum(&self) -> u16 {
        u16_at(self.octets.as_ref(), CHECKSUM)
    }

    /// True if the checksum is right, or absent where that is allowed: over IPv4 (RFC 768), not over IPv6
    /// (RFC 8200 section 8.1).
    #[inline]
    pub fn verify_checksum(&self, addresses: &Addresses) -> bool {
        if self.checksum() == 0 {
            return matches!(addresses, Addresses::V4 { .. });
        }
        self.sum(addresses).is_valid()
    }

    /// Returns the octets behind the header, within the length field.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        cut(self.octets.as_ref(), PAYLOAD, usize::from(self.length()))
    }

    #[inline]
    fn sum(&self, addresses: &Addresses) -> Sum {
        addresses.pseudo_header(IpProtocol::UDP, u32::from(self.length())).add_octets(cut(
            self.octets.as_ref(),
            0,
            usize::from(self.length()),
        ))
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> UdpDatagram<T> {
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

    /// Sets the length, header included; the payload ends with the octets at the latest.
    #[inline]
    pub fn set_length(&mut self, length: u16) {
        put(self.octets.as_mut(), LENGTH, &length.to_be_bytes());
    }

    /// Sets the checksum; 0 is none.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        put(self.octets.as_mut(), CHECKSUM, &checksum.to_be_bytes());
    }

    /// Computes the checksum and sets it, a computed 0 as `0xffff`.
    #[inline]
    pub fn fill_checksum(&mut self, addresses: &Addresses) {
        self.set_checksum(0);
        let sum = self.sum(addresses).udp_checksum();
        self.set_checksum(sum);
    }

    /// Returns the payload behind the header, mutable.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let end = usize::from(self.length());
        cut_mut(self.octets.as_mut(), PAYLOAD, end)
    }
}

/// The fields of a UDP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpRepr {
    /// The sender's port.
    pub source_port: u16,
    /// The receiver's port.
    pub destination_port: u16,
}

impl UdpRepr {
    /// Octets of the header.
    pub const HEADER_LEN: usize = PAYLOAD;

    /// Reads the fields.
    #[inline]
    pub fn parse<T: AsRef<[u8]>>(datagram: &UdpDatagram<T>) -> Self {
        UdpRepr { source_port: datagram.source_port(), destination_port: datagram.destination_port() }
    }

    /// Writes the header, length and checksum included, in front of the payload, which is the rest of `octets`.
    ///
    /// # Panics
    /// If `octets` is shorter than the header or longer than 65535.
    pub fn emit(&self, octets: &mut [u8], addresses: &Addresses) {
        let length = u16::try_from(octets.len()).expect("a UDP datagram has 16-bit length");
        put(octets, SOURCE, &self.source_port.to_be_bytes());
        put(octets, DESTINATION, &self.destination_port.to_be_bytes());
        put(octets, LENGTH, &length.to_be_bytes());
        UdpDatagram { octets }.fill_checksum(addresses);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: Addresses = Addresses::V4 {
        source: std::net::Ipv4Addr::new(192, 168, 1, 1),
        destination: std::net::Ipv4Addr::new(192, 168, 1, 2),
    };
    const V6: Addresses = Addresses::V6 {
        source: std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
        destination: std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2),
    };
    const REPR: UdpRepr = UdpRepr { source_port: 53, destination_port: 4097 };

    /// From port 53 to 4097, payload `aa bb cc`.
    fn datagram(checksum: u16) -> [u8; 11] {
        let [high, low] = checksum.to_be_bytes();
        [0x00, 0x35, 0x10, 0x01, 0x00, 0x0b, high, low, 0xaa, 0xbb, 0xcc]
    }

    #[test]
    fn fields() {
        let octets = [&datagram(0x1234)[..], &[0; 3]].concat();
        let datagram = UdpDatagram::new_checked(&octets).unwrap();

        assert_eq!(UdpRepr::parse(&datagram), REPR);
        assert_eq!((datagram.length(), datagram.checksum()), (11, 0x1234));
        assert_eq!(datagram.payload(), [0xaa, 0xbb, 0xcc]);
    }

    #[test]
    fn checksums_over_both_families() {
        for (addresses, checksum) in [(V4, 0xf591), (V6, 0x7be1)] {
            let mut octets = datagram(0);
            REPR.emit(&mut octets, &addresses);
            assert_eq!(octets, datagram(checksum));
            assert!(UdpDatagram::new_checked(octets).unwrap().verify_checksum(&addresses));
            octets[8] ^= 1;
            assert!(!UdpDatagram::new_checked(octets).unwrap().verify_checksum(&addresses));
        }
    }

    #[test]
    fn no_checksum_is_for_ipv4_only() {
        let datagram = UdpDatagram::new_checked(datagram(0)).unwrap();

        assert!(datagram.verify_checksum(&V4));
        assert!(!datagram.verify_checksum(&V6));
    }

    #[test]
    fn a_computed_zero_goes_out_as_ones() {
        // A last word that is the checksum without it makes the whole add up to 0xffff.
        let mut octets = [0; 10];
        REPR.emit(&mut octets, &V4);
        let rest = UdpDatagram::new_checked(octets).unwrap().checksum();
        octets[8..].copy_from_slice(&rest.to_be_bytes());
        REPR.emit(&mut octets, &V4);

        let datagram = UdpDatagram::new_checked(octets).unwrap();
        assert_eq!(datagram.checksum(), 0xffff);
        assert!(datagram.verify_checksum(&V4));
    }

    #[test]
    fn setters() {
        let mut datagram = UdpDatagram::new_checked(datagram(0)).unwrap();
        datagram.set_source_port(1);
        datagram.set_destination_port(2);
        datagram.payload_mut()[0] = 0;
        datagram.set_length(9);
        datagram.set_checksum(3);
        assert_eq!(datagram.into_inner(), [0, 1, 0, 2, 0, 9, 0, 3, 0, 0xbb, 0xcc]);
    }

    #[test]
    fn contradictions_are_refused() {
        assert_eq!(UdpDatagram::new_checked(&datagram(0)[..7]).unwrap_err(), Malformed::Truncated);
        assert_eq!(UdpDatagram::new_checked(&datagram(0)[..10]).unwrap_err(), Malformed::Length);
        let mut octets = datagram(0);
        octets[5] = 7;
        assert_eq!(UdpDatagram::new_checked(octets).unwrap_err(), Malformed::Length);
    }
}
