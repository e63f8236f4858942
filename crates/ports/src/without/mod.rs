//! Stands for what needs rtnetlink(7), in a program that is built without it: each says so.

pub mod leftovers;
pub(crate) mod move_in;
pub(crate) mod trunk;
