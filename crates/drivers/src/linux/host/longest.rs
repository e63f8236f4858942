use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use vmlan_frame::wire::EtherType;
use vmlan_frame::{ETHERNET_HEADER, Frame, VLAN_TAG};

/// The longest frame that goes out by an interface, which follows from its MTU. The kernel drops a longer one that
/// comes by another device, where nothing tells.
#[derive(Clone, Debug)]
pub struct Longest(Arc<AtomicUsize>);

impl Longest {
    /// That of an interface with this MTU.
    pub fn of_mtu(mtu: u32) -> Longest {
        let longest = Longest(Arc::new(AtomicUsize::new(0)));
        longest.set_mtu(mtu);
        longest
    }

    /// Follows the interface's MTU.
    pub fn set_mtu(&self, mtu: u32) {
        self.0.store(mtu as usize + ETHERNET_HEADER, Ordering::Relaxed);
    }

    /// True if `frame`, or the longest segment that it is to be cut into, is longer than the limit.
    #[inline]
    pub(super) fn is_exceeded_by(&self, frame: &Frame) -> bool {
        let longest = self.0.load(Ordering::Relaxed);
        let octets = frame.octets();
        octets.len() > longest && exceeds(frame, octets, longest)
    }
}

fn exceeds(frame: &Frame, octets: &[u8], longest: usize) -> bool {
    let offload = frame.meta.offload;
    let len = match offload.is_segmentation() {
        true => usize::from(offload.header_len) + usize::from(offload.gso_size),
        false => octets.len(),
    };
    // A tag does not count.
    let ethertype = octets.get(12..14).map(|octets| EtherType(u16::from_be_bytes([octets[0], octets[1]])));
    let is_tagged = matches!(ethertype, Some(EtherType::CUSTOMER_TAG | EtherType::SERVICE_TAG));
    len > longest + if is_tagged { VLAN_TAG } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmlan_frame::{Offload, Pool, PoolSizes};

    #[test]
    fn a_frame_is_measured_by_what_goes_out() {
        let pool = Pool::new(PoolSizes::default());
        let longest = Longest::of_mtu(1500);
        let frame = |len: usize, ethertype: [u8; 2]| {
            let mut octets = vec![0; len];
            octets[12..14].copy_from_slice(&ethertype);
            pool.copy(&octets).unwrap()
        };
        for (len, ethertype, exceeds) in [
            (1514, [8, 0], false),
            (1515, [8, 0], true),
            (1518, [0x81, 0], false),
            (1519, [0x81, 0], true),
            (1518, [0x88, 0xa8], false),
        ] {
            assert_eq!(longest.is_exceeded_by(&frame(len, ethertype)), exceeds, "{len} {ethertype:x?}");
        }
        let mut segments = frame(9000, [8, 0]);
        for (gso_size, exceeds) in [(1460, false), (1461, true)] {
            segments.meta.offload =
                Offload { gso_type: Offload::TCPV4, header_len: 54, gso_size, ..Offload::NONE };
            assert_eq!(longest.is_exceeded_by(&segments), exceeds, "{gso_size}");
        }
        longest.set_mtu(9000);
        assert!(!longest.is_exceeded_by(&frame(1519, [8, 0])));
    }
}
