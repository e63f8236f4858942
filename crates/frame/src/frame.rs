use core::fmt;
use core::ops::Range;
use std::rc::Rc;

use crate::buffer::{self, Buffer, Pool, Size};
use crate::{MacAddr, Offload, Sides, VlanTag};

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

/// The facts about a frame besides its octets.
// In this order, so that what has no value when there is no tag is at the end: a new frame is then written in one go,
// and a processor that moves it does not wait for pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Meta {
    /// The service that the frame asks for.
    pub class: TrafficClass,
    /// Seen only because the link takes every address: filters see it, protocols do not.
    pub promiscuous: bool,
    /// The work that is left to be done to the frame.
    pub offload: Offload,
    /// Where it came from, or who is to get it, at a trunk.
    pub sides: Sides,
    /// The port of the network that it came in by, as a number: those that send to a port share its queue. 0 is none.
    pub ingress: u16,
    /// The port that it came in by wants to hear when a full queue loses it ([`Pool::take_refused`]).
    pub tells_refusal: bool,
    /// The outer customer tag, which is not among the octets.
    pub tag: Option<VlanTag>,
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
    /// The facts about the frame besides its octets.
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
            Some(buffer) => &buffer.octets()[self.start as usize..self.start as usize + self.len as usize],
            None => &[],
        }
    }

    /// How many octets [`Frame::octets`] has: with the Ethernet header, without tag and FCS.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// True if the frame has no octets.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Octets of the frame as it stands on a medium: with the tag that is held beside it, without FCS.
    #[inline]
    pub fn wire_len(&self) -> usize {
        self.len() + if self.meta.tag.is_some() { crate::VLAN_TAG } else { 0 }
    }

    /// How many frames a medium without offloads gets for this one, whose request was validated: at least one.
    #[inline]
    pub fn segments(&self) -> usize {
        self.meta.offload.segments(self.len())
    }

    /// Octets of those frames together: with the headers and the tag of each, without FCS.
    #[inline]
    pub fn segments_len(&self) -> usize {
        let tag = if self.meta.tag.is_some() { crate::VLAN_TAG } else { 0 };
        self.meta.offload.expanded(self.len()) + tag * self.segments()
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

    /// True if the frame has a buffer: it is more than the empty place that a taken frame leaves.
    #[inline]
    pub(crate) fn has_buffer(&self) -> bool {
        self.buffer.is_some()
    }

    /// Keeps only the first `len` octets.
    ///
    /// # Panics
    /// When the frame is shorter.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        assert!(len <= self.len(), "cannot keep more than there is");
        self.len = len as u32;
    }

    /// Puts `header` in front: in place where this frame alone has the buffer and room was left before it, else in a
    /// copy from `pool`. False, and nothing changed, when the pool has no buffer for that.
    #[must_use = "without a buffer the frame has no header"]
    pub fn prepend(&mut self, pool: &Pool, header: &[u8]) -> bool {
        let count = header.len();
        if let Some(start) = (self.start as usize).checked_sub(count)
            && let Some(octets) = self.buffer.as_mut().and_then(buffer::unique)
        {
            octets[start..start + count].copy_from_slice(header);
            (self.start, self.len) = (start as u32, self.len + count as u32);
            return true;
        }
        let len = count + self.len();
        let Some(mut copy) = Size::for_octets(len).and_then(|size| pool.take(size)) else { return false };
        copy[..count].copy_from_slice(header);
        copy[count..len].copy_from_slice(self.octets());
        let meta = self.meta;
        *self = copy.into_frame(0..len);
        self.meta = meta;
        true
    }

    fn is_unique(&self) -> bool {
        self.buffer.as_ref().is_none_or(|buffer| Rc::strong_count(buffer) == 1)
    }
}

impl Drop for Frame {
    #[inline]
    fn drop(&mut self) {
        // Apart, so that the empty place of a frame that was taken is a comparison everywhere and no call.
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
    use crate::PoolSizes;

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
    fn a_header_is_put_in_place_or_in_a_copy() {
        let pool = pool();
        let mut buffer = pool.take(Size::Small).unwrap();
        buffer[4..6].copy_from_slice(&[5, 6]);
        let mut frame = buffer.into_frame(4..6);
        frame.meta.promiscuous = true;
        assert!(frame.prepend(&pool, &[3, 4]));
        assert_eq!((frame.octets(), pool.out()), (&[3, 4, 5, 6][..], 1));
        // There is no room for three more, and then the buffer is shared.
        assert!(frame.prepend(&pool, &[0, 1, 2]));
        let shared = frame.clone();
        frame.trim_front(1);
        assert!(frame.prepend(&pool, &[9]));
        assert_eq!(
            (frame.octets(), shared.octets()),
            (&[9, 1, 2, 3, 4, 5, 6][..], &[0, 1, 2, 3, 4, 5, 6][..])
        );
        assert!(frame.meta.promiscuous);
        let _third = pool.take(Size::Small).unwrap();
        assert!(!frame.prepend(&pool, &[8]));
        assert_eq!(frame.len(), 7);
        frame.truncate(2);
        assert_eq!(frame.octets(), [9, 1]);
    }

    #[test]
    fn frames_share_one_read() {
        let pool = pool();
        let mut buffer = pool.take(Size::Bulk).unwrap();
        buffer[..4].copy_from_slice(&[1, 2, 3, 4]);
        let mut shared = buffer.share();
        let (a, b) = (shared.frame(0..2), shared.frame(2..4));
        assert!(shared.octets_mut().is_none());
        drop((a, b));
        shared.octets_mut().expect("nobody else has it")[3] = 4;
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
