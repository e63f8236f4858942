//! Rings as the standard's text has them, one octet after the other, on a copy of the memory. All that it
//! knows of the walkers that it is compared with is how far they read ahead.

use std::collections::BTreeSet;

/// Guest addresses of two regions that follow each other: the first has the rings.
pub const REGIONS: [(u64, usize); 2] = [(0x1_0000, 0x1_0000), (0x2_0000, 0x8000)];
pub const DRIVER: usize = 0x1000;
pub const DEVICE: usize = 0x2000;

/// Heads that are looked at before the first of them is taken: itself, and those that are read ahead.
const AHEAD: u16 = 1 + super::super::split::AHEAD;
const HEADER: usize = 12;
/// The longest IP packet, an Ethernet header and two tags.
const LONGEST: u64 = 65_535 + 22;

/// The ring makes no sense.
pub struct Broken;

/// A chain: how the guest knows it, its pieces, and the place behind it.
struct Chain {
    id: u16,
    pieces: Vec<(u64, u32)>,
    behind: (u16, bool),
}

impl Chain {
    fn octets(&self) -> u64 {
        self.pieces.iter().map(|piece| u64::from(piece.1)).sum()
    }
}

#[derive(PartialEq, Eq)]
pub enum Sent {
    Written,
    Full,
    TooLong,
}

#[derive(Clone)]
pub struct Naive {
    /// All regions, one behind the other.
    pub octets: Vec<u8>,
    pub packed: bool,
    pub num: u16,
    /// The next entry, and its round.
    pub place: (u16, bool),
    /// Pages that were written.
    pub dirty: BTreeSet<u64>,
}

impl Naive {
    /// The offset of so many octets, which are in one region.
    fn at(&self, (guest, len): (u64, u32)) -> Result<usize, Broken> {
        let is_in = |(start, size): &(u64, usize)| {
            guest >= *start && u128::from(guest) + u128::from(len) <= u128::from(*start) + *size as u128
        };
        REGIONS.iter().find(|region| is_in(region)).map(|_| (guest - REGIONS[0].0) as usize).ok_or(Broken)
    }

    fn word(&self, offset: usize) -> u16 {
        u16::from_le_bytes([self.octets[offset], self.octets[offset + 1]])
    }

    fn put(&mut self, offset: usize, octets: &[u8]) {
        self.octets[offset..offset + octets.len()].copy_from_slice(octets);
        let pages = (offset..offset + octets.len()).map(|offset| (REGIONS[0].0 + offset as u64) / 4096);
        self.dirty.extend(pages);
    }

    /// A descriptor: its piece, and two words.
    fn descriptor(&self, offset: usize) -> ((u64, u32), u16, u16) {
        let octets = &self.octets[offset..offset + 16];
        let guest = u64::from_le_bytes(octets[..8].try_into().unwrap());
        let len = u32::from_le_bytes(octets[8..12].try_into().unwrap());
        ((guest, len), self.word(offset + 12), self.word(offset + 14))
    }

    /// An indirect table: its offset and entries.
    fn table(&self, (guest, len): (u64, u32), most: u32) -> Result<(usize, u16), Broken> {
        if len == 0 || len % 16 != 0 || len / 16 > most {
            return Err(Broken);
        }
        Ok((self.at((guest, len))?, (len / 16) as u16))
    }

    /// 2.7: the available ring names the first descriptor, which names the next one.
    fn split_chain(&self, place: (u16, bool), write: bool) -> Result<Option<Chain>, Broken> {
        let left = self.word(DRIVER + 2).wrapping_sub(place.0);
        if left > self.num {
            return Err(Broken);
        }
        let head =
            |ahead: u16| self.word(DRIVER + 4 + 2 * usize::from(place.0.wrapping_add(ahead) % self.num));
        if (0..left.min(AHEAD)).any(|ahead| head(ahead) >= self.num) {
            return Err(Broken);
        }
        if left == 0 {
            return Ok(None);
        }
        let (mut pieces, mut in_table, mut taken) = (Vec::new(), false, 0);
        let (mut table, mut number) = ((0, self.num), head(0));
        loop {
            let (piece, flags, next) = self.descriptor(table.0 + 16 * usize::from(number));
            if flags & 4 != 0 {
                if in_table || flags & 1 != 0 {
                    return Err(Broken);
                }
                (table, number, in_table, taken) = (self.table(piece, self.num.into())?, 0, true, 0);
                continue;
            }
            if (flags & 2 != 0) != write {
                return Err(Broken);
            }
            pieces.push(piece);
            taken += 1;
            if flags & 1 == 0 {
                break;
            }
            if next >= table.1 || taken == table.1 {
                return Err(Broken);
            }
            number = next;
        }
        Ok(Some(Chain { id: head(0), pieces, behind: (place.0.wrapping_add(1), place.1) }))
    }

