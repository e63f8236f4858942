//! A bridge of the kernel's with two guests and the host, replaced by a network.

use testbed::require;

use crate::machine::{Machine, needs};

#[track_caller]
pub fn follow(page: &str) {
    require!(needs());
    let mut host = Machine::new("host");
    crate::follow(page, &mut [&mut host]);

    let seen = host.run("ip netns exec web ping -c 3 -i 0.2 -W 1 10.0.0.2");
    assert!(seen.contains("3 received"), "{seen}");
    host.run("! ip link show br0; vmlan config | grep -F '10.0.0.254/24'");
}
