//! Why an interface of the host's is not in use by a trunk or a port, or not any more.

use vmlan_drivers::Fault;

use crate::describe;
use crate::kernel::KernelError;

/// Why it is not in use.
pub(crate) enum Apart {
    /// There is no such interface; what to say of it.
    NotThere(String),
    /// It cannot be, for this reason.
    Refused(String),
    /// The medium failed.
    Fault(Fault),
    /// It has to be set up anew, at once.
    Anew,
}

impl From<KernelError> for Apart {
    fn from(error: KernelError) -> Apart {
        Apart::Refused(describe(&error))
    }
}
