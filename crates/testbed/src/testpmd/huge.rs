//! Huge pages of the machine, for as long as they are needed.

use std::{fs, io};

const PAGES: &str = "/proc/sys/vm/nr_hugepages";

/// Huge pages of the usual size, 2 MiB on x86-64, that the kernel keeps free for programs; given back on drop.
#[derive(Debug)]
pub struct HugePages {
    before: u64,
}

impl HugePages {
    /// Has so many more than there are. Needs root.
    ///
    /// # Errors
    /// When the kernel has none, and when the machine has no memory in one piece for them.
    pub fn reserve(pages: u64) -> io::Result<Self> {
        let before = count()?;
        // From here on they are given back.
        let reserved = Self { before };
        fs::write(PAGES, (before + pages).to_string())?;
        if count()? < before + pages {
            return Err(io::Error::other(format!("no memory in one piece for {pages} huge pages")));
        }
        Ok(reserved)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        // Without root none was taken.
        let _ = fs::write(PAGES, self.before.to_string());
    }
}

fn count() -> io::Result<u64> {
    fs::read_to_string(PAGES)?.trim().parse().map_err(io::Error::other)
}
