//! The processors that programs run on. The sender stays on the first one that we may use.

use std::{fs, io};

use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Where the processes that join the namespaces run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Anywhere but where we send; anywhere at all when there is only one processor.
    Apart,
    /// Where we send.
    Together,
}

/// Keeps the calling thread on the first processor.
///
/// # Errors
/// Errors of sched_setaffinity(2).
pub(super) fn stay_on_first() -> io::Result<()> {
    Ok(sched_setaffinity(None, &choose(&sched_getaffinity(None)?, Placement::Together))?)
}

/// Keeps the calling thread on the first processor where there are only two, to leave the other to the switch.
///
/// # Errors
/// Errors of sched_setaffinity(2).
pub(super) fn stay_with_sender() -> io::Result<()> {
    if sched_getaffinity(None)?.count() <= 2 { stay_on_first() } else { Ok(()) }
}

/// Places all threads of a process.
///
/// # Errors
/// Errors of sched_setaffinity(2), and when there is no such process.
pub fn place(process: u32, placement: Placement) -> io::Result<()> {
    let wanted = choose(&sched_getaffinity(None)?, placement);
    for entry in fs::read_dir(format!("/proc/{process}/task"))? {
        let thread = entry?.file_name().to_str().and_then(|name| Pid::from_raw(name.parse().ok()?));
        match sched_setaffinity(thread, &wanted) {
            // It has ended meanwhile, or is one of the kernel's own, which follows whom it works for.
            Ok(()) | Err(Errno::SRCH | Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The first two processors that we may use, if there are two.
///
/// # Errors
/// Errors of sched_getaffinity(2).
pub fn first_two() -> io::Result<Option<[usize; 2]>> {
    let allowed = sched_getaffinity(None)?;
    let mut all = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    Ok(all.next().zip(all.next()).map(|(first, second)| [first, second]))
}

fn choose(allowed: &CpuSet, placement: Placement) -> CpuSet {
    let first = (0..CpuSet::MAX_CPU).find(|cpu| allowed.is_set(*cpu)).expect("a thread runs somewhere");
    match placement {
        Placement::Apart if allowed.count() == 1 => *allowed,
        Placement::Apart => {
            let mut others = *allowed;
            others.unset(first);
            others
        }
        Placement::Together => {
            let mut only = CpuSet::new();
            only.set(first);
            only
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(cpus: &[usize]) -> CpuSet {
        let mut set = CpuSet::new();
        cpus.iter().for_each(|cpu| set.set(*cpu));
        set
    }

    #[test]
    fn apart_and_together_divide_what_is_allowed() {
        let cases = [
            (set(&[2, 3, 5]), Placement::Together, set(&[2])),
            (set(&[2, 3, 5]), Placement::Apart, set(&[3, 5])),
            (set(&[4]), Placement::Together, set(&[4])),
            (set(&[4]), Placement::Apart, set(&[4])),
        ];

        for (allowed, placement, expected) in cases {
            assert_eq!(choose(&allowed, placement), expected, "{placement:?}");
        }
    }
}
