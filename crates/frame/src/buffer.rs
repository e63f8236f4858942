//! Buffers and the pool that they come from and go back to.
//!
//! Theory of operation. A pool belongs to one worker thread. All its buffers are made when the pool is made, so the
//! data path allocates nothing afterwards; memory that was never written costs nothing, for the system gives zero
//! pages on first use. A buffer is in one of three hands:
//!
//! - the pool's free list, last in first out, so that the hottest one is used next;
//! - one [`WriteBuf`], unique and writable: a driver reads from the medium into it;
//! - one or more [`Frame`](crate::Frame)s or [`SharedBuf`]s, which share it by reference count.
//!
//! The last hand to let go puts it back on the free list, whatever the path: nothing has to be returned by hand and
//! nothing can be returned twice. The counts are not atomic: buffers never leave their thread. What has to cross
//! threads is copied out.

use core::cell::{Cell, RefCell};
use core::ops::{Deref, DerefMut, Range};
use std::rc::{Rc, Weak};

use crate::frame::Frame;

/// The sizes of buffer that a pool has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// 2 KiB: one plain frame of an ordinary MTU with room for a header of the medium.
    Small,
    /// 68 KiB: one frame of any MTU, or one segmentation frame.
    Large,
    /// 256 KiB: one read from a stream, which holds many frames.
    Bulk,
}

impl Size {
    /// Every size, smallest first.
    pub const ALL: [Size; 3] = [Size::Small, Size::Large, Size::Bulk];

    /// Octets of such a buffer.
    pub const fn octets(self) -> usize {
        match self {
            Size::Small => 2 << 10,
            Size::Large => 68 << 10,
            Size::Bulk => 256 << 10,
        }
    }

    /// The smallest size that holds `octets`, if any does.
    pub fn for_octets(octets: usize) -> Option<Size> {
        Size::ALL.into_iter().find(|size| size.octets() >= octets)
    }
}

/// How many buffers of each size a pool has.
#[derive(Clone, Copy, Debug)]
pub struct PoolSizes {
    /// Buffers of [`Size::Small`].
    pub small: usize,
    /// Buffers of [`Size::Large`]: few and hot, more of them fall out of cache.
    pub large: usize,
    /// Buffers of [`Size::Bulk`].
    pub bulk: usize,
}

impl Default for PoolSizes {
    fn default() -> Self {
        PoolSizes { small: 1024, large: 64, bulk: 4 }
    }
}

pub(crate) struct Buffer {
    octets: Box<[u8]>,
    size: Size,
    pool: Weak<Inner>,
}

impl Buffer {
    #[inline]
    pub(crate) fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// The pool that the buffer came from, while it is there.
    pub(crate) fn pool(&self) -> Option<Pool> {
        self.pool.upgrade().map(|inner| Pool { inner })
    }
}

struct Inner {
    free: [RefCell<Vec<Rc<Buffer>>>; 3],
    total: usize,
    out: Cell<usize>,
    /// Frames that full queues lost, for the ports that want to hear of it.
    refused: RefCell<Vec<Frame>>,
}

/// A worker's buffers. Cloning gives another handle to the same pool.
#[derive(Clone)]
pub struct Pool {
    inner: Rc<Inner>,
}

impl Pool {
    /// Makes every buffer of the pool.
    pub fn new(sizes: PoolSizes) -> Pool {
        let counts = [sizes.small, sizes.large, sizes.bulk];
        let inner = Inner {
            free: Default::default(),
            total: counts.iter().sum(),
            out: Cell::new(0),
            refused: RefCell::default(),
        };
        let pool = Pool { inner: Rc::new(inner) };
        for (size, count) in Size::ALL.into_iter().zip(counts) {
            let make =
                || Buffer { octets: vec![0; size.octets()].into(), size, pool: Rc::downgrade(&pool.inner) };
            pool.inner.free[size as usize].borrow_mut().extend((0..count).map(|_| Rc::new(make())));
        }
        pool
    }

    /// A writable buffer of `size`; `None` when all are out.
    #[inline]
    pub fn take(&self, size: Size) -> Option<WriteBuf> {
        let buffer = self.inner.free[size as usize].borrow_mut().pop()?;
        self.inner.out.set(self.inner.out.get() + 1);
        Some(WriteBuf { buffer: Some(buffer) })
    }

