//! Modes that reach the wire only.

use std::time::Duration;

use testbed::{Iperf, Netns, iperf3, require, wait_until};
use vmlan_api::{PortState, TrunkMode};
use vmlan_guest::Attachment;

use crate::lab::{HOST, Lab, WIRE, sender, v4, v6, wait_trunk};
use crate::support::{Daemon, PATIENCE, Peer, assert_balanced, directory, mac};
use crate::traffic::{check, tagged};

/// Wire and guests reach each other in every way, and the host is left alone.
#[track_caller]
pub fn reaches_the_wire(lab: &Lab, daemon: &Daemon) {
    for (from, to) in [(3, WIRE), (WIRE, 3), (4, WIRE), (3, 4)] {
        lab.pings(from, to);
    }
    for (from, to) in [(3, WIRE), (WIRE, 3)] {
        for address in [v4(to), v6(to)] {
            let report = iperf3(lab.netns(from), lab.netns(to), address, Iperf::tcp(1));
            assert!(report.received_octets > 1_000_000, "{from} to {address}: {report:?}");
        }
    }
    assert!(!lab.guests[0].reaches(v4(HOST), Duration::from_secs(1)));
    assert_eq!(daemon.trunk().sides, ["wire"]);
}

#[test]
fn packet_sockets_reach_the_wire() {
    require!(namespaces(), tool("iperf3"));
    let lab = Lab::new();
    for netns in [&lab.host, &lab.wire] {
        netns.ip(["link", "set", "eth0", "mtu", "9000"]);
    }
    let config = format!(
        "[network.lab]\nmtu = 9000\n{}[network.lab.port.raw]\nstream = {{ listen = \"raw.sock\" }}\n",
        lab.config("mode = \"packet\"")
    );
    let daemon = lab.start(&config);
    assert_eq!(daemon.trunk().mode, TrunkMode::Packet);
    reaches_the_wire(&lab, &daemon);
    lab.pings(HOST, WIRE);
    for (from, to) in [(3, WIRE), (WIRE, 3)] {
        lab.fill(from, to, 9000);
    }
    assert_eq!(lab.own_filters(), 0);

    // A tag that the kernel has taken off is back beside the frame.
    let mut raw = Peer::attach(9, Attachment::Stream { path: daemon.path("raw.sock") });
    daemon.wait_up(&["raw"]);
    raw.raw.send_frame(&tagged(mac(WIRE), mac(9))).expect("room for a frame");
    wait_trunk(&daemon, "the new guest", |trunk| trunk.stations >= 3);
    let sender = sender(&lab.wire);
    rustix::io::write(&sender, &tagged(mac(9), mac(WIRE))).expect("room for a frame");
    let arrived = raw.raw.expect(|frame| frame[12..18] == [0x81, 0, 0, 10, 0x88, 0xb5]);
    assert!(arrived.is_ok(), "{arrived:?}");
    assert_balanced(&daemon);

    // The interface goes down, and comes back.
    lab.host.ip(["link", "set", "eth0", "down"]);
    wait_trunk(&daemon, "no carrier", |trunk| !trunk.carrier);
    lab.host.ip(["link", "set", "eth0", "up"]);
    assert!(lab.guests[0].reaches(v4(WIRE), PATIENCE));
    for _ in 0..10 {
        lab.host.ip(["link", "del", "eth0"]);
        lab.plug();
        assert!(lab.guests[0].reaches(v4(WIRE), PATIENCE), "{:?}", daemon.trunk());
    }
    daemon.stop();
    assert_eq!(lab.promiscuity(), 0);
}

