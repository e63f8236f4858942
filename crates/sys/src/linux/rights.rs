//! Rights of this process.

use rustix::thread::{CapabilitySet, capabilities};

/// True if this thread has all of these capabilities now (capabilities(7)).
pub fn has(wanted: CapabilitySet) -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(wanted))
}

/// True if interfaces may be made and set up.
pub fn over_interfaces() -> bool {
    has(CapabilitySet::NET_ADMIN)
}
