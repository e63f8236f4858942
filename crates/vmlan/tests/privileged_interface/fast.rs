//! The frames that the kernel carries, and that it carries none that the daemon would not.

use testbed::{Iperf, iperf3, ping, require, wait_until};
use vmlan_frame::MacAddr;
use vmlan_guest::Attachment;

use crate::lab::{Lab, Monitor, carried, slow, v4};
use crate::support::{PATIENCE, Peer, VMLAN, assert_balanced, mac, meet};

const OCTETS: u64 = 20_000_000;

#[test]
fn guests_on_veths_talk_and_the_kernel_carries_them() {
    require!(namespaces(), tool("iperf3"));
    let (lab, daemon) = Lab::running(2);
    lab.pings(1, 2);
    lab.wait_fast(&daemon, 1, 2);
    let before = daemon.port("guest1");
    let report = iperf3(lab.guest(1), lab.guest(2), v4(2), Iperf::tcp_octets(OCTETS));
    assert!(report.received_octets >= OCTETS / 2, "{report:?}");
    let after = daemon.port("guest1");
    // The connection's first packets may be on their way by the daemon; the rest is not.
    let octets = after.counters.rx_octets - before.counters.rx_octets;
    assert!(octets >= report.received_octets, "{octets} octets counted of {report:?}");
    assert!(after.counters.rx_large > before.counters.rx_large, "segments pass whole: {:?}", after.counters);
    let fast = after.fast.expect("an interface port").rx_frames - before.fast.expect("one").rx_frames;
    let all = after.counters.rx_frames - before.counters.rx_frames;
    assert!(fast * 10 >= all * 9, "the kernel carried {fast} of {all} frames");
    assert_balanced(&daemon);
    let words = daemon.cli(&["status", "--fast", "guest1", "guest2"]).expect_success().stdout;
    assert!(words.contains("go fast"), "{words}");
    let fdb = daemon.cli(&["fdb", "lab"]).expect_success().stdout;
    assert_eq!(fdb.matches("kernel").count(), 2, "{fdb}");
    daemon.stop();
}

/// fast-path.md case 1.
#[test]
fn case_1_a_monitor_opens_the_tap_by_its_name_and_reaches_everybody() {
    require!(namespaces(), tool("iperf3"));
    let lab = Lab::new(3);
    let tap = |number: u8| {
        let name = format!("[network.lab.port.guest{number}]\ninterface = {{ name = \"tap{number}\", ");
        format!("{name}create = \"tap\", owner = \"{}\" }}\n", crate::lab::USER)
    };
    let socket = "[network.lab.port.raw]\nstream = { listen = \"raw.sock\" }\n";
    let daemon = lab.start(&format!("{}{}{}{socket}", tap(1), tap(2), lab.veth(3, "")));
    wait_until("a TAP that waits", PATIENCE, || {
        daemon
            .port("guest1")
            .reason
            .is_some_and(|reason| reason.contains("a program that opens the TAP tap1"))
    });
    let taps = lab.host.exec("ip", ["-details", "link", "show", "tap1"]).stdout;
    assert!(taps.contains(&format!("user {}", crate::lab::USER)) || taps.contains("user nobody"), "{taps}");
    let monitors =
        [1, 2].map(|number| Monitor::start(&lab.host, &format!("tap{number}"), lab.guest(number), number));
    daemon.wait_up(&["guest1", "guest2", "guest3"]);
    let peer = daemon.port("guest1").peer.expect("a peer");
    assert!(peer.starts_with("tap1"), "{peer}");
    for (from, to) in [(1, 2), (1, 3), (3, 1)] {
        lab.pings(from, to);
        lab.wait_fast(&daemon, from, to);
        let report = iperf3(lab.guest(from), lab.guest(to), v4(to), Iperf::tcp_octets(OCTETS));
        assert!(report.received_octets >= OCTETS / 2, "{from} to {to}: {report:?}");
    }
    let mut raw = Peer::attach(9, Attachment::Stream { path: daemon.path("raw.sock") });
    daemon.wait_up(&["raw"]);
    let before = daemon.port("guest3").counters.tx_frames;
    raw.send(mac(3));
    wait_until("a frame of the socket's guest at the veth", PATIENCE, || {
        daemon.port("guest3").counters.tx_frames > before
    });
    assert_balanced(&daemon);
    drop(monitors);
    wait_until("nobody at the TAP", PATIENCE, || daemon.port("guest1").reason.is_some());
    daemon.stop();
    assert!(!lab.host.has_interface("tap1") && !lab.host.has_interface("ve3"));
}

