use core::fmt;

/// A VLAN identifier from 1 to 4094 (IEEE 802.1Q-2022 9.6: 0 means "priority only", 4095 is reserved).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VlanId(u16);

/// The number is no VLAN identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no VLAN identifier; use a number from 1 to 4094")]
pub struct InvalidVlanId(pub u64);

impl VlanId {
    /// The identifier that ports have when nothing else is said (IEEE 802.1Q-2022 table 9-2).
    pub const DEFAULT: VlanId = VlanId(1);

    /// Checks the range.
    ///
    /// # Errors
    /// [`InvalidVlanId`] outside 1 to 4094.
    pub const fn new(value: u16) -> Result<VlanId, InvalidVlanId> {
        if value >= 1 && value <= 4094 { Ok(VlanId(value)) } else { Err(InvalidVlanId(value as u64)) }
    }

    /// The number, 1 to 4094.
    #[inline]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An 802.1Q tag: TPID 0x8100 and the tag control information (IEEE 802.1Q-2022 9.6).
///
/// Only customer tags are taken off a frame; a service tag (0x88a8) stays in the payload, so QinQ passes through.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct VlanTag {
    /// Tag control information: priority (3 bits), drop eligible (1), VID (12).
    pub tci: u16,
}

impl VlanTag {
    /// The EtherType that announces a customer tag.
    pub const TPID: u16 = 0x8100;

    /// A tag for `vid` with priority 0.
    #[inline]
    pub const fn new(vid: VlanId) -> VlanTag {
        VlanTag { tci: vid.0 }
    }

    /// The VID field: 0 for a priority tag, else 1 to 4095.
    #[inline]
    pub const fn vid(self) -> u16 {
        self.tci & 0x0fff
    }

    /// The priority code point, 0 to 7.
    #[inline]
    pub const fn priority(self) -> u8 {
        (self.tci >> 13) as u8
    }

    /// The same priority with another VID.
    #[inline]
    pub const fn with_vid(self, vid: VlanId) -> VlanTag {
        VlanTag { tci: self.tci & 0xf000 | vid.0 }
    }

    /// The four octets as they stand in a frame, from octet 12 on.
    #[inline]
    pub const fn octets(self) -> [u8; 4] {
        let [a, b] = VlanTag::TPID.to_be_bytes();
        let [c, d] = self.tci.to_be_bytes();
        [a, b, c, d]
    }

    /// Takes the outer customer tag off the frame in `octets`, in place: the addresses move up by four octets, and
    /// the untagged frame starts at the returned offset.
    ///
    /// A frame without a tag, or too short for one, is left alone (offset 0).
    #[inline]
    pub fn take(octets: &mut [u8]) -> (usize, Option<VlanTag>) {
        if octets.len() < 16 || octets[12..14] != VlanTag::TPID.to_be_bytes() {
            return (0, None);
        }
        let tci = u16::from_be_bytes([octets[14], octets[15]]);
        octets.copy_within(0..12, 4);
        (4, Some(VlanTag { tci }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range() {
        assert!(VlanId::new(0).is_err());
        assert!(VlanId::new(4095).is_err());
        assert_eq!(VlanId::new(4094).unwrap().get(), 4094);
    }

    #[test]
    fn take_moves_the_addresses() {
        let mut frame = Vec::from_iter(0..12);
        frame.extend([0x81, 0x00, 0xe0, 0x0a, 0x08, 0x00, 0x45]);
        let (at, tag) = VlanTag::take(&mut frame);
        assert_eq!(&frame[at..], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0x08, 0x00, 0x45]);
        let tag = tag.unwrap();
        assert_eq!((tag.vid(), tag.priority()), (10, 7));
        assert_eq!(tag.octets(), [0x81, 0x00, 0xe0, 0x0a]);
    }

    #[test]
    fn take_leaves_others_alone() {
        let mut short = [0x81; 15];
        assert_eq!(VlanTag::take(&mut short), (0, None));
        let mut service = [0; 20];
        service[12] = 0x88;
        service[13] = 0xa8;
        assert_eq!(VlanTag::take(&mut service), (0, None));
    }
}
