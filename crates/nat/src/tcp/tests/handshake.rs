//! Flows begin: from guests, and from outside.

use std::net::IpAddr;
use std::time::Duration;

use vmlan_frame::wire::{Icmpv4Packet, TcpFlags};
use vmlan_frame::{Frame, PoolSizes};

use super::peer::{ACK, FIN, Peer, RST, SYN, read};
use super::world::{GUEST, SERVER, World, pattern};
use crate::drop::Drop;
use crate::guests::Limits;
use crate::packet::Packet;
use crate::tcp::{Failure, State};
use crate::testing::{GUEST_MAC, INGRESS};

const GUEST6: &str = "[fd00:1:2:3::16]:40000";
const SERVER6: &str = "[2001:db8::7]:80";

#[test]
fn case_2_a_refused_port_is_refused_at_once() {
    let mut world = World::new();
    let peer = world.peer();
    world.take(&peer.syn()).unwrap();
    assert_eq!(world.seen(), []);
    let flow = world.sockets.last();
    world.sockets.fail(flow, Failure::Refused);
    let seen = world.seen();
    assert_eq!(seen.len(), 1);
    let acknowledgement = peer.iss.wrapping_add(1);
    assert_eq!((seen[0].sequence, seen[0].acknowledgement, seen[0].flags), (0, acknowledgement, RST | ACK));
    assert!(world.sockets.closed.len() == 1);
    world.assert_nothing_is_left();
}

#[test]
fn what_is_denied_is_told_or_not() {
    let mut world = World::new();
    for silently in [false, true] {
        world.reach.set_deny_silently(silently);
        let peer = Peer::new(GUEST, "169.254.169.254:80", &world.pool);
        assert_eq!(world.take(&peer.syn()), Err(Drop::Denied));
        // A segment that begins nothing tells no more.
        let stray = world.take(&peer.bare(ACK));
        assert_eq!(stray, if silently { Err(Drop::Denied) } else { Ok(()) });
        let resets = world.seen().iter().filter(|seen| seen.flags.contains(RST)).count();
        assert_eq!(resets, if silently { 0 } else { 2 }, "{silently}");
        // One for an open destination is answered all the same.
        world.take(&world.peer().bare(ACK)).unwrap();
        assert_eq!(world.seen().len(), 1);
    }
    assert!(world.sockets.connected.is_empty());
    world.assert_nothing_is_left();
}

#[test]
fn case_3_what_cannot_be_reached_is_an_error_about_the_syn() {
    for (failure, at_once, code) in [
        (Failure::NetworkUnreachable, true, 0),
        (Failure::HostUnreachable, false, 1),
        (Failure::Denied, true, 13),
        (Failure::NetworkUnreachable, false, 0),
    ] {
        let mut world = World::new();
        let peer = world.peer();
        let syn = peer.syn();
        if at_once {
            world.sockets.connects.push_back(Err(failure));
        }
        world.take(&syn).unwrap();
        let mut frames = world.step();
        if !at_once {
            let flow = world.sockets.last();
            world.sockets.fail(flow, failure);
            frames = world.step();
        }
        assert_eq!(frames.len(), 1);
        let packet = Packet::parse(&frames[0]).unwrap();
        let message = Icmpv4Packet::new_checked(packet.upper).unwrap();
        assert!(message.verify_checksum());
        assert_eq!((packet.upper[0], packet.upper[1]), (3, code), "{failure:?}");
        let quoted = &packet.upper[8..];
        assert_eq!(quoted[20..28], syn.octets()[34..42], "ports and the sequence number");
        drop((frames, syn));
        world.assert_nothing_is_left();
    }
}

#[test]
fn case_3_the_other_family() {
    let mut world = World::new();
    let peer = Peer::new(GUEST6, SERVER6, &world.pool);
    world.sockets.connects.push_back(Err(Failure::NetworkUnreachable));
    world.take(&peer.syn()).unwrap();
    let frames = world.step();
    let packet = Packet::parse(&frames[0]).unwrap();
    assert_eq!((packet.upper[0], packet.upper[1]), (1, 0));
}

#[test]
fn without_a_descriptor_nothing_is_said() {
    let mut world = World::new();
    world.sockets.connects.push_back(Err(Failure::NoDescriptor));
    let syn = world.peer().syn();
    world.take(&syn).unwrap();
    assert_eq!(world.seen(), []);
    assert_eq!(world.tcp.statistics().flow_limit, 1);
    drop(syn);
    world.assert_nothing_is_left();
}

