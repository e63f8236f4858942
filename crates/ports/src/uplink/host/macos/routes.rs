//! The networks of interfaces are all that is known of the system's routes.

use super::overlap::Reached;

/// None beside those of the interfaces' addresses.
pub(super) fn routes() -> Vec<Reached> {
    Vec::new()
}
