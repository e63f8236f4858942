//! Checks of what macOS offers.

use super::Check;

/// Where root's control socket lives; there is no /run.
pub const ROOT_RUNTIME_DIRECTORY: &str = "/var/run";

pub fn checks() -> Vec<Check> {
    vec![
        Check::warn("tap", "not on macOS", "attach guests by stream, datagram or vde"),
        match rustix::process::geteuid().is_root() {
            true => Check::ok("trunk", "packet, bridge"),
            false => Check::warn("trunk", "none", "trunks take root's rights: run vmlan as root"),
        },
        Check::ok("kinds", "stream, datagram, vde, tunnel"),
    ]
}
