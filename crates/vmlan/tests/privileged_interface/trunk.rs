//! A trunk beside interface ports: what the kernel carries between those, the host and the wire.

use std::os::fd::OwnedFd;

use testbed::{Interface, Iperf, Netns, iperf3, ping, poll_until, require, wait_until};
use vmlan_frame::{DropReason, MacAddr};

use crate::lab::{Lab, Monitor, carried, slow, v4};
use crate::support::{Daemon, PATIENCE, VMLAN, assert_balanced, mac};

/// The numbers of the host and of a station on the wire.
pub const HOST: u8 = 21;
pub const WIRE: u8 = 22;

const OCTETS: u64 = 20_000_000;

/// Guests, a host with an interface, and a wire behind that.
pub struct Joined {
    pub lab: Lab,
    pub wire: Netns,
}

impl Joined {
    #[track_caller]
    pub fn new(guests: usize) -> Joined {
        let joined = Joined { lab: Lab::new(guests), wire: Netns::new("wire") };
        joined.plug();
        joined
    }

    /// Connects host and wire.
    #[track_caller]
    fn plug(&self) {
        self.lab.host.veth("eth0", &self.wire, "eth0");
        let end =
            |number| Interface::new().mac(&mac(number).to_string()).address(&format!("{}/24", v4(number)));
        self.lab.host.configure("eth0", &end(HOST));
        self.wire.configure("eth0", &end(WIRE));
    }

    fn config(&self, settings: &str) -> String {
        format!("[network.lab.trunk]\ninterface = \"eth0\"\n{settings}\n{}", self.lab.veths())
    }

    #[track_caller]
    pub fn start(&self, config: &str) -> Daemon {
        let daemon = self.lab.start(config);
        daemon.wait_up(&["trunk"]);
        (1..=self.lab.guests.len()).for_each(|number| daemon.wait_up(&[&format!("guest{number}")]));
        wait_until("the trunk's part", PATIENCE, || takes_part(&daemon));
        daemon
    }

    pub fn netns(&self, number: u8) -> &Netns {
        match number {
            HOST => &self.lab.host,
            WIRE => &self.wire,
            guest => self.lab.guest(guest),
        }
    }

    #[track_caller]
    fn pings(&self, from: u8, to: u8) {
        assert!(self.netns(from).reaches(v4(to), PATIENCE), "{from} does not reach {to}");
        let report = ping(self.netns(from), v4(to), 3);
        assert!(report.all(), "{from} to {to}: {report:?}");
    }

    /// Waits until the kernel alone carries what both say to each other; `guest` is the number of one with a port.
    #[track_caller]
    fn wait_fast(&self, daemon: &Daemon, guest: u8, other: u8) {
        let port = format!("guest{guest}");
        wait_until("frames that the kernel carries", PATIENCE, || {
            let before = (carried(daemon, &port), carried(daemon, "trunk"));
            let answered = ping(self.netns(guest), v4(other), 1).all();
            answered && carried(daemon, &port) > before.0 && carried(daemon, "trunk") > before.1
        });
    }

    /// A socket that sends frames as they are from `eth0`.
    #[track_caller]
    pub fn sender(&self, number: u8) -> OwnedFd {
        let open = || vmlan_sys::packet::sender("eth0");
        vmlan_sys::netns::within(&self.netns(number).path(), open).expect("a sender")
    }
}

pub fn takes_part(daemon: &Daemon) -> bool {
    daemon.port("trunk").fast.is_some_and(|fast| fast.slow.is_none())
}

/// A packet of UDP as a frame, with a tag if it is to have one.
fn packet(to: MacAddr, from: MacAddr, vlan: Option<u16>) -> Vec<u8> {
    let tag = vlan.map(|vlan| [&[0x81, 0][..], &vlan.to_be_bytes()].concat()).unwrap_or_default();
    let ip = [0x45, 0, 0, 46, 0, 1, 0, 0, 64, 17, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2];
    let mut octets = [&to.0[..], &from.0, &tag, &[8, 0], &ip].concat();
    octets.resize(60 + tag.len(), 0);
    octets
}

