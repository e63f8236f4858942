//! Rights of this process.

/// True if interfaces may be made and set up.
pub fn over_interfaces() -> bool {
    rustix::process::geteuid().is_root()
}