    /// A frame with a copy of `octets`; `None` when no buffer is free or large enough.
    pub fn copy(&self, octets: &[u8]) -> Option<Frame> {
        let mut buffer = self.take(Size::for_octets(octets.len())?)?;
        buffer[..octets.len()].copy_from_slice(octets);
        Some(buffer.into_frame(0..octets.len()))
    }

    /// How many buffers of `size` are free.
    pub fn free(&self, size: Size) -> usize {
        self.inner.free[size as usize].borrow().len()
    }

    /// How many buffers are out of the pool.
    pub fn out(&self) -> usize {
        self.inner.out.get()
    }

    /// How many buffers the pool was made with.
    pub fn total(&self) -> usize {
        self.inner.total
    }

    /// Keeps a frame that a full queue lost, for [`Pool::take_refused`]: at most as many as a batch has.
    #[cold]
    pub(crate) fn refuse(&self, frame: &Frame) {
        let mut refused = self.inner.refused.borrow_mut();
        if refused.len() < crate::Batch::LIMIT {
            refused.push(frame.clone());
        }
    }

    /// Takes the frames that full queues lost since the last call and whose ports want to hear of it
    /// ([`Meta::tells_refusal`](crate::Meta::tells_refusal)).
    #[inline]
    pub fn take_refused(&self) -> Vec<Frame> {
        if self.inner.refused.borrow().is_empty() { Vec::new() } else { self.inner.refused.take() }
    }
}

/// Lets go of one reference; the last one puts the buffer back on its pool's free list.
#[inline(never)]
pub(crate) fn release(buffer: Rc<Buffer>) {
    if Rc::strong_count(&buffer) == 1
        && let Some(pool) = buffer.pool.upgrade()
    {
        pool.out.set(pool.out.get() - 1);
        pool.free[buffer.size as usize].borrow_mut().push(buffer);
    }
}

/// A buffer with one owner, to be written. Dropping it gives it back.
pub struct WriteBuf {
    /// Always there until it is dropped or turned into something else.
    buffer: Option<Rc<Buffer>>,
}

impl WriteBuf {
    /// The frame in `range` of this buffer.
    ///
    /// # Panics
    /// When the range ends beyond the buffer.
    #[inline]
    pub fn into_frame(mut self, range: Range<usize>) -> Frame {
        Frame::new(self.buffer.take().expect("owned until now"), range)
    }

    /// Gives up writing, so that several frames can share the buffer.
    #[inline]
    pub fn share(mut self) -> SharedBuf {
        SharedBuf { buffer: self.buffer.take() }
    }
}

impl Deref for WriteBuf {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.buffer.as_ref().expect("owned until dropped").octets
    }
}

impl DerefMut for WriteBuf {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        let buffer = self.buffer.as_mut().expect("owned until dropped");
        &mut Rc::get_mut(buffer).expect("a writable buffer has one owner").octets
    }
}

impl Drop for WriteBuf {
    #[inline]
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            release(buffer);
        }
    }
}

/// A filled buffer that frames are cut from without copying, as from one large read of a stream.
pub struct SharedBuf {
    buffer: Option<Rc<Buffer>>,
}

impl SharedBuf {
    /// The frame in `range`; it shares the buffer.
    ///
    /// # Panics
    /// When the range ends beyond the buffer.
    #[inline]
    pub fn frame(&self, range: Range<usize>) -> Frame {
        Frame::new(self.buffer.clone().expect("owned until dropped"), range)
    }

    /// All octets of the buffer.
    #[inline]
    pub fn octets(&self) -> &[u8] {
        self.buffer.as_ref().expect("owned until dropped").octets()
    }

    /// All octets of the buffer for writing; `None` while there are frames that share it.
    #[inline]
    pub fn octets_mut(&mut self) -> Option<&mut [u8]> {
        unique(self.buffer.as_mut().expect("owned until dropped"))
    }
}

impl Drop for SharedBuf {
    #[inline]
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            release(buffer);
        }
    }
}

/// The octets of `buffer` for writing when nobody else holds it.
#[inline]
pub(crate) fn unique(buffer: &mut Rc<Buffer>) -> Option<&mut [u8]> {
    Rc::get_mut(buffer).map(|buffer| &mut *buffer.octets)
}
