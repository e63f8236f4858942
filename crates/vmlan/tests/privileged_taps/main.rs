//! TAP devices as guests: each in a network namespace that stands for the guest.

#[path = "../support/mod.rs"]
mod support;

mod address;
mod change;
mod device;
mod lab;
mod namespace;
mod offloads;
mod program;
mod traffic;
