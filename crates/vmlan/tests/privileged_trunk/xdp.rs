//! Mode `xdp`: as mode `packet` to everybody, with a program on the interface that takes most of the work off it.

use std::time::Duration;

use testbed::{Interface, Iperf, Netns, iperf3, require, wait_until};
use vmlan_api::{PortState, TrunkMode};
use vmlan_guest::ethernet;
use vmlan_sys::ebpf;

use crate::lab::{HOST, Lab, WIRE, sender, v4, v6, wait_trunk};
use crate::modes::reaches_the_wire;
use crate::support::{Daemon, PATIENCE, TYPE, assert_balanced, directory, mac};
use crate::traffic::{expect_frames, tagged, watch};

const MODE: &str = "mode = \"xdp\"";

impl Lab {
    /// True if a program is on the host's `eth0`.
    fn has_program(&self) -> bool {
        self.host.ip(["-d", "link", "show", "dev", "eth0"]).stdout.contains("prog/xdp")
    }

    /// How many frames the driver of the host's `eth0` has redirected to sockets.
    fn redirected(&self) -> u64 {
        let counters = self.host.exec("ethtool", ["-S", "eth0"]).expect_success().stdout;
        let lines = counters.lines().filter_map(|line| line.split_once("_xdp_redirect: "));
        lines.map(|(_, number)| number.trim().parse::<u64>().expect("a number")).sum()
    }
}

#[test]
fn the_wire_and_guests_reach_each_other_and_the_host_is_left_alone() {
    require!(namespaces(), xdp(), tool("iperf3"), tool("ethtool"));
    let lab = Lab::new();
    let daemon = lab.start(&lab.config(MODE));
    let trunk = daemon.trunk();
    assert_eq!(trunk.mode, TrunkMode::Xdp);
    for said in ["XDP program vmlan_xdp on eth0", "AF_XDP sockets on 1 of 1 queues of eth0", "packet socket"]
    {
        assert!(trunk.installed.iter().any(|line| line.contains(said)), "{said}: {trunk:?}");
    }
    assert!(lab.has_program());
    reaches_the_wire(&lab, &daemon);
    wait_trunk(&daemon, "the guests", |trunk| trunk.stations >= 2);

    // Datagrams, whose checksums the veth's other end leaves open.
    let before = lab.redirected();
    for (from, to) in [(WIRE, 3), (3, WIRE)] {
        for address in [v4(to), v6(to)] {
            let report = iperf3(lab.netns(from), lab.netns(to), address, Iperf::udp(1, 8_000_000));
            assert!(report.datagrams > 500 && report.lost <= report.datagrams / 20, "{report:?}");
        }
    }
    assert!(lab.redirected() - before > 1000, "{} frames", lab.redirected() - before);

    lab.pings(HOST, WIRE);
    let taken = lab.redirected();
    for wanted in [Iperf::tcp(1), Iperf::udp(1, 8_000_000).reversed()] {
        let report = iperf3(&lab.host, &lab.wire, v4(WIRE), wanted);
        assert!(report.received_octets > 500_000, "{report:?}");
    }
    assert!(lab.redirected() - taken < 50, "the host's own traffic was redirected");
    assert_balanced(&daemon);
    daemon.stop();
    wait_until("the program to be gone", PATIENCE, || !lab.has_program());
    assert_eq!(lab.promiscuity(), 0);
}

#[test]
fn groups_go_both_ways_once() {
    require!(namespaces(), xdp(), tool("tcpdump"));
    let lab = Lab::new();
    let (daemon, mut raw) = lab.start_with_raw(MODE);
    let group = vmlan_frame::MacAddr([1, 0, 0x5e, 0, 0, 9]);
    for to in [vmlan_frame::MacAddr::BROADCAST, group] {
        let places = [(&lab.wire, "eth0"), (&lab.guests[0], "t0")];
        let seen = places.map(|(netns, interface)| watch(netns, interface, &["-Q", "in"]));
        for _ in 0..10 {
            raw.raw.send_frame(&ethernet(to, mac(9), TYPE, &[7; 60])).expect("room for a frame");
        }
        for seen in seen {
            expect_frames(seen, 10);
        }
    }
    // From the wire, as frames of its own.
    let seen = lab.guests.each_ref().map(|guest| watch(guest, "t0", &["-Q", "in"]));
    drop(raw);
    // Its address is free for the wire when its port has no guest any more.
    daemon.wait_state("raw", PortState::Waiting);
    let sender = sender(&lab.wire);
    for _ in 0..10 {
        let frame = ethernet(vmlan_frame::MacAddr::BROADCAST, mac(9), TYPE, &[7; 60]);
        rustix::io::write(&sender, &frame).expect("room for a frame");
    }
    for seen in seen {
        expect_frames(seen, 10);
    }
    assert_balanced(&daemon);
    daemon.stop();
}

