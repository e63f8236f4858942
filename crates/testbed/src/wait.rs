//! Waiting for a condition with a deadline, instead of sleeping and hoping.

use std::thread;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(20);

/// Asks for a value until there is one or `limit` has passed; the condition is asked at least once.
pub(crate) fn poll_for<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(INTERVAL);
    }
}

/// Asks the condition until it holds (true) or `limit` has passed (false).
pub fn poll_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    poll_for(limit, || condition().then_some(())).is_some()
}

/// Waits until the condition holds; `what` names it in the message.
///
/// # Panics
/// When `limit` passes first.
#[track_caller]
pub fn wait_until(what: &str, limit: Duration, condition: impl FnMut() -> bool) {
    assert!(poll_until(limit, condition), "gave up after {limit:?} waiting for {what}");
}

/// Waits until the condition gives a value; `what` names it in the message.
///
/// # Panics
/// When `limit` passes first.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, condition: impl FnMut() -> Option<T>) -> T {
    match poll_for(limit, condition) {
        Some(value) => value,
        None => panic!("gave up after {limit:?} waiting for {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_again_until_there_is_a_value() {
        let mut asked = 0;

        let value = wait_for("third answer", Duration::from_secs(10), || {
            asked += 1;
            (asked == 3).then_some("here")
        });

        assert_eq!((value, asked), ("here", 3));
    }

    #[test]
    fn a_limit_of_zero_still_asks_once() {
        let mut asked = 0;

        let held = poll_until(Duration::ZERO, || {
            asked += 1;
            false
        });

        assert_eq!((held, asked), (false, 1));
    }

    #[test]
    #[should_panic(expected = "waiting for the impossible")]
    fn a_passed_limit_names_what_was_waited_for() {
        wait_until("the impossible", Duration::ZERO, || false);
    }
}
