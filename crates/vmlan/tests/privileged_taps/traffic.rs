//! Traffic between guests on TAPs.

use std::process::Command;
use std::time::Duration;

use testbed::{Iperf, Ping, iperf3, ping, require, run};
use vmlan_guest::{Attachment, ethernet};

use crate::lab::{Guest, configure, v4, v6, with_guests};
use crate::support::{Daemon, PATIENCE, Peer, TYPE, assert_balanced, mac};

#[test]
fn two_guests_ping_and_measure_both_ways() {
    require!(namespaces(), tool("iperf3"));
    let (one, two) = (Guest::new(1), Guest::new(2));
    let daemon = with_guests("", &[&one, &two]);
    one.pings(&two);
    two.pings(&one);

    for (address, wanted) in [
        (v4(2).into(), Iperf::tcp(1)),
        (v4(2).into(), Iperf::tcp(1).reversed()),
        (std::net::IpAddr::from(v6(2)), Iperf::tcp(1)),
    ] {
        let report = iperf3(&one.netns, &two.netns, address, wanted);
        assert!(report.received_octets > 1_000_000, "{report:?}");
    }
    for wanted in [Iperf::udp(1, 10_000_000), Iperf::udp(1, 10_000_000).reversed()] {
        let report = iperf3(&one.netns, &two.netns, v4(2), wanted);
        // A busy machine may be late to take some; the books tell that none got lost on the way.
        assert!(report.datagrams > 100 && report.lost * 10 <= report.datagrams, "{report:?}");
    }
    assert_balanced(&daemon);
    daemon.stop();
    assert!(!one.has_tap() && !two.has_tap(), "the devices go with the daemon");
}

