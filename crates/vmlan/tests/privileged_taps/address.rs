//! Devices that have their addresses from the configuration.

use testbed::{Netns, require, wait_until};
use vmlan_api::PortState;

use crate::lab::{Guest, configure, v4, v6};
use crate::support::{Daemon, PATIENCE};

/// The port of guest 1, whose device is the daemon's to set up, with these keys besides.
fn port(guest: &Guest, keys: &str) -> String {
    format!(
        "[network.lab.port.guest1]\ntap = {{ name = \"t0\", netns = \"{}\", {keys} }}\n",
        guest.netns.path().display()
    )
}

fn addresses(netns: &Netns) -> String {
    netns.ip(["-o", "addr", "show", "dev", "t0"]).stdout
}

#[test]
fn a_device_has_its_addresses_whenever_it_is_there() {
    require!(namespaces());
    let (one, two) = (Guest::new(1), Guest::new(2));
    let keys = format!("address = [\"{}/24\", \"{}/64\"]", v4(1), v6(1));
    let daemon = Daemon::start(&format!("{}{}", port(&one, &keys), two.port("")));
    configure(&daemon, &[&two]);
    daemon.wait_up(&["guest1"]);
    one.pings(&two);

    one.netns.ip(["link", "del", "t0"]);
    // It has another MAC address, which its neighbour looks for in each family when it likes.
    assert!(two.netns.reaches(v4(1), PATIENCE));
    assert!(two.netns.reaches(v6(1), PATIENCE));
    two.pings(&one);

    one.netns.ip(["link", "set", "t0", "down"]);
    daemon.wait_state("guest1", PortState::Down);
    assert!(!addresses(&one.netns).contains(&v6(1).to_string()), "the kernel takes it away");
    one.netns.ip(["link", "set", "t0", "up"]);
    wait_until("the address to come back", PATIENCE, || addresses(&one.netns).contains(&v6(1).to_string()));
    daemon.wait_up(&["guest1"]);
    two.pings(&one);
    daemon.stop();
}

#[test]
fn addresses_change_with_their_key_and_go_with_the_port() {
    require!(namespaces());
    let one = Guest::new(1);
    let keys = |address: &str| port(&one, &format!("persistent = true, address = \"{address}\""));
    let daemon = Daemon::start(&keys("10.9.0.1/24"));
    daemon.wait_up(&["guest1"]);
    one.netns.ip(["addr", "add", "10.9.7.7/24", "dev", "t0"]);
    assert!(addresses(&one.netns).contains("10.9.0.1/24"));

    daemon.write_config(&keys("10.9.0.2/24"));
    let applied = daemon.cli(&["apply"]);
    assert!(applied.success(), "{applied:?}");
    daemon.wait_up(&["guest1"]);
    let now = addresses(&one.netns);
    assert!(now.contains("10.9.0.2/24") && !now.contains("10.9.0.1/24"), "{now}");

    daemon.stop();
    let now = addresses(&one.netns);
    assert!(!now.contains("10.9.0.2/24") && now.contains("10.9.7.7/24"), "others' addresses stay: {now}");
}

#[test]
fn a_device_that_is_not_to_be_up_is_left_down() {
    require!(namespaces());
    let one = Guest::new(1);
    let daemon = Daemon::start(&port(&one, "up = false, address = \"10.9.0.1/24\""));
    daemon.wait_state("guest1", PortState::Down);
    let reason = daemon.port("guest1").reason.expect("a reason");
    assert!(reason.contains("ip link set t0 up"), "{reason}");
    assert!(addresses(&one.netns).contains("10.9.0.1/24"));
    one.netns.ip(["link", "set", "t0", "up"]);
    daemon.wait_up(&["guest1"]);
    daemon.stop();
}
