//! Tables whose keys are slots that are used again.
//!
//! Theory of operation. A key is a small number, its slot, and a generation: how often the slot had other users before.
//! A [`SlotMap`] makes the keys. It has a slot for each value that it had at once, so the slots can index arrays; the
//! slot of a removed value gets the next generation and waits behind all others that are free. A [`SecondaryMap`] is
//! indexed by keys of another map. It keeps the whole key beside each value, so finding a value is one index and one
//! comparison of keys, and the key of a former user of the slot finds nothing.
//!
//! Generations wrap. A key that is kept for as long as its slot is used as often as there are generations would name
//! the last of these users; a slot waits for its turn among the free ones to make that as long as it can be.

use std::collections::VecDeque;
use std::mem;

/// A key of a [`SlotMap`]: a slot and its generation.
pub trait SlotKey: Copy + Eq {
    /// The key of the slot's first user. No more slots are asked for than the map's limit.
    fn first(slot: usize) -> Self;

    /// The slot, which every later user of it has too.
    fn slot(self) -> usize;

    /// The key of the slot's next user; the generations wrap.
    fn successor(self) -> Self;
}

/// Values under keys that the map makes, up to a limit.
#[derive(Clone, Debug)]
pub struct SlotMap<K, V> {
    values: SecondaryMap<K, V>,
    /// The keys that the free slots get next, the slot that was free longest first.
    free: VecDeque<K>,
    /// The slots used so far, and how many there may be.
    slots: usize,
    limit: usize,
}

/// Values under keys that another map made, at most one for each slot.
#[derive(Clone, Debug)]
pub struct SecondaryMap<K, V> {
    slots: Vec<Option<(K, V)>>,
}

impl<K: SlotKey, V> SlotMap<K, V> {
    /// An empty map for at most `limit` values at once.
    pub const fn new(limit: usize) -> SlotMap<K, V> {
        SlotMap { values: SecondaryMap::new(), free: VecDeque::new(), slots: 0, limit }
    }

    /// The key that the next value gets; `None` when the map is full.
    pub fn vacant_key(&self) -> Option<K> {
        let fresh = || (self.slots < self.limit).then(|| K::first(self.slots));
        self.free.front().copied().or_else(fresh)
    }

    /// Adds a value and returns its key; `None` when the map is full.
    pub fn insert(&mut self, value: V) -> Option<K> {
        let key = self.vacant_key()?;
        if self.free.pop_front().is_none() {
            self.slots += 1;
        }
        self.values.insert(key, value);
        Some(key)
    }

    /// Removes the value of `key`, whose slot is free then.
    pub fn remove(&mut self, key: K) -> Option<V> {
        let value = self.values.remove(key)?;
        self.free.push_back(key.successor());
        Some(value)
    }

    /// Returns the value of `key`.
    #[inline]
    pub fn get(&self, key: K) -> Option<&V> {
        self.values.get(key)
    }

    /// Returns the value of `key`, to change it.
    #[inline]
    pub fn get_mut(&mut self, key: K) -> Option<&mut V> {
        self.values.get_mut(key)
    }

    /// Every key and value, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.values.iter()
    }

    /// Every value, by slot.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.values.values()
    }

    /// Every value, by slot, to change it.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.values.values_mut()
    }
}

impl<K: SlotKey, V> SecondaryMap<K, V> {
    /// An empty map.
    pub const fn new() -> SecondaryMap<K, V> {
        SecondaryMap { slots: Vec::new() }
    }

    /// Sets the value of `key`, and returns the key and the value that its slot had.
    pub fn insert(&mut self, key: K, value: V) -> Option<(K, V)> {
        let slot = key.slot();
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        self.slots[slot].replace((key, value))
    }

    /// Removes the value of `key`; that of another user of its slot stays.
    pub fn remove(&mut self, key: K) -> Option<V> {
        let (_, value) = self.slots.get_mut(key.slot())?.take_if(|(known, _)| *known == key)?;
        Some(value)
    }

    /// Returns the value of `key`.
    #[inline]
    pub fn get(&self, key: K) -> Option<&V> {
        match self.slots.get(key.slot()) {
            Some(Some((known, value))) if *known == key => Some(value),
            _ => None,
        }
    }

    /// Returns the value of `key`, to change it.
    #[inline]
    pub fn get_mut(&mut self, key: K) -> Option<&mut V> {
        match self.slots.get_mut(key.slot()) {
            Some(Some((known, value))) if *known == key => Some(value),
            _ => None,
        }
    }

    /// Returns the value of `key`, which `new` makes when there is none, from the key and the value of the user that
    /// the slot has instead.
    #[inline]
    pub fn get_or_insert_with(&mut self, key: K, new: impl FnOnce(Option<(K, V)>) -> V) -> &mut V {
        // Asked twice, which costs nothing: else the borrow checker has the value borrowed in the other case too.
        if self.get(key).is_some() {
            return self.get_mut(key).expect("the value is there");
        }
        self.replace_with(key, new);
        self.get_mut(key).expect("the value was just inserted")
    }

    #[cold]
    fn replace_with(&mut self, key: K, new: impl FnOnce(Option<(K, V)>) -> V) {
        let former = self.slots.get_mut(key.slot()).and_then(mem::take);
        self.insert(key, new(former));
    }

    /// Every key and value, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.slots.iter().flatten().map(|(key, value)| (*key, value))
    }

    /// Every value, by slot.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// Every value, by slot, to change it.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.slots.iter_mut().flatten().map(|(_, value)| value)
    }
}

