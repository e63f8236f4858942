use vmlan_sys::{Interest, Ready};

/// A sign to wait for, one of a descriptor's four bits.
const RECEIVE: u16 = 1;
const WRITABLE: u16 = 1 << 1;
const READABLE: u16 = 1 << 2;
const EDGE: u16 = 1 << 3;

/// Bits of one descriptor.
const BITS: usize = 4;

/// The signs of a queue's descriptors that it waits for, and what each of them means: that there is something to
/// receive, or that the medium takes what waits.
///
/// Descriptors have the numbers 0 to 3 by which [`Queue::descriptor`](crate::Queue::descriptor) gives them. The default
/// is that of a medium with one: it is readable when there is something to receive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waits(u16);

impl Waits {
    /// The most descriptors of a queue.
    pub const DESCRIPTORS: usize = 4;

    /// Of a medium with one descriptor: it is readable when there is something to receive and, where that is waited
    /// `for_room`, writable when there is room.
    #[must_use]
    pub const fn of_one(for_room: bool) -> Waits {
        let receive = Waits::NONE.receive(0);
        if for_room { receive.room(0) } else { receive }
    }

    /// For nothing.
    pub const NONE: Waits = Waits(0);

    /// As well for descriptor `number` to be readable, as then there is something to receive.
    #[must_use]
    pub const fn receive(self, number: usize) -> Waits {
        self.with(RECEIVE, number)
    }

    /// As well for descriptor `number` to be writable, as then the medium has room.
    #[must_use]
    pub const fn room(self, number: usize) -> Waits {
        self.with(WRITABLE, number)
    }

    /// As well for descriptor `number` to be readable, as then the medium has room: the other side tells of it.
    #[must_use]
    pub const fn room_told(self, number: usize) -> Waits {
        self.with(READABLE, number)
    }

    /// Descriptor `number` tells a sign once for each time that it comes, not for as long as it lasts (edge-triggered):
    /// of one that nobody reads.
    #[must_use]
    pub const fn edge(self, number: usize) -> Waits {
        self.with(EDGE, number)
    }

    const fn with(self, sign: u16, number: usize) -> Waits {
        assert!(number < Waits::DESCRIPTORS, "a queue has no more descriptors");
        Waits(self.0 | sign << (number * BITS))
    }

    /// For what either waits for, of the same descriptors.
    #[must_use]
    pub const fn and(self, other: Waits) -> Waits {
        Waits(self.0 | other.0)
    }

    /// For the same, where `count` descriptors come before these.
    #[must_use]
    pub const fn behind(self, count: usize) -> Waits {
        assert!(count < Waits::DESCRIPTORS && self.0 >> ((Waits::DESCRIPTORS - count) * BITS) == 0);
        Waits(self.0 << (count * BITS))
    }

    /// For room only.
    #[must_use]
    pub const fn without_receiving(self) -> Waits {
        Waits(self.0 & !0x1111)
    }

    /// True if one of the descriptors tells of room.
    #[must_use]
    pub const fn is_for_room(self) -> bool {
        self.0 & 0x6666 != 0
    }

    /// The descriptors that tell of something to receive, as a bit for each.
    #[must_use]
    pub const fn receivers(self) -> u8 {
        let signs = self.0;
        (signs & 1 | signs >> 3 & 2 | signs >> 6 & 4 | signs >> 9 & 8) as u8
    }

    const fn of(self, number: usize) -> u16 {
        self.0 >> (number * BITS) & 0xf
    }

    /// The readiness of a descriptor that is to be told; `None` when none is.
    #[must_use]
    pub const fn interest(self, number: usize) -> Option<Interest> {
        let signs = self.of(number);
        let (read, write) = (signs & (RECEIVE | READABLE) != 0, signs & WRITABLE != 0);
        if read || write { Some(Interest { read, write, edge: signs & EDGE != 0 }) } else { None }
    }

    /// Translates the readiness of descriptor `number`: returns whether there is something to receive, and whether
    /// there is room. A failure is found by receiving.
    #[must_use]
    pub const fn meaning(self, number: usize, ready: Ready) -> (bool, bool) {
        let signs = self.of(number);
        let receive = ready.read && (signs & RECEIVE != 0 || ready.failed);
        let room = ready.write && signs & WRITABLE != 0 || ready.read && signs & READABLE != 0;
        (receive, room)
    }
}

impl Default for Waits {
    fn default() -> Waits {
        Waits::of_one(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Ready = Ready { token: 0, read: true, write: false, failed: false };
    const WRITE: Ready = Ready { token: 0, read: false, write: true, failed: false };

    #[test]
    fn a_sign_means_what_was_said_of_its_descriptor() {
        let waits = Waits::NONE.receive(0).room(0).room_told(1).edge(1).receive(3);
        let both = Interest { read: true, write: true, edge: false };
        let told = Interest { read: true, write: false, edge: true };
        let one = Interest { read: true, write: false, edge: false };
        assert_eq!(
            [0, 1, 2, 3].map(|number| waits.interest(number)),
            [Some(both), Some(told), None, Some(one)]
        );
        assert_eq!((waits.meaning(0, READ), waits.meaning(0, WRITE)), ((true, false), (false, true)));
        assert_eq!((waits.meaning(1, READ), waits.meaning(1, WRITE)), ((false, true), (false, false)));
        assert_eq!(waits.meaning(1, Ready { failed: true, ..READ }), (true, true));
        assert_eq!((waits.receivers(), waits.is_for_room()), (0b1001, true));
    }

    #[test]
    fn who_does_not_receive_waits_for_room_alone() {
        let waits = Waits::default().room(1).room_told(2).without_receiving();
        assert_eq!(waits, Waits::NONE.room(1).room_told(2));
        assert!(waits.is_for_room() && waits.interest(0).is_none());
        assert_eq!(Waits::default().without_receiving(), Waits::NONE);
    }

    #[test]
    fn the_descriptors_of_two_queues_stand_one_behind_the_other() {
        let (first, second) = (Waits::default().room(1), Waits::default().room_told(0).edge(0));
        assert_eq!(
            first.and(second.behind(2)),
            Waits::NONE.receive(0).room(1).receive(2).room_told(2).edge(2)
        );
    }
}
