//! One vmlan at a time on an interface of the host's: of two, each would take from the other what it had set.
//!
//! The system takes the hold from a process however the process ends. The configuration gives an interface to one
//! network only; the hold is between processes.

use std::io;
use std::path::Path;

use crate::lock::LockError;

/// Why an interface cannot be held.
#[derive(Debug)]
pub(crate) enum Hindrance {
    /// Another vmlan has it; which one, or how to find out.
    Taken(String),
    /// The system refused.
    Failed(io::Error),
}

impl LockError {
    /// Explains, from the error of the lock at `path`, why the interface cannot be held.
    pub(crate) fn hinders(self, path: &Path) -> Hindrance {
        let path = path.display();
        match self {
            LockError::Taken(Some(process)) => Hindrance::Taken(format!("process {process}")),
            // It has just been locked.
            LockError::Taken(None) => Hindrance::Taken(format!("`lsof {path}` shows which")),
            LockError::Foreign => Hindrance::Failed(io::Error::other(format!(
                "{path} belongs to another user or can be opened by others; remove it"
            ))),
            LockError::System(error) => {
                let cure = match error.kind() {
                    io::ErrorKind::PermissionDenied => "; run vmlan as root",
                    _ => "",
                };
                Hindrance::Failed(io::Error::new(error.kind(), format!("{path}: {error}{cure}")))
            }
        }
    }
}

impl Hindrance {
    /// Explains to people why `interface` cannot be held.
    pub(crate) fn explain(self, interface: &str) -> String {
        match self {
            Hindrance::Taken(who) => format!(
                "interface {interface} is busy, used by another vmlan ({who}); stop that one, or choose another \
                 interface"
            ),
            Hindrance::Failed(error) => format!("cannot hold the interface {interface}: {error}"),
        }
    }
}
