//! Guests without IPv4.

use testbed::{require, wait_until};

use crate::lab::*;
use crate::support::{PATIENCE, assert_balanced, directory};
use crate::tcp::run_within;

/// The server's IPv4 address under the prefix of RFC 6052.
const MAPPED: &str = "64:ff9b::cb00:7107";

#[test]
fn a_guest_without_ipv4_reaches_ipv4_by_a_host_without_ipv6() {
    require!(namespaces(), tool("busybox"));
    let world = World::new(1);
    let guest = &world.guests[0];
    world.host.ip(["-6", "route", "del", "default"]);
    guest.sysctl("net.ipv6.conf.default.accept_ra", "1");
    let daemon = world.start(&(world.uplink("ipv6_only = true") + &world.port(0, "")));
    world.plug();
    wait_until("a router", PATIENCE, || {
        guest.ip(["-6", "route", "show", "default"]).stdout.contains("via fe80::1 ")
    });
    let listener = world.listen(&format!("{SERVER}:8064"));
    let (mut near, mut far) = join(guest, at(MAPPED, 8064), &listener);
    talk(&mut near, &mut far);

    // A client that asks is told so, and takes no address if it can do without.
    let files = directory();
    let (hook, out) = (files.path().join("hook"), files.path().join("out"));
    script(&hook, &format!("#!/bin/sh\n[ \"$1\" != bound ] || env >{}\n", out.display()));
    let hook = hook.display().to_string();
    let words = ["udhcpc", "-i", "t0", "-n", "-q", "-t", "4", "-T", "2", "-O", "0x6c", "-s", &hook];
    let output = run_within(guest, "busybox", &words);
    let seen = std::fs::read_to_string(&out).unwrap_or_default();
    assert!(seen.contains("opt108=00000708"), "{seen}\n{output:?}");
    assert_balanced(&daemon);
    daemon.stop();
}
