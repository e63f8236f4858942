//! Panics of tasks: faults of ours that shall cost one port a moment, and nothing else anything.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Runs `work` to its end or to its panic, whose message it answers then.
///
/// A panic leaves the data that `work` borrows as it is, so the caller begins anew with it.
pub async fn caught<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let mut work = pin!(work);
    poll_fn(move |cx| match catch(|| work.as_mut().poll(cx)) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

/// The same for what does not wait.
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| message(&*payload))
}

/// Says for a log or a port's reason what panicked.
pub fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("a bug in vmlan, please report it: {}", text.unwrap_or("a panic without a message"))
}

/// The pause after a panic: it doubles with each, and is short again after a time without any.
pub struct Relapses {
    next: Duration,
    last: Option<Instant>,
}

impl Default for Relapses {
    /// No panic yet.
    fn default() -> Relapses {
        Relapses { next: Relapses::FIRST, last: None }
    }
}

impl Relapses {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(30);
    /// After so long without a panic the next one is a first one.
    const FORGOTTEN: Duration = Duration::from_secs(300);

    /// Says in the log that `name` begins anew, and waits before it does.
    pub async fn begin_anew(&mut self, name: &str, panic: String) {
        tracing::error!("{name} begins anew after {panic}");
        self.pause().await;
    }

    /// Waits after a panic.
    pub async fn pause(&mut self) {
        if self.last.is_some_and(|last| last.elapsed() > Relapses::FORGOTTEN) {
            self.next = Relapses::FIRST;
        }
        let pause = self.next;
        self.next = (pause * 2).min(Relapses::LONGEST);
        sleep(pause).await;
        self.last = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_an_outcome_like_others() {
        assert_eq!(caught(async { 1 }).await, Ok(1));
        let number = 7;
        let panic = caught(async {
            sleep(Duration::from_millis(1)).await;
            assert!(number == 0, "number {number}");
        });
        assert_eq!(panic.await, Err("a bug in vmlan, please report it: number 7".into()));
        assert!(catch(|| panic!("told")).is_err_and(|panic: String| panic.ends_with("told")));
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_up_to_a_limit_and_are_short_again_later() {
        let mut relapses = Relapses::default();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            let start = Instant::now();
            relapses.pause().await;
            pauses.push(start.elapsed());
        }
        assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]), "{pauses:?}");
        assert!(pauses[11] >= Relapses::LONGEST && pauses[0] < Duration::from_secs(1), "{pauses:?}");
        tokio::time::advance(Relapses::FORGOTTEN * 2).await;
        let start = Instant::now();
        relapses.pause().await;
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}
