//! VDE's switch with two clients, replaced by a network at the same directory.

use testbed::require;

use crate::machine::{Machine, needs};

#[track_caller]
pub fn follow(page: &str) {
    require!(needs(), tool("pidof"), tool("vde_switch"), tool("vde_plug2tap"));
    let mut host = Machine::new("host");
    crate::follow(page, &mut [&mut host]);

    let seen = host.run("ip netns exec db ping -c 3 -i 0.2 -W 1 10.0.0.1");
    assert!(seen.contains("3 received"), "{seen}");
}
