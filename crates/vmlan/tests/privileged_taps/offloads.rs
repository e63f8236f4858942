//! Guests whose kernels leave checksums and segmentation to the receiver, next to guests that take neither.

use std::net::IpAddr;

use testbed::{Interface, Iperf, iperf3, require};
use vmlan_guest::Attachment;

use crate::lab::{Guest, configure, v4, v6, with_guests};
use crate::support::{Daemon, PATIENCE, Peer, assert_balanced};

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

/// TCP and UDP of kernels with offloads on, whose segments are small: to one that takes them whole, and to one that
/// does not.
#[test]
fn small_segments_pass_whole_and_cut() {
    require!(namespaces(), tool("iperf3"));
    for mtu in [68, 88, 296, 575] {
        let (large, taker, plain) = (Guest::new(1), Guest::new(2), Guest::new(3));
        let ports = format!("{}{}{}", large.port(""), taker.port(""), port_with(&plain, PLAIN));
        let daemon = Daemon::start(&format!("[network.lab]\nmtu = {mtu}\n{ports}"));
        for guest in [&large, &taker, &plain] {
            daemon.wait_up(&[&format!("guest{}", guest.number)]);
            // So short an MTU is none for IPv6.
            guest.netns.configure("t0", &Interface::new().address(&format!("{}/24", v4(guest.number))));
        }
        for to in [&taker, &plain] {
            let address = IpAddr::from(v4(to.number));
            let report = iperf3(&large.netns, &to.netns, address, Iperf::tcp(1));
            assert!(report.received_octets > 200_000, "{mtu} to {}: {report:?}", to.number);
        }
        let counters = daemon.port("guest1").counters;
        // With an MSS below 128 a kernel may ask for more than are made, and finds out.
        assert!(mtu < 296 || !counters.drops.contains_key("bad_offload"), "{mtu}: {counters:?}");
        // A TCP of Linux fragments what is shorter than its least MSS.
        assert!(mtu == 68 || counters.rx_large_segments > counters.rx_large, "{mtu}: {counters:?}");
        let cut = daemon.port("guest3").counters.segmented;
        assert!(mtu == 68 || cut > 100, "{mtu}: {cut} cut");
        assert_balanced(&daemon);
        daemon.stop();
    }
}

/// Datagrams as a kernel hands them over that is to send several at once (UDP_SEGMENT).
#[test]
fn small_datagrams_pass_whole_and_cut() {
    require!(namespaces(), tool("python3"));
    let (large, taker, plain) = (Guest::new(1), Guest::new(2), Guest::new(3));
    let ports = format!("{}{}{}", large.port(""), taker.port(""), port_with(&plain, PLAIN));
    let daemon = Daemon::start(&ports);
    configure(&daemon, &[&large, &taker, &plain]);
    for to in [&taker, &plain] {
        large.pings(to);
        for (size, count) in [(511, 60), (200, 60), (40, 60), (2, 60), (1400, 40)] {
            let arguments = |way: &str| {
                let arguments =
                    [way.to_owned(), v4(to.number).to_string(), size.to_string(), count.to_string()];
                ["-c".to_owned(), DATAGRAMS.to_owned()].into_iter().chain(arguments)
            };
            let mut receiver = to.netns.spawn("python3", arguments("receive"));
            receiver.wait_for_log("ready", PATIENCE);
            large.netns.exec("python3", arguments("send"));
            receiver.wait_for_log("all", PATIENCE);
        }
    }
    let counters = daemon.port("guest1").counters;
    assert_eq!(counters.drops.get("bad_offload"), None);
    assert!(counters.rx_large >= 10 && daemon.port("guest3").counters.segmented > 200, "{counters:?}");
    assert_balanced(&daemon);
    daemon.stop();
}

/// Sends `count` datagrams of `size` octets by one call, or receives them: each in its place, and of its length.
const DATAGRAMS: &str = r#"
import socket, struct, sys
way, address, size, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
message = b"".join(struct.pack(">H", i) + bytes(size - 2) for i in range(count))
end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
if way == "send":
    # SOL_UDP, UDP_SEGMENT.
    end.setsockopt(17, 103, size)
    end.sendto(message, (address, 4243))
else:
    end.bind((address, 4243))
    end.settimeout(10)
    print("ready", flush=True)
    got = [end.recv(65536) for _ in range(count)]
    assert b"".join(got) == message and all(len(one) == size for one in got)
    print("all", flush=True)
"#;

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
