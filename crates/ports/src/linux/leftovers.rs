//! Leftovers of killed daemons on the host's interfaces, for `vmlan doctor`.
//!
//! Everything else of theirs vanished with them: devices and promiscuity with their descriptors. A daemon that is
//! started on the same interface takes it over by itself.

use std::io;

use crate::kernel::{Kernel, KernelError};
use crate::trunk::leftovers as trunk;
pub use crate::trunk::leftovers::Leftover;

/// Finds what was left in this network namespace.
///
/// # Errors
/// The kernel's error; `EPERM` when it may not be asked.
pub fn find() -> io::Result<Vec<Leftover>> {
    run(async { trunk::find(&Kernel::open()?).await })
}

/// Removes exactly that, one after the other.
///
/// # Errors
/// The kernel's error for the first leftover that cannot be removed.
pub fn clean(leftovers: &[Leftover]) -> io::Result<()> {
    run(async {
        let kernel = Kernel::open()?;
        for leftover in leftovers {
            trunk::clean(&kernel, leftover).await?;
        }
        Ok(())
    })
}

fn run<T>(work: impl Future<Output = Result<T, KernelError>>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work).map_err(|error| error.source)
}