    /// 2.8: entries of the guest's round follow each other; the last one has the id.
    fn packed_chain(&self, place: (u16, bool), write: bool) -> Result<Option<Chain>, Broken> {
        let (first, mut id, flags) = self.descriptor(16 * usize::from(place.0));
        if (flags & 0x80 != 0) != place.1 || (flags & 0x8000 != 0) == place.1 {
            return Ok(None);
        }
        let (mut pieces, mut behind) = (Vec::new(), self.behind(place));
        if flags & 4 != 0 {
            if flags & 1 != 0 {
                return Err(Broken);
            }
            let (table, count) = self.table(first, 256)?;
            for number in 0..usize::from(count) {
                let (piece, _, flags) = self.descriptor(table + 16 * number);
                if flags & 4 != 0 || (flags & 2 != 0) != write {
                    return Err(Broken);
                }
                pieces.push(piece);
            }
            return Ok(Some(Chain { id, pieces, behind }));
        }
        let (mut piece, mut flags) = (first, flags);
        loop {
            if flags & 4 != 0 || (flags & 2 != 0) != write {
                return Err(Broken);
            }
            pieces.push(piece);
            if flags & 1 == 0 {
                return Ok(Some(Chain { id, pieces, behind }));
            }
            if pieces.len() == usize::from(self.num) {
                return Err(Broken);
            }
            (piece, id, flags) = self.descriptor(16 * usize::from(behind.0));
            behind = self.behind(behind);
        }
    }

    fn behind(&self, (index, round): (u16, bool)) -> (u16, bool) {
        if index + 1 == self.num { (0, !round) } else { (index + 1, round) }
    }

    fn chain(&self, place: (u16, bool), write: bool) -> Result<Option<Chain>, Broken> {
        if self.packed { self.packed_chain(place, write) } else { self.split_chain(place, write) }
    }

    /// Uses the chain that comes next.
    fn complete(&mut self, chain: &Chain, len: u32) {
        let (index, round) = self.place;
        let [len, id] = [len, chain.id.into()].map(u32::to_le_bytes);
        if self.packed {
            let flags: u16 = if round { 0x8080 } else { 0 } | if len == [0; 4] { 0 } else { 2 };
            let entry = [&len[..], &id[..2], &flags.to_le_bytes()].concat();
            self.put(16 * usize::from(index) + 8, &entry);
        } else {
            self.put(DEVICE + 4 + 8 * usize::from(index % self.num), &[id, len].concat());
            self.put(DEVICE + 2, &index.wrapping_add(1).to_le_bytes());
        }
        self.place = chain.behind;
    }

    /// Takes all that the guest sent: the ids, and headers with frames unless they are too short or long.
    pub fn receive(&mut self, frames: &mut Vec<(u16, Option<Vec<u8>>)>) -> Result<(), Broken> {
        while let Some(chain) = self.chain(self.place, false)? {
            let is_right = (HEADER as u64..=HEADER as u64 + LONGEST).contains(&chain.octets());
            let mut frame = Vec::new();
            for piece in chain.pieces.iter().filter(|_| is_right) {
                let at = self.at(*piece)?;
                frame.extend(&self.octets[at..at + piece.1 as usize]);
            }
            self.complete(&chain, 0);
            frames.push((chain.id, is_right.then_some(frame)));
        }
        Ok(())
    }

    /// Writes a frame to one buffer, or to several if it may be (5.1.6.4).
    pub fn transmit(&mut self, frame: &[u8], mergeable: bool) -> Result<Sent, Broken> {
        let (mut chains, mut place, mut room) = (Vec::new(), self.place, 0);
        while room < (HEADER + frame.len()) as u64 {
            if !chains.is_empty() && !mergeable {
                return Ok(Sent::TooLong);
            }
            let Some(chain) = self.chain(place, true)? else { return Ok(Sent::Full) };
            (place, room) = (chain.behind, room + chain.octets());
            chains.push(chain);
        }
        let octets = [&[0; 10][..], &(chains.len() as u16).to_le_bytes(), frame].concat();
        let mut left = &octets[..];
        for piece in chains.iter().flat_map(|chain| &chain.pieces) {
            if left.is_empty() {
                break;
            }
            let at = self.at(*piece)?;
            let (now, later) = left.split_at(left.len().min(piece.1 as usize));
            self.put(at, now);
            left = later;
        }
        let mut left = octets.len() as u64;
        for chain in &chains {
            let written = left.min(chain.octets());
            self.complete(chain, written as u32);
            left -= written;
        }
        Ok(Sent::Written)
    }
}
