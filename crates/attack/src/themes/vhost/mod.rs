//! Machine monitors and guests that share memory by vhost-user, and mean harm by it.

mod headers;
mod memory;
mod messages;
mod pages;
mod rings;
mod shares;

use crate::attack::Attack;

pub(super) const ALL: &[&dyn Attack] = &[
    &memory::Truncated,
    &memory::Refused,
    &memory::Replaced,
    &memory::Log,
    &memory::Dying,
    &pages::Holes::Huge,
    &pages::Holes::Full,
    &pages::Sparse,
    &pages::Last,
    &shares::Regions,
    &messages::Strays,
    &messages::Wrong,
    &messages::Slow,
    &messages::Flood,
    &messages::Connections,
    &messages::Announcements,
    &rings::FullCall,
    &rings::Kicks,
    &rings::Nonsense,
    &rings::Chains,
    &rings::Buffers,
    &headers::Flips,
];

/// The tables of so many ports for machine monitors, whose names are this one and a number.
fn ports(name: &str, count: usize) -> String {
    let table = |number: usize| {
        let port = format!("{name}{number}");
        format!("[network.lab.port.{port}]\nvhost_user = {{ listen = \"{port}.sock\" }}\n")
    };
    (0..count).map(table).collect()
}
