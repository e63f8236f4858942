//! Limits of the system that vhost-user ports come up against: each port holds descriptors, mappings of its guest's
//! memory, and a place for asynchronous input and output (io_setup(2)) by which each worker rings its guest.

use rustix::process::{Resource, getrlimit};

use super::super::{Check, Subject};
use super::sysctl;

/// Descriptors that a port with the default number of queues may take: three for each of 36 rings, those of a message
/// that comes with too many, which are two times 253, and about a dozen of the connection and of workers.
const OF_A_PORT: u64 = 3 * 36 + 2 * 253 + 16;
/// Descriptors for a few such ports at their worst, beside everything else.
const WANTED_DESCRIPTORS: u64 = 8 * OF_A_PORT;
/// Mappings for the most regions of memory that there can be, with a guard on either side of each, and for the rest of
/// the process.
const WANTED_MAPPINGS: u64 = 3 * 4096 + 4096;
/// Requests that a place holds.
const OF_A_PLACE: u64 = 16;
/// Requests for a hundred ports with one worker.
const WANTED_REQUESTS: u64 = 100 * OF_A_PLACE;

/// Looks at the limits.
pub fn check() -> Check {
    let limits = Limits {
        descriptors: getrlimit(Resource::Nofile).maximum,
        mappings: sysctl("vm/max_map_count"),
        requests: sysctl("fs/aio-max-nr").zip(sysctl("fs/aio-nr")),
    };
    limits.judge()
}

/// The limits; none where there is none, or it cannot be read.
struct Limits {
    /// Descriptors of this process; the daemon raises its own limit to this.
    descriptors: Option<u64>,
    /// Mappings of a process.
    mappings: Option<u64>,
    /// Asynchronous requests of all processes, and those that are taken.
    requests: Option<(u64, u64)>,
}

impl Limits {
    fn judge(&self) -> Check {
        let name = Subject::VhostUser;
        let free = self.requests.map(|(most, taken)| most.saturating_sub(taken));
        let shown =
            |limit: Option<u64>, without: &str| limit.map_or(without.into(), |limit| limit.to_string());
        let value = format!(
            "{} descriptors, {} mappings, {} free asynchronous requests",
            shown(self.descriptors, "unlimited"),
            shown(self.mappings, "unknown"),
            shown(free, "unknown"),
        );
        let is_low = |limit: Option<u64>, wanted| limit.is_some_and(|limit| limit < wanted);
        let mut hints = Vec::new();
        if is_low(self.descriptors, WANTED_DESCRIPTORS) {
            hints.push(format!(
                "a port with 8 queues may take {OF_A_PORT} descriptors: raise the hard limit to {WANTED_DESCRIPTORS} (LimitNOFILE=)"
            ));
        }
        if is_low(self.mappings, WANTED_MAPPINGS) {
            hints.push(format!(
                "guests with many regions of memory are refused: sysctl -w vm.max_map_count={WANTED_MAPPINGS}"
            ));
        }
        if is_low(free, WANTED_REQUESTS) {
            let wanted = self.requests.map_or(0, |(_, taken)| taken + WANTED_REQUESTS);
            hints.push(format!("ports fail that cannot ring their guests: sysctl -w fs.aio-max-nr={wanted}"));
        }
        match hints.is_empty() {
            true => Check::ok(name, value),
            false => Check::warn(name, value, hints.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn each_limit_that_is_low_is_told_with_its_cure() {
        let plenty =
            || Limits { descriptors: Some(65_536), mappings: Some(65_530), requests: Some((65_536, 0)) };
        assert_eq!(plenty().judge().status, Level::Ok);
        let unknown = Limits { descriptors: None, mappings: None, requests: None };
        assert_eq!(unknown.judge().status, Level::Ok);
        for (limits, cure) in [
            (Limits { descriptors: Some(1024), ..plenty() }, "LimitNOFILE="),
            (Limits { mappings: Some(1000), ..plenty() }, "vm.max_map_count=16384"),
            (Limits { requests: Some((65_536, 65_000)), ..plenty() }, "fs.aio-max-nr=66600"),
        ] {
            let check = limits.judge();
            assert_eq!(check.status, Level::Warn);
            assert!(check.hint.as_ref().is_some_and(|hint| hint.contains(cure)), "{check:?}");
        }
    }
}
