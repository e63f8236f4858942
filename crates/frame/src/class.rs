use crate::wire::EtherType;
use crate::{ETHERNET_HEADER, Frame, TrafficClass};

impl TrafficClass {
    /// The class that an Ethernet frame asks for: by the priority of the tag beside it, else by the DSCP of its IP
    /// packet, else best effort. A tag among the octets is not looked at.
    ///
    /// Both ways map as wireless LANs do, so that a frame keeps its class when it goes on over one:
    ///
    /// | Class | Priority (IEEE 802.11-2020 table 10-1) | DSCP (RFC 8325 section 4.3, RFC 8622) |
    /// |---|---|---|
    /// | background | 1, 2 | CS1, LE |
    /// | best effort | 0, 3 | DF, AF1x, CS2, AF2x, and every other |
    /// | video | 4, 5 | CS3, AF3x, CS4, AF4x, CS5 |
    /// | voice | 6, 7 | VOICE-ADMIT, EF, CS6, CS7 |
    #[inline]
    pub fn of(frame: &Frame) -> TrafficClass {
        match (frame.meta.tag, frame.ethertype().map(EtherType)) {
            (Some(tag), _) => TrafficClass::from_priority(tag.priority()),
            (None, Some(EtherType::IPV4 | EtherType::IPV6)) => {
                TrafficClass::of_packet(&frame.octets()[ETHERNET_HEADER..])
            }
            (None, _) => TrafficClass::BestEffort,
        }
    }

    /// The class that an IPv4 or IPv6 packet asks for by its DSCP (RFC 2474 section 3).
    #[inline]
    pub const fn of_packet(packet: &[u8]) -> TrafficClass {
        match *packet {
            [first, second, ..] if first >> 4 == 4 => TrafficClass::from_dscp(second >> 2),
            [first, second, ..] if first >> 4 == 6 => {
                TrafficClass::from_dscp((u16::from_be_bytes([first, second]) >> 6) as u8)
            }
            _ => TrafficClass::BestEffort,
        }
    }

    /// The class of an 802.1Q priority code point, 0 to 7; higher bits are ignored.
    #[inline]
    pub const fn from_priority(priority: u8) -> TrafficClass {
        match priority & 7 {
            1 | 2 => TrafficClass::Background,
            0 | 3 => TrafficClass::BestEffort,
            4 | 5 => TrafficClass::Video,
            _ => TrafficClass::Voice,
        }
    }

    /// The class of a differentiated services code point, 0 to 63 (RFC 2474); higher bits are ignored.
    #[inline]
    pub const fn from_dscp(dscp: u8) -> TrafficClass {
        const CLASSES: [TrafficClass; 64] = {
            let mut classes = [TrafficClass::BestEffort; 64];
            let mut dscp = 0;
            while dscp < 64 {
                classes[dscp as usize] = by_service(dscp);
                dscp += 1;
            }
            classes
        };
        CLASSES[(dscp & 63) as usize]
    }
}

const fn by_service(dscp: u8) -> TrafficClass {
    match dscp {
        // Lower effort (RFC 8622), CS1.
        1 | 8 => TrafficClass::Background,
        // CS3, AF31 to AF33, CS4, AF41 to AF43, CS5.
        24 | 26 | 28 | 30 | 32 | 34 | 36 | 38 | 40 => TrafficClass::Video,
        // VOICE-ADMIT (RFC 5865), EF (RFC 3246), and network control: CS6, CS7.
        44 | 46 | 48 | 56 => TrafficClass::Voice,
        _ => TrafficClass::BestEffort,
    }
}

#[cfg(test)]
mod tests {
    use TrafficClass::{Background, BestEffort, Video, Voice};

    use super::*;
    use crate::{Pool, PoolSizes, VlanTag};

    #[test]
    fn priorities() {
        let classes: Vec<_> = (0..8).map(TrafficClass::from_priority).collect();
        assert_eq!(classes, [BestEffort, Background, Background, BestEffort, Video, Video, Voice, Voice]);
    }

    #[test]
    fn code_points() {
        let of =
            |wanted| (0..64).filter(|dscp| TrafficClass::from_dscp(*dscp) == wanted).collect::<Vec<u8>>();
        assert_eq!(of(Background), [1, 8]);
        assert_eq!(of(Video), [24, 26, 28, 30, 32, 34, 36, 38, 40]);
        assert_eq!(of(Voice), [44, 46, 48, 56]);
    }

    #[test]
    fn frames() {
        let pool = Pool::new(PoolSizes { small: 1, large: 0, bulk: 0 });
        let class = |ethertype: [u8; 2], packet: &[u8], tci: Option<u16>| {
            let mut octets = [0; 60];
            octets[12..14].copy_from_slice(&ethertype);
            octets[14..14 + packet.len()].copy_from_slice(packet);
            let mut frame = pool.copy(&octets[..14 + packet.len()]).unwrap();
            frame.meta.tag = tci.map(|tci| VlanTag { tci });
            TrafficClass::of(&frame)
        };
        let (ipv4, ipv6) = ([0x08, 0x00], [0x86, 0xdd]);
        assert_eq!(class(ipv4, &[0x45, 46 << 2], None), Voice);
        // ECN is no part of it.
        assert_eq!(class(ipv4, &[0x45, 8 << 2 | 3], None), Background);
        assert_eq!(class(ipv6, &[0x68, 0x80, 0], None), Video);
        assert_eq!(class(ipv6, &[0x6b, 0xbf, 0xff], None), Voice);
        assert_eq!(class(ipv4, &[0x75, 46 << 2], None), BestEffort);
        assert_eq!(class([0x08, 0x06], &[0x45, 46 << 2], None), BestEffort);
        assert_eq!(class(ipv4, &[0x45], None), BestEffort);
        assert_eq!(class(ipv4, &[0x45, 46 << 2], Some(0x0001)), BestEffort);
        assert_eq!(class([0x08, 0x06], &[], Some(0xa001)), Video);
        assert_eq!(TrafficClass::of(&Frame::default()), BestEffort);
    }
}
