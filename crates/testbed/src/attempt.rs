//! Test support panics where set-up fails; here that is one peer's failure, and the others go on.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};

use anyhow::anyhow;

thread_local! {
    static ATTEMPTING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` and makes an error of a panic in it. What `work` made goes with it.
///
/// # Errors
/// That of `work`, or its panic's message.
pub fn attempt<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let before = ATTEMPTING.replace(true);
    // Whatever `work` borrows is only read afterwards.
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    ATTEMPTING.set(before);
    result.unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        Err(anyhow!("{}", text.unwrap_or("a panic without a message").trim_end()))
    })
}

/// From now on a panic within an [`attempt`] is told only by its error.
pub fn quiet_panics() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !ATTEMPTING.get() {
            usual(info);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_its_message() {
        let number = 7;
        let formatted = attempt(|| -> anyhow::Result<()> { panic!("port {number} is gone\n") });
        let plain = attempt(|| -> anyhow::Result<()> { panic!("gone") });

        assert_eq!(formatted.unwrap_err().to_string(), "port 7 is gone");
        assert_eq!(plain.unwrap_err().to_string(), "gone");
    }
}
