use core::fmt;
use core::str::FromStr;

/// A 48-bit MAC address in transmission order (IEEE 802-2014 8).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);
    /// All octets zero: no station's address.
    pub const ZERO: MacAddr = MacAddr([0; 6]);

    /// Takes the first six octets of `octets`.
    ///
    /// # Panics
    /// When there are fewer than six; callers have checked the frame's length before.
    #[inline]
    pub fn from_slice(octets: &[u8]) -> MacAddr {
        MacAddr(octets[..6].try_into().expect("six octets"))
    }

    /// True if the group bit is set; true for broadcast too.
    #[inline]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// True if the address is `ff:ff:ff:ff:ff:ff`.
    #[inline]
    pub fn is_broadcast(self) -> bool {
        self == MacAddr::BROADCAST
    }

    /// True if one station can own the address: it is neither a group address nor zero.
    #[inline]
    pub fn is_station(self) -> bool {
        !self.is_multicast() && self != MacAddr::ZERO
    }

    /// True if the address is one of 01-80-C2-00-00-00 to -0F, which bridges never forward (IEEE 802.1Q-2022 8.6.3).
    #[inline]
    pub fn is_reserved_group(self) -> bool {
        self.0[..5] == [0x01, 0x80, 0xc2, 0x00, 0x00] && self.0[5] < 0x10
    }

    /// The address as a number below 2^48, first octet most significant.
    #[inline]
    pub const fn to_u64(self) -> u64 {
        let o = self.0;
        u64::from_be_bytes([0, 0, o[0], o[1], o[2], o[3], o[4], o[5]])
    }

    /// The address that [`MacAddr::to_u64`] made `value` of; higher bits are ignored.
    #[inline]
    pub const fn from_u64(value: u64) -> MacAddr {
        let o = value.to_be_bytes();
        MacAddr([o[2], o[3], o[4], o[5], o[6], o[7]])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no MAC address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no MAC address; write six pairs of hexadecimal digits as in 52:54:00:12:34:56")]
pub struct ParseMacError(pub String);

impl FromStr for MacAddr {
    type Err = ParseMacError;

    /// Reads six pairs of hexadecimal digits, separated throughout by `:` or throughout by `-`.
    fn from_str(text: &str) -> Result<MacAddr, ParseMacError> {
        parse(text).ok_or_else(|| ParseMacError(text.chars().take(40).collect()))
    }
}

fn parse(text: &str) -> Option<MacAddr> {
    let octets = text.as_bytes();
    if octets.len() != 17 {
        return None;
    }
    let separator = octets[2];
    if separator != b':' && separator != b'-' {
        return None;
    }
    let mut address = [0; 6];
    for (i, octet) in address.iter_mut().enumerate() {
        let at = i * 3;
        if i > 0 && octets[at - 1] != separator {
            return None;
        }
        let high = (octets[at] as char).to_digit(16)?;
        let low = (octets[at + 1] as char).to_digit(16)?;
        *octet = (high << 4 | low) as u8;
    }
    Some(MacAddr(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trip() {
        let mac: MacAddr = "52:54:00:AB:cd:ef".parse().unwrap();
        assert_eq!(mac.to_string(), "52:54:00:ab:cd:ef");
        assert_eq!("52-54-00-ab-cd-ef".parse(), Ok(mac));
        assert_eq!(MacAddr::from_u64(mac.to_u64()), mac);
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "52:54:00:ab:cd",
            "52:54:00:ab:cd:e",
            "52:54:00:ab:cd:eg",
            "52:54-00:ab:cd:ef",
            "5254:00:ab:cd:efé",
        ] {
            assert!(text.parse::<MacAddr>().is_err(), "{text}");
        }
    }

    #[test]
    fn kinds_of_addresses() {
        assert!(MacAddr::BROADCAST.is_multicast());
        assert!(MacAddr([0x01, 0x80, 0xc2, 0, 0, 0x0f]).is_reserved_group());
        assert!(!MacAddr([0x01, 0x80, 0xc2, 0, 0, 0x10]).is_reserved_group());
        assert!(!MacAddr::ZERO.is_station());
    }
}
