//! How a port follows its interface, what is refused, and what is left behind.

use testbed::{Interface, require, wait_until};
use vmlan_api::PortState;

use crate::lab::Lab;
use crate::support::{Daemon, PATIENCE, VMLAN, assert_balanced, directory};

/// fast-path.md case 7.
#[test]
fn case_7_a_port_follows_its_interface() {
    require!(namespaces());
    let (lab, daemon) = Lab::running(2);
    lab.wait_fast(&daemon, 1, 2);
    let (host, guest) = (&lab.host, lab.guest(1));

    host.ip(["link", "set", "ve1", "down"]);
    daemon.wait_state("guest1", PortState::Down);
    assert!(daemon.port("guest1").reason.expect("a reason").contains("ip link set ve1 up"));
    host.ip(["link", "set", "ve1", "up"]);
    daemon.wait_up(&["guest1"]);
    lab.wait_fast(&daemon, 1, 2);

    guest.ip(["link", "set", "eth0", "down"]);
    daemon.wait_state("guest1", PortState::Waiting);
    guest.ip(["link", "set", "eth0", "up"]);
    daemon.wait_up(&["guest1"]);
    lab.wait_fast(&daemon, 1, 2);

    host.ip(["link", "set", "ve1", "name", "renamed"]);
    wait_until("the new name", PATIENCE, || daemon.port("guest1").peer.as_deref() == Some("renamed"));
    lab.wait_fast(&daemon, 1, 2);
    host.ip(["link", "set", "renamed", "name", "ve1"]);

    // A frame that is longer than the interface takes is dropped by the daemon, which tells.
    host.ip(["link", "set", "ve1", "mtu", "1000"]);
    wait_until("a frame that is too long", PATIENCE, || {
        testbed::Ping::filling(crate::lab::v4(1), 1, 1500).run(lab.guest(2));
        daemon.port("guest1").counters.drops.get("too_long").is_some_and(|count| *count > 0)
    });
    host.ip(["link", "set", "ve1", "mtu", "1500"]);
    wait_until("long frames again", PATIENCE, || {
        testbed::Ping::filling(crate::lab::v4(1), 1, 1500).run(lab.guest(2)).all()
    });

    host.ip(["link", "delete", "ve1"]);
    daemon.wait_up(&["guest1"]);
    wait_until("the veth made anew", PATIENCE, || host.has_interface("ve1") && guest.has_interface("eth0"));
    lab.wait_fast(&daemon, 1, 2);
    assert_balanced(&daemon);
    daemon.stop();
    assert!(!host.has_interface("ve1") && !guest.has_interface("eth0"));
}

#[test]
fn a_port_is_added_by_the_command_line_and_check_looks_at_this_machine() {
    require!(namespaces());
    let lab = Lab::new(2);
    let daemon = lab.start("[network.lab]\n");
    let tap = ["port", "add", "lab", "fc1", "interface", "name=fc-tap1", "create=tap", "owner=root"];
    daemon.cli(&tap).expect_success();
    daemon.wait_state("fc1", PortState::Waiting);
    assert!(lab.host.has_interface("fc-tap1"));
    let netns = format!("peer.netns={}", lab.guest(1).path().display());
    let veth =
        ["port", "add", "lab", "blue", "interface", "name=ve1", "create=veth", "peer.name=eth0", &netns];
    daemon.cli(&veth).expect_success();
    daemon.wait_up(&["blue"]);
    let shown = daemon.cli(&["port", "show", "lab/fc1"]).expect_success().stdout;
    assert!(shown.contains("\"host_dev_name\": \"fc-tap1\""), "{shown}");

    // What is there by now is vmlan's own; what is not there yet is waited for.
    let config = format!("{}[network.lab.port.found]\ninterface = {{ name = \"later\" }}\n", lab.veths());
    let file = daemon.path("other.toml");
    std::fs::write(&file, config).expect("a file");
    let check = |file: &str| lab.host.exec(VMLAN, ["check", file, "--here"]);
    let file = file.to_str().expect("text");
    check(file).expect_success();
    lab.host.exec("ip", ["link", "add", "later", "type", "veth", "peer", "name", "other"]).expect_success();
    lab.host.exec("ip", ["link", "add", "br0", "type", "bridge"]).expect_success();
    lab.host.exec("ip", ["link", "set", "later", "master", "br0"]).expect_success();
    let output = check(file);
    assert!(!output.success() && output.stderr.contains("ip link set later nomaster"), "{output:?}");
    let config = lab.veth(2, "").replace(&lab.guest(2).path().display().to_string(), "not-there");
    std::fs::write(file, config).expect("a file");
    let output = check(file);
    assert!(!output.success() && output.stderr.contains("/run/netns/not-there is not there"), "{output:?}");
    daemon.stop();
    assert!(!lab.host.has_interface("fc-tap1") && !lab.host.has_interface("ve1"));
}