/// A kernel that forwards a frame with a tag holds the tag beside it, also through a veth: a program that does not ask
/// for tags takes such a frame for one without.
#[test]
fn tags_arrive_with_their_frames_wherever_they_are_held() {
    require!(namespaces(), xdp(), tool("ethtool"));
    let lab = Lab::new();
    let far = Netns::new("far");
    far.veth("eth0", &lab.wire, "eth1");
    far.configure("eth0", &Interface::new());
    let (daemon, mut raw) = lab.start_with_raw(MODE);
    raw.raw.send_frame(&tagged(mac(8), mac(9))).expect("room for a frame");
    let mut arrives = |netns: &Netns| {
        let before = lab.redirected();
        let sender = sender(netns);
        for _ in 0..5 {
            rustix::io::write(&sender, &tagged(mac(9), mac(8))).expect("room for a frame");
            let arrived = raw.raw.expect(|frame| frame[..6] == mac(9).0).expect("a frame");
            assert_eq!(arrived[12..18], [0x81, 0, 0, 10, 0x88, 0xb5]);
        }
        lab.redirected() - before
    };
    // The program looks behind tags among the octets, as soon as it knows the guest.
    wait_until("the program to take them", PATIENCE, || arrives(&lab.wire) == 5);

    lab.wire.ip(["link", "add", "br0", "type", "bridge"]);
    for port in ["eth0", "eth1"] {
        lab.wire.ip(["link", "set", port, "master", "br0", "up"]);
    }
    lab.wire.ip(["link", "set", "br0", "up"]);
    assert_eq!(arrives(&far), 0, "the program leaves tags held aside to the packet socket");
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn long_frames_pass_whole() {
    require!(namespaces(), xdp(), tool("iperf3"));
    let lab = Lab::new();
    let daemon = lab.start(&format!("[network.lab]\nmtu = 9000\n{}", lab.config(MODE)));
    lab.pings(3, WIRE);
    // What the sockets are made for changes under them.
    for netns in [&lab.host, &lab.wire] {
        netns.ip(["link", "set", "eth0", "mtu", "9000"]);
    }
    wait_trunk(&daemon, "the MTU", |trunk| trunk.mtu == Some(9000));
    for (from, to) in [(3, WIRE), (WIRE, 3)] {
        for mtu in [1500, 3000, 9000] {
            lab.fill(from, to, mtu);
        }
        let report = iperf3(lab.netns(from), lab.netns(to), v6(to), Iperf::tcp(1));
        assert!(report.received_octets > 1_000_000, "{report:?}");
    }
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn several_queues_and_workers() {
    require!(namespaces(), xdp(), tool("iperf3"), tool("ethtool"));
    let lab = Lab::new();
    for netns in [&lab.host, &lab.wire] {
        netns.exec("ethtool", ["-L", "eth0", "rx", "2", "tx", "2"]).expect_success();
    }
    let daemon = lab.start(&format!("workers = 2\n{}", lab.config(MODE)));
    let installed = daemon.trunk().installed;
    assert!(installed.iter().any(|line| line.contains("on 2 of 2 queues")), "{installed:?}");
    reaches_the_wire(&lab, &daemon);
    for (from, to) in [(WIRE, 4), (4, WIRE)] {
        let report = iperf3(lab.netns(from), lab.netns(to), v4(to), Iperf::udp(1, 8_000_000));
        assert!(report.datagrams > 500 && report.lost <= report.datagrams / 20, "{report:?}");
    }
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn one_queue_and_two_workers() {
    require!(namespaces(), xdp(), tool("iperf3"));
    let lab = Lab::new();
    let daemon = lab.start(&format!("workers = 2\n{}", lab.config(MODE)));
    reaches_the_wire(&lab, &daemon);
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn guests_share_an_address() {
    require!(namespaces(), xdp(), tool("iperf3"), tool("nft"));
    let lab = Lab::new();
    lab.accept_one_address();
    let daemon = lab.start(&lab.config(&format!("{MODE}\nshared_mac = \"on\"")));
    reaches_the_wire(&lab, &daemon);
    lab.pings(HOST, WIRE);
    assert_eq!(lab.dropped_by_the_wire(), 0);
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn an_interface_that_goes_down_or_away_is_back_each_time() {
    require!(namespaces(), xdp());
    let lab = Lab::new();
    let daemon = lab.start(&lab.config(MODE));
    assert!(lab.guests[0].reaches(v4(WIRE), PATIENCE));
    let mut flood = lab.guests[1].spawn("ping", ["-q", "-i", "0.01", &v4(WIRE).to_string()]);
    for _ in 0..3 {
        lab.host.ip(["link", "set", "eth0", "down"]);
        wait_trunk(&daemon, "no carrier", |trunk| !trunk.carrier);
        lab.host.ip(["link", "set", "eth0", "up"]);
        assert!(lab.guests[0].reaches(v4(WIRE), PATIENCE), "{:?}", daemon.trunk());
    }
    for round in 0..20 {
        lab.host.ip(["link", "del", "eth0"]);
        lab.plug();
        assert!(lab.guests[0].reaches(v4(WIRE), PATIENCE), "round {round}: {:?}", daemon.trunk());
    }
    assert!(flood.is_running(), "{}", flood.log());
    drop(flood);
    assert!(lab.has_program());
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn nothing_is_left_after_a_kill() {
    require!(namespaces(), xdp());
    let lab = Lab::new();
    let config = lab.config(MODE);
    let daemon = lab.start(&config);
    lab.pings(3, WIRE);
    assert!(lab.has_program());
    let directory = daemon.kill();
    wait_until("the program to be gone", PATIENCE, || !lab.has_program());
    assert_eq!((lab.promiscuity(), lab.own_filters()), (0, 0));
    lab.pings(HOST, WIRE);

    let daemon = Daemon::start_within(&lab.host, directory, &config);
    lab.configure(&daemon);
    lab.pings(3, WIRE);
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn a_program_of_anothers_stays_and_is_told() {
    require!(namespaces(), xdp());
    let lab = Lab::new();
    let foreign = vmlan_sys::netns::within(&lab.host.path(), || {
        let index = rustix::net::netdevice::name_to_index(vmlan_sys::packet::sender("eth0")?, "eth0")?;
        // `r0 = XDP_PASS; exit`
        let program = ebpf::load_xdp("foreign", index, &[0x2_0000_00b7, 0x95])?;
        ebpf::attach_xdp(program, index)
    });
    let foreign = foreign.expect("a program");
    let daemon = Daemon::start_within(&lab.host, directory(), &lab.config(MODE));
    daemon.wait_state("trunk", PortState::Failed);
    let reason = daemon.port("trunk").reason.unwrap_or_default();
    assert!(reason.contains("eth0 has an XDP program of another's, which stays"), "{reason}");
    assert!(lab.has_program());
    lab.pings(HOST, WIRE);

    // It is tried again.
    drop(foreign);
    lab.configure(&daemon);
    assert!(lab.guests[0].reaches(v4(WIRE), PATIENCE), "{:?}", daemon.trunk());
    daemon.stop();
}

#[test]
fn an_interface_without_such_a_driver_is_told() {
    require!(namespaces(), xdp());
    let lab = Lab::new();
    lab.host.ip(["link", "add", "plain", "type", "bridge"]);
    let config = "[network.lab.trunk]\ninterface = \"plain\"\nmode = \"xdp\"\n";
    let daemon = Daemon::start_within(&lab.host, directory(), config);
    daemon.wait_state("trunk", PortState::Failed);
    let reason = daemon.port("trunk").reason.unwrap_or_default();
    assert!(reason.contains("runs no XDP programs") && reason.contains("mode = \"packet\""), "{reason}");
    daemon.stop();
}

/// A guest that claims the host's address gets nothing of the host's.
#[test]
fn the_hosts_address_stays_the_hosts() {
    require!(namespaces(), xdp());
    let lab = Lab::new();
    let (daemon, mut raw) = lab.start_with_raw(MODE);
    for _ in 0..10 {
        raw.raw.send_frame(&ethernet(mac(WIRE), mac(HOST), TYPE, &[7; 60])).expect("room for a frame");
    }
    raw.raw.send_frame(&ethernet(mac(WIRE), mac(9), TYPE, &[7; 60])).expect("room for a frame");
    wait_trunk(&daemon, "the last of them", |trunk| trunk.stations >= 3);
    lab.pings(WIRE, HOST);
    assert!(lab.host.reaches(v4(WIRE), Duration::from_secs(1)));
    daemon.stop();
}