#[track_caller]
pub fn send(sender: &OwnedFd, frame: &[u8]) {
    rustix::io::write(sender, frame).expect("room for a frame");
}

#[test]
fn wire_and_host_reach_a_guest_by_the_kernel_alone() {
    require!(namespaces(), tool("iperf3"));
    for settings in ["", "hooks = \"clsact\""] {
        let joined = Joined::new(2);
        let daemon = joined.start(&joined.config(settings));
        for other in [HOST, WIRE] {
            joined.pings(1, other);
            joined.pings(other, 1);
            joined.wait_fast(&daemon, 1, other);
            for wanted in [Iperf::tcp_octets(OCTETS), Iperf::tcp_octets(OCTETS).reversed()] {
                let before = (daemon.port("trunk"), daemon.port("guest1"), daemon.trunk());
                let report = iperf3(joined.netns(other), joined.netns(1), v4(1), wanted);
                assert!(report.received_octets >= OCTETS / 2, "{other} {wanted:?}: {report:?}");
                let after = (daemon.port("trunk"), daemon.port("guest1"), daemon.trunk());
                for (before, after) in [(&before.0, &after.0), (&before.1, &after.1)] {
                    let passed = |port: &vmlan_api::Port| {
                        (port.counters.rx_octets + port.counters.tx_octets, port.counters.rx_frames)
                    };
                    let octets = passed(after).0 - passed(before).0;
                    assert!(octets >= report.received_octets, "{octets} octets counted of {report:?}");
                    let large = |port: &vmlan_api::Port| port.counters.rx_large + port.counters.tx_large;
                    assert!(large(after) > large(before), "segments pass whole: {:?}", after.counters);
                    let fast = |port: &vmlan_api::Port| port.fast.as_ref().expect("a part").rx_frames;
                    let (fast, all) = (fast(after) - fast(before), passed(after).1 - passed(before).1);
                    assert!(
                        fast * 10 >= all * 9,
                        "the kernel carried {fast} of {all} frames of {}",
                        after.port
                    );
                }
                let flow = |trunk: &vmlan_api::Trunk| {
                    let flow = if other == HOST { &trunk.host } else { &trunk.wire };
                    flow.rx_octets + flow.tx_octets
                };
                assert!(flow(&after.2) - flow(&before.2) >= report.received_octets, "{:?}", after.2);
            }
        }
        assert_balanced(&daemon);
        let words = daemon.cli(&["status", "--fast", "guest1", "trunk"]).expect_success().stdout;
        assert!(words.contains("go fast"), "{words}");
        let fdb = daemon.cli(&["fdb", "lab"]).expect_success().stdout;
        for number in [1, HOST, WIRE] {
            let address = mac(number).to_string();
            let line = fdb.lines().find(|line| line.starts_with(&address));
            assert!(line.is_some_and(|line| line.contains("kernel")), "{address}: {fdb}");
        }
        let installed = daemon.cli(&["trunk", "lab"]).expect_success().stdout;
        assert!(installed.contains("carried by the kernel alone"), "{installed}");
        daemon.stop();
        assert_eq!(
            joined.lab.host.exec("tc", ["qdisc", "show", "dev", "eth0"]).stdout.matches("clsact").count(),
            0
        );
        assert!(!joined.lab.host.has_interface("ve1"));
        assert!(joined.lab.host.reaches(v4(WIRE), PATIENCE));
    }
}