/// fast-path.md case 4.
#[test]
fn case_4_a_capture_has_every_frame_from_its_start_and_fast_goes_on_after_it() {
    require!(namespaces());
    let (lab, daemon) = Lab::running(2);
    lab.wait_fast(&daemon, 1, 2);
    let (file, control) = (daemon.path("c.pcapng"), daemon.control());
    let words = ["capture", "lab", "--count", "20", "-w", file.to_str().expect("text"), "--control"];
    let words = words.into_iter().chain(control.to_str());
    let mut capture = lab.host.spawn(VMLAN, words);
    wait_until("the capture to hold the ports", PATIENCE, || {
        slow(&daemon, "guest1").is_some_and(|reason| reason.contains("capture"))
    });
    let before = carried(&daemon, "guest1");
    assert!(ping(lab.guest(1), v4(2), 10).all());
    assert_eq!(carried(&daemon, "guest1"), before, "the kernel carried frames past the capture");
    capture.wait_for_log("20 frames captured, 0 lost", PATIENCE);
    wait_until("fast again", PATIENCE, || slow(&daemon, "guest1").is_none());
    lab.wait_fast(&daemon, 1, 2);
    assert_balanced(&daemon);
    daemon.stop();
}

/// fast-path.md case 5.
#[test]
fn case_5_a_rate_a_rule_a_promiscuous_port_and_the_key_turn_it_off_and_on() {
    require!(namespaces());
    let lab = Lab::new(3);
    let config = |settings: &str| format!("{}{}{}", lab.veth(1, settings), lab.veth(2, ""), lab.veth(3, ""));
    let daemon = lab.start(&config(""));
    daemon.wait_up(&["guest1", "guest2", "guest3"]);
    lab.wait_fast(&daemon, 1, 2);
    let program = daemon.path("nothing.bpf");
    std::fs::write(&program, "1\n6 0 0 0\n").expect("a program");
    let rule = "filter = [{ action = \"drop\", program = \"nothing.bpf\" }]";
    for (settings, word) in [
        ("rate = 1000", "rate limit"),
        (rule, "a rule"),
        ("promiscuous = \"allow\"", "promiscuous"),
        ("fast = \"off\"", "turned off"),
        ("enabled = false", "disabled"),
    ] {
        daemon.write_config(&config(settings));
        daemon.cli(&["apply"]).expect_success();
        // From the moment of the answer on.
        let reason = slow(&daemon, "guest1").unwrap_or_default();
        assert!(reason.contains(word), "{settings}: {reason}");
        let before = carried(&daemon, "guest1");
        let report = ping(lab.guest(1), v4(2), 3);
        assert_eq!(report.all(), settings != "enabled = false", "{settings}: {report:?}");
        assert_eq!(carried(&daemon, "guest1"), before, "{settings}");
        daemon.write_config(&config(""));
        daemon.cli(&["apply"]).expect_success();
        assert_eq!(slow(&daemon, "guest1"), None, "{settings}");
        lab.wait_fast(&daemon, 1, 2);
    }
    assert_balanced(&daemon);
    daemon.stop();
}

/// fast-path.md case 6.
#[test]
fn case_6_a_station_that_only_the_kernel_hears_does_not_age() {
    require!(namespaces());
    let lab = Lab::new(2);
    let daemon = lab.start(&format!("[network.lab]\nfdb = {{ ageing = 3 }}\n{}", lab.veths()));
    daemon.wait_up(&["guest1", "guest2"]);
    lab.acquaint(1, 2);
    lab.wait_fast(&daemon, 1, 2);
    let before = daemon.port("guest1");
    // Three times as long as an address is remembered.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(9);
    while std::time::Instant::now() < until {
        assert!(ping(lab.guest(1), v4(2), 3).all());
        let fdb = daemon.cli(&["fdb", "lab", "--json"]).expect_success().stdout;
        assert_eq!(fdb.matches("\"fast\": true").count() + fdb.matches("\"fast\":true").count(), 2, "{fdb}");
    }
    let after = daemon.port("guest1");
    let (fast, all) = (
        after.fast.expect("one").rx_frames - before.fast.expect("one").rx_frames,
        after.counters.rx_frames - before.counters.rx_frames,
    );
    // Neighbour discovery goes by the daemon, and makes its addresses young as well; not often enough to matter here.
    assert!(fast * 2 >= all, "the kernel carried {fast} of {all}");
    wait_until("nobody known", PATIENCE, || {
        !daemon.cli(&["fdb", "lab", "--json"]).expect_success().stdout.contains("guest1")
    });
    assert_balanced(&daemon);
    daemon.stop();
}

