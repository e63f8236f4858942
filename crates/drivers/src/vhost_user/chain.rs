//! Chains of descriptors (virtio 1.3, 2.7.5 and 2.8.6), in the form that is the same for both layouts of a ring.
//!
//! A descriptor is read once, so what a guest changes behind our back changes nothing that was checked.

use vmlan_sys::guest_memory::Span;

use super::Trouble;
use super::memory::Memory;

/// Octets of a descriptor, of either layout.
pub(crate) const DESCRIPTOR: usize = 16;

/// The most descriptors of a chain.
pub(crate) const LONGEST: usize = 256;

/// The descriptor is followed by another one of the chain.
pub(crate) const NEXT: u16 = 1;
/// The device writes to it, else it reads.
pub(crate) const WRITE: u16 = 2;
/// It is a table of descriptors.
pub(crate) const INDIRECT: u16 = 4;

/// Octets of the guest's memory, not looked up yet.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Piece {
    pub(crate) guest: u64,
    pub(crate) len: u32,
}

/// A descriptor as it was read.
#[derive(Clone, Copy, Default)]
pub(crate) struct Descriptor {
    pub(crate) piece: Piece,
    /// Its third word: the flags of a split ring's, the buffer id of a packed ring's.
    pub(crate) third: u16,
    /// Its fourth word: the next one of a split ring's, the flags of a packed ring's.
    pub(crate) fourth: u16,
}

impl Descriptor {
    /// Reads the descriptor at `offset`, once.
    #[inline]
    pub(crate) fn read(table: Span<'_>, offset: usize) -> Descriptor {
        let [guest, rest] = table.load_u64_pair(offset);
        Descriptor {
            piece: Piece { guest, len: rest as u32 },
            third: (rest >> 32) as u16,
            fourth: (rest >> 48) as u16,
        }
    }
}

/// Which way the octets of a ring's chains go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// From the guest: it lets us read.
    Out,
    /// To the guest: it lets us write.
    In,
    /// Commands of the guest, each with room for the answer behind it.
    Commands,
}

/// Octets that are fetched of what comes next, two lines of a cache at most: a short frame with its header, wherever it
/// begins. Of a longer one the processor sees by itself what follows.
const FETCHED: usize = 64;

impl Way {
    /// Has the processor fetch the beginning of a piece.
    #[inline]
    pub(crate) fn fetch(self, memory: &Memory, hint: &mut usize, piece: Piece) {
        let Some(span) = memory.find(hint, piece.guest, FETCHED as u64 + 1) else { return };
        for offset in [0, FETCHED] {
            match self {
                Way::Out | Way::Commands => span.prefetch(offset),
                Way::In => span.prefetch_for_write(offset),
            }
        }
    }
}

/// A chain, or several that one frame is written to.
#[derive(Default)]
pub(crate) struct Chain {
    pub(crate) pieces: Vec<Piece>,
    /// Octets of all pieces.
    pub(crate) octets: u64,
    /// The last piece that is to be written.
    pub(crate) written: Option<Piece>,
}

impl Chain {
    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
        self.octets = 0;
        self.written = None;
    }

    /// Adds a descriptor that is no table. `flags` are its own.
    #[inline]
    pub(crate) fn push(&mut self, piece: Piece, flags: u16, way: Way) -> Result<(), Trouble> {
        match (flags & WRITE != 0, way) {
            (false, Way::Out | Way::Commands) | (true, Way::In) => {}
            (true, Way::Commands) => self.written = Some(piece),
            _ => return Err(Trouble(wrong_way(way))),
        }
        self.octets += u64::from(piece.len);
        self.pieces.push(piece);
        Ok(())
    }

    /// Looks up a table of descriptors, which is none within another one and has an entry at least (virtio 1.3,
    /// 2.7.5.3 and 2.8.7). Returns it and how many entries it has.
    pub(crate) fn table<'m>(
        memory: &'m Memory,
        hint: &mut usize,
        piece: Piece,
        most: usize,
    ) -> Result<(Span<'m>, usize), Trouble> {
        let len = piece.len as usize;
        if len == 0 || !len.is_multiple_of(DESCRIPTOR) {
            return Err(Trouble(format!(
                "an indirect table has {len} octets, which is no whole number of entries"
            )));
        }
        let count = len / DESCRIPTOR;
        if count > most {
            return Err(Trouble(format!("an indirect table has {count} entries, of at most {most}")));
        }
        let table = memory.find(hint, piece.guest, u64::from(piece.len)).ok_or_else(|| outside(piece))?;
        Ok((table, count))
    }
}

#[cold]
fn wrong_way(way: Way) -> String {
    match way {
        Way::Out | Way::Commands => "a buffer that was sent is to be written".to_owned(),
        Way::In => "a buffer for what comes is not to be written".to_owned(),
    }
}

/// Says that a piece is not in the guest's memory.
#[cold]
pub(crate) fn outside(piece: Piece) -> Trouble {
    let Piece { guest, len } = piece;
    Trouble(format!("a buffer of {len} octets at {guest:#x} is in no region of the shared memory, or in two"))
}

/// Says that a chain is too long or goes round in a circle.
#[cold]
pub(crate) fn endless() -> Trouble {
    Trouble("a chain of descriptors is too long, or has no end".to_owned())
}
