use std::io;
use std::net::IpAddr;
use std::time::Duration;

/// Why a guest could not be started or an operation of it did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The guest's configuration is not possible.
    #[error("guest {guest}: {reason}")]
    Config {
        /// Name of the guest.
        guest: String,
        /// The fault, and what to write instead.
        reason: String,
    },
    /// The attachment could not be opened before the time was over.
    #[error("guest {guest}: cannot attach to {attachment}; check the path and that the network is running")]
    Attach {
        /// Name of the guest.
        guest: String,
        /// The attachment, as its `Display` writes it.
        attachment: String,
        /// The error of the last attempt.
        source: io::Error,
    },
    /// The thread or its waker could not be made.
    #[error("guest {guest}: cannot start")]
    Start {
        /// Name of the guest.
        guest: String,
        /// The error of the system call.
        source: io::Error,
    },
    /// The other side closed the attachment or broke its protocol.
    #[error("guest {guest}: the attachment is gone: {reason}")]
    Disconnected {
        /// Name of the guest.
        guest: String,
        /// The cause of the end.
        reason: String,
    },
    /// Nothing moved for as long as the guest's timeout.
    #[error("guest {guest}: {operation}: no progress for {waited:?}")]
    Timeout {
        /// Name of the guest.
        guest: String,
        /// The operation that was waited for.
        operation: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The address is on none of the guest's networks, and no lease named a router that leads there.
    #[error("guest {guest}: {address} is on none of its networks; use an address inside its prefix")]
    Unreachable {
        /// Name of the guest.
        guest: String,
        /// The address asked for.
        address: IpAddr,
    },
    /// The TCP connection was refused, reset, or closed before everything was acknowledged.
    #[error("guest {guest}: {address} refused or reset the connection after {acknowledged} octets")]
    Reset {
        /// Name of the guest.
        guest: String,
        /// The other side.
        address: IpAddr,
        /// Octets that it acknowledged before.
        acknowledged: u64,
    },
    /// The name was not found to have an address.
    #[error("guest {guest}: {name}: {reason}")]
    Unresolved {
        /// Name of the guest.
        guest: String,
        /// The name asked for.
        name: String,
        /// The cause, and what to do where that helps.
        reason: &'static str,
    },
    /// The guest was stopped while the operation was under way.
    #[error("guest {guest}: it was stopped")]
    Stopped {
        /// Name of the guest.
        guest: String,
    },
}