/// A packet of UDP as a frame, with the tag's control information if it is to have one.
fn packet(to: MacAddr, from: MacAddr, tag: Option<u16>) -> Vec<u8> {
    let tag = tag.map(|tci| [&[0x81, 0][..], &tci.to_be_bytes()].concat()).unwrap_or_default();
    let ip = [0x45, 0, 0, 46, 0, 1, 0, 0, 64, 17, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2];
    let mut octets = [&to.0[..], &from.0, &tag, &[8, 0], &ip].concat();
    octets.resize(60 + tag.len(), 0);
    octets
}

/// fast-path.md case 8.
#[test]
fn case_8_tags_are_pushed_taken_off_and_kept() {
    require!(namespaces(), tool("tcpdump"));
    let lab = Lab::new(3);
    let tagged = |number| lab.veth(number, "vlan = { tagged = [10, 20], native = 1 }");
    let daemon = lab.start(&format!("{}{}{}", lab.veth(1, "vlan = { access = 10 }"), tagged(2), tagged(3)));
    daemon.wait_up(&["guest1", "guest2", "guest3"]);
    let sender = |number| {
        let open = || vmlan_sys::packet::sender("eth0");
        vmlan_sys::netns::within(&lab.guest(number).path(), open).expect("a sender")
    };
    let senders = [1, 2, 3].map(sender);
    let send = |number: u8, octets: &[u8]| {
        rustix::io::write(&senders[usize::from(number) - 1], octets).expect("room for a frame");
    };
    // Priority 5.
    let urgent = Some(0xa00a);
    wait_until("addresses that the kernel knows", PATIENCE, || {
        for (number, tag) in [(1, None), (2, urgent), (3, urgent)] {
            send(number, &packet(MacAddr::BROADCAST, mac(number), tag));
        }
        let fdb = daemon.cli(&["fdb", "lab"]).expect_success().stdout;
        let known = |number: &u8| {
            let has = |line: &str| line.contains(&mac(*number).to_string()) && line.contains(" 10 ");
            fdb.lines().any(|line| has(line) && line.contains("kernel"))
        };
        [1, 2, 3].iter().all(known)
    });
    for (from, tag, to, seen) in
        [(1, None, 2, Some("vlan 10, p 0")), (2, urgent, 1, None), (2, urgent, 3, Some("vlan 10, p 5"))]
    {
        let before = carried(&daemon, &format!("guest{from}"));
        let filter = format!("ether src {} and ether dst {}", mac(from), mac(to));
        let mut dump = lab.guest(to).spawn("tcpdump", ["-l", "-e", "-n", "-c", "1", "-i", "eth0", &filter]);
        dump.wait_for_log("listening on", PATIENCE);
        wait_until("the frame", PATIENCE, || {
            send(from, &packet(mac(to), mac(from), tag));
            dump.log().contains("1 packet captured")
        });
        let log = dump.log();
        match seen {
            Some(words) => assert!(log.contains(words), "{from} to {to}: {log}"),
            None => assert!(!log.contains("vlan"), "{from} to {to}: {log}"),
        }
        assert!(carried(&daemon, &format!("guest{from}")) > before, "{from} to {to} went by the daemon");
    }
    // A VLAN that the port is not in goes nowhere.
    let heard = carried(&daemon, "guest2");
    send(2, &packet(mac(1), mac(2), Some(30)));
    wait_until("the drop", PATIENCE, || {
        daemon.port("guest2").counters.drops.get("vlan_not_allowed").is_some_and(|count| *count > 0)
    });
    assert_eq!(carried(&daemon, "guest2"), heard);
    assert_balanced(&daemon);
    daemon.stop();
}

/// fast-path.md case 8, between access ports.
#[test]
fn case_8_vlans_are_apart() {
    require!(namespaces());
    let lab = Lab::new(3);
    let access = |number| lab.veth(number, "vlan = { access = 10 }");
    let daemon = lab.start(&format!("{}{}{}", access(1), access(2), lab.veth(3, "")));
    daemon.wait_up(&["guest1", "guest2", "guest3"]);
    lab.pings(1, 2);
    lab.wait_fast(&daemon, 1, 2);
    lab.wait_fast(&daemon, 2, 1);
    // Guest 3 is in VLAN 1, whatever addresses it knows.
    lab.acquaint(1, 3);
    assert_eq!(ping(lab.guest(3), v4(1), 2).received, 0);
    assert_eq!(ping(lab.guest(1), v4(3), 2).received, 0);
    let words = daemon.cli(&["status", "--fast", "guest1", "guest3"]).expect_success().stdout;
    assert!(words.contains("no VLAN in common"), "{words}");
    assert_balanced(&daemon);
    daemon.stop();
}

