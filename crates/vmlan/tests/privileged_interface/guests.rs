//! Interface ports beside programs of others, and for a container's stack.

use std::os::unix::fs::PermissionsExt;

use rustix::net::{AddressFamily, SocketType, netdevice, socket};
use testbed::{Interface, Netns, Ping, ping, require, wait_until};
use vmlan_sys::ebpf::{Hook, Link, load_classifier};
use vmlan_sys::netns;

use crate::lab::{Lab, carried, v4};
use crate::support::{PATIENCE, assert_balanced, mac};

/// Octets of the frames that a program of somebody else's drops.
const DROPPED: u32 = 777;

/// A program as others may have: it drops frames of this length, and leaves the rest to what comes behind it.
fn foreign() -> Vec<u64> {
    let instruction = |code: u64, registers: u64, offset: u64, constant: i32| {
        code | registers << 8 | offset << 16 | u64::from(constant as u32) << 32
    };
    vec![
        instruction(0x61, 0x10, 0, 0),
        instruction(0x55, 0, 2, DROPPED as i32),
        instruction(0xb7, 0, 0, 2),
        instruction(0x95, 0, 0, 0),
        instruction(0xb7, 0, 0, -1),
        instruction(0x95, 0, 0, 0),
    ]
}

#[track_caller]
fn attach(host: &Netns, interface: &str, hook: Hook) -> Link {
    let attach = || {
        let any = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
        Link::new(load_classifier("foreign", &foreign())?, netdevice::name_to_index(&any, interface)?, hook)
    };
    netns::within(&host.path(), attach).expect("a program at the hook")
}

/// Pings whose frames have so many octets; how many come back.
fn pings_of(octets: u32, from: &Netns, to: std::net::IpAddr) -> u32 {
    Ping { payload: octets - 42, ..Ping::new(to, 3) }.run(from).received
}

/// fast-path.md case 13.
#[test]
fn case_13_programs_and_filters_of_others_stay_and_see_what_they_saw() {
    require!(namespaces(), tool("tc"), linux(6, 6));
    let lab = Lab::new(2);
    for number in [1, 2] {
        let name = format!("ve{number}");
        lab.host.veth(&name, lab.guest(number), "eth0");
        lab.host.configure(&name, &Interface::new());
        let address = format!("10.9.0.{number}/24");
        lab.guest(number)
            .configure("eth0", &Interface::new().mac(&mac(number).to_string()).address(&address));
        lab.host.exec("tc", ["qdisc", "add", "dev", &name, "clsact"]).expect_success();
        for side in ["ingress", "egress"] {
            // Of the kinds that there are, the one that a kernel with vmlan's programs has for sure.
            let filter = ["filter", "add", "dev", &name, side, "prio", "7", "protocol", "all"];
            let filter = filter.into_iter().chain(["bpf", "bytecode", "1,6 0 0 4294967295", "flowid", "1:1"]);
            lab.host.exec("tc", filter).expect_success();
        }
    }
    let filters = |name: &str, side: &str| {
        lab.host.exec("tc", ["filter", "show", "dev", name, side]).expect_success().stdout
    };
    let before = attach(&lab.host, "ve1", Hook::Ingress);
    let ports = (1..=2).map(|n| format!("[network.lab.port.guest{n}]\ninterface = {{ name = \"ve{n}\" }}\n"));
    let ports: String = ports.collect();
    let daemon = lab.start(&ports);
    daemon.wait_up(&["guest1", "guest2"]);
    lab.pings(1, 2);
    lab.wait_fast(&daemon, 1, 2);
    let fast = carried(&daemon, "guest1");
    assert_eq!(pings_of(DROPPED, lab.guest(1), v4(2)), 0, "past the program that stood before");
    assert_eq!(carried(&daemon, "guest1"), fast);
    assert_eq!(pings_of(DROPPED + 1, lab.guest(1), v4(2)), 3);
    drop(before);
    let _behind = [attach(&lab.host, "ve2", Hook::Ingress), attach(&lab.host, "ve1", Hook::Egress)];
    lab.pings(1, 2);
    lab.wait_fast(&daemon, 1, 2);
    // Where somebody stands on the way out, nothing is handed to the other end past them, fast as it may be.
    assert_eq!(pings_of(DROPPED, lab.guest(2), v4(1)), 0, "past the program that stands behind");
    assert_eq!(pings_of(DROPPED + 1, lab.guest(2), v4(1)), 3);
    assert_balanced(&daemon);
    daemon.stop();

    for (name, side) in [("ve1", "ingress"), ("ve1", "egress"), ("ve2", "ingress"), ("ve2", "egress")] {
        let filters = filters(name, side);
        assert!(filters.contains("flowid 1:1") && !filters.contains("vmlan"), "{name} {side}: {filters}");
    }
    // The interface is the host's again, and what others hung there still works.
    lab.host.ip(["address", "add", "10.9.0.101/24", "dev", "ve2"]);
    let hosts = std::net::Ipv4Addr::new(10, 9, 0, 101).into();
    assert!(lab.guest(2).reaches(hosts, PATIENCE));
    assert_eq!(pings_of(DROPPED, lab.guest(2), hosts), 0, "the foreign program is gone");
    assert_eq!(pings_of(DROPPED + 1, lab.guest(2), hosts), 3);
}

/// The script that udhcpc runs when its lease changes.
const LEASE: &str =
    "#!/bin/sh\nif [ \"$1\" = bound ]; then ip address replace \"$ip/$mask\" dev \"$interface\"; fi\n";