/// fast-path.md case 1, at a trunk.
#[test]
fn case_1_a_guest_of_a_monitors_tap_reaches_wire_and_host_by_the_kernel_alone() {
    require!(namespaces(), tool("iperf3"));
    let joined = Joined::new(1);
    let tap = "[network.lab.port.guest1]\ninterface = { name = \"tap1\", create = \"tap\" }\n";
    let daemon = joined.lab.start(&format!("[network.lab.trunk]\ninterface = \"eth0\"\n{tap}"));
    wait_until("the TAP", PATIENCE, || joined.lab.host.has_interface("tap1"));
    let monitor = Monitor::start(&joined.lab.host, "tap1", joined.lab.guest(1), 1);
    daemon.wait_up(&["trunk", "guest1"]);
    for other in [HOST, WIRE] {
        joined.pings(1, other);
        joined.wait_fast(&daemon, 1, other);
        for wanted in [Iperf::tcp_octets(OCTETS), Iperf::tcp_octets(OCTETS).reversed()] {
            let before = (daemon.port("guest1").counters, carried(&daemon, "guest1"));
            let report = iperf3(joined.netns(other), joined.netns(1), v4(1), wanted);
            assert!(report.received_octets >= OCTETS / 2, "{other} {wanted:?}: {report:?}");
            let after = daemon.port("guest1").counters;
            let (fast, all) = (carried(&daemon, "guest1") - before.1, after.rx_frames - before.0.rx_frames);
            assert!(fast * 10 >= all * 9, "the kernel carried {fast} of {all} frames");
            assert!(after.rx_large + after.tx_large > before.0.rx_large + before.0.tx_large, "{after:?}");
        }
    }
    assert_balanced(&daemon);
    drop(monitor);
    daemon.stop();
}

/// The tables are not asked about frames between host and wire.
#[test]
fn the_hosts_own_traffic_is_untouched() {
    require!(namespaces(), tool("iperf3"));
    let joined = Joined::new(1);
    let daemon = joined.start(&joined.config(""));
    for other in [HOST, WIRE] {
        joined.wait_fast(&daemon, 1, other);
    }
    let before = (daemon.port("trunk"), carried(&daemon, "trunk"));
    for wanted in [Iperf::tcp_octets(OCTETS), Iperf::tcp_octets(OCTETS).reversed()] {
        let report = iperf3(joined.netns(HOST), joined.netns(WIRE), v4(WIRE), wanted);
        assert!(report.received_octets >= OCTETS / 2, "{report:?}");
    }
    assert_eq!(carried(&daemon, "trunk"), before.1);
    assert!(daemon.port("trunk").counters.rx_frames - before.0.counters.rx_frames < 100);
    assert_balanced(&daemon);
    daemon.stop();
}

/// fast-path.md case 9, at a trunk.
#[test]
fn case_9_a_forged_source_goes_neither_fast_nor_through() {
    require!(namespaces());
    let joined = Joined::new(2);
    let daemon = joined.start(&joined.config(""));
    for (guest, other) in [(1, HOST), (1, WIRE), (2, WIRE)] {
        joined.wait_fast(&daemon, guest, other);
    }
    let (wire, guest) = (joined.sender(WIRE), joined.sender(2));
    let counts = || {
        ["trunk", "guest1", "guest2"].map(|port| {
            let fast = daemon.port(port).fast.expect("a part");
            (fast.rx_frames, fast.tx_frames)
        })
    };
    // The host's from the wire, and from a guest: dropped, and told.
    let (trunk, of_guest) =
        (daemon.drops("trunk", DropReason::SourceGuard), daemon.drops("guest2", DropReason::SourceGuard));
    let before = counts();
    for _ in 0..10 {
        send(&wire, &packet(mac(1), mac(HOST), None));
        send(&guest, &packet(mac(1), mac(HOST), None));
        send(&guest, &packet(mac(WIRE), mac(HOST), None));
    }
    wait_until("the drops", PATIENCE, || {
        daemon.drops("trunk", DropReason::SourceGuard) >= trunk + 10
            && daemon.drops("guest2", DropReason::SourceGuard) >= of_guest + 20
    });
    assert_eq!(counts(), before, "forged frames went fast");
    // That of a guest from the wire, to another: the network decides, by its rules of moves. The guest was heard just
    // now, at the port where it was first.
    let before = counts();
    send(&wire, &packet(mac(2), mac(1), None));
    wait_until("a frame that the daemon saw", PATIENCE, || {
        daemon.fdb("lab").iter().any(|entry| entry.mac == mac(1).to_string() && entry.port == "trunk")
    });
    assert_eq!(counts()[0].0, before[0].0, "a forged frame went fast");
    // It is heard at its port again, and is there.
    joined.wait_fast(&daemon, 1, WIRE);
    assert!(daemon.fdb("lab").iter().any(|entry| entry.mac == mac(1).to_string() && entry.port == "guest1"));
    assert_balanced(&daemon);
    daemon.stop();
}

