//! Doubly linked lists of slots, so that what is oldest is found and moved without a search and without allocation.
//!
//! Theory of operation. A [`Chain`] has two links for every slot of a slab; a [`List`] has the two ends. A slot is in
//! at most one list of a chain at a time, and its owner knows in which. Lists that are kept in order of time give
//! timers: all entries of one list have the same timeout, so the first one is the first to end.

/// No slot.
const END: u32 = u32::MAX;

/// The links of every slot.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    links: Vec<Link>,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    previous: u32,
    next: u32,
}

/// The ends of one list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct List {
    first: u32,
    last: u32,
}

impl Default for List {
    fn default() -> List {
        List { first: END, last: END }
    }
}

impl Chain {
    /// Makes links for slots below `slots`.
    pub fn grow(&mut self, slots: usize) {
        if self.links.len() < slots {
            self.links.resize(slots, Link { previous: END, next: END });
        }
    }

    fn at(&mut self, slot: u32) -> &mut Link {
        &mut self.links[slot as usize]
    }

    /// Appends a slot, which is in no list of the chain.
    pub fn push(&mut self, list: &mut List, slot: u32) {
        *self.at(slot) = Link { previous: list.last, next: END };
        match list.last {
            END => list.first = slot,
            last => self.at(last).next = slot,
        }
        list.last = slot;
    }

    /// Takes a slot out of the list that it is in.
    pub fn remove(&mut self, list: &mut List, slot: u32) {
        let Link { previous, next } = *self.at(slot);
        match previous {
            END => list.first = next,
            previous => self.at(previous).next = next,
        }
        match next {
            END => list.last = previous,
            next => self.at(next).previous = previous,
        }
    }
}

impl List {
    /// The slot that was appended first.
    pub fn first(&self) -> Option<u32> {
        (self.first != END).then_some(self.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_two_vectors(steps in prop::collection::vec((0u32..8, any::<bool>()), 0..200)) {
            let mut chain = Chain::default();
            chain.grow(8);
            let mut lists = [List::default(); 2];
            let mut models = [vec![], vec![]];
            for (slot, which) in steps {
                for (list, model) in lists.iter_mut().zip(&mut models) {
                    if let Some(place) = model.iter().position(|it| *it == slot) {
                        model.remove(place);
                        chain.remove(list, slot);
                    }
                }
                models[usize::from(which)].push(slot);
                chain.push(&mut lists[usize::from(which)], slot);
                for (list, model) in lists.iter().zip(&models) {
                    prop_assert_eq!(list.first(), model.first().copied());
                }
            }
            for (list, model) in lists.iter_mut().zip(models) {
                for slot in model {
                    prop_assert_eq!(list.first(), Some(slot));
                    chain.remove(list, slot);
                }
                prop_assert_eq!(list.first(), None);
            }
        }
    }
}