#[test]
fn case_4_a_syn_that_is_repeated_is_one_socket_and_one_answer() {
    let mut world = World::new();
    let peer = world.peer();
    for second in [0, 1, 3, 7] {
        world.advance(Duration::from_secs(second));
        world.take(&peer.syn()).unwrap();
        assert_eq!(world.seen(), []);
    }
    assert_eq!(world.sockets.connected.len(), 1);
    let flow = world.sockets.last();
    world.sockets.is_connected(flow);
    let seen = world.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].flags, seen[0].acknowledgement), (SYN | ACK, peer.iss.wrapping_add(1)));
}

#[test]
fn a_guest_that_repeats_its_syn_no_more_has_given_up() {
    let mut world = World::new();
    let peer = world.peer();
    world.take(&peer.syn()).unwrap();
    world.advance(Duration::from_secs(60));
    world.take(&peer.syn()).unwrap();
    world.advance(Duration::from_secs(74));
    assert_eq!(world.tcp.len(), 1);
    world.advance(Duration::from_secs(2));
    assert!(world.sockets.closed[0].1 && world.strays.is_empty());
    drop(peer);
    world.assert_nothing_is_left();
}

#[test]
fn another_syn_between_the_same_ends_begins_anew() {
    let mut world = World::new();
    let mut peer = world.peer();
    world.take(&peer.syn()).unwrap();
    world.step();
    peer.iss = 77;
    world.take(&peer.syn()).unwrap();
    world.step();
    assert_eq!((world.sockets.connected.len(), world.sockets.closed.len()), (2, 1));
    let flow = world.sockets.last();
    world.sockets.is_connected(flow);
    assert_eq!(world.seen()[0].acknowledgement, 78);
}

#[test]
fn case_8_a_syn_that_is_given_up_leaves_nothing() {
    let mut world = World::new();
    for number in 0..2_000 {
        world.now = world.now + Duration::from_millis(10);
        let mut peer = world.peer();
        world.take(&peer.syn()).unwrap();
        if number % 2 == 0 {
            world.step();
            let flow = world.sockets.last();
            world.sockets.is_connected(flow);
            let seen = world.seen();
            peer.rcv_nxt = seen[0].sequence.wrapping_add(1);
        }
        let rst = peer.segment((peer.iss.wrapping_add(1), 0), RST, 0, &[], &[]);
        world.take(&rst).unwrap();
        assert_eq!((world.seen().len(), world.tcp.len()), (0, 0));
    }
    let peer = world.peer();
    world.open(peer);
    assert_eq!(world.sockets.open.len(), 1);
}

#[test]
fn case_9_segment_sizes_of_both_families() {
    for (mtu, v4, v6) in [(1500, 1460, 1440), (65_520, 65_480, 65_460), (65_535, 65_495, 65_475)] {
        for (guest, server, mss) in [(GUEST, SERVER, v4), (GUEST6, SERVER6, v6)] {
            let mut world = World::with(mtu, Limits::default(), PoolSizes { small: 99, large: 9, bulk: 0 });
            let peer = Peer { mss: Some(u16::MAX), ..Peer::new(guest, server, &world.pool) };
            let (number, flow) = world.open(peer);
            assert_eq!(world.peers[number].their_mss, mss);
            world.sockets.feed(flow, &pattern(65_000));
            world.run();
            let len = 65_000.min(65_495 / usize::from(mss) * usize::from(mss));
            assert_eq!(world.peers[number].seen[1].len, len);
            assert_eq!(world.peers[number].received, pattern(65_000));
        }
    }
}

#[test]
fn case_9_a_segment_size_that_is_too_small_is_dropped_and_none_is_the_least() {
    let mut world = World::new();
    let peer = Peer { mss: Some(87), ..world.peer() };
    assert_eq!(world.take(&peer.syn()), Err(Drop::BadMss));
    for (guest, server, mss) in [(GUEST, SERVER, 536), (GUEST6, SERVER6, 1220)] {
        let peer = Peer { mss: None, ..Peer::new(guest, server, &world.pool) };
        let (number, flow) = world.open(peer);
        world.sockets.feed(flow, &pattern(3_000));
        let frames = world.step();
        assert_eq!(frames[0].meta.offload.gso_size, mss);
        frames.into_iter().for_each(|frame| world.deliver(frame));
        world.run();
        assert_eq!(world.peers[number].received, pattern(3_000));
    }
}

#[test]
fn case_10_a_guest_without_window_scaling() {
    let mut world = World::new();
    let peer = Peer { scale: None, window: 0xffff, chunk: 32_000, ..world.peer() };
    let (number, flow) = world.open(peer);
    assert_eq!(world.peers[number].their_scale, None);
    world.sockets.feed(flow, &pattern(1 << 20));
    world.peers[number].send(&pattern(1 << 20));
    world.run();
    assert!(world.peers[number].received == pattern(1 << 20));
    assert!(world.sockets.socket(flow).taken == pattern(1 << 20));
    assert!(world.peers[number].seen.iter().all(|seen| seen.len <= 65_535));
}

