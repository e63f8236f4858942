//! The kernel's way of interface ports: ports whose guests are behind interfaces of the host, as a TAP or a veth.
//!
//! Every such interface has two programs. [`from_guest`] sees what the guest sends. It looks into the network's
//! [`Tables`], which hold what the switch has decided already, and hands the frame to the interface of its destination
//! ("fast"). What the tables do not settle goes unchanged to the port's *carrier*, a TAP that a worker reads ("slow").
//! Frames that the worker writes to the carrier go out by the interface, by
//! [`programs::inject`](super::programs::inject) at the carrier. [`to_guest`] stands where the interface sends, and
//! lets nothing pass that does not carry [`MARK`](super::programs::MARK), as both ways give it. So the host's own stack
//! has no part in the interface: it gets no frame, and none of its frames leave.
//!
//! A trunk in mode `filter` has two ports in the tables, one for each side ([`Side`]). The programs at its interface
//! ask the tables about frames that they have found to be for guests, and else divert those as ever.
//!
//! Control alone writes the tables. The programs write two things: when a station was last heard, and counts.

mod program;
mod tables;
mod trunk;

pub(super) use program::from_side;
pub use program::{from_guest, to_guest};
pub use tables::{Counts, Passed, Port, Role, Station, StationKey, Tables};
pub use trunk::{FromSide, Side};
