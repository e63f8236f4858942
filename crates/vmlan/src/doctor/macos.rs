//! Checks of what macOS offers.

use super::{Check, Subject};

/// Where root's control socket lives; there is no /run.
pub const ROOT_RUNTIME_DIRECTORY: &str = "/var/run";

pub fn checks() -> Vec<Check> {
    vec![
        Check::warn(Subject::Tap, "not on macOS", "attach guests by stream, datagram or vde"),
        match rustix::process::geteuid().is_root() {
            true => Check::ok(Subject::Trunk, "packet, bridge"),
            false => Check::warn(Subject::Trunk, "none", "trunks take root's rights: run vmlan as root"),
        },
        Check::ok(Subject::Kinds, "stream, datagram, vde, tunnel"),
    ]
}
