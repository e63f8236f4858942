//! Hostile peers: each attack runs beside two honest guests that exchange a thousand numbered frames a second and must
//! lose and repeat nothing, while the daemon keeps its process, and gives back descriptors and memory.

#[path = "../support/mod.rs"]
mod support;

mod arena;
mod control;
mod datagram;
mod frames;
mod inet;
mod log;
#[cfg(debug_assertions)]
mod panics;
#[cfg(target_os = "linux")]
mod passed;
mod stream;
mod tunnel;
mod users;
mod vde;
