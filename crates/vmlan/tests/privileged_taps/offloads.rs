//! Guests whose kernels leave checksums and segmentation to the receiver, next to guests that take neither.

use std::net::IpAddr;

use guest::Attachment;
use testbed::{Iperf, iperf3, require};

use crate::lab::{Guest, configure, v4, v6, with_guests};
use crate::support::{Daemon, Peer, assert_balanced};

const PLAIN: &str = "offloads = false";

/// The port of `guest` with further members of its `tap` table.
fn port_with(guest: &Guest, member: &str) -> String {
    guest.port("").replace(" }\n", &format!(", {member} }}\n"))
}

#[test]
fn large_frames_pass_whole_between_two_that_take_them() {
    require!(namespaces(), tool("iperf3"));
    let (one, two) = (Guest::new(1), Guest::new(2));
    let daemon = with_guests("", &[&one, &two]);
    for to in [IpAddr::from(v4(2)), v6(2).into()] {
        let before = daemon.port("guest2").counters;
        let report = iperf3(&one.netns, &two.netns, to, Iperf::tcp(1));
        assert!(report.received_octets > 1_000_000, "{report:?}");
        let after = daemon.port("guest2").counters;
        let (frames, segments) =
            (after.tx_large - before.tx_large, after.tx_large_segments - before.tx_large_segments);
        assert!(frames > 10 && segments > 4 * frames, "{to}: {after:?}");
        assert_eq!(after.segmented, before.segmented, "nothing was cut for {to}");
    }
    assert_balanced(&daemon);
    let port = daemon.port("guest1");
    assert!(port.mechanism.is_some_and(|by| by.contains("tso4")), "the port says what it takes");
    daemon.stop();
}

#[test]
fn large_frames_are_cut_for_one_that_does_not_take_them() {
    require!(namespaces(), tool("iperf3"));
    for head in ["", "workers = 2\n", "[network.lab]\nmtu = 9000\n"] {
        let (large, plain) = (Guest::new(1), Guest::new(2));
        let config = format!("{head}{}{}", large.port(""), port_with(&plain, PLAIN));
        let daemon = Daemon::start(&config);
        configure(&daemon, &[&large, &plain]);
        for to in [IpAddr::from(v4(2)), v6(2).into()] {
            let report = iperf3(&large.netns, &plain.netns, to, Iperf::tcp(1));
            assert!(report.received_octets > 1_000_000, "{report:?}");
        }
        let counters = daemon.port("guest2").counters;
        assert!(counters.segmented > 100 && counters.tx_large == 0, "{head}: {counters:?}");
        assert_eq!(daemon.port("guest1").counters.drops.get("bad_offload"), None);
        assert_balanced(&daemon);
        daemon.stop();
    }
}

#[test]
fn small_segments_of_a_sender_without_offloads_arrive_merged() {
    require!(namespaces(), tool("iperf3"));
    let (plain, large) = (Guest::new(1), Guest::new(2));
    let daemon = Daemon::start(&format!("{}{}", port_with(&plain, PLAIN), large.port("")));
    configure(&daemon, &[&plain, &large]);
    for to in [IpAddr::from(v4(2)), v6(2).into()] {
        let before = daemon.port("guest2").counters;
        let report = iperf3(&plain.netns, &large.netns, to, Iperf::tcp(1));
        assert!(report.received_octets > 1_000_000, "{report:?}");
        let after = daemon.port("guest2").counters;
        assert!(
            after.coalesced - before.coalesced > 100 && after.tx_large > before.tx_large,
            "{to}: {after:?}"
        );
    }
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn an_open_checksum_is_finished_for_a_socket() {
    require!(namespaces());
    let guest = Guest::new(1);
    let daemon = Daemon::start(&format!(
        "{}[network.lab.port.raw]\nstream = {{ listen = \"raw.sock\" }}\n",
        guest.port("")
    ));
    configure(&daemon, &[&guest]);
    let mut raw = Peer::attach(9, Attachment::Stream { path: daemon.path("raw.sock") });
    daemon.wait_up(&["raw"]);
    // A neighbour that needs no question, so that the datagram goes out at once.
    let neighbour = ["neigh", "add", &v4(9).to_string(), "lladdr", &raw.mac.to_string(), "dev", "t0"];
    guest.netns.ip(neighbour);
    guest.netns.exec("bash", ["-c", &format!("echo -n vmlan > /dev/udp/{}/4242", v4(9))]);
    let is_datagram =
        |frame: &[u8]| frame[12..14] == [8, 0] && frame[23] == 17 && frame[36..38] == 4242u16.to_be_bytes();
    let frame = raw.raw.expect(is_datagram).expect("the datagram");
    let datagram = &frame[34..34 + 13];
    let mut pseudo = [&frame[26..34], &[0, 17, 0, 13], datagram].concat();
    if pseudo.len() % 2 == 1 {
        pseudo.push(0);
    }
    let words = pseudo.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "{frame:02x?}");
    assert_balanced(&daemon);
    daemon.stop();
}
