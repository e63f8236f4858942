#![forbid(unsafe_code)]
//! The vmlan daemon without its command line: what it is told, what it decides to do, and what it answers.
//!
//! [`config`] turns text into a [`config::ValidConfig`]; [`plan`] compares two of those and lists the actions
//! between them; the supervisor carries them out; `control` serves the interface of the crate `api` over a Unix
//! socket and speaks to the supervisor through a [`handle::Handle`].
//!
//! The feature `control` is the daemon in a process of its own: without it there is only [`embedded`], and no HTTP.
//! With the feature `ui` the daemon can serve the web page.
//! The feature `netlink` is what Linux needs for trunks, and for devices that move to another network namespace.

pub mod capture;
pub mod config;
#[cfg(feature = "control")]
pub mod control;
pub mod embedded;
pub mod expression;
pub mod handle;
mod listeners;
#[cfg(feature = "control")]
mod log;
pub mod metrics;
#[cfg(feature = "control")]
mod notify;
pub mod plan;
#[cfg(feature = "control")]
pub mod run;
pub mod supervisor;
mod uplink;
pub use vmlan_ports::{StateDirectory, leftovers, lock};
