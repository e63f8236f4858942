use testbed::Netns;

use super::ends::switch_off;
use crate::world::{INTERFACE, World};

/// The switch's ends of the pairs.
pub const PORTS: [&str; 2] = ["a0", "b0"];

/// A veth pair for each namespace; the other ends are [`PORTS`] of the namespace between them, and up.
pub fn pairs(world: &mut World) {
    for (number, port) in PORTS.into_iter().enumerate() {
        let host = [&world.a, &world.b][number].netns.name().to_owned();
        let between = world.between();
        between.ip(["link", "add", port, "type", "veth", "peer", "name", INTERFACE, "netns", &host]);
        between.ip(["link", "set", port, "up"]);
    }
}

/// The same without offloads on any of the four.
pub fn plain_pairs(world: &mut World) {
    pairs(world);
    let ends: [(&Netns, &str); 2] = [(&world.a.netns, INTERFACE), (&world.b.netns, INTERFACE)];
    for (netns, interface) in ends {
        switch_off(netns, interface);
    }
    for port in PORTS {
        switch_off(world.between(), port);
    }
}

/// As it comes: segments of up to 64 KiB pass whole.
pub fn with_offloads(world: &mut World) {
    pairs(world);
    of(world, PORTS);
}

/// Every packet by itself, complete, with an MTU of 1500 octets: what a switch without offloads moves.
pub fn without_offloads(world: &mut World) {
    plain_pairs(world);
    of(world, PORTS);
}

/// Bridges these interfaces.
pub fn of(world: &mut World, ports: [&str; 2]) {
    let between = world.between();
    between.ip(["link", "add", "br0", "type", "bridge"]);
    for port in ports {
        between.ip(["link", "set", port, "master", "br0"]);
    }
    between.ip(["link", "set", "br0", "up"]);
}
