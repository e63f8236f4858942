#![forbid(unsafe_code)]
//! The data plane: workers that move frames between drivers, links and networks.
//!
//! A worker is a thread with an event loop. It takes what a port's driver received and carries it, a batch at a
//! time, through the whole way of a frame: the port's link, the network, the links of the ports that get copies,
//! their drivers. Nothing is handed to another thread on that way, and there is no other way.
//!
//! ```text
//! driver.receive → link.input → network.forward → per port: link.output → driver.transmit
//! ```
//!
//! A worker owns what it touches: its buffers, its queue of every port's driver, its egress queues. Control speaks to
//! it by [`Plane`]'s commands, which it takes between two batches; it answers with [`Notice`]s. So a port can come or
//! go under traffic without a lock on the way of a frame, and without a frame lost on any other port.

mod command;
mod contain;
mod effort;
mod plane;
mod port;
mod ready;
mod translate;
mod turn;
mod worker;

pub use command::{Done, Notice, Polling, PortKey, PortSetup};
pub use effort::Effort;
pub use plane::{Options, Plane};

#[cfg(test)]
mod tests;
