//! The mark of a `vmlan host` or `vmlan vm` that runs: a lock beside the control socket, named by command, daemon,
//! network and port.
//!
//! Its file goes with a command that ends in order. So a file that no process holds was left by a command that was
//! killed, and the port of that name is that command's, unless it was removed since.

use vmlan_daemon::lock::{Lock, LockError};
use vmlan_drivers::unix::Directory;

use crate::client::{Client, encode};

/// A mark that is set, until it is dropped.
pub struct Mark {
    lock: Option<Lock>,
    was_left: bool,
}

impl Mark {
    /// Sets the mark of a command of this name, for a port by its network and name.
    ///
    /// # Errors
    /// When another command has set it, or the daemon does not answer. Where no mark can be set, nothing counts as
    /// left.
    pub fn set(client: &Client, command: &str, (network, port): (&str, &str)) -> anyhow::Result<Mark> {
        let status: vmlan_api::Status = client.get("/v1/status")?;
        let name = format!(".{command}-{}-{}.{}.lock", status.pid, encode(network), encode(port));
        let none = Mark { lock: None, was_left: false };
        let Some(directory) = client.path().parent().and_then(|path| Directory::open(path).ok()) else {
            return Ok(none);
        };
        let was_left = directory.find(name.as_ref()).is_ok();
        match Lock::take(&directory, &name) {
            Ok(lock) => Ok(Mark { lock: Some(lock), was_left }),
            Err(LockError::Taken(process)) => {
                let process =
                    process.map_or("another process".to_owned(), |process| format!("process {process}"));
                anyhow::bail!(
                    "{process} runs `vmlan {command}` for port {port} of network {network}; end that, or name another port \
                     with --port"
                )
            }
            Err(LockError::Foreign | LockError::System(_)) => Ok(none),
        }
    }

    /// Leaves it behind as a killed command does, for the port stays too.
    pub fn leave(self) {
        // The process ends soon, and its descriptor with it.
        std::mem::forget(self.lock);
    }

    /// True if a killed command left it.
    pub fn was_left(&self) -> bool {
        self.was_left
    }
}
