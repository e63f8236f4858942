//! Faults that tests inject into a running daemon.
//!
//! `VMLAN_INJECT` names a directory; a file in it asks for the fault of its name. Only builds with debug assertions
//! look for it: in others every question is answered with no.

use std::path::PathBuf;
use std::sync::OnceLock;

fn directory() -> Option<&'static PathBuf> {
    static DIRECTORY: OnceLock<Option<PathBuf>> = OnceLock::new();
    DIRECTORY.get_or_init(|| std::env::var_os("VMLAN_INJECT").map(PathBuf::from)).as_ref()
}

/// Answers whether a test asks for the fault `name`.
pub fn is_wanted(name: &str) -> bool {
    cfg!(debug_assertions) && directory().is_some_and(|directory| directory.join(name).exists())
}

/// Panics if a test asks for it by a file `panic.PLACE`, once for each file.
///
/// # Panics
/// When a test asks for it.
pub fn panic_at(place: impl FnOnce() -> String) {
    if !cfg!(debug_assertions) {
        return;
    }
    let Some(directory) = directory() else { return };
    let place = place();
    assert!(std::fs::remove_file(directory.join(format!("panic.{place}"))).is_err(), "injected into {place}");
}
