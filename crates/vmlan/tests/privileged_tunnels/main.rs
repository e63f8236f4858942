//! Tunnels that the kernel's own stack is behind: TUN devices in network namespaces, beside guests on TAPs.

#[path = "../support/mod.rs"]
mod support;

mod device;
mod host;
mod lab;
mod traffic;
