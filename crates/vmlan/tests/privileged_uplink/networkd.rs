//! systemd-networkd on a guest.

use std::fs;

use tempfile::TempDir;
use testbed::{Netns, Process};

use crate::support::{PATIENCE, directory};

/// Starts it with a `/run` of its own and without a bus. What it knows of interfaces and leases is then in a directory
/// of the test's. It waits for no udev where `/sys` is read-only, as it is in containers.
const START: &str = "set -e
mount -o remount,ro /sys
mount -t tmpfs none /run
mkdir -p /run/systemd/netif /run/systemd/network
chown systemd-network \"$2\"
mount --bind \"$2\" /run/systemd/netif
cp \"$1\" /run/systemd/network/00-t0.network
export SYSTEMD_LOG_TARGET=console
exec /usr/lib/systemd/systemd-networkd";

/// A running one; killed on drop.
pub struct Networkd {
    process: Process,
    place: TempDir,
}

impl Networkd {
    /// Starts it for the interface `t0`, with these sections beside its name.
    pub fn start(guest: &Netns, sections: &str) -> Networkd {
        let place = directory();
        let (network, state) = (place.path().join("network"), place.path().join("state"));
        fs::write(&network, format!("[Match]\nName=t0\n{sections}")).expect("our own file");
        fs::create_dir(&state).expect("our own directory");
        let paths = [network, state].map(|path| path.display().to_string());
        let process = guest.spawn("sh", ["-c", START, "sh", &paths[0], &paths[1]]);
        Networkd { process, place }
    }

    /// Waits until its files of this kind, `links` or `leases`, hold all of this, and answers with them.
    #[track_caller]
    pub fn wait_for(&mut self, kind: &str, wanted: &[&str]) -> String {
        let place = self.place.path().join("state").join(kind);
        self.process.wait_while_running(&format!("{wanted:?} in its {kind}"), PATIENCE, || {
            let files = fs::read_dir(&place).ok()?;
            let all: String =
                files.flatten().filter_map(|file| fs::read_to_string(file.path()).ok()).collect();
            wanted.iter().all(|wanted| all.contains(wanted)).then_some(all)
        })
    }
}

/// The value of a line such as `DNS=10.0.0.1` in one of its files.
pub fn value<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
}
