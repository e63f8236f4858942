//! How soon a thread gets a processor that others want as well (sched(7)).
//!
//! Nothing here needs a privilege, and nothing touches another thread. Threads and programs that a thread starts
//! inherit what it has.

use rustix::process::{getpriority_process, setpriority_process};

/// The nice value of a thread that nobody waits for: a tenth of what an ordinary one gets where both want a processor.
const BEHIND: i32 = 10;

/// Nothing is asked for here. Short slices (sched_setattr(2), Linux 6.12) have a thread that moves many frames change
/// places with those it serves more often: streams lost a tenth of their throughput by it, and nobody waited less.
pub fn in_front() {}

/// Lets all others go first, for a thread that nobody waits for.
pub fn behind() {
    let current = getpriority_process(None).unwrap_or_default();
    // Fails for nobody: a thread may always step back.
    let _ = setpriority_process(None, current.max(BEHIND));
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_steps_back_and_leaves_others_where_they_were() {
        let before = getpriority_process(None).expect("a nice value");
        let after = thread::spawn(|| {
            behind();
            behind();
            getpriority_process(None).expect("a nice value")
        });
        assert_eq!(after.join().expect("no panic"), before.max(BEHIND));
        assert_eq!(getpriority_process(None).expect("a nice value"), before);
    }
}
