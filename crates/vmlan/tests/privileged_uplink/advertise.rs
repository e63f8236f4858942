//! Router advertisements: what guests that hear nothing else make of them, and when they are told a router.

use std::collections::BTreeSet;

use testbed::{Interface, Netns, require, wait_until};

use crate::lab::*;
use crate::networkd::{Networkd, value};
use crate::support::{PATIENCE, assert_balanced};

/// IPv6 alone, and what routers say.
const NETWORK: &str = "[Network]
DHCP=no
LinkLocalAddressing=ipv6
IPv6AcceptRA=yes
[IPv6AcceptRA]
DHCPv6Client=no
UseDomains=yes
";

#[test]
fn case_53_advertisements_alone_are_enough() {
    require!(namespaces(), file("/usr/lib/systemd/systemd-networkd"));
    let world = World::new(2);
    let ports: String = (0..2).map(|number| world.port(number, "")).collect();
    let daemon = world.start(&(world.uplink("dns = { search = [\"example.org\"] }\ndhcp = false") + &ports));
    kernel_makes_its_address(&world.guests[0]);
    networkd_makes_its_address(&world.guests[1]);
    for guest in &world.guests {
        let routes = guest.ip(["-6", "route", "show", "default"]).stdout;
        assert!(routes.contains("via fe80::1 "), "{routes}");
        assert!(testbed::ping(guest, at(SERVER6, 0).ip(), 1).all());
    }
    assert_balanced(&daemon);
    daemon.stop();
}

/// Has a guest's kernel make its address by itself.
fn kernel_makes_its_address(guest: &Netns) {
    guest.configure("t0", &Interface::new().mac(&mac(0)));
    accept(guest);
    wait_until("an address", PATIENCE, || has_address(guest));
}

fn networkd_makes_its_address(guest: &Netns) {
    guest.ip(["link", "set", "t0", "address", &mac(1)]);
    let mut networkd = Networkd::start(guest, NETWORK);
    let known = networkd.wait_for("links", &["DNS=fd00:1::1", "example.org"]);
    let domains: BTreeSet<&str> = value(&known, "DOMAINS").split(' ').collect();
    assert_eq!(domains, BTreeSet::from(["example.org", "lab.internal"]), "{known}");
    wait_until("an address", PATIENCE, || has_address(guest));
}

fn has_address(guest: &Netns) -> bool {
    guest.ip(["-6", "address", "show", "dev", "t0", "scope", "global"]).stdout.contains("inet6 fd00:1::")
}

/// Has a guest's kernel listen to routers, and ask for one.
fn accept(guest: &Netns) {
    guest.ip(["link", "set", "t0", "down"]);
    guest.sysctl("net.ipv6.conf.t0.accept_ra", "1");
    guest.sysctl("net.ipv6.conf.t0.router_solicitations", "3");
    guest.ip(["link", "set", "t0", "up"]);
}

#[test]
fn case_52_a_router_is_told_while_there_is_a_way() {
    require!(namespaces(), tool("tcpdump"));
    let world = World::new(1);
    let guest = &world.guests[0];
    let route = |change| world.host.ip(["-6", "route", change, "default", "via", ROUTER6]);
    let has_router = || !guest.ip(["-6", "route", "show", "default"]).stdout.is_empty();
    route("del");
    // It stays when the daemon ends, so that the last word is heard.
    guest.ip(["tuntap", "add", "t0", "mode", "tap"]);
    guest.configure("t0", &Interface::new().mac(&mac(0)));
    let with = format!("workers = 2\n{}{}", world.uplink(""), world.port(0, ""));
    let without = format!("workers = 2\n[network.lab]\n{}", world.port(0, ""));
    let daemon = world.start(&with);
    let mut dump = guest.spawn("tcpdump", ["-nn", "-v", "-l", "-i", "t0", "icmp6 and ip6[40] == 134"]);
    dump.wait_for_log("listening on", PATIENCE);

    // The prefix is there, and no way out.
    accept(guest);
    wait_until("an address", PATIENCE, || has_address(guest));
    dump.wait_for_log("router lifetime 0s", PATIENCE);
    assert!(!has_router() && !dump.log().contains("router lifetime 1800s"), "{}", dump.log());

    route("add");
    wait_until("a router", PATIENCE, has_router);
    dump.wait_for_log("router lifetime 1800s", PATIENCE);

    // An uplink that goes says so, and so does a daemon.
    daemon.write_config(&without);
    daemon.cli(&["apply"]).expect_success();
    wait_until("the router's end", PATIENCE, || !has_router());
    daemon.write_config(&with);
    daemon.cli(&["apply"]).expect_success();
    wait_until("a router", PATIENCE, has_router);
    daemon.stop();
    wait_until("the router's end", PATIENCE, || !has_router());
    let is_last = |text: &str| text.starts_with(" 0s") && text.contains("lifetime 0s, addr: fd00:1::1");
    wait_until("the daemon's last word", PATIENCE, || {
        dump.log().rsplit("router lifetime").next().is_some_and(is_last)
    });
}
