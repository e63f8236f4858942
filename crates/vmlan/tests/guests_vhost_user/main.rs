//! Guests on vhost-user ports with drivers that others wrote: DPDK's virtio-user in all its modes, and machines of
//! QEMU.

#[path = "../support/mod.rs"]
mod support;

mod huge;
mod lab;
mod machines;
mod migration;
mod modes;
mod restart;
