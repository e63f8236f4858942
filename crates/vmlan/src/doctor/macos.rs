//! Checks of what macOS offers.

use super::Check;

/// Where root's control socket lives; there is no /run.
pub const ROOT_RUNTIME_DIRECTORY: &str = "/var/run";

pub fn checks() -> Vec<Check> {
    vec![
        Check::warn("tap", "not on macOS", "attach guests by stream, datagram or vde"),
        Check::ok("kinds", "stream, datagram, vde, tunnel"),
    ]
}
