//! Leftovers of killed daemons on the host, for `vmlan doctor` and for the next daemon.

use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use vmlan_sys::darwin::InterfaceName;

use super::pair::left_over;
use super::{Kernel, System};

/// A feth interface whose process is gone.
pub struct Leftover {
    /// A description of the leftover, in words.
    pub what: String,
    name: InterfaceName,
}

/// Finds what was left.
///
/// # Errors
/// The system's error.
pub fn find() -> io::Result<Vec<Leftover>> {
    let found = left_over(&System, is_alive)?;
    Ok(found.into_iter().map(|name| Leftover { what: format!("interface {name}"), name }).collect())
}

/// Removes exactly that, one after the other.
///
/// # Errors
/// The system's error for the first leftover that cannot be removed.
pub fn clean(leftovers: &[Leftover]) -> io::Result<()> {
    for leftover in leftovers {
        match System.destroy_feth(leftover.name) {
            // It went by itself.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NXIO) => {}
            done => done?,
        }
    }
    Ok(())
}

fn is_alive(process: u32) -> bool {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw);
    // Whoever may not be asked is there.
    process.is_some_and(|process| test_kill_process(process) != Err(Errno::SRCH))
}
