//! Data that Darwin's kernel reads and writes: names, request numbers, layouts, records and messages.
//!
//! No call is made here, and it is compiled on every system: so it is tested and fuzzed where macOS does not run. The
//! calls are in `macos/`. Layouts are those of 64-bit processes (LP64); numbers are in the byte order of the host.
//! `cargo xtask macos` compares them with the system's own headers, as far as these can be had ([`layout`]).

pub mod bpf;
pub mod event;
pub mod layout;
mod name;
pub mod number;
pub mod request;

pub use name::InterfaceName;

/// Copies a field out of a message, when it lies wholly inside.
pub(crate) fn field<const N: usize>(octets: &[u8], at: usize) -> Option<[u8; N]> {
    octets.get(at..)?.first_chunk().copied()
}

/// A number of 32 bits out of a message.
pub(crate) fn word(octets: &[u8], at: usize) -> Option<u32> {
    field(octets, at).map(u32::from_ne_bytes)
}
