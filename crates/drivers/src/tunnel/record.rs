//! Records: one packet each, with its address family in front. Pure.
//!
//! The link layer always sees one form: four octets of family, most significant first, 2 for IPv4 and 30 for IPv6 as on
//! macOS, then the packet. Records of media that write another form are translated here, in place.

use vmlan_link::ProtocolFamily;

/// Octets in front of the packet in a record of the link layer.
pub const HEADER: usize = 4;

/// EtherTypes of the two families (RFC 894, RFC 2464).
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// The family of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family that the first octet of a packet tells.
    pub fn of_packet(packet: &[u8]) -> Option<Family> {
        match packet.first()? >> 4 {
            4 => Some(Family::V4),
            6 => Some(Family::V6),
            _ => None,
        }
    }

    /// The family as the link layer numbers it.
    pub const fn protocol(self) -> ProtocolFamily {
        match self {
            Family::V4 => ProtocolFamily::INET,
            Family::V6 => ProtocolFamily::INET6,
        }
    }

    /// Returns the octets in front of the packet in a record.
    pub const fn header(self) -> [u8; HEADER] {
        (self.protocol().0 as u32).to_be_bytes()
    }

    /// The type of an Ethernet frame with such a packet.
    pub const fn ethertype(self) -> u16 {
        match self {
            Family::V4 => ETHERTYPE_IPV4,
            Family::V6 => ETHERTYPE_IPV6,
        }
    }

    /// The family of the packet in an Ethernet frame of this type.
    pub const fn from_ethertype(ethertype: u16) -> Option<Family> {
        match ethertype {
            ETHERTYPE_IPV4 => Some(Family::V4),
            ETHERTYPE_IPV6 => Some(Family::V6),
            _ => None,
        }
    }
}

/// How a medium writes the header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// As the link layer does: the control socket's records, utun.
    Family,
    /// Flags and EtherType, two octets each, both most significant first (a Linux TUN without `IFF_NO_PI`).
    PacketInformation,
    /// Nothing: the packet's version tells (a Linux TUN with `IFF_NO_PI`).
    Bare,
}

/// Why a record is none. It is counted as an input error, and the tunnel goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    /// It has no room for a header and a packet's first octet.
    #[error("the record is too short")]
    Short,
    /// Neither IPv4 nor IPv6.
    #[error("the record is of an unknown family")]
    UnknownFamily,
    /// The packet's version is another.
    #[error("the version of the packet contradicts the record's family")]
    Contradiction,
    /// The kernel had to cut it (`TUN_PKT_STRIP`).
    #[error("the packet was cut")]
    Cut,
}

impl Form {
    /// Octets that the medium has in front of the packet.
    pub const fn header_len(self) -> usize {
        match self {
            Form::Family | Form::PacketInformation => HEADER,
            Form::Bare => 0,
        }
    }

    /// Checks a record as it was received and writes the link layer's header in front of its packet. `octets` has
    /// [`HEADER`] octets before the packet, whatever the medium: a bare packet was read to behind them.
    ///
    /// # Errors
    /// [`Malformed`]; nothing was written.
    pub fn read(self, octets: &mut [u8]) -> Result<Family, Malformed> {
        let (header, packet) = octets.split_first_chunk_mut::<HEADER>().ok_or(Malformed::Short)?;
        let version = match (packet.first(), Family::of_packet(packet)) {
            (None, _) => return Err(Malformed::Short),
            (Some(_), version) => version,
        };
        let told = match self {
            Form::Bare => return self.bare(header, version),
            Form::Family => [Family::V4, Family::V6].into_iter().find(|family| family.header() == *header),
            Form::PacketInformation => {
                // TUN_PKT_STRIP: the packet did not fit the buffer of an earlier reader.
                if header[..2] != [0, 0] {
                    return Err(Malformed::Cut);
                }
                Family::from_ethertype(u16::from_be_bytes([header[2], header[3]]))
            }
        };
        match (told, version) {
            (None, _) => Err(Malformed::UnknownFamily),
            (Some(family), version) if version != Some(family) => Err(Malformed::Contradiction),
            (Some(family), _) => {
                *header = family.header();
                Ok(family)
            }
        }
    }

    fn bare(self, header: &mut [u8; HEADER], version: Option<Family>) -> Result<Family, Malformed> {
        let family = version.ok_or(Malformed::UnknownFamily)?;
        *header = family.header();
        Ok(family)
    }

    /// A record of the link layer as the medium writes it: header and packet. `scratch` is room for the header.
    pub fn write<'a>(self, record: &'a [u8], scratch: &'a mut [u8; HEADER]) -> [&'a [u8]; 2] {
        let (header, packet) = record.split_at(HEADER.min(record.len()));
        match self {
            Form::Family => [header, packet],
            Form::Bare => [&[], packet],
            Form::PacketInformation => {
                let ethertype = Family::of_packet(packet).map_or(0, Family::ethertype);
                *scratch = [0; HEADER];
                scratch[2..].copy_from_slice(&ethertype.to_be_bytes());
                [&*scratch, packet]
            }
        }
    }
}

