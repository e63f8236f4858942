use core::fmt;
use core::ops::Range;
use std::rc::Rc;

use crate::buffer::{self, Buffer, Pool};
use crate::{MacAddr, Sides, VlanTag};

/// Which service a frame asks for; background, video and voice are counted apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TrafficClass {
    /// Everything that asks for nothing.
    #[default]
    BestEffort,
    /// Bulk that may wait.
    Background,
    /// Interactive video.
    Video,
    /// Voice.
    Voice,
}

/// What the sender left to be done to the frame, in the terms of the virtio-net header (virtio 1.3 5.1.6).
///
/// The default asks for nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offload {
    /// Flags as in the header: 1 needs a checksum, 2 the checksum is known to be valid.
    pub flags: u8,
    /// Segmentation type as in the header; 0 is none.
    pub gso_type: u8,
    /// Octets of all headers together.
    pub header_len: u16,
    /// Payload octets of each segment.
    pub gso_size: u16,
    /// Where the sum starts, from the frame's start.
    pub checksum_start: u16,
    /// Where the sum goes, from its start.
    pub checksum_offset: u16,
}

impl Offload {
    /// Whether the frame must be cut into segments before a plain medium takes it.
    #[inline]
    pub const fn is_segmentation(self) -> bool {
        self.gso_type != 0
    }
}

/// What is known of a frame besides its octets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Meta {
    /// The outer customer tag, which is not among the octets.
    pub tag: Option<VlanTag>,
    /// The service that the frame asks for.
    pub class: TrafficClass,
    /// Seen only because the link takes every address: filters see it, protocols do not.
    pub promiscuous: bool,
    /// What is left to be done to it.
    pub offload: Offload,
    /// Where it came from, or who is to get it, at a trunk.
    pub sides: Sides,
}

/// An Ethernet frame: a range of a pool's buffer, and what is known beside it.
///
/// The octets are a frame without preamble and FCS, and without the outer 802.1Q tag. Cloning shares the buffer; the
/// last clone to go gives the buffer back to its pool. The default is an empty frame without a buffer, which is what
/// [`core::mem::take`] leaves where a frame was taken from a batch.
#[derive(Clone, Default)]
pub struct Frame {
    buffer: Option<Rc<Buffer>>,
    start: u32,
    len: u32,
    /// What is known besides the octets.
    pub meta: Meta,
}

impl Frame {
    #[inline]
    pub(crate) fn new(buffer: Rc<Buffer>, range: Range<usize>) -> Frame {
        assert!(
            range.start <= range.end && range.end <= buffer.octets().len(),
            "a frame lies within its buffer"
        );
        // Buffers are far smaller than 4 GiB.
        Frame {
            buffer: Some(buffer),
            start: range.start as u32,
            len: range.len() as u32,
            meta: Meta::default(),
        }
    }

    /// The frame from its destination address on.
    #[inline]
    pub fn octets(&self) -> &[u8] {
        match &self.buffer {
            Some(buffer) => &buffer.octets()[self.start as usize..][..self.len as usize],
            None => &[],
        }
    }

    /// How many octets [`Frame::octets`] has: with the Ethernet header, without tag and FCS.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are no octets.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Octets of the frame as it stands on a medium: with the tag that is held beside it, without FCS.
    #[inline]
    pub fn wire_len(&self) -> usize {
        self.len() + if self.meta.tag.is_some() { crate::VLAN_TAG } else { 0 }
    }

    /// The destination address; `None` in a frame shorter than its header.
    #[inline]
    pub fn destination(&self) -> Option<MacAddr> {
        self.octets().first_chunk().map(|mac| MacAddr(*mac))
    }

    /// The source address; `None` in a frame shorter than its header.
    #[inline]
    pub fn source(&self) -> Option<MacAddr> {
        self.octets().get(6..)?.first_chunk().map(|mac| MacAddr(*mac))
    }

    /// The EtherType or 802.3 length after the addresses (the tag is not among the octets).
    #[inline]
    pub fn ethertype(&self) -> Option<u16> {
        self.octets().get(12..)?.first_chunk().map(|octets| u16::from_be_bytes(*octets))
    }

    /// The octets for writing. Copies the frame to a buffer of `pool` first when others share its buffer; `None` when
    /// the pool has no buffer for that.
    pub fn make_mut(&mut self, pool: &Pool) -> Option<&mut [u8]> {
        if !self.is_unique() {
            let mut copy = pool.copy(self.octets())?;
            copy.meta = self.meta;
            *self = copy;
        }
        self.writable()
    }