/// fast-path.md case 9.
#[test]
fn case_9_a_forged_source_goes_nowhere() {
    require!(namespaces());
    let lab = Lab::new(2);
    let set = lab.veth(1, &format!("mac = \"{}\"", mac(1)));
    let daemon = lab.start(&format!("{set}{}", lab.veth(2, "")));
    daemon.wait_up(&["guest1", "guest2"]);
    lab.wait_fast(&daemon, 1, 2);
    lab.guest(1).ip(["link", "set", "eth0", "address", &mac(7).to_string()]);
    let heard = daemon.port("guest2").counters.tx_frames;
    let before = carried(&daemon, "guest1");
    assert_eq!(ping(lab.guest(1), v4(2), 3).received, 0);
    assert_eq!(carried(&daemon, "guest1"), before);
    assert!(daemon.port("guest1").counters.drops.get("source_guard").is_some_and(|count| *count > 0));
    assert_eq!(daemon.port("guest2").counters.tx_frames, heard);
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn an_address_that_moves_is_followed_at_once() {
    require!(namespaces());
    let (lab, daemon) = Lab::running(3);
    lab.wait_fast(&daemon, 1, 2);
    // Guest 2 is taken down where it was, and comes up where guest 3 was.
    lab.guest(2).ip(["link", "set", "eth0", "down"]);
    lab.guest(3).ip(["address", "flush", "dev", "eth0"]);
    lab.guest(3).ip(["link", "set", "eth0", "address", &mac(2).to_string()]);
    lab.guest(3).ip(["address", "add", "10.9.0.2/24", "dev", "eth0"]);
    wait_until("an answer from the new place", PATIENCE, || {
        ping(lab.guest(3), v4(1), 1).all() && ping(lab.guest(1), v4(2), 1).all()
    });
    wait_until("fast at the new place", PATIENCE, || {
        let before = carried(&daemon, "guest3");
        ping(lab.guest(1), v4(2), 1).all() && carried(&daemon, "guest3") > before
    });
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn interfaces_and_other_kinds_share_a_network() {
    require!(namespaces());
    let lab = Lab::new(1);
    let sockets = "[network.lab.port.a]\nstream = { listen = \"a.sock\" }\n[network.lab.port.b]\nstream = { listen = \
                   \"b.sock\" }\n";
    let daemon = lab.start(&format!("{}{sockets}", lab.veths()));
    let mut peers = [(8, "a.sock"), (9, "b.sock")]
        .map(|(number, path)| Peer::attach(number, Attachment::Stream { path: daemon.path(path) }));
    daemon.wait_up(&["guest1", "a", "b"]);
    let [one, other] = &mut peers;
    meet(one, other);
    // The guest's stack answers to ARP by a broadcast of a socket's guest: what it sends arrives there.
    let before = daemon.port("guest1").counters.tx_frames;
    one.send(MacAddr::BROADCAST);
    wait_until("the broadcast at the veth", PATIENCE, || daemon.port("guest1").counters.tx_frames > before);
    assert_eq!(carried(&daemon, "guest1"), 0);
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn what_a_guest_does_not_read_is_counted_as_its_drops() {
    require!(namespaces());
    let lab = Lab::new(1);
    let silent = mac(7);
    let tap = format!(
        "[network.lab.port.silent]\ninterface = {{ name = \"tap7\", create = \"tap\" }}\nmac = \"{silent}\"\n"
    );
    let daemon = lab.start(&format!("{}{tap}", lab.veth(1, "")));
    let open = || vmlan_sys::tap::open("tap7", vmlan_sys::tap::Options::default());
    let _open = vmlan_sys::netns::within(&lab.host.path(), open).expect("the TAP opens");
    daemon.wait_up(&["guest1", "silent"]);
    let entry =
        ["neigh", "replace", "10.9.0.7", "lladdr", &silent.to_string(), "dev", "eth0", "nud", "permanent"];
    lab.guest(1).ip(entry);
    // Its queue has room for fewer.
    wait_until("frames that nobody reads", PATIENCE, || {
        testbed::ping(lab.guest(1), v4(7), 1500);
        daemon.port("silent").counters.drops.get("queue_full").is_some_and(|count| *count > 100)
    });
    // More than the queue has room for went by the kernel; the first ones may have gone by the daemon.
    assert!(carried(&daemon, "guest1") > 1000);
    assert_balanced(&daemon);
    daemon.stop();
}
