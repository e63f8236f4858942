#![forbid(unsafe_code)]
//! DHCP, router advertisements and names for the guests of a network.
//!
//! The crate is pure: it does no I/O, reads no clock and writes no log.
