#![forbid(unsafe_code)]
//! Test support for Linux: network namespaces, real QEMU guests, and other projects' programs as peers.
//!
//! A test first says what it needs with [`require!`], then builds its world from guards: [`Netns`], [`Vm`],
//! [`Process`], [`Testpmd`](testpmd::Testpmd) and the [`peer`]s. Dropping a guard ends its process by its id and
//! removes what it made, so a test that panics leaves nothing behind.
//!
//! Set-up that fails is a panic that says what to do, since a test has nobody to hand an error to; outcomes a test
//! is about (exit status, pings received, octets moved) are values.
//!
//! ```no_run
//! # use std::{net::Ipv4Addr, path::Path, time::Duration};
//! use testbed::{Interface, Netns, Nic, Vm, ping, require};
//!
//! fn a_guest_and_a_namespace(socket: &Path) {
//!     require!(namespaces(), qemu());
//!     let namespace = Netns::new("web");
//!     namespace.configure("t0", &Interface::new().address("10.9.0.1/24"));
//!     let mut guest =
//!         Vm::builder("db").nic(Nic::stream(socket, "52:54:00:00:00:02")).address("10.9.0.2/24").start();
//!     assert!(guest.reaches(Ipv4Addr::new(10, 9, 0, 1), Duration::from_secs(30)));
//!     assert!(ping(&namespace, Ipv4Addr::new(10, 9, 0, 2), 3).all());
//! }
//! ```
//!
//! | Variable | Effect |
//! |---|---|
//! | `VMLAN_REQUIRE_ALL=1` | a missing requirement fails the test instead of skipping it |
//! | `VMLAN_QUICK=1` | every test that has a requirement is skipped |
//! | `VMLAN_SKIP_LOG=FILE` | each skipped test appends a line to the file |
//! | `VMLAN_TESTBED_CACHE=DIR` | where the guest kernel is kept; default `testbed` in Cargo's target directory |

pub mod attempt;
mod cpio;
mod image;
pub mod interrupt;
mod iperf;
mod netns;
pub mod peer;
mod ping;
mod process;
pub mod require;
pub mod testpmd;
pub mod venv;
mod vm;
mod wait;

pub use iperf::{Amount, Iperf, IperfReport, Traffic, iperf3, iperf3_by};
pub use netns::{Interface, Netns};
pub use ping::{Ping, PingReport, ping};
pub use process::{Output, Process, Signal, run};
pub use vm::{BootFiles, GuestOutput, Move, Nic, Vm, VmBuilder};
pub use wait::{poll_until, wait_for, wait_until};
