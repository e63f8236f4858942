use std::fmt;

use vmlan_frame::{Direction, DropReason};

use super::report::grouped;

/// Sums over the copies that all ports made of the frames they received. The further segments of a frame that was cut
/// count as copies. Copies that became part of another frame count as sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Books {
    copies: u64,
    sent: u64,
    dropped: u64,
    queued: u64,
}

impl Books {
    /// The sums over all ports.
    pub fn of(ports: &[vmlan_api::Port]) -> Books {
        let mut books = Books::default();
        for counters in ports.iter().map(|port| &port.counters) {
            books.copies += counters.copies + counters.segmented;
            books.sent += counters.tx_frames + counters.coalesced;
            books.queued += counters.queued;
            books.dropped += dropped(counters, Direction::Egress);
        }
        books
    }

    /// True if every copy was sent, was dropped on its way out, or still waits.
    pub fn balance(&self) -> bool {
        self.copies == self.sent + self.dropped + self.queued
    }
}

impl fmt::Display for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Books { copies, sent, dropped, queued } = *self;
        let sign = if self.balance() { "=" } else { "≠" };
        write!(
            f,
            "{} copies {sign} {} sent + {} dropped + {} queued",
            grouped(copies),
            grouped(sent),
            grouped(dropped),
            grouped(queued)
        )
    }
}

/// All drops on one side of a port.
fn dropped(counters: &vmlan_api::Counters, side: Direction) -> u64 {
    let on_side =
        |name: &str| DropReason::ALL.iter().any(|reason| reason.name() == name && reason.direction() == side);
    counters.drops.iter().filter(|(name, _)| on_side(name)).map(|(_, count)| count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(copies: u64, tx_frames: u64, queued: u64, drops: &[(&str, u64)]) -> vmlan_api::Port {
        let drops = drops.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        vmlan_api::Port {
            counters: vmlan_api::Counters { copies, tx_frames, queued, drops, ..Default::default() },
            ..Default::default()
        }
    }

    #[test]
    fn every_copy_is_sent_dropped_on_its_way_out_or_waits() {
        let drops = [("queue_full", 3), ("source_guard", 100)];
        let mut ports = vec![port(10, 0, 0, &[]), port(0, 5, 2, &drops)];
        assert!(Books::of(&ports).balance());
        assert_eq!(Books::of(&ports).to_string(), "10 copies = 5 sent + 3 dropped + 2 queued");

        ports[0].counters.copies = 11;
        assert!(!Books::of(&ports).balance());
    }
}