#[test]
fn three_guests_on_two_workers() {
    require!(namespaces(), tool("iperf3"));
    let guests = [Guest::new(1), Guest::new(2), Guest::new(3)];
    let [one, two, three] = &guests;
    let daemon = with_guests("workers = 2\n", &[one, two, three]);
    for (from, to) in [(one, two), (two, three), (three, one)] {
        from.pings(to);
    }
    let tcp = iperf3(&one.netns, &two.netns, v4(2), Iperf::tcp(1));
    let back = iperf3(&three.netns, &two.netns, v4(2), Iperf::tcp(1).reversed());
    assert!(tcp.received_octets > 1_000_000 && back.received_octets > 1_000_000, "{tcp:?} {back:?}");

    let fdb = daemon.fdb("lab");
    for guest in &guests {
        let mac = mac(guest.number).to_string();
        let port = format!("guest{}", guest.number);
        assert!(fdb.iter().any(|entry| entry.mac == mac && entry.port == port), "{fdb:?}");
    }
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn vlans_are_apart_and_a_trunk_reaches_each() {
    require!(namespaces());
    let (ten, also_ten, twenty) = (Guest::new(1), Guest::new(2), Guest::new(3));
    let (in_ten, in_twenty) = ("vlan = { access = 10 }", "vlan = { access = 20 }");
    let daemon = Daemon::start(&format!(
        "{}{}{}[network.lab.port.trunk]\nstream = {{ listen = \"trunk.sock\" }}\n\
         vlan = {{ tagged = [10, 20] }}\n",
        ten.port(in_ten),
        also_ten.port(in_ten),
        twenty.port(in_twenty)
    ));
    configure(&daemon, &[&ten, &also_ten, &twenty]);
    let mut trunk = Peer::attach(9, Attachment::Stream { path: daemon.path("trunk.sock") });
    daemon.wait_up(&["trunk"]);

    ten.pings(&also_ten);
    assert!(!ten.reaches(&twenty) && !twenty.reaches(&also_ten));
    for (vlan, guest) in [(10, &ten), (10, &also_ten), (20, &twenty)] {
        let tag = [0x81, 0, 0, vlan];
        let request = arp_request(&trunk, guest.number);
        trunk.raw.send_frame(&[&request[..12], &tag, &request[12..]].concat()).expect("room for a frame");
        let is_answer = |frame: &[u8]| {
            frame[12..16] == tag
                && frame[16..18] == [8, 6]
                && frame[24..26] == [0, 2]
                && frame[6..12] == mac(guest.number).0
        };
        trunk.raw.expect(is_answer).expect("a tagged answer");
    }
    // In the other VLAN the same question has no answer.
    let request = arp_request(&trunk, twenty.number);
    trunk
        .raw
        .send_frame(&[&request[..12], &[0x81, 0, 0, 10], &request[12..]].concat())
        .expect("room for a frame");
    let answers = trunk.raw.drain(100, Duration::from_millis(200)).expect("a connection");
    assert!(answers.iter().all(|frame| frame[6..12] != mac(twenty.number).0 || frame[15] == 20));
    assert_balanced(&daemon);
    daemon.stop();
}

/// Returns an ARP request for the address of this guest (RFC 826).
fn arp_request(from: &Peer, number: u8) -> Vec<u8> {
    let mut payload = vec![0, 1, 8, 0, 6, 4, 0, 1];
    payload.extend_from_slice(&from.mac.0);
    payload.extend_from_slice(&v4(9).octets());
    payload.extend_from_slice(&[0; 6]);
    payload.extend_from_slice(&v4(number).octets());
    ethernet(vmlan_frame::MacAddr::BROADCAST, from.mac, 0x0806, &payload)
}

#[test]
fn packets_that_fill_an_mtu_of_9000_pass_whole() {
    require!(namespaces(), tool("iperf3"));
    let (one, two) = (Guest::new(1), Guest::new(2));
    let daemon = with_guests("[network.lab]\nmtu = 9000\n", &[&one, &two]);
    for to in [v4(2).into(), std::net::IpAddr::from(v6(2))] {
        let filling = Ping::filling(to, 3, 9000).run(&one.netns);
        assert!(filling.all(), "{to}: {filling:?}");
        assert_eq!(Ping::filling(to, 1, 9001).run(&one.netns).received, 0);
    }
    let tcp = iperf3(&two.netns, &one.netns, v4(1), Iperf::tcp(1));
    assert!(tcp.received_octets > 1_000_000, "{tcp:?}");
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn a_guest_sees_what_was_sent_and_nothing_around_it() {
    require!(namespaces(), tool("tcpdump"));
    let guest = Guest::new(1);
    let daemon = Daemon::start(&format!(
        "{}[network.lab.port.raw]\nstream = {{ listen = \"raw.sock\" }}\n",
        guest.port("")
    ));
    configure(&daemon, &[&guest]);
    let mut raw = Peer::attach(9, Attachment::Stream { path: daemon.path("raw.sock") });
    daemon.wait_up(&["raw"]);
    let filter = ["-i", "t0", "-n", "-c", "1", "-xx", "-U", "--immediate-mode", "ether", "proto", "0x88b5"];
    let mut capture = guest.netns.spawn("tcpdump", filter);
    capture.wait_for_log("listening on", PATIENCE);

    let frame = ethernet(mac(1), mac(9), TYPE, &(0..100).collect::<Vec<u8>>());
    raw.raw.send_frame(&frame).expect("room for a frame");
    testbed::wait_until("the capture", PATIENCE, || !capture.is_running());
    // Lines such as `0x0010:  0001 0203`.
    let log = capture.log();
    let dump = log.lines().filter_map(|line| line.trim().strip_prefix("0x")?.split_once(":  "));
    let hex: String = dump.flat_map(|(_, octets)| octets.chars().filter(char::is_ascii_hexdigit)).collect();
    let sent: String = frame.iter().map(|octet| format!("{octet:02x}")).collect();
    assert_eq!(hex, sent, "{log}");

    // The other way: the kernel's own question, as it is on the wire.
    let mut asking = Command::new("ip");
    asking.args(["netns", "exec", guest.netns.name(), "ping", "-c", "1", "-W", "1", &v4(77).to_string()]);
    run(asking, PATIENCE);
    let arp = raw.raw.expect(|frame| frame[12..14] == [8, 6]).expect("a question");
    let header =
        [&[0xff; 6][..], &mac(1).0, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &mac(1).0, &v4(1).octets()].concat();
    assert_eq!(arp[..32], header[..]);
    assert_eq!((&arp[38..42], arp.len()), (&v4(77).octets()[..], 42));
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn a_ping_of_thousands_of_small_requests_loses_none() {
    require!(namespaces());
    let (one, two) = (Guest::new(1), Guest::new(2));
    let daemon = with_guests("", &[&one, &two]);
    assert!(ping(&one.netns, v4(2), 1).all());
    let output = one.netns.exec("ping", ["-q", "-f", "-c", "3000", "-s", "10", &v4(2).to_string()]);
    let report = testbed::PingReport::parse(&output.stdout).expect("a summary");
    assert!(report.all() && report.sent == 3000, "{report:?}");
    assert_balanced(&daemon);
    daemon.stop();
}
