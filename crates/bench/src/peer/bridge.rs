use testbed::Netns;

use crate::world::{INTERFACE, World};

/// The bridge's ends of the pairs.
const PORTS: [&str; 2] = ["a0", "b0"];

/// What the kernel would otherwise leave undone between the namespaces: segmentation, reassembly, checksums.
const OFFLOADS: [&str; 5] = ["tso", "gso", "gro", "tx", "rx"];

/// As it comes: segments of up to 64 KiB pass whole.
pub fn with_offloads(world: &mut World) {
    world.between().ip(["link", "add", "br0", "type", "bridge"]);
    for (number, port) in PORTS.into_iter().enumerate() {
        let host = [&world.a, &world.b][number].netns.name().to_owned();
        let between = world.between();
        between.ip(["link", "add", port, "type", "veth", "peer", "name", INTERFACE, "netns", &host]);
        between.ip(["link", "set", port, "master", "br0"]);
        between.ip(["link", "set", port, "up"]);
    }
    world.between().ip(["link", "set", "br0", "up"]);
}

/// Every packet by itself, complete, with an MTU of 1500 octets: what a switch without offloads moves.
pub fn without_offloads(world: &mut World) {
    with_offloads(world);
    for port in PORTS {
        switch_off(world.between(), port);
    }
    switch_off(&world.a.netns, INTERFACE);
    switch_off(&world.b.netns, INTERFACE);
}

fn switch_off(netns: &Netns, interface: &str) {
    let settings = OFFLOADS.into_iter().flat_map(|offload| [offload, "off"]);
    netns.exec("ethtool", ["-K", interface].into_iter().chain(settings)).expect_success();
}
