//! Queues that share one array: each is a chain through it, and an empty one holds nothing.

use super::flow::{Chain, NONE};

pub(super) struct Chains<T> {
    places: Vec<(Option<T>, u32)>,
    free: u32,
}

impl<T> Chains<T> {
    pub(super) fn with_capacity(capacity: usize) -> Chains<T> {
        Chains { places: Vec::with_capacity(capacity), free: NONE }
    }

    pub(super) fn push(&mut self, chain: &mut Chain, value: T) {
        let place = match self.free {
            NONE => {
                self.places.push((Some(value), NONE));
                (self.places.len() - 1) as u32
            }
            free => {
                self.free = std::mem::replace(&mut self.places[free as usize], (Some(value), NONE)).1;
                free
            }
        };
        match chain.tail {
            NONE => chain.head = place,
            tail => self.places[tail as usize].1 = place,
        }
        chain.tail = place;
    }

    pub(super) fn pop(&mut self, chain: &mut Chain) -> Option<T> {
        let place = chain.head;
        let (value, next) = self.places.get_mut(place as usize).map(|(value, next)| (value.take(), *next))?;
        chain.head = next;
        if next == NONE {
            chain.tail = NONE;
        }
        self.places[place as usize].1 = std::mem::replace(&mut self.free, place);
        value
    }

    pub(super) fn first(&mut self, chain: Chain) -> Option<&mut T> {
        self.places.get_mut(chain.head as usize)?.0.as_mut()
    }

    pub(super) fn last(&mut self, chain: Chain) -> Option<&mut T> {
        self.places.get_mut(chain.tail as usize)?.0.as_mut()
    }

    pub(super) fn iter(&self, chain: Chain) -> impl Iterator<Item = &T> {
        let mut place = chain.head;
        std::iter::from_fn(move || {
            let (value, next) = self.places.get(place as usize)?;
            place = *next;
            value.as_ref()
        })
    }

    /// The first value for which `wanted` holds.
    pub(super) fn find(&mut self, chain: Chain, wanted: impl Fn(&T) -> bool) -> Option<&mut T> {
        let mut place = chain.head;
        while let Some((value, next)) = self.places.get(place as usize) {
            if value.as_ref().is_some_and(&wanted) {
                return self.places[place as usize].0.as_mut();
            }
            place = *next;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_keep_their_order_and_give_places_back() {
        let mut chains = Chains::with_capacity(2);
        let (mut one, mut other) = (Chain::EMPTY, Chain::EMPTY);
        for number in 0..3 {
            chains.push(&mut one, number);
            chains.push(&mut other, 10 + number);
        }
        assert_eq!(chains.iter(one).copied().collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(
            (chains.pop(&mut one), chains.pop(&mut one), chains.last(other).copied()),
            (Some(0), Some(1), Some(12))
        );
        assert_eq!(chains.find(other, |value| *value > 10).copied(), Some(11));
        chains.push(&mut one, 3);
        assert_eq!(
            (chains.pop(&mut one), chains.pop(&mut one), chains.pop(&mut one)),
            (Some(2), Some(3), None)
        );
        assert!(one.is_empty() && chains.places.len() == 6);
        assert_eq!(chains.first(other).copied(), Some(10));
    }
}
