//! UDP, echo, errors and sizes.

use std::net::UdpSocket;

use rustix::net::sockopt;
use testbed::{Netns, Ping, ping, require, wait_until};
use vmlan_sys::inet::{self, Headers, Version};

use crate::lab::*;
use crate::support::{Daemon, PATIENCE, assert_balanced};
use crate::tcp::run_within;

#[test]
fn datagrams_come_back_and_so_do_errors() {
    require!(namespaces(), tool("traceroute"));
    let world = World::new(2);
    let daemon = world.start_settled(&format!("workers = 2\n{}", world.config("")));
    case_30_one_socket_has_one_port_outside(&world, &daemon);
    case_31_closed_ports_are_told(&world);
    case_32_large_datagrams_arrive_whole(&world);
    case_34_a_way_is_traced(&world.guests[0]);
    case_35_a_narrow_way_is_told(&world);
    case_36_echo(&world);
    assert_balanced(&daemon);
    daemon.stop();
}

fn case_30_one_socket_has_one_port_outside(world: &World, daemon: &Daemon) {
    let guest = udp(&world.guests[0], "0.0.0.0:4000");
    let peers: Vec<UdpSocket> =
        (0..20).map(|number| udp(&world.internet, &at(SERVER, 9100 + number).to_string())).collect();
    let mut seen = Vec::new();
    for peer in &peers {
        guest.send_to(b"hello", peer.local_addr().expect("an address")).expect("a datagram");
        let (_, from) = peer.recv_from(&mut [0; 99]).expect("a datagram");
        peer.send_to(b"answer", from).expect("a datagram");
        let (octets, by) = guest.recv_from(&mut [0; 99]).expect("an answer");
        assert_eq!((octets, by), (6, peer.local_addr().expect("an address")));
        seen.push(from);
    }
    assert!(seen.iter().all(|from| *from == seen[0]), "{seen:?}");
    let flows = flows(daemon).into_iter().filter(|flow| flow.protocol == "udp");
    assert_eq!(flows.count(), 1);

    let stranger = udp(&world.router, &at(ROUTER, 9100).to_string());
    stranger.send_to(b"nobody asked", seen[0]).expect("a datagram");
    peers[0].send_to(b"behind it", seen[0]).expect("a datagram");
    let mut heard = [0; 99];
    let octets = guest.recv(&mut heard).expect("the known peer's");
    assert_eq!(&heard[..octets], b"behind it");

    daemon.write_config(&world.config("udp_filter = \"open\""));
    daemon.cli(&["apply"]).expect_success();
    wait_until("the stranger's datagram", PATIENCE, || {
        stranger.send_to(b"a stranger's", seen[0]).expect("a datagram");
        guest.set_read_timeout(Some(std::time::Duration::from_millis(200))).expect("a timeout");
        guest.recv(&mut heard).is_ok_and(|octets| &heard[..octets] == b"a stranger's")
    });
}

#[test]
fn case_38_a_run_of_datagrams_is_one_frame_for_a_tap_that_takes_it() {
    // TAP devices take runs of datagrams since then.
    require!(namespaces(), linux(6, 2));
    let world = World::new(2);
    let plain = world.fixed(1, "").replace("name = \"t0\"", "name = \"t0\", offloads = false");
    let daemon = world.start_settled(&(world.uplink("") + &world.fixed(0, "") + &plain));
    let payload: Vec<u8> = (0..6000_u32).map(|place| (place % 249) as u8).collect();
    for (version, server) in [(Version::V4, SERVER), (Version::V6, SERVER6)] {
        let far = udp(&world.internet, &at(server, 9300).to_string());
        for (guest, wanted) in world.guests.iter().zip([vec![6000], vec![1200; 5]]) {
            let near = guest.inside(|| inet::udp(version)).expect("a socket");
            let headers = Headers { hop_limit: 64, class: 0, segment: None };
            inet::send(&near, at(server, 9300), b"hello", headers).expect("a datagram");
            let (_, from) = far.recv_from(&mut [0; 99]).expect("the datagram");
            let headers = Headers { segment: Some(1200), ..headers };
            inet::send(&far, from, &payload, headers).expect("a run of datagrams");
            let (mut heard, mut pieces, mut buffer) = (Vec::<u8>::new(), Vec::new(), vec![0; 65_536]);
            wait_until("all datagrams", PATIENCE, || {
                while let Ok(piece) = inet::receive(&near, &mut buffer) {
                    heard.extend(&buffer[..piece.len]);
                    pieces.push(piece.len);
                }
                heard.len() >= payload.len()
            });
            assert!(heard == payload && pieces == wanted, "{server}: {pieces:?}");
        }
    }
    assert_balanced(&daemon);
    daemon.stop();
}

