//! The running daemon with guests that live in this process: quick, and without privileges.

#[path = "../support/mod.rs"]
mod support;

mod attach;
mod bug_report;
mod change;
mod check;
mod filter;
mod lifecycle;
mod policy;
mod reconnect;
mod swept;
mod tunnel;
mod uplink_guard;
#[cfg(target_os = "linux")]
mod vhost_user;
mod vm;
mod web_page;
