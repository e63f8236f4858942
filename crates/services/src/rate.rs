//! Rates of messages, for each port.

use std::collections::BTreeMap;
use std::time::Duration;

use vmlan_frame::Instant;

/// A limit for each port: so many messages a second, of which a second's may come at once.
#[derive(Debug)]
pub struct Rate {
    each: Duration,
    burst: Duration,
    /// Ports' times at which all of their room is back; a port that is not here has all of it.
    full_at: BTreeMap<u16, Instant>,
}

impl Rate {
    /// A limit of so many a second.
    ///
    /// # Panics
    /// If it is 0.
    pub fn per_second(messages: u32) -> Rate {
        Rate {
            each: Duration::from_secs(1) / messages,
            burst: Duration::from_secs(1),
            full_at: BTreeMap::new(),
        }
    }

    /// True if the port may have one message more, which is counted.
    pub fn take(&mut self, port: u16, now: Instant) -> bool {
        let full_at = self.full_at.entry(port).or_insert(now);
        let next = (*full_at).max(now) + self.each;
        let has_room = next.since(now) <= self.burst;
        if has_room {
            *full_at = next;
        }
        has_room
    }

    /// Forgets a port.
    pub fn forget(&mut self, port: u16) {
        self.full_at.remove(&port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seconds_worth_at_once_and_then_one_by_one() {
        let mut rate = Rate::per_second(50);
        let now = Instant::from_secs(1);

        assert_eq!((0..100).filter(|_| rate.take(1, now)).count(), 50);
        assert!(rate.take(2, now), "another port has its own");
        assert!(rate.take(1, now + Duration::from_millis(20)));
        assert!(!rate.take(1, now + Duration::from_millis(20)));
        rate.forget(1);
        assert!(rate.take(1, now));
    }
}
