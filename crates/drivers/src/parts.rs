use vmlan_frame::Entry;

/// The pieces that a frame is gathered from on its way out, given room for its tag: addresses, tag, rest; or the
/// whole frame first when it has no tag.
#[inline]
pub(crate) fn parts<'a>(entry: &Entry<'a>, tag: &'a mut [u8; 4]) -> [&'a [u8]; 3] {
    match entry.meta.tag {
        Some(vlan) => {
            *tag = vlan.octets();
            let (addresses, rest) = entry.octets.split_at(12.min(entry.octets.len()));
            [addresses, &*tag, rest]
        }
        None => [entry.octets, &[], &[]],
    }
}
