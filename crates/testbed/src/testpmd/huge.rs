//! Huge pages of the machine, for as long as they are needed.

use std::fs;

const PAGES: &str = "/proc/sys/vm/nr_hugepages";

/// Huge pages of the usual size, 2 MiB on x86-64, that the kernel keeps free for programs; given back on drop.
#[derive(Debug)]
pub struct HugePages {
    before: u64,
}

impl HugePages {
    /// Has so many more than there are.
    ///
    /// # Panics
    /// Without root, and when the machine has no memory in one piece for them.
    #[track_caller]
    pub fn reserve(pages: u64) -> Self {
        let before = count();
        // From here on they are given back.
        let reserved = Self { before };
        set(before + pages);
        assert!(count() >= before + pages, "there is no memory in one piece for {pages} huge pages");
        reserved
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        // In a panic there may be no root; what cannot be given back was not taken.
        let _ = fs::write(PAGES, self.before.to_string());
    }
}

#[track_caller]
fn count() -> u64 {
    let text = fs::read_to_string(PAGES).unwrap_or_else(|error| panic!("{PAGES}: {error}"));
    text.trim().parse().expect("a number of pages")
}

#[track_caller]
fn set(pages: u64) {
    fs::write(PAGES, pages.to_string()).unwrap_or_else(|error| panic!("{PAGES}: {error}; run this as root"));
}