/// fast-path.md case 4, at a trunk.
#[test]
fn case_4_a_capture_on_the_trunk_sees_every_frame() {
    require!(namespaces());
    let joined = Joined::new(1);
    let daemon = joined.start(&joined.config(""));
    for other in [HOST, WIRE] {
        joined.wait_fast(&daemon, 1, other);
        let (file, control) = (daemon.path("c.pcapng"), daemon.control());
        let words =
            ["capture", "lab/trunk", "--count", "20", "-w", file.to_str().expect("text"), "--control"];
        let mut capture = joined.lab.host.spawn(VMLAN, words.into_iter().chain(control.to_str()));
        wait_until("the capture to hold the trunk", PATIENCE, || {
            slow(&daemon, "trunk").is_some_and(|reason| reason.contains("capture"))
        });
        let words = daemon.cli(&["status", "--fast", "guest1", "trunk"]).expect_success().stdout;
        assert!(words.contains("trunk: a capture"), "{words}");
        assert_eq!(slow(&daemon, "guest1"), None);
        let before = (carried(&daemon, "guest1"), carried(&daemon, "trunk"));
        assert!(ping(joined.netns(other), v4(1), 10).all());
        let after = (carried(&daemon, "guest1"), carried(&daemon, "trunk"));
        assert_eq!(after, before, "the kernel carried frames past the capture");
        capture.wait_for_log("20 frames captured, 0 lost", PATIENCE);
        wait_until("fast again", PATIENCE, || takes_part(&daemon));
        joined.wait_fast(&daemon, 1, other);
    }
    assert_balanced(&daemon);
    daemon.stop();
}

/// fast-path.md case 5, at a trunk.
#[test]
fn case_5_what_holds_a_guests_port_or_all_holds_the_trunk_from_the_answer_on() {
    require!(namespaces());
    let joined = Joined::new(2);
    let daemon = joined.start(&joined.config(""));
    joined.wait_fast(&daemon, 1, WIRE);
    joined.wait_fast(&daemon, 1, HOST);
    let trunk = "[network.lab.trunk]\ninterface = \"eth0\"\n";
    for (settings, holds) in [
        (["promiscuous = \"allow\"", ""], ["guest1", "trunk"]),
        (["", "rate = 1000000"], ["guest1", "guest1"]),
        (["", "fast = \"off\""], ["guest1", "guest1"]),
    ] {
        let [of_two, of_one] = settings;
        daemon.write_config(&format!("{trunk}{}{}", joined.lab.veth(1, of_one), joined.lab.veth(2, of_two)));
        daemon.cli(&["apply"]).expect_success();
        for port in holds {
            assert!(slow(&daemon, port).is_some(), "{settings:?}: {port}");
        }
        let before = (carried(&daemon, "guest1"), carried(&daemon, "trunk"));
        for other in [HOST, WIRE] {
            assert!(ping(joined.netns(other), v4(1), 3).all(), "{settings:?}");
        }
        assert_eq!((carried(&daemon, "guest1"), carried(&daemon, "trunk")), before, "{settings:?}");
        daemon.write_config(&joined.config(""));
        daemon.cli(&["apply"]).expect_success();
        for other in [HOST, WIRE] {
            joined.wait_fast(&daemon, 1, other);
        }
    }
    assert_balanced(&daemon);
    daemon.stop();
}