    /// As [`Frame::make_mut`], with a buffer of the pool that the frame's own came from.
    pub fn unshare(&mut self) -> Option<&mut [u8]> {
        if !self.is_unique() {
            let pool = self.buffer.as_ref()?.pool()?;
            return self.make_mut(&pool);
        }
        self.writable()
    }

    /// The octets of a buffer that nobody else holds.
    fn writable(&mut self) -> Option<&mut [u8]> {
        let range = self.start as usize..self.start as usize + self.len();
        match &mut self.buffer {
            Some(buffer) => Some(&mut buffer::unique(buffer)?[range]),
            None => Some(&mut []),
        }
    }

    /// Cuts `count` octets off the front.
    ///
    /// # Panics
    /// When the frame is shorter.
    #[inline]
    pub fn trim_front(&mut self, count: usize) {
        assert!(count <= self.len(), "cannot cut more than there is");
        self.start += count as u32;
        self.len -= count as u32;
    }

    fn is_unique(&self) -> bool {
        self.buffer.as_ref().is_none_or(|buffer| Rc::strong_count(buffer) == 1)
    }
}

impl Drop for Frame {
    #[inline]
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            buffer::release(buffer);
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("source", &self.source())
            .field("destination", &self.destination())
            .field("len", &self.len)
            .field("meta", &self.meta)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PoolSizes, Size};

    fn pool() -> Pool {
        Pool::new(PoolSizes { small: 3, large: 1, bulk: 1 })
    }

    #[test]
    fn every_buffer_comes_back() {
        let pool = pool();
        let a = pool.copy(&[1; 60]).unwrap();
        let b = a.clone();
        drop(a);
        assert_eq!((pool.out(), pool.free(Size::Small)), (1, 2));
        assert_eq!(b.octets(), [1; 60]);
        drop(b);
        assert_eq!((pool.out(), pool.free(Size::Small)), (0, 3));
    }

    #[test]
    fn an_empty_pool_gives_none() {
        let pool = pool();
        let held: Vec<_> = (0..3).map(|_| pool.take(Size::Small).unwrap()).collect();
        assert!(pool.take(Size::Small).is_none());
        assert!(pool.copy(&[0; 64]).is_none());
        drop(held);
        assert!(pool.copy(&[0; 64]).is_some());
        assert!(pool.copy(&vec![0; 300 << 10]).is_none());
    }

    #[test]
    fn writing_to_a_shared_frame_copies_it() {
        let pool = pool();
        let mut a = pool.copy(&[1; 20]).unwrap();
        let b = a.clone();
        a.meta.promiscuous = true;
        a.make_mut(&pool).unwrap()[0] = 9;
        assert_eq!((a.octets()[0], b.octets()[0]), (9, 1));
        assert!(a.meta.promiscuous);
        assert_eq!(pool.out(), 2);
    }

    #[test]
    fn a_frame_knows_its_pool() {
        let pool = pool();
        let mut a = pool.copy(&[1; 20]).unwrap();
        a.unshare().unwrap()[0] = 2;
        assert_eq!(pool.out(), 1);
        let b = a.clone();
        a.unshare().unwrap()[0] = 3;
        assert_eq!((a.octets()[0], b.octets()[0], pool.out()), (3, 2, 2));
        let held = (pool.take(Size::Small).unwrap(), b.clone());
        let mut c = b.clone();
        assert!(c.unshare().is_none());
        assert_eq!(c.octets(), b.octets());
        drop((a, b, held, pool));
        assert!(c.unshare().is_some());
        let d = c.clone();
        assert!(c.unshare().is_none());
        drop(d);
    }

    #[test]
    fn frames_share_one_read() {
        let pool = pool();
        let mut buffer = pool.take(Size::Bulk).unwrap();
        buffer[..4].copy_from_slice(&[1, 2, 3, 4]);
        let shared = buffer.share();
        let (a, b) = (shared.frame(0..2), shared.frame(2..4));
        drop(shared);
        assert_eq!((a.octets(), b.octets()), (&[1, 2][..], &[3, 4][..]));
        drop((a, b));
        assert_eq!(pool.out(), 0);
    }

    #[test]
    fn a_short_frame_has_no_addresses() {
        let pool = pool();
        let frame = pool.copy(&[1; 11]).unwrap();
        assert_eq!((frame.source(), frame.ethertype()), (None, None));
        assert!(Frame::default().destination().is_none());
    }

    #[test]
    fn frames_outlive_their_pool() {
        let frame = pool().copy(&[7; 60]).unwrap();
        assert_eq!(frame.octets(), [7; 60]);
    }
}