/// Octets that a packet says it has, when that is no more than there are: the rest is padding of its frame.
pub fn packet_len(family: Family, packet: &[u8]) -> Option<usize> {
    let word =
        |at: usize| packet.get(at..at + 2).map(|octets| usize::from(octets[0]) << 8 | usize::from(octets[1]));
    let (least, len) = match family {
        Family::V4 => (20, word(2)?),
        // 0 is that of a jumbogram (RFC 2675), which has no padding.
        Family::V6 => (40, word(4).map(|len| if len == 0 { packet.len() } else { 40 + len })?),
    };
    (Family::of_packet(packet) == Some(family) && len >= least && len <= packet.len()).then_some(len)
}

/// Where a packet goes; `None` when it has no whole header.
pub fn destination(family: Family, packet: &[u8]) -> Option<std::net::IpAddr> {
    match family {
        Family::V4 => packet.get(..20)?.get(16..)?.first_chunk::<4>().map(|octets| (*octets).into()),
        Family::V6 => packet.get(..40)?.get(24..)?.first_chunk::<16>().map(|octets| (*octets).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(form: Form, octets: &[u8]) -> (Result<Family, Malformed>, Vec<u8>) {
        let mut octets = octets.to_vec();
        (form.read(&mut octets), octets)
    }

    /// Case 3.
    #[test]
    fn case_3_an_ipv6_record_starts_00_00_00_1e() {
        assert_eq!(Family::V6.header(), [0, 0, 0, 0x1e]);
        assert_eq!(Family::V4.header(), [0, 0, 0, 2]);
        assert_eq!(read(Form::Family, &[0, 0, 0, 0x1e, 0x60]).0, Ok(Family::V6));
    }

    #[test]
    fn what_is_no_record_is_refused_and_left_alone() {
        for (form, octets, expected) in [
            (Form::Family, &[][..], Malformed::Short),
            (Form::Family, &[0, 0, 2], Malformed::Short),
            (Form::Family, &[0, 0, 0, 2], Malformed::Short),
            (Form::Family, &[0, 0, 0, 10, 0x60], Malformed::UnknownFamily),
            (Form::Family, &[2, 0, 0, 0, 0x45], Malformed::UnknownFamily),
            (Form::Family, &[0, 0, 0, 2, 0x60], Malformed::Contradiction),
            (Form::Family, &[0, 0, 0, 30, 0x45], Malformed::Contradiction),
            (Form::Family, &[0, 0, 0, 30, 0x00], Malformed::Contradiction),
            (Form::PacketInformation, &[0, 0, 8, 6, 0x45], Malformed::UnknownFamily),
            (Form::PacketInformation, &[0, 1, 8, 0, 0x45], Malformed::Cut),
            (Form::PacketInformation, &[0, 0, 8, 0, 0x60], Malformed::Contradiction),
            (Form::Bare, &[0, 0, 0, 0, 0x55], Malformed::UnknownFamily),
            (Form::Bare, &[0, 0, 0, 0], Malformed::Short),
        ] {
            assert_eq!(read(form, octets), (Err(expected), octets.to_vec()), "{form:?} {octets:?}");
        }
    }

    #[test]
    fn linux_headers_are_translated_both_ways() {
        let record = [0, 0, 0, 30, 0x60, 1, 2];
        assert_eq!(
            read(Form::PacketInformation, &[0, 0, 0x86, 0xdd, 0x60, 1, 2]),
            (Ok(Family::V6), record.to_vec())
        );
        assert_eq!(read(Form::Bare, &[9, 9, 9, 9, 0x60, 1, 2]), (Ok(Family::V6), record.to_vec()));
        let mut scratch = [0; HEADER];
        assert_eq!(
            Form::PacketInformation.write(&record, &mut scratch).concat(),
            [0, 0, 0x86, 0xdd, 0x60, 1, 2]
        );
        assert_eq!(Form::Bare.write(&record, &mut scratch).concat(), [0x60, 1, 2]);
        assert_eq!(Form::Family.write(&record, &mut scratch).concat(), record);
    }

    #[test]
    fn lengths_and_destinations() {
        let mut packet = [0; 60];
        packet[0] = 0x45;
        packet[3] = 28;
        packet[16..20].copy_from_slice(&[10, 0, 0, 1]);
        assert_eq!(packet_len(Family::V4, &packet), Some(28));
        assert_eq!(packet_len(Family::V6, &packet), None);
        assert_eq!(destination(Family::V4, &packet), Some([10, 0, 0, 1].into()));
        assert_eq!(destination(Family::V4, &packet[..19]), None);
        packet[3] = 61;
        assert_eq!(packet_len(Family::V4, &packet), None);
        packet[3] = 19;
        assert_eq!(packet_len(Family::V4, &packet), None);
        (packet[0], packet[5]) = (0x60, 20);
        assert_eq!(packet_len(Family::V6, &packet), Some(60));
        packet[5] = 0;
        assert_eq!(packet_len(Family::V6, &packet), Some(60));
    }
}
