//! Uplinks, with real clients: each guest is a namespace with a TAP, the host is one, and so are a router and the
//! internet behind it.

#[path = "../support/mod.rs"]
mod support;

mod advertise;
mod datagrams;
mod dhcp;
mod forwards;
mod ipv6_only;
mod lab;
mod leases;
mod names;
mod networkd;
mod rate;
mod reach;
mod restart;
mod tcp;
mod upstream;