#[test]
fn the_window_of_a_syn_is_not_scaled() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, _) = world.open(peer);
    assert_eq!(world.peers[number].seen[0].window, 0xffff);
    assert_eq!(world.peers[number].their_scale, Some(7));
}

#[test]
fn syn_ack_is_repeated_and_then_given_up() {
    let mut world = World::new();
    let peer = world.peer();
    world.take(&peer.syn()).unwrap();
    world.step();
    let flow = world.sockets.last();
    world.sockets.is_connected(flow);
    let first = world.seen();
    let mut times = Vec::new();
    let start = world.now;
    while let Some(at) = world.tcp.deadline() {
        world.now = at;
        for seen in world.seen() {
            assert_eq!(seen, first[0]);
            times.push(world.now.since(start).as_secs());
        }
    }
    assert_eq!(times, [1, 3, 7, 15]);
    assert!(world.sockets.closed[0].1, "the server sees a reset");
    drop(peer);
    world.assert_nothing_is_left();
}

#[test]
fn a_syn_again_while_its_answer_is_lost_is_answered_again() {
    let mut world = World::new();
    let mut peer = world.peer();
    world.take(&peer.syn()).unwrap();
    world.step();
    let flow = world.sockets.last();
    world.sockets.is_connected(flow);
    let first = world.step();
    world.take(&peer.syn()).unwrap();
    let second = world.step();
    assert_eq!(first[0].octets(), second[0].octets());
    peer.handle(&second[0]);
    world.take(&peer.outbox[0]).unwrap();
    assert_eq!(world.tcp.reports().next().unwrap().state, State::Open);
}

#[test]
fn data_and_fin_in_the_last_segment_of_the_handshake() {
    let mut world = World::new();
    let mut peer = world.peer();
    world.take(&peer.syn()).unwrap();
    world.step();
    let flow = world.sockets.last();
    world.sockets.is_connected(flow);
    let frames = world.step();
    peer.handle(&frames[0]);
    let all = peer.segment((peer.nxt, peer.rcv_nxt), FIN | ACK, 500, &[], &pattern(100));
    world.batch(&[all]);
    let seen = world.seen();
    assert_eq!(seen.last().unwrap().acknowledgement, peer.nxt.wrapping_add(101));
    assert!(world.sockets.socket(flow).is_shut);
    assert_eq!(world.sockets.socket(flow).taken, pattern(100));
}

#[test]
fn what_belongs_to_no_flow_is_reset() {
    let mut world = World::new();
    let peer = world.peer();
    type Answer = Option<(u32, u32, TcpFlags)>;
    let table: [(TcpFlags, &[u8], Answer); 6] = [
        (ACK, &[1; 9], Some((55, 0, RST))),
        (SYN | ACK, &[], Some((55, 0, RST))),
        (FIN, &[1; 9], Some((0, 110, RST | ACK))),
        (TcpFlags(0), &[], Some((0, 100, RST | ACK))),
        (RST, &[], None),
        (SYN | RST, &[], None),
    ];
    for (flags, payload, answer) in table {
        let frame = peer.segment((100, 55), flags, 9, &[], payload);
        world.take(&frame).unwrap();
        let seen = world.seen();
        let told = seen.first().map(|seen| (seen.sequence, seen.acknowledgement, seen.flags));
        assert_eq!(told, answer, "{flags:?}");
    }
    let both = peer.segment((100, 0), SYN | FIN, 9, &[], &[]);
    assert_eq!(world.take(&both), Err(Drop::BadHeader));
    assert_eq!(world.tcp.len(), 0);
}

#[test]
fn data_in_a_syn_is_not_acknowledged() {
    let mut world = World::new();
    let peer = world.peer();
    let syn = peer.segment((peer.iss, 0), SYN, 9, &[], &[7; 100]);
    world.take(&syn).unwrap();
    world.step();
    let flow = world.sockets.last();
    world.sockets.is_connected(flow);
    assert_eq!(world.seen()[0].acknowledgement, peer.iss.wrapping_add(1));
}

#[test]
fn a_wrong_checksum_is_dropped() {
    let mut world = World::new();
    let frame = world.peer().syn();
    let mut octets = frame.octets().to_vec();
    octets[50] ^= 1;
    let mut frame = world.pool.copy(&octets).unwrap();
    frame.meta.ingress = INGRESS;
    assert_eq!(world.take(&frame), Err(Drop::BadChecksum));
}

