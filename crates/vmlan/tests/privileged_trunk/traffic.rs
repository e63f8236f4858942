//! Traffic between guests, the host and the wire.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use testbed::{Iperf, Netns, Process, iperf3, poll_until, require, run, wait_until};
use vmlan_api::TrunkMode;
use vmlan_frame::{DropReason, MacAddr};
use vmlan_guest::{Attachment, ethernet};

use crate::lab::{CLSACT, HOST, Lab, WIRE, sender, v4, v6, wait_trunk};
use crate::support::{Daemon, PATIENCE, Peer, TYPE, assert_balanced, mac};

#[test]
fn case_1_wire_host_and_guests_all_reach_each_other() {
    require!(namespaces(), tool("iperf3"));
    let lab = Lab::new();
    let daemon = lab.start(&lab.config(""));
    lab.all_ping();
    lab.all_carry();
    for other in [HOST, WIRE] {
        lab.datagrams(3, other);
    }
    let trunk = daemon.trunk();
    assert_eq!((trunk.mode, trunk.active), (TrunkMode::Filter, true));
    assert_eq!(trunk.sides, ["host", "wire"]);
    assert_eq!(trunk.host_mac, Some(mac(HOST).to_string()));
    assert!(trunk.host_addresses.contains(&v4(HOST).to_string()), "{trunk:?}");
    for flow in [trunk.host, trunk.wire] {
        assert!(flow.rx_frames > 100 && flow.tx_frames > 100, "{trunk:?}");
    }
    let shown = daemon.cli(&["trunk", "lab"]).expect_success().stdout;
    assert!(
        shown.contains("eth0, mode filter") && shown.contains("program vmlan_wire on eth0 ingress"),
        "{shown}"
    );
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn case_1_with_two_workers() {
    require!(namespaces(), tool("iperf3"));
    let lab = Lab::new();
    let daemon = lab.start(&format!("workers = 2\n{}", lab.config("")));
    lab.all_ping();
    for (from, to) in [(WIRE, 3), (3, HOST)] {
        let report = iperf3(lab.netns(from), lab.netns(to), v4(to), Iperf::tcp(1));
        assert!(report.received_octets > 1_000_000, "{from} to {to}: {report:?}");
    }
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn case_1_by_filters_of_traffic_control() {
    require!(namespaces(), tool("iperf3"));
    let lab = Lab::new();
    let daemon = lab.start(&lab.config(CLSACT));
    lab.all_ping();
    assert_eq!(lab.own_filters(), 2, "{}", lab.filters());
    for (from, to) in [(WIRE, 3), (3, HOST), (HOST, WIRE)] {
        let report = iperf3(lab.netns(from), lab.netns(to), v6(to), Iperf::tcp(1));
        assert!(report.received_octets > 1_000_000, "{from} to {to}: {report:?}");
    }
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn case_1_tags_pass_in_both_directions() {
    require!(namespaces(), tool("tcpdump"));
    let lab = Lab::new();
    let (daemon, mut raw) = lab.start_with_raw("");

    let seen = watch(&lab.wire, "eth0", &["-Q", "in", "vlan", "10"]);
    raw.raw.send_frame(&tagged(mac(WIRE), mac(9))).expect("room for a frame");
    expect_frames(seen, 1);

    // Its address is known to the kernel now.
    let sender = sender(&lab.wire);
    rustix::io::write(&sender, &tagged(mac(9), mac(WIRE))).expect("room for a frame");
    let arrived = raw.raw.expect(|frame| frame[12..18] == [0x81, 0, 0, 10, 0x88, 0xb5]);
    assert!(arrived.is_ok(), "{arrived:?}");
    assert_balanced(&daemon);
    daemon.stop();
}

pub fn tagged(to: MacAddr, from: MacAddr) -> Vec<u8> {
    let frame = ethernet(to, from, TYPE, &[7; 60]);
    [&frame[..12], &[0x81, 0, 0, 10], &frame[12..]].concat()
}

/// Traffic between host and wire costs the network nothing: it never leaves the kernel.
#[test]
fn case_2_host_and_wire_do_not_pass_through_user_space() {
    require!(namespaces(), tool("iperf3"));
    let lab = Lab::new();
    let daemon = lab.start(&lab.config(""));
    lab.all_ping();
    let frames = || {
        let trunk = daemon.trunk();
        trunk.host.rx_frames + trunk.wire.rx_frames
    };
    let before = frames();
    for wanted in [Iperf::tcp(1), Iperf::tcp(1).reversed()] {
        let report = iperf3(&lab.host, &lab.wire, v4(WIRE), wanted);
        assert!(report.received_octets > 10_000_000, "{report:?}");
    }
    // Only what is for groups, or for addresses that nobody knows.
    assert!(frames() - before < 100, "{} frames", frames() - before);
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn case_3_a_broadcast_is_seen_once_by_each_other_station_and_not_by_its_sender() {
    require!(namespaces(), tool("tcpdump"));
    let lab = Lab::new();
    let (daemon, mut raw) = lab.start_with_raw("");
    let places = [(&lab.host, "eth0"), (&lab.wire, "eth0"), (&lab.guests[0], "t0"), (&lab.guests[1], "t0")];
    let seen = places.map(|(netns, interface)| watch(netns, interface, &["-Q", "in"]));

    for _ in 0..10 {
        raw.raw.send_frame(&ethernet(MacAddr::BROADCAST, mac(9), TYPE, &[7; 60])).expect("room for a frame");
    }

    for seen in seen {
        expect_frames(seen, 10);
    }
    let back = raw.raw.drain(1000, Duration::from_millis(200)).expect("a connection");
    assert!(back.iter().all(|frame| frame[6..12] != mac(9).0), "its own frames came back");
    // The address stays where it is: nothing that came back has moved it.
    let fdb = daemon.fdb("lab");
    assert!(fdb.iter().any(|entry| entry.mac == mac(9).to_string() && entry.port == "raw"), "{fdb:?}");
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn case_4_what_guests_say_to_each_other_is_not_on_the_wire() {
    require!(namespaces(), tool("iperf3"), tool("tcpdump"));
    let lab = Lab::new();
    let daemon = lab.start(&lab.config(""));
    lab.all_ping();
    let between = ["ether", "host", &mac(3).to_string(), "and", "ether", "host", &mac(4).to_string()];
    let mut capture = capture(&lab.wire, "eth0", &between);
    let report = iperf3(&lab.guests[0], &lab.guests[1], v4(4), Iperf::tcp(1));
    assert!(report.received_octets > 1_000_000, "{report:?}");
    // The capture has seen whatever was before this answer.
    lab.pings(3, WIRE);
    capture.signal(testbed::Signal::INT);
    wait_until("the end of the capture", PATIENCE, || !capture.is_running());
    assert!(capture.log().contains("0 packets captured"), "{}", capture.log());
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn case_13_jumbo_frames_pass_end_to_end() {
    require!(namespaces(), tool("iperf3"));
    let lab = Lab::new();
    for netns in [&lab.host, &lab.wire] {
        netns.ip(["link", "set", "eth0", "mtu", "9000"]);
    }
    let daemon = lab.start(&format!("[network.lab]\nmtu = 9000\n{}", lab.config("")));
    lab.all_ping();
    for (from, to) in [(3, WIRE), (WIRE, 3), (3, HOST), (HOST, 4), (HOST, WIRE), (3, 4)] {
        lab.fill(from, to, 9000);
    }
    lab.all_carry();
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn what_is_longer_than_the_interfaces_mtu_is_counted_and_told() {
    require!(namespaces());
    for mode in ["filter", "packet"] {
        let lab = Lab::new();
        let (daemon, mut raw) = {
            let port = "[network.lab.port.raw]\nstream = { listen = \"raw.sock\" }\n";
            let config =
                format!("[network.lab]\nmtu = 9000\n{}{port}", lab.config(&format!("mode = \"{mode}\"")));
            let daemon = lab.start(&config);
            let file = daemon.path("vmlan.toml");
            let checked = lab.host.exec(crate::support::VMLAN, ["check".as_ref(), file.as_os_str()]);
            assert!(
                checked.success() && checked.stdout.contains("the MTU of eth0, 1500"),
                "{}",
                checked.stdout
            );
            let raw = Peer::attach(9, Attachment::Stream { path: daemon.path("raw.sock") });
            daemon.wait_up(&["raw"]);
            (daemon, raw)
        };
        let reason = daemon.trunk().reason.unwrap_or_default();
        assert!(reason.contains("the MTU of eth0, 1500"), "{mode}: {reason}");

        // To an address that nobody is known to have, and to everybody.
        let seen = watch(&lab.wire, "eth0", &["-Q", "in"]);
        for destination in [mac(77), MacAddr::BROADCAST] {
            for len in [1500, 4000] {
                for _ in 0..5 {
                    raw.raw.send_frame(&ethernet(destination, mac(9), TYPE, &vec![7; len])).expect("room");
                }
            }
        }
        wait_until("the drops", PATIENCE, || daemon.drops("trunk", DropReason::TooLong) == 10);
        expect_frames(seen, 10);
        assert_balanced(&daemon);
        daemon.stop();
    }
}

#[test]
fn a_side_that_is_not_allowed_is_not_reached() {
    require!(namespaces());
    let lab = Lab::new();
    let daemon = lab.start(&lab.config("host = false"));
    lab.pings(3, WIRE);
    assert_balanced(&daemon);
    assert!(!lab.guests[0].reaches(v4(HOST), Duration::from_secs(1)));
    let installed = daemon.trunk().installed;
    assert!(!installed.iter().any(|what| what.contains("vmlan_host")), "{installed:?}");

    daemon.write_config(&lab.config("wire = false"));
    daemon.cli(&["apply"]).expect_success();
    wait_trunk(&daemon, "the other side", |trunk| trunk.sides == ["host"] && trunk.active);
    lab.pings(3, HOST);
    assert!(!lab.guests[0].reaches(v4(WIRE), Duration::from_secs(1)));
    lab.pings(HOST, WIRE);
    daemon.stop();
}

/// As docs/trunk.md has it.
#[test]
fn what_host_and_guests_say_is_captured_on_the_hosts_tap() {
    require!(namespaces(), tool("tcpdump"));
    let lab = Lab::new();
    let daemon = lab.start(&lab.config(""));
    lab.all_ping();
    let index = lab.host.exec("cat", ["/sys/class/net/eth0/ifindex"]).stdout;
    let tap = format!("vmlh{}", index.trim());
    let filter = ["icmp", "and", "host", &v4(3).to_string()];
    let mut captures = [tap.as_str(), "eth0"].map(|interface| capture(&lab.host, interface, &filter));
    assert!(testbed::ping(&lab.host, v4(3), 3).all());
    let counts = ["ICMP echo request", "ICMP echo reply"];
    let count_in = |log: &str| counts.map(|what| log.matches(what).count());
    wait_until("both halves", PATIENCE, || count_in(&captures[0].log()) == [3, 3]);
    wait_until("what the guest says", PATIENCE, || count_in(&captures[1].log())[1] == 3);
    for capture in &mut captures {
        capture.signal(testbed::Signal::INT);
        wait_until("the end of the capture", PATIENCE, || !capture.is_running());
    }
    assert_eq!(count_in(&captures[1].log()), [0, 3]);
    daemon.stop();
}

/// After a restart the host knows its guests, and the network does not.
#[test]
fn the_host_reaches_a_guest_that_was_not_heard_yet() {
    require!(namespaces());
    for settings in ["", CLSACT] {
        let lab = Lab::new();
        let (daemon, mut raw) = lab.start_with_raw(settings);
        // The host's neighbour table has it, as after a restart of vmlan.
        let [address, hardware] = [v4(9).to_string(), mac(9).to_string()];
        lab.host.ip(["neigh", "add", &address, "lladdr", &hardware, "dev", "eth0", "nud", "permanent"]);
        let _ = testbed::ping(&lab.host, v4(9), 5);
        for number in 0..5 {
            let arrived = raw.raw.expect(|frame| frame[..6] == mac(9).0 && frame[12..14] == [8, 0]);
            assert!(arrived.is_ok(), "{settings} frame {number}: {arrived:?}");
        }
        assert_balanced(&daemon);
        daemon.stop();
    }
}

/// A packet that the host forwards bears the mark that it came with, unless the mark is taken off.
#[test]
fn the_host_routes_from_guest_to_guest() {
    require!(namespaces(), tool("tcpdump"));
    for settings in ["", CLSACT, "wire = false"] {
        let lab = Lab::new();
        let daemon = lab.start(&lab.config(settings));
        lab.host.sysctl("net.ipv4.ip_forward", "1");
        for (number, netns) in (3..).zip(&lab.guests) {
            lab.host.ip(["address", "add", &format!("10.8.{number}.1/24"), "dev", "eth0"]);
            netns.ip(["address", "add", &format!("10.8.{number}.2/24"), "dev", "t0"]);
            netns.ip(["route", "add", "10.8.0.0/16", "via", &format!("10.8.{number}.1")]);
        }
        let routed = ["net", "10.8.3.0/24", "and", "net", "10.8.4.0/24"];
        let mut capture = capture(&lab.wire, "eth0", &routed);
        let other = IpAddr::from([10, 8, 4, 2]);
        assert!(lab.guests[0].reaches(other, PATIENCE), "{settings}");
        let report = testbed::ping(&lab.guests[0], other, 5);
        assert!(report.all(), "{settings}: {report:?}");
        // The capture has seen whatever was before this answer.
        lab.pings(HOST, WIRE);
        capture.signal(testbed::Signal::INT);
        wait_until("the end of the capture", PATIENCE, || !capture.is_running());
        assert!(capture.log().contains("0 packets captured"), "{settings}: {}", capture.log());
        assert_balanced(&daemon);
        daemon.stop();
    }
}

/// switch.md cases 10 and 11: a promiscuous port sees what host and wire say to each other only when the trunk allows
/// it.
#[test]
fn a_promiscuous_port_sees_host_and_wire_when_both_allow_it() {
    require!(namespaces());
    let lab = Lab::new();
    let config = |allow: &str| {
        format!(
            "{}[network.lab.port.raw]\nstream = {{ listen = \"raw.sock\" }}\npromiscuous = \"allow\"\n",
            lab.config(&format!("promiscuous = \"{allow}\""))
        )
    };
    let daemon = lab.start(&config("deny"));
    let mut raw = Peer::attach(9, Attachment::Stream { path: daemon.path("raw.sock") });
    daemon.wait_up(&["raw"]);
    // IPv4 from the wire to the host.
    let between =
        |frame: &[u8]| frame[..6] == mac(HOST).0 && frame[6..12] == mac(WIRE).0 && frame[12..14] == [8, 0];
    lab.pings(WIRE, HOST);
    let seen = raw.raw.drain(10_000, Duration::from_millis(200)).expect("a connection");
    assert!(!seen.iter().any(|frame| between(frame)));

    daemon.write_config(&config("allow"));
    daemon.cli(&["apply"]).expect_success();
    wait_trunk(&daemon, "the trunk", |trunk| {
        trunk.active && trunk.installed.iter().any(|what| what.contains("copies of all others"))
    });
    lab.pings(WIRE, HOST);
    assert!(raw.raw.expect(between).is_ok());
    lab.all_ping();
    daemon.stop();
}

#[test]
fn a_thousand_guests_are_known_to_the_kernel() {
    require!(namespaces());
    let lab = Lab::new();
    let addresses = |first: usize, count: usize| {
        let address = |n: usize| format!("\"52:54:01:00:{:02x}:{:02x}\"", n >> 8, n & 0xff);
        (first..first + count).map(address).collect::<Vec<_>>().join(", ")
    };
    let port = |n: usize| {
        format!(
            "[network.lab.port.many{n}]\nstream = {{ listen = \"many{n}.sock\" }}\nmac = [{}]\n",
            addresses(n * 200, 200)
        )
    };
    let config = format!("{}{}", lab.config(""), (0..5).map(port).collect::<String>());
    let daemon = lab.start(&config);
    wait_trunk(&daemon, "all guests", |trunk| trunk.stations >= 1002);
    lab.all_ping();
    daemon.write_config(&lab.config(""));
    daemon.cli(&["apply"]).expect_success();
    wait_trunk(&daemon, "those that are left", |trunk| trunk.stations < 10);
    daemon.stop();
}

/// A tcpdump that has begun.
#[track_caller]
pub fn capture(netns: &Netns, interface: &str, filter: &[&str]) -> Process {
    let mut arguments = vec!["-i", interface, "-n", "-e", "-l", "--immediate-mode"];
    arguments.extend(filter);
    let mut capture = netns.spawn("tcpdump", arguments);
    capture.wait_for_log("listening on", PATIENCE);
    capture
}

/// The same for the frames of these tests only.
#[track_caller]
pub fn watch(netns: &Netns, interface: &str, filter: &[&str]) -> Process {
    let (options, expression): (Vec<&str>, Vec<&str>) = match filter {
        ["-Q", direction, expression @ ..] => (vec!["-Q", direction], expression.to_vec()),
        expression => (Vec::new(), expression.to_vec()),
    };
    let own = ["ether", "src", &mac(9).to_string()].map(str::to_owned);
    let mut all: Vec<String> = options.into_iter().map(str::to_owned).collect();
    all.extend(own);
    if !expression.is_empty() {
        all.push("and".to_owned());
        all.extend(expression.into_iter().map(str::to_owned));
    }
    capture(netns, interface, &all.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Waits for so many frames, and checks that there are no more.
#[track_caller]
pub fn expect_frames(mut capture: Process, count: usize) {
    let count_in = |log: &str| log.lines().filter(|line| line.contains("(0x88b5)")).count();
    let arrived = poll_until(PATIENCE, || count_in(&capture.log()) >= count);
    assert!(arrived, "of {count} frames came {}:\n{}", count_in(&capture.log()), capture.log());
    capture.signal(testbed::Signal::INT);
    wait_until("the end of the capture", PATIENCE, || !capture.is_running());
    assert_eq!(count_in(&capture.log()), count, "{}", capture.log());
}

/// `vmlan check` of a configuration; what it says.
pub fn check(daemon: &Daemon, config: &str) -> testbed::Output {
    let file = daemon.path("other.toml");
    std::fs::write(&file, config).expect("a file in our own directory");
    let mut command = Command::new(crate::support::VMLAN);
    command.arg("check").arg(file);
    run(command, PATIENCE)
}