#[test]
fn packet_sockets_stand_a_link_that_flaps() {
    require!(namespaces(), tool("iperf3"));
    for settings in ["workers = 2\n", "poll = \"busy\"\n"] {
        let lab = Lab::new();
        let daemon = lab.start(&format!("{settings}{}", lab.config("mode = \"packet\"")));
        // Traffic goes on meanwhile.
        let mut flood = lab.guests[1].spawn("ping", ["-q", "-i", "0.01", &v4(WIRE).to_string()]);
        for netns in [&lab.wire, &lab.host].into_iter().cycle().take(10) {
            netns.ip(["link", "set", "eth0", "down"]);
            wait_trunk(&daemon, "no carrier", |trunk| !trunk.carrier);
            assert!(lab.guests[0].reaches(v4(4), PATIENCE));
            netns.ip(["link", "set", "eth0", "up"]);
            assert!(lab.guests[0].reaches(v4(WIRE), PATIENCE), "{settings}{:?}", daemon.trunk());
        }
        assert!(flood.is_running(), "{}", flood.log());
        drop(flood);
        for (from, to) in [(3, WIRE), (WIRE, 3)] {
            let report = iperf3(lab.netns(from), lab.netns(to), v4(to), Iperf::tcp(1));
            assert!(report.received_octets > 1_000_000, "{settings}{from} to {to}: {report:?}");
        }
        assert_balanced(&daemon);
        daemon.stop();
    }
}

#[test]
fn packet_sockets_share_an_address() {
    require!(namespaces(), tool("iperf3"), tool("nft"));
    let lab = Lab::new();
    lab.accept_one_address();
    let daemon = lab.start(&lab.config("mode = \"packet\"\nshared_mac = \"on\""));
    reaches_the_wire(&lab, &daemon);
    assert_eq!(lab.dropped_by_the_wire(), 0);
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn a_macvtap_takes_the_interface_whole_and_gives_it_back() {
    require!(namespaces(), tool("iperf3"));
    let lab = Lab::new();
    // Device files of interfaces in namespaces are there where the kernel makes them all.
    lab.host.ip(["link", "add", "link", "eth0", "name", "probe", "type", "macvtap", "mode", "bridge"]);
    let index = lab.host.exec("cat", ["/sys/class/net/probe/ifindex"]).stdout;
    let has_files = std::path::Path::new(&format!("/dev/tap{}", index.trim())).exists();
    lab.host.ip(["link", "del", "probe"]);
    let config = lab.config("mode = \"macvtap\"");
    if !has_files {
        let daemon = Daemon::start_within(&lab.host, directory(), &config);
        daemon.wait_state("trunk", PortState::Failed);
        let reason = daemon.port("trunk").reason.unwrap_or_default();
        assert!(reason.contains("use `mode = \"packet\"`"), "{reason}");
        daemon.stop();
        assert!(!macvtaps(&lab.host).contains("vmlm"));
        return;
    }
    let daemon = lab.start(&config);
    assert_eq!(daemon.trunk().mode, TrunkMode::Macvtap);
    reaches_the_wire(&lab, &daemon);
    assert_balanced(&daemon);

    // A killed daemon leaves the device, and the next one makes it anew.
    let directory = daemon.kill();
    assert!(macvtaps(&lab.host).contains("vmlm"));
    let daemon = Daemon::start_within(&lab.host, directory, &config);
    lab.configure(&daemon);
    lab.pings(3, WIRE);
    daemon.stop();
    assert!(!macvtaps(&lab.host).contains("vmlm"));
    wait_until("the host's interface", PATIENCE, || lab.host.reaches(v4(WIRE), Duration::from_millis(500)));
}

fn macvtaps(netns: &Netns) -> String {
    netns.ip(["link"]).stdout
}

#[test]
fn what_a_mode_cannot_do_is_told_before_anything_starts() {
    require!(namespaces());
    let lab = Lab::new();
    let daemon = Daemon::start_within(&lab.host, directory(), &lab.ports());
    for (settings, said) in [
        ("mode = \"packet\"\nhost = true", "does not reach the host's own stack"),
        ("mode = \"macvtap\"\nwire = false", "reaches the wire only"),
        ("mode = \"xdp\"\nhost = true", "does not reach the host's own stack"),
        ("mode = \"bridge\"", "name it with `bridge`"),
        ("bridge = \"br0\"", "exclude each other"),
        ("host = false\nwire = false", "reaches nobody"),
        ("mode = \"fast\"", "write \"auto\" or \"filter\""),
    ] {
        let refused = check(&daemon, &lab.config(settings));
        assert!(!refused.success() && refused.stderr.contains(said), "{settings}: {}", refused.stderr);
    }
    daemon.stop();
}
