//! Guests behind interfaces of the host: pages that need nothing but the host itself.

use testbed::require;

use crate::machine::{Machine, needs};

#[track_caller]
pub fn namespaces(page: &str) {
    require!(needs());
    crate::follow(page, &mut [&mut Machine::new("host")]);
}

#[track_caller]
pub fn containers(page: &str) {
    require!(needs(), tool("crun"));
    crate::follow(page, &mut [&mut Machine::new("host")]);
}

#[track_caller]
pub fn other_user(page: &str) {
    require!(needs(), tool("python3"), tool("runuser"));
    let mut host = Machine::new("host");
    // Every user may open the device, as with udev.
    host.run("mknod /run/tun c 10 200; chmod 666 /run/tun; mount --bind /run/tun /dev/net/tun");
    crate::follow(page, &mut [&mut host]);
}
