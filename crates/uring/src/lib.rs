//! Many reads and many writes in one system call (io_uring(7)): for the relays of the benchmark, and no part of the
//! product.
//!
//! Buffers that the kernel writes to are owned octets on the heap: they are given to a ring and come back with a
//! completion, so no reference to them exists while the kernel has them. Buffers that the kernel reads from are
//! borrowed for one call, which returns only when the kernel is done with all of them.

mod read;
mod write;

pub use read::Reader;
pub use write::Writer;

use std::io;

/// Checks that this kernel lets this process use rings as this crate uses them (Linux 6.7).
///
/// # Errors
/// Why not: `EPERM` or `ENOSYS` where io_uring is not allowed, `EINVAL` on an older kernel.
pub fn probe() -> io::Result<()> {
    Reader::new(1).map(drop)
}
