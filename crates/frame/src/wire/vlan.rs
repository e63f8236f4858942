use super::field::u16_at;
use super::{EtherType, Malformed};
use crate::{ETHERNET_HEADER, VLAN_TAG, VlanTag};

/// One tag of a stack: who it is for, and its control information (IEEE 802.1Q-2022 9.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StackedTag {
    /// [`EtherType::CUSTOMER_TAG`] or [`EtherType::SERVICE_TAG`].
    pub tpid: EtherType,
    /// Priority, drop eligibility and VID; its own TPID constant does not apply to a service tag.
    pub tag: VlanTag,
}

/// The tags inside a frame's octets, outermost first, and the type of what follows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VlanTags {
    tags: [StackedTag; VlanTags::MAX],
    count: u8,
    ethertype: EtherType,
}

impl VlanTags {
    /// How many tags are followed: two are usual (provider bridges), more only come from nested providers.
    pub const MAX: usize = 4;

    /// No tag, and a payload of that type.
    pub(super) const fn none(ethertype: EtherType) -> Self {
        let tag = StackedTag { tpid: EtherType(0), tag: VlanTag { tci: 0 } };
        VlanTags { tags: [tag; Self::MAX], count: 0, ethertype }
    }

    /// Walks the tags of an Ethernet frame.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] if the header or a tag is cut off, [`Malformed::TooMany`] beyond
    /// [`VlanTags::MAX`] tags.
    #[inline]
    pub fn parse(frame: &[u8]) -> Result<Self, Malformed> {
        if frame.len() < ETHERNET_HEADER {
            return Err(Malformed::Truncated);
        }
        let mut tags = Self::none(EtherType(u16_at(frame, ETHERNET_HEADER - 2)));
        while tags.ethertype.is_tag() {
            let at = tags.network_offset();
            if frame.len() < at + VLAN_TAG {
                return Err(Malformed::Truncated);
            }
            let Some(tag) = tags.tags.get_mut(usize::from(tags.count)) else {
                return Err(Malformed::TooMany);
            };
            *tag = StackedTag { tpid: tags.ethertype, tag: VlanTag { tci: u16_at(frame, at) } };
            tags.count += 1;
            tags.ethertype = EtherType(u16_at(frame, at + 2));
        }
        Ok(tags)
    }

    /// The tags, outermost first.
    #[inline]
    pub fn as_slice(&self) -> &[StackedTag] {
        &self.tags[..usize::from(self.count)]
    }

    /// The type after the last tag.
    #[inline]
    pub fn ethertype(&self) -> EtherType {
        self.ethertype
    }

    /// Where the network layer starts, in octets from the frame's start.
    #[inline]
    pub fn network_offset(&self) -> usize {
        ETHERNET_HEADER + VLAN_TAG * usize::from(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(after_addresses: &[u8]) -> Vec<u8> {
        [&[0; 12], after_addresses].concat()
    }

    #[test]
    fn untagged() {
        let tags = VlanTags::parse(&frame(&[0x08, 0x00])).unwrap();

        assert_eq!(tags.as_slice(), []);
        assert_eq!((tags.ethertype(), tags.network_offset()), (EtherType::IPV4, 14));
    }

    #[test]
    fn service_and_customer_tag() {
        let tags =
            VlanTags::parse(&frame(&[0x88, 0xa8, 0x60, 0x64, 0x81, 0x00, 0x00, 0x0a, 0x86, 0xdd])).unwrap();

        let outer = StackedTag { tpid: EtherType::SERVICE_TAG, tag: VlanTag { tci: 0x6064 } };
        let inner = StackedTag { tpid: EtherType::CUSTOMER_TAG, tag: VlanTag { tci: 10 } };
        assert_eq!(tags.as_slice(), [outer, inner]);
        assert_eq!((outer.tag.priority(), outer.tag.vid()), (3, 100));
        assert_eq!((tags.ethertype(), tags.network_offset()), (EtherType::IPV6, 22));
    }

    #[test]
    fn cut_off() {
        for len in [0, 13, 14, 17] {
            let octets = frame(&[0x81, 0x00, 0x00, 0x01, 0x08, 0x00]);
            assert_eq!(VlanTags::parse(&octets[..len]), Err(Malformed::Truncated), "{len}");
        }
    }

    #[test]
    fn four_tags_and_no_more() {
        let tag = [0x81, 0x00, 0x00, 0x01];

        let four = frame(&[&tag.repeat(4)[..], &[0x08, 0x06]].concat());
        let tags = VlanTags::parse(&four).unwrap();
        assert_eq!((tags.as_slice().len(), tags.ethertype(), tags.network_offset()), (4, EtherType::ARP, 30));

        let five = frame(&[&tag.repeat(5)[..], &[0x08, 0x06]].concat());
        assert_eq!(VlanTags::parse(&five), Err(Malformed::TooMany));
    }
}
