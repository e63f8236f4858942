//! Interface ports: guests behind veths and TAPs of the host's, and what the kernel carries between them.

#[path = "../support/mod.rs"]
mod support;

mod differential;
mod fast;
mod guests;
mod lab;
mod life;
mod load;
mod pins;
mod trunk;
mod trunk_alike;
