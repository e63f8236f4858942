#![forbid(unsafe_code)]
//! The vmlan daemon without its command line: what it is told, what it decides to do, and what it answers.
//!
//! [`config`] turns text into a [`config::ValidConfig`]; [`plan`] compares two of those and lists the actions
//! between them; the supervisor carries them out; [`control`] serves the interface of the crate `api` over a Unix
//! socket and speaks to the supervisor through a [`handle::Handle`].

mod attach;
pub mod capture;
pub mod config;
mod connection;
pub mod control;
pub mod embedded;
pub mod expression;
mod filter;
pub mod handle;
#[cfg(target_os = "linux")]
#[path = "linux/kernel/mod.rs"]
mod kernel;
#[cfg(target_os = "linux")]
#[path = "linux/leftovers.rs"]
pub mod leftovers;
mod lock;
mod log;
#[cfg(any(target_os = "macos", test))]
mod macos;
#[cfg(target_os = "macos")]
pub use macos::leftovers;
mod notify;
mod panics;
pub mod plan;
pub mod run;
pub mod supervisor;
mod users;
mod wire;
