//! The rate at which connections of strangers are accepted.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Lets through a burst, then a steady rate (a token bucket).
///
/// A client that comes too fast waits in the kernel's queue; nothing spins and nothing is kept here.
pub struct Throttle {
    /// When the bucket would be full if nobody came.
    full_at: Instant,
}

impl Default for Throttle {
    fn default() -> Throttle {
        Throttle::new()
    }
}

impl Throttle {
    const BURST: u32 = 64;
    const INTERVAL: Duration = Duration::from_millis(10);

    /// A full bucket.
    pub fn new() -> Throttle {
        Throttle { full_at: Instant::now() }
    }

    /// Takes a token, after waiting for one if need be.
    pub async fn pass(&mut self) {
        let empty_until = self.full_at.checked_sub(Throttle::INTERVAL * (Throttle::BURST - 1));
        if let Some(moment) = empty_until.filter(|moment| *moment > Instant::now()) {
            sleep_until(moment).await;
        }
        self.full_at = self.full_at.max(Instant::now()) + Throttle::INTERVAL;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_at_once_and_then_one_each_interval() {
        let mut throttle = Throttle::new();
        let start = Instant::now();
        for _ in 0..Throttle::BURST {
            throttle.pass().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..10 {
            throttle.pass().await;
        }
        // The timer's grain is a millisecond.
        let expected = Throttle::INTERVAL * 10;
        assert!(start.elapsed() >= expected - Duration::from_millis(1), "{:?}", start.elapsed());
        assert!(start.elapsed() <= expected + Duration::from_millis(10), "{:?}", start.elapsed());
    }
}