impl<K: SlotKey, V> Default for SecondaryMap<K, V> {
    fn default() -> Self {
        SecondaryMap::new()
    }
}

impl<K: SlotKey, V> FromIterator<(K, V)> for SecondaryMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = SecondaryMap::new();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use proptest::prelude::*;

    use super::*;

    /// A slot and a generation, so small that it wraps soon.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
    struct Key(u8, u8);

    impl SlotKey for Key {
        fn first(slot: usize) -> Key {
            Key(slot as u8, 0)
        }

        fn slot(self) -> usize {
            self.0.into()
        }

        fn successor(self) -> Key {
            Key(self.0, self.1.wrapping_add(1))
        }
    }

    #[test]
    fn a_full_map_takes_nothing() {
        let mut map = SlotMap::new(2);
        assert_eq!(['a', 'b', 'c'].map(|value| map.insert(value)), [Some(Key(0, 0)), Some(Key(1, 0)), None]);
        assert_eq!(map.vacant_key(), None);
        assert_eq!(map.remove(Key(0, 0)), Some('a'));
        assert_eq!(map.insert('d'), Some(Key(0, 1)));
        assert!(Vec::from_iter(map.iter()) == [(Key(0, 1), &'d'), (Key(1, 0), &'b')]);
    }

    #[test]
    fn a_former_key_finds_and_removes_nothing() {
        let mut map = SlotMap::new(1);
        let former: Key = map.insert('a').unwrap();
        assert_eq!((map.remove(former), map.remove(former)), (Some('a'), None));
        let key = map.insert('b').unwrap();
        assert_eq!([map.get(former).copied(), map.get_mut(former).copied(), map.remove(former)], [None; 3]);
        assert_eq!((map.insert('c'), map.get(key)), (None, Some(&'b')));
    }

    #[test]
    fn the_slot_that_was_free_longest_is_used_first() {
        let mut map = SlotMap::new(8);
        let keys: [Key; 3] = [0; 3].map(|value| map.insert(value).unwrap());
        assert_eq!([2, 0, 1].map(|index: usize| map.remove(keys[index])), [Some(0); 3]);
        assert_eq!([0; 4].map(|value| map.insert(value).unwrap().slot()), [2, 0, 1, 3]);
    }

    #[test]
    fn generations_wrap() {
        let mut map = SlotMap::new(1);
        let keys = Vec::from_iter((0..257).map(|value| {
            let key: Key = map.insert(value).unwrap();
            assert_eq!(map.remove(key), Some(value));
            key
        }));
        assert_eq!(HashSet::<&Key>::from_iter(&keys[..256]).len(), 256);
        assert_eq!(keys[256], keys[0]);
    }

    #[test]
    fn a_new_value_is_made_from_the_one_that_has_its_slot() {
        let mut map = SecondaryMap::new();
        let mut seen = Vec::new();
        for (key, value) in [(Key(2, 0), 'a'), (Key(2, 0), 'b'), (Key(2, 1), 'c'), (Key(0, 0), 'd')] {
            let found = *map.get_or_insert_with(key, |former| {
                seen.push(former);
                value
            });
            assert_eq!(found, if value == 'b' { 'a' } else { value });
        }
        assert_eq!(seen, [None, Some((Key(2, 0), 'a')), None]);
        assert_eq!(map.insert(Key(2, 0), 'e'), Some((Key(2, 1), 'c')));
    }

    proptest! {
        /// A map agrees with a tree of its values, a secondary one follows it, and no key comes twice.
        #[test]
        fn agrees_with_a_tree(
            steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>(), any::<u16>()), 1..200),
            limit in 0usize..8,
        ) {
            let mut map: SlotMap<Key, u16> = SlotMap::new(limit);
            let mut secondary: SecondaryMap<Key, u16> = SecondaryMap::new();
            let mut model: BTreeMap<Key, u16> = BTreeMap::new();
            let mut given: Vec<Key> = Vec::new();
            for (inserts, index, value) in steps {
                if inserts {
                    let vacant = map.vacant_key();
                    let key = map.insert(value);
                    prop_assert_eq!(key, vacant);
                    prop_assert_eq!(key.is_some(), model.len() < limit);
                    if let Some(key) = key {
                        prop_assert!(key.slot() < limit && !given.contains(&key));
                        given.push(key);
                        model.insert(key, value);
                        // It may still have the value of the slot's former user.
                        secondary.insert(key, value);
                    }
                } else if !given.is_empty() {
                    let key = given[index.index(given.len())];
                    prop_assert_eq!(map.remove(key), model.remove(&key));
                    if value % 2 == 0 {
                        secondary.remove(key);
                    }
                }
                for key in &given {
                    prop_assert_eq!(map.get(*key), model.get(key));
                    prop_assert_eq!(map.get_mut(*key).copied(), model.get(key).copied());
                    if model.contains_key(key) && secondary.get(*key).is_some() {
                        prop_assert_eq!(secondary.get(*key), model.get(key));
                    }
                }
                let entries = Vec::from_iter(model.iter().map(|(key, value)| (*key, value)));
                prop_assert_eq!(Vec::from_iter(map.iter()), entries);
                prop_assert_eq!(Vec::from_iter(map.values()), Vec::from_iter(model.values()));
                let of_live = secondary.iter().filter(|(key, _)| model.contains_key(key));
                prop_assert_eq!(of_live.count(), model.len());
            }
        }
    }
}
