//! vhost-user: guests' rings in shared memory (virtio 1.3; QEMU's vhost-user.rst).
//!
//! Theory of operation. A machine monitor, the *front end*, connects and shares its guest's memory as files. We are the
//! *back end*: the guest's rings are walked in that memory, without a system call for a frame and without another
//! process in between. Each ring has a lock, which a worker holds for the time of a batch and passes over when another
//! thread has it; that other thread is the connection's own, which reads the front end's messages, maps and unmaps
//! memory and closes whatever it was sent, since all of that can take as long as a front end likes (`connection`).
//!
//! All that is taken from a ring in one turn is copied and completed in it. So nothing is under way between turns, the
//! position of a split ring is in the guest's own memory, that of a packed ring in a file of ours (`checkpoint`), and a
//! front end that connects to a daemon that was started again goes on there.
//!
//! Two kinds of fault: what a front end does wrong ends its connection; what a guest writes into a ring breaks that
//! ring ([`Trouble`]), until the front end stops and starts it. A guest cannot make its monitor's connection end.

mod bell;
mod chain;
pub mod checkpoint;
pub mod connection;
pub mod counters;
pub mod device;
mod holdings;
pub mod log;
pub mod memory;
pub mod message;
mod packed;
mod queue;
mod quota;
mod ring;
pub mod session;
mod split;
mod started;
mod wire;

/// Why a ring is used no more, in words for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Trouble(pub String);

#[cfg(test)]
mod tests;
