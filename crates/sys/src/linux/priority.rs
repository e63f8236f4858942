//! How soon a thread gets a processor that others want as well (sched(7), sched_setattr(2)).
//!
//! Nothing here needs a privilege, and nothing touches another thread. Threads and programs that a thread starts
//! inherit what it has.

use std::mem;

use rustix::process::{getpriority_process, setpriority_process};

/// What a thread asks for that others wait for: the shortest piece of a processor's time that Linux grants, in
/// nanoseconds. Who asks for less at once is served sooner, and gets no more in all (Linux 6.12; nothing before).
const SHORT_SLICE: u64 = 100_000;

/// The nice value of a thread that nobody waits for: a tenth of what an ordinary one gets where both want a processor.
const BEHIND: i32 = 10;

/// Asks for short and early turns of a processor, for a thread that others wait for. A thread with a policy of its own,
/// as a real-time one, is left alone. Without effect where the kernel knows no such turns.
pub fn in_front() {
    // SAFETY: all fields are integers, for which zero is a value.
    let mut attributes: libc::sched_attr = unsafe { mem::zeroed() };
    let size = mem::size_of::<libc::sched_attr>() as libc::c_uint;
    // SAFETY: the kernel writes at most `size` octets of a structure that is ours; 0 is the calling thread.
    let got = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
    if got != 0 || attributes.sched_policy != libc::SCHED_OTHER as u32 {
        return;
    }
    attributes.sched_runtime = SHORT_SLICE;
    // SAFETY: the kernel reads as many octets as the structure says, which is ours; 0 is the calling thread.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
}

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

    #[test]
    fn asking_for_short_turns_keeps_the_nice_value() {
        let after = thread::spawn(|| {
            behind();
            in_front();
            getpriority_process(None).expect("a nice value")
        });
        assert_eq!(
            after.join().expect("no panic"),
            getpriority_process(None).expect("a nice value").max(BEHIND)
        );
    }
}
