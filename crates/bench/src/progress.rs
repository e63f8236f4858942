//! The lines that the benchmark prints while it runs.

use std::time::{Duration, Instant};

/// Measurements done and still to do.
pub struct Progress {
    start: Instant,
    done: u32,
    total: u32,
    /// The time that a measurement is expected to take before one was made.
    guess: Duration,
}

impl Progress {
    /// Of `total` measurements, none of them made.
    pub fn new(total: u32, guess: Duration) -> Progress {
        Progress { start: Instant::now(), done: 0, total, guess }
    }

    /// So many more are made, or will not be made.
    pub fn advance(&mut self, count: u32) {
        self.done += count;
    }

    /// Which one comes next and how long all that are left take: `[ 3/21, 2 min left]`.
    pub fn prefix(&self) -> String {
        let left = left(self.start.elapsed(), self.done, self.total, self.guess);
        let width = self.total.to_string().len();
        format!("[{:>width$}/{}, {} left]", self.done + 1, self.total, told(left))
    }
}

/// As long for each as for those that are done.
fn left(elapsed: Duration, done: u32, total: u32, guess: Duration) -> Duration {
    let each = elapsed.checked_div(done).unwrap_or(guess);
    each * total.saturating_sub(done)
}

/// In the unit that fits.
fn told(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 99.5 { format!("{seconds:.0} s") } else { format!("{:.0} min", seconds / 60.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_takes_as_long_as_what_is_done() {
        let seconds = Duration::from_secs;

        assert_eq!(left(seconds(10), 5, 20, seconds(1)), seconds(30));
        assert_eq!(left(seconds(10), 0, 20, seconds(1)), seconds(20));
        assert_eq!(left(seconds(10), 20, 20, seconds(1)), seconds(0));
    }

    #[test]
    fn times_are_told_in_the_unit_that_fits() {
        let told = [0.4, 42.0, 99.0, 100.0, 600.0].map(|seconds| told(Duration::from_secs_f64(seconds)));

        assert_eq!(told, ["0 s", "42 s", "99 s", "2 min", "10 min"]);
    }
}
