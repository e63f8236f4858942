use core::{mem, slice};
use std::vec;

use crate::Frame;

/// Frames in the order in which they came, handled together.
///
/// A batch keeps its capacity when it is emptied, so it is made once and used again.
#[derive(Default, Debug)]
pub struct Batch {
    frames: Vec<Frame>,
}

impl Batch {
    /// How many frames a driver puts in a batch at most. Larger batches win little and fall out of cache.
    pub const LIMIT: usize = 64;

    /// An empty batch with room for [`Batch::LIMIT`] frames.
    pub fn new() -> Batch {
        Batch { frames: Vec::with_capacity(Batch::LIMIT) }
    }

    /// Adds a frame at the end. There is no hard limit: a flood of a full batch may make more.
    #[inline]
    pub fn push(&mut self, frame: Frame) {
        self.frames.push(frame);
    }

    /// Takes `frame`, leaves an empty one in its place, and adds it at the end. Returns it there.
    #[inline]
    pub fn push_taken(&mut self, frame: &mut Frame) -> &mut Frame {
        // Room is made before the frame is taken, so that it is moved once.
        self.frames.reserve(1);
        self.frames.push_mut(mem::take(frame))
    }

    /// How many frames there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// True if the batch has no frames.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// How many more a driver may add.
    #[inline]
    pub fn room(&self) -> usize {
        Batch::LIMIT.saturating_sub(self.frames.len())
    }

    /// The frames in order.
    #[inline]
    pub fn iter(&self) -> slice::Iter<'_, Frame> {
        self.frames.iter()
    }

    /// The frames in order, for changing.
    #[inline]
    pub fn iter_mut(&mut self) -> slice::IterMut<'_, Frame> {
        self.frames.iter_mut()
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[Frame] {
        &self.frames
    }

    #[inline]
    pub(crate) fn as_mut_slice(&mut self) -> &mut [Frame] {
        &mut self.frames
    }

    /// Takes every frame out, in order.
    #[inline]
    pub fn drain(&mut self) -> vec::Drain<'_, Frame> {
        self.frames.drain(..)
    }

    /// Takes the first `count` frames out, in order.
    #[inline]
    pub fn drain_front(&mut self, count: usize) -> vec::Drain<'_, Frame> {
        self.frames.drain(..count)
    }

    /// Keeps the frames for which `keep` says so, in order; the others are dropped.
    #[inline]
    pub fn retain(&mut self, keep: impl FnMut(&mut Frame) -> bool) {
        self.frames.retain_mut(keep);
    }

    /// Drops every frame.
    #[inline]
    pub fn clear(&mut self) {
        self.frames.clear();
    }
}

impl FromIterator<Frame> for Batch {
    fn from_iter<I: IntoIterator<Item = Frame>>(frames: I) -> Batch {
        Batch { frames: Vec::from_iter(frames) }
    }
}

impl IntoIterator for Batch {
    type Item = Frame;
    type IntoIter = vec::IntoIter<Frame>;

    fn into_iter(self) -> Self::IntoIter {
        self.frames.into_iter()
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = &'a Frame;
    type IntoIter = slice::Iter<'a, Frame>;

    fn into_iter(self) -> Self::IntoIter {
        self.frames.iter()
    }
}
