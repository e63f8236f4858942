//! Waiting for a machine that does nothing else.

use std::time::{Duration, Instant};
use std::{fs, io, thread};

const WINDOW: Duration = Duration::from_millis(250);

/// A machine with less of its time used is quiet.
const LIMIT: f64 = 0.08;

/// How busy the machine was when waiting ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quiet {
    /// Share of all processors' time in the last 250 ms, 0 to 1.
    pub busy: f64,
}

impl Quiet {
    /// True if what is measured now suffers from something else.
    pub fn is_noisy(self) -> bool {
        self.busy >= LIMIT
    }
}

/// Waits until nothing else runs, for at most `patience`, or until `enough`; looks at least once.
///
/// # Errors
/// When /proc/stat cannot be read.
pub fn wait_for_quiet(patience: Duration, enough: impl Fn() -> bool) -> io::Result<Quiet> {
    let deadline = Instant::now() + patience;
    let mut before = Time::now()?;
    loop {
        thread::sleep(WINDOW);
        let after = Time::now()?;
        let quiet = Quiet { busy: after.share_since(before) };
        if !quiet.is_noisy() || Instant::now() >= deadline || enough() {
            return Ok(quiet);
        }
        before = after;
    }
}

/// Ticks of all processors since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Time {
    busy: u64,
    all: u64,
}

impl Time {
    fn now() -> io::Result<Time> {
        let text = fs::read_to_string("/proc/stat")?;
        Time::parse(&text).ok_or_else(|| io::Error::other("/proc/stat: no line `cpu`"))
    }

    /// User, nice, system, idle, iowait, irq, softirq and steal (proc_stat(5)); time stolen by other machines is noise
    /// too.
    fn parse(text: &str) -> Option<Time> {
        let numbers = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks: Vec<u64> =
            numbers.split_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
        let idle = ticks.get(3)? + ticks.get(4)?;
        let all: u64 = ticks.iter().sum();
        Some(Time { busy: all - idle, all })
    }

    fn share_since(self, before: Time) -> f64 {
        let busy = self.busy.saturating_sub(before.busy) as f64;
        let all = self.all.saturating_sub(before.all).max(1) as f64;
        busy / all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_waiting_are_not_busy() {
        let before = Time::parse("cpu  10 0 10 100 20 0 0 0 7 7\ncpu0 1 2 3 4\n").expect("a line");
        let after = Time::parse("cpu  20 0 10 170 40 0 0 0 9 9\n").expect("a line");

        assert_eq!(before, Time { busy: 20, all: 140 });
        assert!((after.share_since(before) - 0.1).abs() < 1e-9);
        assert_eq!(before.share_since(after), 0.0);
        assert_eq!([Time::parse(""), Time::parse("cpu  1 2\n"), Time::parse("cpu  a b c d e\n")], [None; 3]);
    }

    #[test]
    fn it_looks_once_and_does_not_wait_on_when_enough() {
        let quiet = wait_for_quiet(Duration::from_secs(3600), || true).expect("this runs on Linux");

        assert!((0.0..=1.0).contains(&quiet.busy));
    }
}
