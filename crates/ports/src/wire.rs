//! Frames as they are on the wire.

use vmlan_frame::{Frame, VLAN_TAG};

/// Octets of the two addresses, after which the tag stands.
const ADDRESSES: usize = 12;

/// Shows `look` a frame's octets in two pieces. The tag, which lies beside a frame, stands behind the addresses on the
/// wire.
#[inline]
pub fn on_wire<T>(frame: &Frame, look: impl FnOnce(&[u8], &[u8]) -> T) -> T {
    let octets = frame.octets();
    let Some(tag) = frame.meta.tag else { return look(&[], octets) };
    let (addresses, rest) = octets.split_at(octets.len().min(ADDRESSES));
    let mut head = [0; ADDRESSES + VLAN_TAG];
    head[..addresses.len()].copy_from_slice(addresses);
    head[addresses.len()..][..VLAN_TAG].copy_from_slice(&tag.octets());
    look(&head[..addresses.len() + VLAN_TAG], rest)
}