#[test]
fn an_interface_of_somebody_elses_is_waited_for_used_and_given_back() {
    require!(namespaces());
    let lab = Lab::new(2);
    let ports = (1..=2).map(|n| format!("[network.lab.port.guest{n}]\ninterface = {{ name = \"ve{n}\" }}\n"));
    let daemon = lab.start(&ports.collect::<String>());
    daemon.wait_state("guest1", PortState::Waiting);
    assert!(daemon.port("guest1").reason.expect("a reason").contains("does not exist yet"));
    for number in [1, 2] {
        let name = format!("ve{number}");
        lab.host.veth(&name, lab.guest(number), "eth0");
        // The host has addresses on it, which nobody reaches while the port is there.
        lab.host.configure(&name, &Interface::new().address(&format!("10.9.0.{}/24", 100 + number)));
        let address = format!("10.9.0.{number}/24");
        let mac = crate::support::mac(number).to_string();
        lab.guest(number).configure("eth0", &Interface::new().mac(&mac).address(&address));
    }
    daemon.wait_up(&["guest1", "guest2"]);
    lab.pings(1, 2);
    lab.wait_fast(&daemon, 1, 2);
    let hosts = std::net::Ipv4Addr::new(10, 9, 0, 101);
    assert_eq!(testbed::ping(lab.guest(1), hosts, 2).received, 0, "the guest reaches the host");
    assert_eq!(testbed::ping(&lab.host, crate::lab::v4(1), 2).received, 0, "the host reaches the guest");
    assert_balanced(&daemon);
    daemon.stop();
    assert!(lab.guest(1).reaches(hosts, PATIENCE), "the interface was not given back");
}

#[test]
fn what_cannot_be_a_port_is_refused_with_the_cure() {
    require!(namespaces());
    let lab = Lab::new(2);
    let host = &lab.host;
    host.ip(["link", "add", "br0", "type", "bridge"]);
    host.veth("member", lab.guest(1), "eth0");
    host.ip(["link", "set", "member", "master", "br0"]);
    host.veth("uplink", lab.guest(2), "eth0");
    host.configure("uplink", &Interface::new().address("192.0.2.1/24"));
    host.ip(["route", "add", "default", "via", "192.0.2.2"]);
    host.veth("taken", lab.guest(2), "eth1");
    let port = |name: &str, table: &str| format!("[network.lab.port.{name}]\ninterface = {{ {table} }}\n");
    let daemon = lab.start(
        &[
            port("bridge", "name = \"br0\""),
            port("member", "name = \"member\""),
            port("uplink", "name = \"uplink\""),
            port("lo", "name = \"lo\""),
            port("taken", "name = \"taken\", create = \"tap\""),
            port("good", "name = \"good\", create = \"tap\""),
        ]
        .concat(),
    );
    for (name, words) in [
        ("bridge", "is a bridge; join the network to it as its trunk"),
        ("member", "ip link set member nomaster"),
        ("uplink", "default route leaves by uplink"),
        ("lo", "no Ethernet interface"),
        ("taken", "exists already, which vmlan did not make"),
    ] {
        daemon.wait_state(name, PortState::Failed);
        let reason = daemon.port(name).reason.expect("a reason");
        assert!(reason.contains(words), "{name}: {reason}");
    }
    // Another vmlan.
    let other = Daemon::start_within(host, directory(), &port("good", "name = \"good\""));
    other.wait_state("good", PortState::Failed);
    let reason = other.port("good").reason.expect("a reason");
    assert!(reason.contains("another vmlan"), "{reason}");
    other.stop();
    host.ip(["link", "set", "member", "nomaster"]);
    host.ip(["link", "set", "member", "up"]);
    lab.guest(1).ip(["link", "set", "eth0", "up"]);
    daemon.wait_up(&["member"]);
    daemon.stop();
    assert!(host.has_interface("member") && host.has_interface("taken") && !host.has_interface("good"));
}

