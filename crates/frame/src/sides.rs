/// Sides of a trunk: the host's own stack, and the wire, which is the physical network behind its interface.
///
/// On a frame that a trunk received they say where it came from, as far as the driver knows; on a frame that is to be
/// sent through a trunk, who is to get it. Elsewhere they are [`Sides::NONE`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Sides(u8);

impl Sides {
    /// No trunk, or not known.
    pub const NONE: Sides = Sides(0);
    /// The host's own stack.
    pub const HOST: Sides = Sides(1);
    /// The physical network.
    pub const WIRE: Sides = Sides(2);
    /// Both.
    pub const BOTH: Sides = Sides(3);

    /// True if the set has every one of `sides`.
    #[inline]
    pub const fn contains(self, sides: Sides) -> bool {
        self.0 & sides.0 == sides.0
    }

    /// These and `sides`.
    #[inline]
    pub const fn with(self, sides: Sides) -> Sides {
        Sides(self.0 | sides.0)
    }

    /// These but not `sides`.
    #[inline]
    pub const fn without(self, sides: Sides) -> Sides {
        Sides(self.0 & !sides.0)
    }

    /// Those of these that are among `sides` too.
    #[inline]
    pub const fn within(self, sides: Sides) -> Sides {
        Sides(self.0 & sides.0)
    }

    /// True if the set is empty.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_a_set() {
        assert_eq!(Sides::HOST.with(Sides::WIRE), Sides::BOTH);
        assert_eq!(Sides::BOTH.without(Sides::HOST), Sides::WIRE);
        assert!(Sides::BOTH.contains(Sides::WIRE) && !Sides::HOST.contains(Sides::BOTH));
        assert_eq!(Sides::BOTH.within(Sides::HOST), Sides::HOST);
        assert!(Sides::default().is_empty() && Sides::HOST.contains(Sides::NONE));
    }
}