/// fast-path.md case 7, at a trunk.
#[test]
fn case_7_the_trunks_part_follows_its_interface() {
    require!(namespaces());
    let joined = Joined::new(1);
    let daemon = joined.start(&joined.config(""));
    joined.wait_fast(&daemon, 1, HOST);
    let host = &joined.lab.host;
    // Another address of the host's.
    host.ip(["link", "set", "eth0", "address", &mac(HOST + 10).to_string()]);
    joined.lab.guest(1).ip(["neigh", "flush", "all"]);
    for other in [HOST, WIRE] {
        joined.wait_fast(&daemon, 1, other);
    }
    let fdb = daemon.fdb("lab");
    let fast =
        |number: u8| fdb.iter().find(|entry| entry.mac == mac(number).to_string()).map(|entry| entry.fast);
    assert_eq!((fast(HOST + 10), fast(HOST)), (Some(true), None), "{fdb:?}");
    // No carrier.
    joined.wire.ip(["link", "set", "eth0", "down"]);
    wait_until("slow", PATIENCE, || slow(&daemon, "trunk").is_some_and(|reason| reason.contains("carrier")));
    joined.wire.ip(["link", "set", "eth0", "up"]);
    wait_until("fast again", PATIENCE, || takes_part(&daemon));
    joined.wait_fast(&daemon, 1, WIRE);
    // Packets that are longer than it takes from then on.
    host.ip(["link", "set", "eth0", "mtu", "1400"]);
    wait_until("the MTU", PATIENCE, || daemon.trunk().mtu == Some(1400));
    let (guest, before) = (joined.sender(1), daemon.drops("trunk", DropReason::TooLong));
    let mut long = packet(mac(WIRE), mac(1), None);
    long.resize(1415, 0);
    send(&guest, &long);
    wait_until("the drop", PATIENCE, || daemon.drops("trunk", DropReason::TooLong) == before + 1);
    // Gone, and another of that name.
    assert_balanced(&daemon);
    host.ip(["link", "del", "eth0"]);
    wait_until("slow", PATIENCE, || {
        slow(&daemon, "trunk").is_some_and(|reason| reason.contains("not joined"))
    });
    joined.plug();
    joined.lab.guest(1).ip(["neigh", "flush", "all"]);
    wait_until("the trunk's part", PATIENCE, || takes_part(&daemon));
    for other in [HOST, WIRE] {
        joined.wait_fast(&daemon, 1, other);
    }
    assert_balanced(&daemon);
    daemon.stop();
}

/// fast-path.md case 3, at a trunk.
#[test]
fn case_3_a_guest_that_moves_to_the_wire_and_back_is_followed() {
    require!(namespaces());
    let joined = Joined::new(2);
    let daemon = joined.start(&joined.config(""));
    joined.wait_fast(&daemon, 1, WIRE);
    joined.wait_fast(&daemon, 2, WIRE);
    let lab = &joined.lab;
    lab.wait_fast(&daemon, 2, 1);
    let at = |number: u8, port: &str| {
        daemon.fdb("lab").iter().any(|entry| entry.mac == mac(number).to_string() && entry.port == port)
    };
    // Its machine goes, and comes up on the wire, with its addresses.
    lab.guest(1).ip(["link", "set", "eth0", "down"]);
    joined.wire.ip(["address", "add", &format!("{}/24", v4(1)), "dev", "eth0"]);
    let [address, hardware] = [v4(1).to_string(), mac(1).to_string()];
    lab.guest(2).ip(["neigh", "replace", &address, "lladdr", &hardware, "dev", "eth0", "nud", "permanent"]);
    let wire = joined.sender(WIRE);
    wait_until("the move", PATIENCE, || {
        send(&wire, &packet(mac(2), mac(1), None));
        at(1, "trunk")
    });
    // The station of the wire has another address; what is for the moved one leaves by the wire.
    let before = daemon.trunk().wire.tx_frames;
    let guest = joined.sender(2);
    let fast = || daemon.port("guest2").fast.expect("a part").rx_frames;
    wait_until("frames that the kernel carries to the wire", PATIENCE, || {
        let before = fast();
        send(&guest, &packet(mac(1), mac(2), None));
        poll_until(std::time::Duration::from_millis(200), || fast() > before)
    });
    assert!(daemon.trunk().wire.tx_frames > before);
    // And it comes back.
    joined.wire.ip(["address", "del", &format!("{}/24", v4(1)), "dev", "eth0"]);
    lab.guest(1).ip(["link", "set", "eth0", "up"]);
    daemon.wait_up(&["guest1"]);
    wait_until("the move back", PATIENCE * 2, || {
        let _ = ping(lab.guest(1), v4(2), 1);
        at(1, "guest1")
    });
    lab.wait_fast(&daemon, 2, 1);
    joined.wait_fast(&daemon, 1, WIRE);
    assert_balanced(&daemon);
    daemon.stop();
}

