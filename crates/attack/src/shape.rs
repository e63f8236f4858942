//! Which processor runs what, and so which bound a latency is held to.

use std::{fs, io};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The largest factor of the quiet p99 where the probe has a processor of its own.
const APART: f64 = 1.25;
/// The same where probe and attackers share one.
const SHARED: f64 = 2.0;

/// The processors of this machine, divided among the daemon, the probes and the attackers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    processors: Vec<usize>,
}

impl Shape {
    /// Looks which processors this thread may use.
    ///
    /// # Errors
    /// Errors of sched_getaffinity(2).
    pub fn look() -> io::Result<Shape> {
        let allowed = sched_getaffinity(None)?;
        Ok(Shape { processors: (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect() })
    }

    /// The largest factor of the quiet p99 that an attack may cause.
    pub fn limit(&self) -> f64 {
        if self.processors.len() > 2 { APART } else { SHARED }
    }

    /// The daemon's processor: the last one.
    pub fn daemon(&self) -> CpuSet {
        set(self.processors.last().copied())
    }

    /// The probes' processor: the first one.
    pub fn probe(&self) -> CpuSet {
        set(self.processors.first().copied())
    }

    /// The attackers' processors: those between, or the probes' where there are none.
    pub fn attackers(&self) -> CpuSet {
        match self.processors.as_slice() {
            [_, between @ .., _] if !between.is_empty() => set(between.iter().copied()),
            _ => self.probe(),
        }
    }

    /// The division and its bound in a line.
    pub fn line(&self, limit: f64) -> String {
        let count = self.processors.len();
        let who = match count {
            0 | 1 => "daemon, probes and attackers share the only one",
            2 => "the daemon has one, probes (real time) and attackers (lowest priority) share the other",
            _ => "the daemon has one, the probes have one, the attackers have the rest",
        };
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        format!("Linux {}, {count} processors: {who}; bound: p99 <= {limit} x quiet", release.trim())
    }
}

/// Keeps the calling thread, and what it starts, on these processors.
///
/// # Errors
/// Errors of sched_setaffinity(2).
pub(crate) fn stay_on(processors: &CpuSet) -> io::Result<()> {
    Ok(sched_setaffinity(None, processors)?)
}

fn set(processors: impl IntoIterator<Item = usize>) -> CpuSet {
    let mut set = CpuSet::new();
    processors.into_iter().for_each(|cpu| set.set(cpu));
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(processors: &[usize]) -> Shape {
        Shape { processors: processors.to_vec() }
    }

    #[test]
    fn the_bound_follows_from_the_processors() {
        let limits = [&[0][..], &[0, 1], &[0, 1, 2], &[2, 5, 7, 9]].map(|cpus| of(cpus).limit());

        assert_eq!(limits, [SHARED, SHARED, APART, APART]);
    }

    #[test]
    fn attackers_never_run_beside_the_daemon_where_there_are_two() {
        for processors in [&[3, 4][..], &[0, 1, 2], &[2, 5, 7, 9]] {
            let shape = of(processors);
            let (daemon, attackers) = (shape.daemon(), shape.attackers());

            assert!(daemon.count() == 1 && attackers.count() >= 1, "{processors:?}");
            assert!(processors.iter().all(|cpu| !(daemon.is_set(*cpu) && attackers.is_set(*cpu))));
        }
    }
}
