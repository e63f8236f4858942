use super::Offload;
use super::layout::Layout;
use crate::wire::field::u16_at;
use crate::wire::{IpProtocol, TCP_CHECKSUM, UDP_CHECKSUM};

/// Finds a checksum of TCP or UDP that the sender left open, where the medium has not told of it: the field holds the
/// sum of the pseudo header then, and nothing else. With a routing header that cannot be told.
///
/// One of 65,536 complete checksums looks so too. To finish it writes the very same octets, as the sum of a segment
/// and its pseudo header is all ones: of those two the one is the inverse of the other. So nothing comes of it but
/// the work.
pub fn open_checksum(octets: &[u8]) -> Option<Offload> {
    let layout = Layout::parse(octets).filter(|layout| !layout.is_fragment)?;
    let (start, offset) = match layout.protocol {
        IpProtocol::TCP => (layout.transport, TCP_CHECKSUM),
        IpProtocol::UDP => (layout.transport, UDP_CHECKSUM),
        _ => return None,
    };
    if octets.len() < start + offset + 2 || !layout.has_both_addresses(octets) {
        return None;
    }
    let length = octets.len() - start;
    let pseudo = layout.pseudo_header(octets).add_word((length >> 16) as u16).add_word(length as u16);
    (u16_at(octets, start + offset) == pseudo.fold()).then_some(Offload {
        flags: Offload::NEEDS_CHECKSUM,
        checksum_start: start.try_into().ok()?,
        checksum_offset: offset as u16,
        ..Offload::NONE
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::checksum;
    use crate::offload::{finish_checksum, validate};

    /// Of the pseudo header of the datagrams below: addresses, protocol, length.
    const PSEUDO: u16 = 0x0a09 + 0x0001 + 0x0a09 + 0x0002 + 17 + 16;

    /// A datagram of eight octets over IPv4, whose last word is `word`, with this in its checksum field.
    fn datagram(field: u16, word: u16) -> Vec<u8> {
        let mut header = [0x45, 0, 0, 36, 0, 0, 0, 0, 64, 17, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2].to_vec();
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        let udp = [0x10, 0, 0x20, 0, 0, 16, (field >> 8) as u8, field as u8, 1, 2, 3, 4, 5, 6];
        [&[2; 12][..], &[8, 0], &header, &udp, &word.to_be_bytes()].concat()
    }

    #[test]
    fn what_is_open_is_found_and_finished_once() {
        let mut frame = datagram(PSEUDO, 0x0708);
        let request = open_checksum(&frame).expect("an open checksum");
        assert_eq!(validate(&frame, request), Ok(request));
        finish_checksum(&mut frame, &request);
        assert_eq!(open_checksum(&frame), None);
    }

    #[test]
    fn a_complete_checksum_that_looks_open_stays_as_it_is() {
        // Ports, length and payload but the last word, which brings the whole to all ones.
        let rest: u32 = [0x1000, 0x2000, 16, 0x0102, 0x0304, 0x0506].iter().sum();
        let word = 0xffff - (2 * u32::from(PSEUDO) + rest) % 0xffff;
        let mut frame = datagram(PSEUDO, word as u16);
        let before = frame.clone();
        finish_checksum(&mut frame, &open_checksum(&before).expect("it looks open"));
        assert_eq!(frame, before);
    }

    #[test]
    fn what_has_no_such_checksum_has_none_open() {
        let none = datagram(0, 0);
        let mut fragment = datagram(PSEUDO, 0);
        fragment[20] = 0x20;
        let short = &datagram(PSEUDO, 0)[..40];
        // IPv6 with a routing header on whose way there is another address.
        let mut routed = [&[2; 12][..], &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 16, 43, 64], &[0; 32]].concat();
        routed.extend([17, 0, 4, 1, 0, 0, 0, 0, 0x10, 0, 0x20, 0, 0, 8, 0xcf, 0xde]);
        for octets in [&none[..], &fragment, short, &[], &[0; 60], &routed] {
            assert_eq!(open_checksum(octets), None);
        }
    }
}