/// fast-path.md case 8, at a trunk.
#[test]
fn case_8_tags_of_the_trunk() {
    require!(namespaces(), tool("tcpdump"));
    let joined = Joined::new(2);
    let config = format!(
        "[network.lab.trunk]\ninterface = \"eth0\"\nvlan = {{ tagged = [10, 20], native = 1 }}\n{}{}",
        joined.lab.veth(1, "vlan = { access = 10 }"),
        joined.lab.veth(2, "vlan = { access = 1 }")
    );
    let daemon = joined.start(&config);
    let (wire, one, two) = (joined.sender(WIRE), joined.sender(1), joined.sender(2));
    let fast = |port: &str| carried(&daemon, port);
    let all_drops = |port: &str| daemon.port(port).counters.drops.values().sum::<u64>();
    let sent = |port: &str| daemon.port(port).counters.tx_frames;
    // (the sender, its frame, the receiver's namespace, what is seen there)
    let (to_one, to_two) = (packet(mac(1), mac(WIRE), Some(10)), packet(mac(2), mac(WIRE), None));
    let (from_one, from_two) = (packet(mac(WIRE), mac(1), None), packet(mac(WIRE), mac(2), None));
    let cases = [
        ("trunk", &wire, &to_one, joined.netns(1), ["untagged"]),
        ("trunk", &wire, &to_two, joined.netns(2), ["untagged"]),
        ("guest1", &one, &from_one, &joined.wire, ["vlan 10"]),
        ("guest2", &two, &from_two, &joined.wire, ["untagged"]),
    ];
    for (port, sender, frame, receiver, [seen]) in cases {
        wait_until("fast", PATIENCE, || {
            // Both ends have to be known, in that VLAN.
            [(&wire, &to_one), (&wire, &to_two), (&one, &from_one), (&two, &from_two)]
                .iter()
                .for_each(|(sender, frame)| send(sender, frame));
            let before = fast(port);
            send(sender, frame);
            poll_until(std::time::Duration::from_millis(200), || fast(port) > before)
        });
        let from = MacAddr::from_slice(&frame[6..]).to_string();
        let words = ["-i", "eth0", "-n", "-e", "-l", "-Q", "in", "--immediate-mode", "ether", "src", &from];
        let mut capture = receiver.spawn("tcpdump", words);
        capture.wait_for_log("listening on", PATIENCE);
        let before = fast(port);
        send(sender, frame);
        wait_until("a line", PATIENCE, || capture.log().contains("10.9.0.1"));
        assert!(fast(port) > before, "{port} {seen}");
        let log = capture.log();
        assert_eq!(log.contains("vlan 10"), seen == "vlan 10", "{port} {seen}: {log}");
        capture.signal(testbed::Signal::INT);
        wait_until("the end of the capture", PATIENCE, || !capture.is_running());
    }
    // Of another VLAN, and of one that the trunk is not in: neither gets through.
    let before = (sent("guest1"), all_drops("trunk"), fast("trunk"));
    for vlan in [None, Some(20), Some(30)] {
        send(&wire, &packet(mac(1), mac(WIRE), vlan));
    }
    wait_until("the drop", PATIENCE, || all_drops("trunk") > before.1);
    assert_eq!((sent("guest1"), fast("trunk")), (before.0, before.2));
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn a_side_that_is_not_allowed_is_not_reached_fast_either() {
    require!(namespaces());
    let joined = Joined::new(1);
    let daemon = joined.start(&joined.config(""));
    for other in [HOST, WIRE] {
        joined.wait_fast(&daemon, 1, other);
    }
    for (settings, open, shut) in [("host = false", WIRE, HOST), ("wire = false", HOST, WIRE)] {
        daemon.write_config(&joined.config(settings));
        daemon.cli(&["apply"]).expect_success();
        daemon.wait_up(&["trunk"]);
        wait_until("the trunk's part", PATIENCE, || takes_part(&daemon));
        joined.wait_fast(&daemon, 1, open);
        let before = carried(&daemon, "trunk");
        for (from, to) in [(1, shut), (shut, 1)] {
            send(&joined.sender(from), &packet(mac(to), mac(from), None));
        }
        assert!(!joined.netns(1).reaches(v4(shut), std::time::Duration::from_secs(1)), "{settings}");
        assert_eq!(carried(&daemon, "trunk"), before, "{settings}");
        joined.pings(HOST, WIRE);
    }
    daemon.write_config(&joined.config(""));
    daemon.cli(&["apply"]).expect_success();
    daemon.wait_up(&["trunk"]);
    for other in [HOST, WIRE] {
        joined.wait_fast(&daemon, 1, other);
    }
    daemon.stop();
}

#[test]
fn a_trunk_of_another_mode_says_that_it_goes_slow() {
    require!(namespaces());
    let joined = Joined::new(1);
    let daemon = joined.lab.start(&joined.config("mode = \"packet\""));
    daemon.wait_up(&["trunk", "guest1"]);
    joined.pings(1, WIRE);
    assert_eq!(carried(&daemon, "trunk"), 0);
    for words in [&["status", "--fast"][..], &["status", "--fast", "guest1", "trunk"]] {
        let said = daemon.cli(words).expect_success().stdout;
        assert!(said.contains("the trunk is in mode packet"), "{said}");
    }
    assert_balanced(&daemon);
    daemon.stop();
}

/// The trunk is there first, and its network has interface ports only later, and no more.
#[test]
fn the_trunk_takes_its_part_when_the_first_interface_port_comes() {
    require!(namespaces());
    let joined = Joined::new(1);
    // No stack says anything by itself once a port's books are closed.
    for netns in [joined.netns(1), joined.netns(HOST), joined.netns(WIRE)] {
        for which in ["all", "default"] {
            netns.sysctl(&format!("net.ipv6.conf.{which}.disable_ipv6"), "1");
        }
    }
    let trunk = "[network.lab.trunk]\ninterface = \"eth0\"\n";
    let daemon = joined.lab.start(trunk);
    assert!(daemon.port("trunk").fast.is_none());
    for _ in 0..2 {
        daemon.write_config(&joined.config(""));
        daemon.cli(&["apply"]).expect_success();
        daemon.wait_up(&["trunk", "guest1"]);
        for other in [HOST, WIRE] {
            joined.wait_fast(&daemon, 1, other);
        }
        daemon.departs("guest1");
        daemon.write_config(trunk);
        daemon.cli(&["apply"]).expect_success();
        joined.pings(HOST, WIRE);
    }
    assert_balanced(&daemon);
    daemon.stop();
}
