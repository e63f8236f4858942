//! What everybody who opens a network agrees on.
//!
//! Theory of operation. A policy is a set of [`Item`]s, each of which is strict or relaxed, and each of which may be
//! fixed. Whoever opens the network brings a [`Request`]. Where openers disagree, the strict wish wins; to make a strict
//! item relaxed takes a wish that says so explicitly, and an item that is not fixed. A fixed item does not change any
//! more in either direction, and once fixed it stays so. A request is taken as a whole or not at all.

use core::fmt;

/// Something about a network that is strict or relaxed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Item {
    /// Relaxed: everybody may open the network. Strict: its owner only.
    Access,
    /// Relaxed: guests may be promiscuous.
    PromiscuousGuests,
    /// Relaxed: the host side of the trunk may be promiscuous.
    PromiscuousHost,
    /// Relaxed: the wire side of the trunk may be promiscuous.
    PromiscuousWire,
    /// Relaxed: the host side of the trunk is enabled.
    Host,
    /// Relaxed: the wire side of the trunk is enabled.
    Wire,
    /// Relaxed: the host side of the trunk is promiscuous when it asks to be. Strict: it is chaste.
    HostMode,
    /// Relaxed: the wire side of the trunk is promiscuous when it asks to be. Strict: it is chaste.
    WireMode,
}

impl Item {
    /// Every item.
    pub const ALL: [Item; 8] = [
        Item::Access,
        Item::PromiscuousGuests,
        Item::PromiscuousHost,
        Item::PromiscuousWire,
        Item::Host,
        Item::Wire,
        Item::HostMode,
        Item::WireMode,
    ];
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Item::Access => "access by others than the owner",
            Item::PromiscuousGuests => "promiscuous guests",
            Item::PromiscuousHost => "a promiscuous host side",
            Item::PromiscuousWire => "a promiscuous wire side",
            Item::Host => "the host side",
            Item::Wire => "the wire side",
            Item::HostMode => "the promiscuous mode of the host side",
            Item::WireMode => "the promiscuous mode of the wire side",
        })
    }
}

/// A set of items.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Items(u8);

impl Items {
    /// None.
    pub const NONE: Items = Items(0);
    /// All.
    pub const ALL: Items = Items(0xff);

    /// Whether `item` is among these.
    pub const fn contains(self, item: Item) -> bool {
        self.0 >> item as u8 & 1 != 0
    }

    /// These in order.
    pub fn iter(self) -> impl Iterator<Item = Item> {
        Item::ALL.into_iter().filter(move |item| self.contains(*item))
    }

    const fn and(self, other: Items) -> Items {
        Items(self.0 & other.0)
    }

    const fn or(self, other: Items) -> Items {
        Items(self.0 | other.0)
    }

    const fn without(self, other: Items) -> Items {
        Items(self.0 & !other.0)
    }

    fn first(self) -> Option<Item> {
        self.iter().next()
    }
}

impl FromIterator<Item> for Items {
    fn from_iter<I: IntoIterator<Item = Item>>(items: I) -> Items {
        items.into_iter().fold(Items::NONE, |set, item| Items(set.0 | 1 << item as u8))
    }
}

impl<const N: usize> From<[Item; N]> for Items {
    fn from(items: [Item; N]) -> Items {
        items.into_iter().collect()
    }
}

impl fmt::Debug for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// What somebody who opens a network wants. Items that are in no set may be as they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Request {
    /// To be strict.
    pub strict: Items,
    /// To be relaxed, if nobody wants them strict.
    pub relaxed: Items,
    /// To be relaxed even if they were strict.
    pub relax: Items,
    /// To be as asked for here and to stay so.
    pub fixed: Items,
    /// To stay adaptable.
    pub adaptable: Items,
}

/// Why a request is refused. The policy is as before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PolicyError {
    /// The request contradicts itself.
    #[error(
        "the request is invalid: it wants {0} strict and relaxed, or fixed and adaptable; ask for one of the two"
    )]
    Invalid(Item),
    /// The item cannot be changed.
    #[error(
        "{0} is fixed by whoever opened the network before; ask for what it is, or close the network first"
    )]
    Fixed(Item),
}

/// What the openers of a network have agreed on so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    relaxed: Items,
    fixed: Items,
}

impl Default for Policy {
    /// Everything relaxed and nothing fixed.
    fn default() -> Self {
        Policy { relaxed: Items::ALL, fixed: Items::NONE }
    }
}

impl Policy {
    /// A new network's policy, from its first opener, in which what is not asked for is strict.
    ///
    /// # Errors
    /// [`PolicyError::Invalid`].
    pub fn of(request: &Request) -> Result<Policy, PolicyError> {
        check(request)?;
        let relaxed = request.relaxed.or(request.relax);
        Ok(Policy { relaxed, fixed: request.fixed })
    }