/// fast-path.md case 14.
#[test]
fn case_14_a_container_gets_a_lease_finds_neighbours_hears_groups_and_learns_mtus() {
    require!(namespaces(), tool("dnsmasq"), tool("busybox"));
    let lab = Lab::new(2);
    let behind = Netns::new("behind");
    let (server, client) = (lab.guest(1), lab.guest(2));
    let nameless = lab.veth(2, "").replace(&format!("address = \"{}/24\", ", v4(2)), "");
    let daemon = lab.start(&format!("{}{nameless}", lab.veth(1, "")));
    daemon.wait_up(&["guest1", "guest2"]);

    let leases = format!("--dhcp-leasefile={}", daemon.path("leases").display());
    let range = "--dhcp-range=10.9.0.100,10.9.0.150,255.255.255.0";
    let options = ["--no-daemon", "--conf-file=/dev/null", "--pid-file=", "--port=0", "--user=root"];
    let mut dnsmasq =
        server.spawn("dnsmasq", options.into_iter().chain(["--interface=eth0", range, &leases]));
    dnsmasq.wait_for_log("DHCP, IP range", PATIENCE);
    let script = daemon.path("lease.sh");
    std::fs::write(&script, LEASE).expect("a script");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("our own file");
    let script = script.to_str().expect("text");
    client
        .exec("busybox", ["udhcpc", "-f", "-n", "-q", "-t", "10", "-T", "1", "-i", "eth0", "-s", script])
        .expect_success();
    let address = client.ip(["-4", "-o", "address", "show", "dev", "eth0"]).stdout;
    assert!(address.contains("10.9.0.1"), "{address}");
    assert!(client.reaches(v4(1), PATIENCE));
    wait_until("frames that the kernel carries", PATIENCE, || {
        let before = carried(&daemon, "guest2");
        ping(client, v4(1), 1).all() && carried(&daemon, "guest2") > before
    });

    for (guest, address) in [(server, "fd00::1/64"), (client, "fd00::2/64")] {
        guest.ip(["address", "add", address, "dev", "eth0"]);
    }
    let other: std::net::IpAddr = "fd00::1".parse().expect("an address");
    assert!(client.reaches(other, PATIENCE), "no neighbour is found");
    let link_local = server.ip(["-6", "-o", "address", "show", "dev", "eth0", "scope", "link"]).stdout;
    let link_local = link_local.split_whitespace().find(|word| word.starts_with("fe80")).expect("an address");
    let link_local = link_local.split('/').next().expect("its first part");
    wait_until("an answer to a group", PATIENCE, || {
        client.exec("ping", ["-6", "-c", "2", "-i", "0.2", "ff02::1%eth0"]).stdout.contains(link_local)
    });

    // Behind the server is a network with a smaller MTU.
    server.veth("eth1", &behind, "eth0");
    server.configure("eth1", &Interface::new().mtu(1000).address("10.8.0.1/24"));
    behind.configure("eth0", &Interface::new().mtu(1000).address("10.8.0.2/24"));
    server.sysctl("net.ipv4.ip_forward", "1");
    client.ip(["route", "add", "10.8.0.0/24", "via", "10.9.0.1"]);
    behind.ip(["route", "add", "default", "via", "10.8.0.1"]);
    let far: std::net::IpAddr = std::net::Ipv4Addr::new(10, 8, 0, 2).into();
    assert!(client.reaches(far, PATIENCE));
    wait_until("the MTU of the way", PATIENCE, || {
        Ping { dont_fragment: true, ..Ping::filling(far, 1, 1500) }.run(client);
        client.ip(["route", "get", "10.8.0.2"]).stdout.contains("mtu 1000")
    });
    assert_balanced(&daemon);
    daemon.stop();
    assert!(!lab.host.has_interface("ve1") && !client.has_interface("eth0"));
}

/// A frame that is handed to the other end of a veth at once would pass by whoever comes to stand on the way out.
#[test]
fn a_program_that_comes_to_the_way_out_of_a_veth_sees_what_goes_fast() {
    require!(namespaces(), linux(6, 6));
    let (lab, daemon) = Lab::running(2);
    lab.wait_fast(&daemon, 1, 2);
    assert_eq!(pings_of(DROPPED, lab.guest(1), v4(2)), 3, "nobody is there");
    let before = attach(&lab.host, "ve2", Hook::Egress);
    wait_until("the program to be found", PATIENCE, || pings_of(DROPPED, lab.guest(1), v4(2)) == 0);
    lab.wait_fast(&daemon, 1, 2);
    drop(before);
    assert_eq!(pings_of(DROPPED, lab.guest(1), v4(2)), 3);
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn a_frame_that_the_other_end_of_a_veth_does_not_take_is_too_long() {
    require!(namespaces());
    let lab = Lab::new(2);
    let small = lab.veth(2, "").replace("mac = ", "mtu = 1400, mac = ");
    let daemon = lab.start(&format!("{}{small}", lab.veth(1, "")));
    daemon.wait_up(&["guest1", "guest2"]);
    lab.pings(1, 2);
    lab.wait_fast(&daemon, 1, 2);
    assert!(testbed::Ping::filling(v4(2), 3, 1400).run(lab.guest(1)).all());
    assert_eq!(testbed::Ping::filling(v4(2), 3, 1401).run(lab.guest(1)).received, 0);
    assert_eq!(daemon.port("guest2").counters.drops.get("too_long"), Some(&3));
    assert_balanced(&daemon);
    daemon.stop();
}
