#![forbid(unsafe_code)]
//! Classic BPF, the packet filter language of sockets, `/dev/bpf` and tcpdump: programs, a checker, an interpreter.
//!
//! The crate is pure: it attaches nothing and reads no packet itself. A program comes from text in the form of
//! `tcpdump -ddd` ([`Program`]), from a [`Builder`], or ready-made ([`destinations`], [`sources`]). It runs, and is
//! handed to a kernel, only as a [`ValidProgram`], which has passed the checker:
//!
//! ```
//! // tcpdump -ddd -y EN10MB arp
//! let text = "4\n40 0 0 12\n21 0 1 2054\n6 0 0 262144\n6 0 0 0\n";
//! let arp = text.parse::<vmlan_bpf::Program>()?.check()?;
//!
//! let mut packet = [0; 60];
//! assert_eq!(arp.run(&packet), 0);
//! packet[12..14].copy_from_slice(&[0x08, 0x06]);
//! assert_eq!(arp.run(&packet), 262144);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The machine
//!
//! An accumulator A and an index register X of 32 bits, both 0 at the start; 16 memory slots of 32 bits; a packet,
//! whose octet 0 is the first of the Ethernet header. Packet loads are big-endian. Every jump goes forward, so a
//! program of n instructions ends after at most n steps. It answers how many octets of the packet to keep: 0 rejects
//! the packet, more than its length keeps it whole.
//!
//! Source: S. McCanne and V. Jacobson, "The BSD Packet Filter", USENIX Winter 1993. Where systems differ, this is the
//! machine of Linux (`net/core/filter.c`): arithmetic wraps; a load that is not wholly inside the packet, and division
//! or modulo by an X of 0, end the program with the answer 0; shifts take the lowest 5 bits of X (libpcap answers 0
//! for a shift of 32 or more).
//!
//! # What Linux accepts and this crate does not
//!
//! Linux gives offsets from [`LINK_HEADER`] upwards, in 32 bits the negative ones, a second meaning: ancillary data
//! beside the packet (`SKF_AD_OFF`: interface, mark, VLAN tag taken out by the network card …) and offsets from the
//! network or link header (`SKF_NET_OFF`, `SKF_LL_OFF`). None of it exists outside a kernel, so the checker refuses
//! such a load with a constant offset, and for one computed with X there is nothing inside the packet. tcpdump writes
//! no such load with `-y EN10MB`; for `vlan`, `inbound` and the like on a live interface it may.
//!
//! Apart from this the checker accepts and refuses exactly what Linux does.

mod builder;
mod check;
mod disassembly;
mod instruction;
mod mac_set;
mod operation;
mod program;
mod run;
mod text;

pub use builder::{BuildError, Builder, Label};
pub use check::{CheckError, Fault, LINK_HEADER, MAX_LENGTH};
pub use disassembly::Disassembly;
pub use instruction::{Instruction, code};
pub use mac_set::{destinations, sources};
pub use operation::{
    Address, Arithmetic, MEMORY_SLOTS, Operand, Operation, Register, Source, Step, Test, Width,
};
pub use program::{Program, ValidProgram};
pub use text::{LineFault, ParseError};

/// The answer of a program that keeps the whole packet: more octets than any packet has.
///
/// It is also what a Linux traffic-control classifier takes for "matches, with the class that the filter names".
pub const WHOLE_PACKET: u32 = u32::MAX;

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
