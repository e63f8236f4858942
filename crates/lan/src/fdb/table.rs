//! The entries of the FDB as atomic words.
//!
//! Theory of operation. An entry is two 64-bit words: a key word (MAC, VID, kind; 0 is no entry) and a value word
//! (port, last seen). Eight entries are a bucket, their key words on one cache line and their value words on the next,
//! and a key may lie in either of two buckets that its hash names, which keeps buckets from overflowing until the table
//! is nearly full. Nothing is allocated or moved after the start.
//!
//! Readers take no lock. A reader finds the key word, loads the value word, and looks whether the key word is still
//! the same. A writer holds the mutex that the table's owner keeps for it. It empties a place by setting the key word
//! to 0 and then the value word, and fills an empty one with the value word and then the key word; so a reader that got
//! another entry's value word sees that the key word changed, and takes the entry for absent. (Only when the same key
//! is put back in the same place between a reader's two looks, with another key in between, does it get the wrong port,
//! for one lookup.) An entry that moves keeps its key word, and is never absent. What readers themselves change is the
//! last-seen time, by compare-and-exchange, which fails when a writer was there first.

use core::array;
use core::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

use siphasher::sip::SipHasher13;
use vmlan_frame::{MacAddr, VlanId};

use super::EntryKind;
use crate::PortId;

/// An address in a VLAN, or in every VLAN of its port: MAC (48 bits), VID (12 bits, 0 for every VLAN), 4 zero bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Key(u64);

impl Key {
    const KIND: u64 = 0xf;

    #[inline]
    pub(crate) fn new(mac: MacAddr, vlan: VlanId) -> Key {
        Key(mac.to_u64() << 16 | u64::from(vlan.get()) << 4)
    }

    /// `mac` in every VLAN of its port.
    pub(crate) fn wildcard(mac: MacAddr) -> Key {
        Key(mac.to_u64() << 16)
    }

    pub(crate) fn to_wildcard(self) -> Key {
        Key::wildcard(self.mac())
    }

    pub(crate) fn is_wildcard(self) -> bool {
        self.vlan().is_none()
    }

    pub(crate) fn mac(self) -> MacAddr {
        MacAddr::from_u64(self.0 >> 16)
    }

    /// `None` stands for every VLAN.
    pub(crate) fn vlan(self) -> Option<VlanId> {
        VlanId::new((self.0 >> 4) as u16 & 0xfff).ok()
    }
}

/// The content of one place of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    /// The place.
    pub(crate) index: usize,
    pub(crate) key: Key,
    pub(crate) kind: EntryKind,
    pub(crate) port: PortId,
    /// When a frame from the address came last, in seconds.
    pub(crate) seen: u32,
}

const WAYS: usize = 8;

#[derive(Default)]
#[repr(align(128))]
struct Bucket {
    keys: [AtomicU64; WAYS],
    values: [AtomicU64; WAYS],
}

pub(super) struct Table {
    buckets: Box<[Bucket]>,
    /// Places that are not empty; only the writer changes it.
    used: AtomicUsize,
    hasher: SipHasher13,
}

impl Table {
    /// Room for `size` entries, rounded up to a power of two from 16 to 2^20.
    pub(super) fn new(size: usize, seed: [u64; 2]) -> Table {
        let buckets = size.clamp(2 * WAYS, 1 << 20).next_power_of_two() / WAYS;
        let buckets = Vec::from_iter((0..buckets).map(|_| Bucket::default())).into();
        Table { buckets, used: AtomicUsize::new(0), hasher: SipHasher13::new_with_keys(seed[0], seed[1]) }
    }

