//! Trunks: a network joined to an interface of a host that is a network namespace. Another namespace is the wire behind
//! that interface, and guests are TAPs in namespaces of their own. Tests of numbered cases are named after them.

#[path = "../support/mod.rs"]
mod support;

mod bridge;
mod claims;
mod hindrances;
mod lab;
mod large;
mod leftovers;
mod life;
mod modes;
mod shared_mac;
mod traffic;
mod xdp;
