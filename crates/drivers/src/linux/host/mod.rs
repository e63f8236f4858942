//! The trunk's medium: an interface of the host, taken apart into its two sides.
//!
//! In filter mode the kernel diverts frames from the interface to two TAPs, one for each side, and takes what is
//! written to them to that side ([`programs`] has the programs that it does so with). So a frame tells by its TAP
//! where it came from, and by its TAP the kernel knows where it is to go: [`TwoSides`] joins them to one endpoint.

mod assembler;
mod bounded;
mod by_source;
pub mod fast;
mod longest;
mod packet;
pub mod programs;
mod stations;
mod two_sides;
pub mod xdp;

pub use bounded::Bounded;
pub use by_source::BySource;
pub use longest::Longest;
pub use packet::PacketSocket;
pub use stations::Stations;
pub use two_sides::TwoSides;