    pub(super) fn capacity(&self) -> usize {
        self.buckets.len() * WAYS
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// The two buckets that may hold `key`.
    #[inline]
    fn buckets_of(&self, key: Key) -> [usize; 2] {
        let hash = self.hasher.hash(&key.0.to_ne_bytes());
        let mask = self.buckets.len() - 1;
        let first = hash as usize & mask;
        let second = (hash >> 32) as usize & mask;
        [first, if second == first { first ^ 1 } else { second }]
    }

    /// The entry of `key`. Hashes once.
    #[inline]
    pub(super) fn find(&self, key: Key) -> Option<Entry> {
        self.buckets_of(key).into_iter().find_map(|bucket| self.find_in(bucket, key))
    }

    #[inline]
    fn find_in(&self, bucket: usize, key: Key) -> Option<Entry> {
        let keys = &self.buckets[bucket].keys;
        let way = keys.iter().position(|word| word.load(Acquire) & !Key::KIND == key.0)?;
        self.entry(bucket * WAYS + way).filter(|entry| entry.key == key)
    }

    /// The entry at `index`.
    #[inline]
    pub(super) fn entry(&self, index: usize) -> Option<Entry> {
        let bucket = &self.buckets[index / WAYS];
        let key_word = &bucket.keys[index % WAYS];
        let word = key_word.load(Acquire);
        let kind = EntryKind::from_bits(word & Key::KIND)?;
        let value = bucket.values[index % WAYS].load(Acquire);
        let port = PortId::from_bits((value >> 32) as u32);
        (key_word.load(Relaxed) == word).then_some(Entry {
            index,
            key: Key(word & !Key::KIND),
            kind,
            port,
            seen: value as u32,
        })
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> {
        (0..self.capacity()).filter_map(|index| self.entry(index))
    }

    /// The places where `key` may lie.
    pub(super) fn places(&self, key: Key) -> impl Iterator<Item = usize> {
        let buckets = self.buckets_of(key);
        buckets.into_iter().flat_map(|bucket| bucket * WAYS..(bucket + 1) * WAYS)
    }

    /// A free place for `key`, in the emptier of its buckets.
    pub(super) fn free_place(&self, key: Key) -> Option<usize> {
        let buckets = self.buckets_of(key);
        let is_free = |bucket: usize, way: usize| self.buckets[bucket].keys[way].load(Relaxed) == 0;
        let free: [usize; 2] = array::from_fn(|i| (0..WAYS).filter(|way| is_free(buckets[i], *way)).count());
        let bucket = buckets[usize::from(free[1] > free[0])];
        (0..WAYS).find(|way| is_free(bucket, *way)).map(|way| bucket * WAYS + way)
    }

    /// Fills the place `index`, which is empty or holds `key` already. One writer at a time.
    pub(super) fn write(&self, index: usize, key: Key, kind: EntryKind, port: PortId, seen: u32) {
        debug_assert!(self.entry(index).is_none_or(|entry| entry.key == key));
        let bucket = &self.buckets[index / WAYS];
        if bucket.keys[index % WAYS].load(Relaxed) == 0 {
            self.used.store(self.len() + 1, Relaxed);
        }
        bucket.values[index % WAYS].store(u64::from(port.bits()) << 32 | u64::from(seen), Release);
        bucket.keys[index % WAYS].store(key.0 | kind.bits(), Release);
    }

    /// Empties the place `index`. One writer at a time.
    pub(super) fn clear(&self, index: usize) {
        let bucket = &self.buckets[index / WAYS];
        if bucket.keys[index % WAYS].load(Relaxed) != 0 {
            self.used.store(self.len() - 1, Relaxed);
        }
        bucket.keys[index % WAYS].store(0, Relaxed);
        bucket.values[index % WAYS].store(0, Release);
    }

    /// Notes that the address of `entry` was seen at `now`, unless the entry changed meanwhile.
    #[inline]
    pub(super) fn refresh(&self, entry: &Entry, now: u32) {
        let value = &self.buckets[entry.index / WAYS].values[entry.index % WAYS];
        let port = u64::from(entry.port.bits()) << 32;
        let (old, new) = (port | u64::from(entry.seen), port | u64::from(now));
        // A failure means that somebody else changed the entry: nothing is left to note.
        let _ = value.compare_exchange(old, new, AcqRel, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> Key {
        Key::new(MacAddr::from_u64(0x0200_0000_0000 + n), VlanId::DEFAULT)
    }

    const PORT: PortId = PortId::new(3, 9);

    #[test]
    fn capacity_is_rounded_up() {
        let capacity = |size| Table::new(size, [1, 2]).capacity();
        assert_eq!([0, 16, 17, 1000, usize::MAX].map(capacity), [16, 16, 32, 1024, 1 << 20]);
    }

    #[test]
    fn a_bucket_is_two_cache_lines() {
        assert_eq!(size_of::<Bucket>(), 128);
    }

    #[test]
    fn keys() {
        let mac = MacAddr([0xfe, 1, 2, 3, 4, 5]);
        let key = Key::new(mac, VlanId::new(4094).unwrap());
        assert_eq!((key.mac(), key.vlan().map(VlanId::get)), (mac, Some(4094)));
        assert!(key.to_wildcard().is_wildcard() && !key.is_wildcard());
        assert_eq!(key.to_wildcard().mac(), mac);
    }

    #[test]
    fn write_find_refresh_clear() {
        let table = Table::new(64, [1, 2]);
        let index = table.free_place(key(1)).unwrap();
        table.write(index, key(1), EntryKind::Learnt, PORT, 7);
        let entry = table.find(key(1)).unwrap();
        assert_eq!((entry.port, entry.seen, entry.kind, entry.key), (PORT, 7, EntryKind::Learnt, key(1)));
        table.refresh(&entry, 8);
        assert_eq!(table.find(key(1)).unwrap().seen, 8);
        // The entry that was read first is out of date by now.
        table.refresh(&entry, 9);
        assert_eq!(table.find(key(1)).unwrap().seen, 8);
        table.clear(index);
        assert_eq!(table.find(key(1)), None);
    }

    #[test]
    fn two_choices_fill_three_quarters() {
        let table = Table::new(4096, [5, 6]);
        let placed = (0..3072).filter(|n| {
            let place = table.free_place(key(*n));
            place.inspect(|index| table.write(*index, key(*n), EntryKind::Learnt, PORT, 0)).is_some()
        });
        assert_eq!(placed.count(), 3072);
        assert!((0..3072).all(|n| table.find(key(n)).is_some()));
    }
}
