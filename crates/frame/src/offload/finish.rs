use super::Offload;
use super::layout::SCTP_CHECKSUM;
use crate::checksum::Sum;
use crate::crc32c::crc32c;
use crate::wire::{Headers, IpProtocol, Upper};

/// Writes the checksum that the validated `request` left open: the sum from its start to the frame's end, which
/// includes what the sender put in the field, the sum of the pseudo header (virtio 1.3 5.1.6.2).
///
/// The caller takes the request off the frame. Nothing happens without such a request, or when its positions are
/// beyond the frame. A sum of 0 goes out as `0xffff`, which is the same sum and, for UDP, not "none" (RFC 768).
#[inline]
pub fn finish_checksum(octets: &mut [u8], request: &Offload) {
    if !request.needs_checksum() {
        return;
    }
    if usize::from(request.checksum_offset) == SCTP_CHECKSUM && is_sctp(octets, request) {
        return finish_sctp(&mut octets[usize::from(request.checksum_start)..]);
    }
    let Some(covered) = octets.get_mut(usize::from(request.checksum_start)..) else { return };
    let checksum = Sum::new().add_octets(covered).udp_checksum();
    if let Some(field) =
        covered.get_mut(usize::from(request.checksum_offset)..).and_then(<[u8]>::first_chunk_mut)
    {
        *field = checksum.to_be_bytes();
    }
}

/// True if the checksum to finish is SCTP's, which is another sum (RFC 9260 section 6.8).
#[cold]
fn is_sctp(octets: &[u8], request: &Offload) -> bool {
    let start = usize::from(request.checksum_start);
    let packet = Upper::Header { protocol: IpProtocol::SCTP, offset: start };
    Headers::parse(octets).upper == packet && octets.len() >= start + SCTP_CHECKSUM + 4
}

/// Writes the checksum of an SCTP packet, over which its own field is 0. What the field holds does not matter.
fn finish_sctp(packet: &mut [u8]) {
    let (before, rest) = packet.split_at(SCTP_CHECKSUM);
    let sum = crc32c([before, &[0; 4], &rest[4..]]);
    packet[SCTP_CHECKSUM..SCTP_CHECKSUM + 4].copy_from_slice(&sum.to_le_bytes());
}