/// fast-path.md cases 11 and 12, as far as nothing is pinned.
#[test]
fn case_12_a_killed_daemons_interfaces_are_taken_over_or_cleaned() {
    require!(namespaces());
    let lab = Lab::new(2);
    let tap = "[network.lab.port.tap]\ninterface = { name = \"tap9\", create = \"tap\" }\n";
    let config = format!("{}{tap}", lab.veths());
    let daemon = lab.start(&config);
    daemon.wait_up(&["guest1", "guest2"]);
    lab.wait_fast(&daemon, 1, 2);
    let left = daemon.kill();
    let doctor = |arguments: &[&str]| {
        let control = left.path().join("none.sock").display().to_string();
        let mut words = vec!["doctor", "--json", "--control", &control];
        words.extend(arguments);
        lab.host.exec(VMLAN, words).stdout
    };
    let found = doctor(&[]);
    for what in ["the veth ve1", "the veth ve2", "the TAP tap9"] {
        assert!(found.contains(what), "{found}");
    }
    let daemon = Daemon::start_within(&lab.host, directory(), &config);
    daemon.wait_up(&["guest1", "guest2"]);
    lab.wait_fast(&daemon, 1, 2);
    assert!(!doctor(&[]).contains("ve1"), "a running daemon's interface is no leftover");
    daemon.kill();
    doctor(&["--clean"]);
    for name in ["ve1", "ve2", "tap9"] {
        assert!(!lab.host.has_interface(name), "{name} is left");
    }
}

/// A device without an owner takes whoever may open /dev/net/tun, and that may be everybody.
#[test]
fn devices_are_the_daemons_own_unless_they_are_somebody_elses() {
    require!(namespaces());
    let lab = Lab::new(0);
    let port = |name: &str, keys: &str| {
        format!("[network.lab.port.{name}]\ninterface = {{ name = \"{name}\", create = \"tap\", {keys} }}\n")
    };
    let ports = |keys: &str| format!("workers = 2\n{}{}", port("own", "queues = 2"), port("lent", keys));
    let owner = |device: &str| {
        let shown = lab.host.exec("cat", [format!("/sys/class/net/{device}/owner")]).expect_success();
        shown.stdout.trim().to_owned()
    };
    let daemon = lab.start(&ports("owner = \"nobody\""));
    daemon.wait_state("own", PortState::Waiting);
    daemon.wait_state("lent", PortState::Waiting);
    let carriers = lab.host.exec("ls", ["/sys/class/net"]).stdout;
    for device in carriers.split_whitespace().filter(|name| name.starts_with("vmli")).chain(["own"]) {
        assert_eq!(owner(device), "0", "{device}");
    }
    assert_eq!(owner("lent"), "65534");
    // The next daemon goes by its own file.
    let left = daemon.kill();
    let daemon = Daemon::start_within(&lab.host, left, &ports("queues = 1"));
    daemon.wait_state("lent", PortState::Waiting);
    assert_eq!(owner("lent"), "0");
    daemon.stop();
}

/// fast-path.md case 16, without its times.
#[test]
fn many_ports_come_and_go() {
    require!(namespaces());
    const PORTS: usize = 64;
    let lab = Lab::new(1);
    let port = |number: usize| {
        format!("[network.lab.port.p{number}]\ninterface = {{ name = \"many{number}\", create = \"tap\" }}\n")
    };
    let config: String = (0..PORTS).map(port).collect();
    let daemon = lab.start(&config);
    let is_waiting = |daemon: &Daemon| {
        daemon.ports().iter().filter(|port| port.state == PortState::Waiting).count() == PORTS
    };
    wait_until("all ports", PATIENCE, || is_waiting(&daemon));
    daemon.cli(&["port", "remove", "lab/p3"]).expect_success();
    wait_until("one less", PATIENCE, || !lab.host.has_interface("many3"));
    daemon.stop();
    assert!(!lab.host.has_interface("many0") && !lab.host.has_interface("vmli2"));
}
