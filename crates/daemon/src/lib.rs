#![forbid(unsafe_code)]
//! The vmlan daemon without its command line: what it is told, what it decides to do, and what it answers.
//!
//! [`config`] turns text into a [`config::ValidConfig`]; [`plan`] compares two of those and lists the actions
//! between them; the supervisor carries them out; [`control`] serves the interface of the crate `api` over a Unix
//! socket and speaks to the supervisor through a [`handle::Handle`].

pub mod capture;
pub mod config;
pub mod control;
pub mod embedded;
pub mod expression;
pub mod handle;
mod log;
mod notify;
pub mod plan;
pub mod run;
pub mod supervisor;
pub use vmlan_ports::leftovers;