fn case_31_closed_ports_are_told(world: &World) {
    for (any, server) in [("0.0.0.0:0", SERVER), ("[::]:0", SERVER6)] {
        for port in [9, 10, 11] {
            let socket = udp(&world.guests[0], any);
            socket.connect(at(server, port)).expect("an address");
            socket.send(b"hello").expect("a datagram");
            let error = socket.recv(&mut [0; 9]).expect_err("an error");
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{server}:{port}: {error}");
        }
    }
}

fn case_32_large_datagrams_arrive_whole(world: &World) {
    for (any, server) in [("0.0.0.0:0", SERVER), ("[::]:0", SERVER6)] {
        let far = udp(&world.internet, &at(server, 9200).to_string());
        let near = udp(&world.guests[0], any);
        for socket in [&far, &near] {
            sockopt::set_socket_recv_buffer_size(socket, 1 << 20).expect("a socket");
        }
        let wanted: Vec<u8> = (0..60_000_u32).map(|place| (place % 253) as u8).collect();
        let mut heard = vec![0; 65_536];
        for _ in 0..3 {
            near.send_to(&wanted, at(server, 9200)).expect("a datagram");
            let (octets, from) = far.recv_from(&mut heard).expect("the datagram");
            assert!(heard[..octets] == wanted, "{octets} octets");
            far.send_to(&wanted, from).expect("a datagram");
            let octets = near.recv(&mut heard).expect("the answer");
            assert!(heard[..octets] == wanted, "{octets} octets");
        }
    }
}

fn case_34_a_way_is_traced(guest: &Netns) {
    for (hops, family) in [([GATEWAY, ROUTER, SERVER], "-4"), (["fd00:1::1", ROUTER6, SERVER6], "-6")] {
        for way in ["-U", "-I"] {
            // One at a time: neither router says more than so many errors a second.
            let arguments = ["-n", family, way, "-q", "1", "-N", "1", "-w", "5", "-m", "6", hops[2]];
            let report = run_within(guest, "traceroute", &arguments).stdout;
            let lines: Vec<&str> = report.lines().skip(1).collect();
            assert_eq!(lines.len(), hops.len(), "{way}: {report}");
            for (line, hop) in lines.iter().zip(hops) {
                assert!(line.split_whitespace().nth(1) == Some(hop), "{way}, {hop}: {report}");
            }
        }
    }
}

fn case_35_a_narrow_way_is_told(world: &World) {
    let guest = &world.guests[0];
    for (to, next) in [(NARROW, 1372), (NARROW6, 1352)] {
        let ping = |payload: u32| {
            let size = payload.to_string();
            guest.exec("ping", ["-n", "-M", "do", "-c", "1", "-W", "2", "-s", &size, to])
        };
        // The host itself learns of it by the first that is too large.
        wait_until("the path's MTU", PATIENCE, || {
            let output = ping(next + 100);
            let all = output.stdout + &output.stderr;
            all.contains("mtu = 1400") || all.contains("mtu=1400") || all.contains("mtu: 1400")
        });
        ping(next).expect_success();
    }
    let listener = world.listen(&at(NARROW, 80).to_string());
    let (mut near, mut far) = join(guest, at(NARROW, 80), &listener);
    talk(&mut near, &mut far);
}

fn case_36_echo(world: &World) {
    let guest = &world.guests[0];
    for to in [SERVER, SERVER6, GATEWAY, "fd00:1::1", &v4(1), &v6(1)] {
        let report = ping(guest, at(to, 0).ip(), 3);
        assert!(report.all(), "{to}: {report:?}");
        let large = Ping { payload: 65_000, ..Ping::new(at(to, 0).ip(), 1) }.run(guest);
        assert!(large.all(), "{to}: {large:?}");
    }
    // The gateway answers for nobody.
    assert_eq!(ping(guest, at("203.0.113.99", 0).ip(), 1).received, 0);
    // Two guests with one id.
    for guest in &world.guests {
        let arguments = ["-n", "-q", "-e", "77", "-c", "2", "-i", "0.2", SERVER];
        guest.exec("ping", arguments).expect_success();
    }
}