#[test]
fn case_18_two_guests_with_the_same_port_are_two_sockets() {
    let mut world = World::new();
    let one = world.peer();
    let other = Peer { ingress: 4, ..Peer::new("10.213.5.17:40000", SERVER, &world.pool) };
    let (one, first) = world.open(one);
    let (other, second) = world.open(other);
    world.sockets.feed(first, b"for the first");
    world.sockets.feed(second, b"for the second");
    world.peers[one].send(b"from the first");
    world.run();
    assert_eq!(world.peers[one].received, b"for the first");
    assert_eq!(world.peers[other].received, b"for the second");
    assert_eq!(world.sockets.socket(first).taken, b"from the first");
    assert!(world.sockets.socket(second).taken.is_empty());
}

fn called(world: &mut World, from: &str) -> (usize, crate::tcp::FlowId) {
    let peer = Peer::new("10.213.5.16:22", from, &world.pool);
    let (guest, from) = (peer.guest, peer.other);
    world.peers.push(peer);
    let (tcp, mut turn) = world.turn();
    let flow = tcp.call(&mut turn, guest, from).expect("a flow");
    world.sockets.adopt(flow);
    let (tcp, mut turn) = world.turn();
    tcp.begin_call(&mut turn, flow);
    (world.peers.len() - 1, flow)
}

fn bind(world: &mut World) {
    let address: IpAddr = "10.213.5.16".parse().unwrap();
    assert!(world.guests.is_own(address, GUEST_MAC, INGRESS));
}

#[test]
fn case_19_a_caller_is_seen_by_its_address() {
    let mut world = World::new();
    bind(&mut world);
    let (number, flow) = called(&mut world, "198.51.100.7:5555");
    world.run();
    let peer = &world.peers[number];
    assert_eq!((peer.seen[0].flags, peer.seen[0].window, peer.their_mss), (SYN, 0xffff, 1460));
    assert_eq!(peer.their_scale, Some(7));
    world.sockets.feed(flow, &pattern(50_000));
    world.peers[number].send(&pattern(70_000));
    world.run();
    assert!(world.peers[number].received == pattern(50_000));
    assert!(world.sockets.socket(flow).taken == pattern(70_000));
    assert!(world.tcp.reports().next().unwrap().came_in);
}

#[test]
fn case_20_a_guest_that_refuses_resets_its_caller() {
    let mut world = World::new();
    bind(&mut world);
    let (number, _) = called(&mut world, "198.51.100.7:5555");
    let frames = world.step();
    let acknowledgement = read(&frames[0]).0.sequence.wrapping_add(1);
    let wrong = world.peers[number].segment((0, acknowledgement.wrapping_add(1)), RST | ACK, 0, &[], &[]);
    world.take(&wrong).unwrap();
    assert_eq!(world.tcp.len(), 1);
    let rst = world.peers[number].segment((0, acknowledgement), RST | ACK, 0, &[], &[]);
    world.take(&rst).unwrap();
    assert!(world.sockets.closed[0].1);
    drop((frames, rst, wrong));
    world.assert_nothing_is_left();
}

#[test]
fn case_20_a_guest_that_does_not_answer() {
    let mut world = World::new();
    bind(&mut world);
    called(&mut world, "198.51.100.7:5555");
    let mut times = Vec::new();
    let start = world.now;
    times.extend(world.seen().iter().map(|_| 0));
    while let Some(at) = world.tcp.deadline() {
        world.now = at;
        times.extend(world.seen().iter().map(|_| at.since(start).as_secs()));
    }
    assert_eq!(times, [0, 1, 3, 7, 15]);
    assert!(world.sockets.closed[0].1);
    world.assert_nothing_is_left();
}

#[test]
fn a_guest_that_is_not_known_is_looked_for_and_counted_where_it_is() {
    let mut world = World::new();
    called(&mut world, "198.51.100.7:5555");
    let frames: Vec<Frame> = world.step();
    assert_eq!(frames[0].ethertype(), Some(0x0806));
    bind(&mut world);
    world.advance(Duration::from_secs(2));
    assert!(world.peers[0].is_open);
    assert_eq!((world.guests.of(0).flows, world.guests.of(INGRESS).flows), (0, 1));
    let report = world.tcp.reports().next().unwrap();
    assert_eq!((report.state, report.ingress), (State::Open, INGRESS));
    let (tcp, mut turn) = world.turn();
    assert!(tcp.close(&mut turn, report.id));
    drop(frames);
    world.run();
    world.assert_nothing_is_left();
}

#[test]
fn an_older_flow_of_the_guest_between_the_ends_of_a_call_is_ended() {
    let mut world = World::new();
    bind(&mut world);
    let (number, _) = called(&mut world, "198.51.100.7:5555");
    world.step();
    let old = world.peers[number].segment((5_000, 9_000), ACK, 100, &[], &[]);
    world.take(&old).unwrap();
    let seen = world.seen();
    assert_eq!((seen[0].flags, seen[0].sequence), (RST, 9_000));
    world.advance(Duration::from_millis(1_100));
    assert!(world.peers[number].is_open);
}
