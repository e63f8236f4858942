//! vhost-user: the other end is a guest's network card, whose rings are in the guest's memory.

pub mod message;
pub mod session;