    /// Takes the wishes of another opener.
    ///
    /// # Errors
    /// When the request contradicts itself, or wants to change what is fixed.
    pub fn open(&mut self, request: &Request) -> Result<(), PolicyError> {
        check(request)?;
        let relaxed = self.relaxed.without(request.strict).or(request.relax);
        let changed = Items(self.relaxed.0 ^ relaxed.0);
        // Somebody who merely would not mind gets what is there, but cannot nail it down as what it is not.
        let unmet = request.fixed.and(request.relaxed).without(relaxed);
        if let Some(item) = self.fixed.and(changed.or(request.adaptable)).or(unmet).first() {
            return Err(PolicyError::Fixed(item));
        }
        *self = Policy { relaxed, fixed: self.fixed.or(request.fixed) };
        Ok(())
    }

    /// Whether an item is relaxed.
    pub const fn is_relaxed(&self, item: Item) -> bool {
        self.relaxed.contains(item)
    }

    /// Whether an item is fixed.
    pub const fn is_fixed(&self, item: Item) -> bool {
        self.fixed.contains(item)
    }

    /// Whether the network can be opened by its owner, or by somebody else.
    pub const fn admits(&self, is_owner: bool) -> bool {
        is_owner || self.is_relaxed(Item::Access)
    }
}

fn check(request: &Request) -> Result<(), PolicyError> {
    let both = request.strict.and(request.relaxed.or(request.relax));
    let both = both.or(request.fixed.and(request.adaptable));
    both.first().map_or(Ok(()), |item| Err(PolicyError::Invalid(item)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strict(items: impl Into<Items>) -> Request {
        Request { strict: items.into(), ..Request::default() }
    }

    #[test]
    fn the_strict_wish_wins() {
        let mut policy = Policy::default();
        policy.open(&strict([Item::Wire, Item::PromiscuousGuests])).unwrap();
        let relaxed = Request { relaxed: Items::ALL, ..Request::default() };
        policy.open(&relaxed).unwrap();
        assert!(!policy.is_relaxed(Item::Wire) && !policy.is_relaxed(Item::PromiscuousGuests));
        assert!(policy.is_relaxed(Item::Host));
    }

    #[test]
    fn relaxing_takes_an_explicit_wish_and_an_item_that_is_not_fixed() {
        let mut policy = Policy::default();
        policy.open(&strict([Item::Wire, Item::Host])).unwrap();
        let relax = Request { relax: [Item::Wire].into(), ..Request::default() };
        policy.open(&relax).unwrap();
        assert!(policy.is_relaxed(Item::Wire) && !policy.is_relaxed(Item::Host));

        let fix = Request { fixed: [Item::Host].into(), ..Request::default() };
        policy.open(&fix).unwrap();
        let before = policy;
        let relax =
            Request { relax: [Item::Host, Item::Wire].into(), strict: [Item::Access].into(), ..relax };
        assert_eq!(policy.open(&relax), Err(PolicyError::Fixed(Item::Host)));
        assert_eq!(policy, before, "as a whole or not at all");
    }

    #[test]
    fn fixed_marks_accumulate_and_hold_both_ways() {
        let mut policy = Policy::default();
        for item in [Item::Host, Item::Wire] {
            policy.open(&Request { fixed: [item].into(), ..Request::default() }).unwrap();
        }
        assert!(policy.is_fixed(Item::Host) && policy.is_fixed(Item::Wire) && !policy.is_fixed(Item::Access));
        assert_eq!(policy.open(&strict([Item::Host])), Err(PolicyError::Fixed(Item::Host)));
        let adaptable = Request { adaptable: [Item::Wire].into(), ..Request::default() };
        assert_eq!(policy.open(&adaptable), Err(PolicyError::Fixed(Item::Wire)));
        // What it is already may be asked for.
        policy.open(&Request { relax: [Item::Host].into(), ..Request::default() }).unwrap();
    }

    #[test]
    fn contradictions_are_invalid() {
        let items = Items::from([Item::HostMode]);
        let invalid = [
            Request { relaxed: items, ..strict(items) },
            Request { relax: items, ..strict(items) },
            Request { fixed: items, adaptable: items, ..Request::default() },
        ];
        for request in invalid {
            assert_eq!(Policy::of(&request), Err(PolicyError::Invalid(Item::HostMode)));
            assert_eq!(Policy::default().open(&request), Err(PolicyError::Invalid(Item::HostMode)));
        }
    }

    #[test]
    fn nobody_fixes_as_relaxed_what_is_strict() {
        let mut policy = Policy::of(&Request::default()).unwrap();
        let items = Items::from([Item::Wire]);
        let wish = Request { relaxed: items, fixed: items, ..Request::default() };
        assert_eq!(policy.open(&wish), Err(PolicyError::Fixed(Item::Wire)));
        policy.open(&Request { relax: items, ..wish }).unwrap();
        assert!(policy.is_relaxed(Item::Wire) && policy.is_fixed(Item::Wire));
    }

    #[test]
    fn access() {
        let private = Policy::of(&Request::default()).unwrap();
        assert!(private.admits(true) && !private.admits(false));
        assert!(Policy::default().admits(false));
    }

    #[test]
    fn every_item_is_in_all() {
        assert_eq!(Items::ALL.iter().collect::<Vec<_>>(), Item::ALL);
        assert!(Item::ALL.into_iter().enumerate().all(|(i, item)| item as usize == i));
    }
}
