//! One vmlan at a time on an interface of the host's: of two, each would take from the other what it had set.
//!
//! What keeps others away is of a kind that the system takes from a process however it ends. The configuration gives an
//! interface to one network only; this is between processes.

use std::io;
use std::os::fd::OwnedFd;

/// Keeps an interface to this process for as long as it is held.
pub(super) struct Claim {
    _held: OwnedFd,
}

/// Why an interface cannot be held.
#[derive(Debug)]
pub(crate) enum Hindrance {
    /// Another vmlan has it; which one, or how to find out.
    Taken(String),
    /// The system refused.
    Failed(io::Error),
}

impl Claim {
    /// The claim to `interface`, if it could be held; else what to tell people.
    pub(super) fn new(interface: &str, held: Result<OwnedFd, Hindrance>) -> Result<Claim, String> {
        match held {
            Ok(held) => Ok(Claim { _held: held }),
            Err(Hindrance::Taken(who)) => Err(format!(
                "interface {interface} is busy, used by another vmlan ({who}); stop that one, or choose another \
                 interface"
            )),
            Err(Hindrance::Failed(error)) => Err(format!("cannot claim the interface {interface}: {error}")),
        }
    }
}
