use super::Offload;
use crate::checksum::Sum;

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
    let Some(covered) = octets.get_mut(usize::from(request.checksum_start)..) else { return };
    let checksum = Sum::new().add_octets(covered).udp_checksum();
    if let Some(field) =
        covered.get_mut(usize::from(request.checksum_offset)..).and_then(<[u8]>::first_chunk_mut)
    {
        *field = checksum.to_be_bytes();
    }
}
