//! IP addresses, as far as several layers ask the same of them.

use std::net::{IpAddr, Ipv6Addr};

/// Tells whether one station can have the address (RFC 1122 section 3.2.1.3, RFC 1112 section 4, RFC 4291 section 2).
pub fn is_station(address: IpAddr) -> bool {
    let is_none = match address {
        IpAddr::V4(address) => address.octets()[0] == 0 || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unspecified(),
    };
    !(is_none || address.is_loopback() || address.is_multicast())
}

/// Tells whether two addresses are of one family and alike in their first `bits` bits.
pub fn begin_alike(one: IpAddr, other: IpAddr, bits: u8) -> bool {
    let bits = u32::from(bits);
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            (one.to_bits() ^ other.to_bits()).leading_zeros() >= bits.min(32)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            (one.to_bits() ^ other.to_bits()).leading_zeros() >= bits.min(128)
        }
        _ => false,
    }
}

/// The group that everybody joins who has `address` (RFC 4291 section 2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn addresses_of_nobody_everybody_and_the_host_itself_are_no_stations() {
        for address in ["0.1.2.3", "127.0.0.1", "224.0.0.1", "255.255.255.255", "::", "::1", "ff02::1"] {
            assert!(!is_station(ip(address)), "{address}");
        }
        assert!(["10.0.0.0", "169.254.1.1", "fe80::1", "2001:db8::"].map(ip).into_iter().all(is_station));
    }

    #[test]
    fn the_first_bits_count_and_only_within_a_family() {
        for (one, other, alike) in
            [("10.1.2.3", "10.1.2.2", 31), ("10.0.0.0", "138.0.0.0", 0), ("fd00::", "fd00:0:0:1::", 63)]
        {
            assert!(begin_alike(ip(one), ip(other), alike) && !begin_alike(ip(one), ip(other), alike + 1));
        }
        assert!(begin_alike(ip("::1"), ip("::1"), 128) && begin_alike(ip("10.0.0.1"), ip("10.0.0.1"), 32));
        assert!(!begin_alike(ip("0.0.0.0"), ip("::"), 0));
    }
}
