//! How soon a thread gets a processor that others want as well (sched(7)).
//!
//! Nothing here needs a privilege, and nothing touches another thread. Threads and programs that a thread starts
//! inherit what it has.

use std::mem;

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

/// Takes only the time that no other thread wants, for much work that nobody waits for: whoever wakes gets the
/// processor at once, where a thread that merely has a high nice value keeps it for milliseconds.
pub fn idle() {
    // SAFETY: all fields are integers, for which zero is a value, and the one that this policy takes.
    let parameter: libc::sched_param = unsafe { mem::zeroed() };
    // SAFETY: the kernel reads the structure, which is ours; 0 is the calling thread. It fails for nobody: a thread may
    // always take this policy.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameter) };
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_that_takes_what_is_left_says_so_to_the_kernel() {
        // SAFETY: no memory is passed; 0 is the calling thread.
        let policy = || unsafe { libc::sched_getscheduler(0) };
        let after = thread::spawn(move || {
            idle();
            policy()
        });
        assert_eq!(after.join().expect("no panic"), libc::SCHED_IDLE);
        assert_ne!(policy(), libc::SCHED_IDLE);
    }

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
