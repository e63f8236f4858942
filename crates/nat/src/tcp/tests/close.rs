//! Flows end: in order from either side, by reset, by a broken socket.

use std::time::Duration;

use super::peer::{ACK, FIN, Peer, RST, SYN};
use super::world::{World, pattern};
use crate::tcp::{Failure, State};

#[test]
fn case_5_the_guest_ends_first_and_everything_arrives() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.peers[number].send(b"a question");
    world.peers[number].close();
    world.run();
    assert!(world.sockets.socket(flow).is_shut);
    world.sockets.feed(flow, &pattern(1 << 20));
    world.sockets.end(flow);
    world.run();
    let peer = &world.peers[number];
    assert!(peer.is_done() && !peer.is_reset && peer.received == pattern(1 << 20));
    assert!(world.sockets.open.is_empty() && !world.sockets.closed[0].1);
    assert_eq!(world.tcp.reports().next().unwrap().state, State::Gone);
    world.assert_nothing_is_left();
}

#[test]
fn the_server_ends_first() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.sockets.feed(flow, b"goodbye");
    world.sockets.end(flow);
    world.run();
    assert!(world.peers[number].has_end);
    world.peers[number].send(&pattern(100_000));
    world.run();
    assert!(world.sockets.socket(flow).taken == pattern(100_000));
    world.peers[number].close();
    world.run();
    assert!(world.peers[number].is_done() && !world.sockets.closed[0].1);
    world.assert_nothing_is_left();
}

#[test]
fn both_end_at_once() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.sockets.end(flow);
    let theirs = world.step();
    world.peers[number].close();
    let ours: Vec<_> = world.peers[number].outbox.drain(..).collect();
    world.batch(&ours);
    theirs.into_iter().for_each(|frame| world.deliver(frame));
    drop(ours);
    world.run();
    assert!(world.peers[number].is_done() && world.sockets.open.is_empty());
    world.assert_nothing_is_left();
}

#[test]
fn a_repeated_fin_is_answered_for_a_moment() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.sockets.end(flow);
    world.run();
    world.peers[number].close();
    world.run();
    let peer = &world.peers[number];
    let again = peer.segment((peer.nxt.wrapping_sub(1), peer.rcv_nxt), FIN | ACK, 500, &[], &[]);
    let acknowledgement = peer.nxt;
    world.take(&again).unwrap();
    let seen = world.seen();
    assert_eq!((seen[0].flags, seen[0].acknowledgement), (ACK, acknowledgement));
    world.advance(Duration::from_millis(2_100));
    world.take(&again).unwrap();
    assert_eq!(world.seen()[0].flags, RST);
    drop(again);
    world.assert_nothing_is_left();
}

#[test]
fn the_ends_of_a_flow_that_is_over_are_used_again() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.sockets.end(flow);
    world.peers[number].close();
    world.run();
    assert_eq!(world.tcp.reports().next().unwrap().state, State::Gone);
    let old = world.peers[number].segment((0xffff_fe00, 0), SYN, 9, &[], &[]);
    world.take(&old).unwrap();
    world.step();
    assert_eq!(world.sockets.connected.len(), 1);
    let next = Peer { iss: world.peers[number].nxt, ..world.peer() };
    let (next, flow) = world.open(next);
    assert_eq!((world.sockets.connected.len(), world.tcp.len()), (2, 1));
    world.sockets.feed(flow, b"hello");
    world.run();
    assert_eq!(world.peers[next].received, b"hello");
}

#[test]
fn case_6_a_reset_of_the_server_reaches_the_guest() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.sockets.feed(flow, &pattern(5_000));
    world.run();
    let next = world.peers[number].rcv_nxt;
    world.sockets.fail(flow, Failure::Reset);
    world.run();
    let seen = *world.peers[number].seen.last().unwrap();
    assert_eq!((seen.flags, seen.sequence), (RST | ACK, next));
    assert!(world.peers[number].is_reset && world.peers[number].received == pattern(5_000));
    world.assert_nothing_is_left();
}

#[test]
fn case_6_a_reset_while_frames_are_lost_is_found_out() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.sockets.feed(flow, &pattern(5_000));
    drop(world.step());
    world.sockets.fail(flow, Failure::Reset);
    world.advance(Duration::from_millis(1));
    assert!(world.peers[number].is_reset, "its question was answered with a reset that fits");
    world.assert_nothing_is_left();
}

#[test]
fn case_6_a_reset_of_the_guest_reaches_the_server() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.sockets.feed(flow, &pattern(50_000));
    drop(world.step());
    let rst = world.peers[number].bare(RST);
    world.take(&rst).unwrap();
    assert!(world.sockets.closed[0].1);
    drop(rst);
    world.assert_nothing_is_left();
}

#[test]
fn case_7_a_reset_with_another_number() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    for (off, answers) in [(1u32, 1), (60_000, 1), (70_000, 0), (u32::MAX, 0), (1 << 31, 0)] {
        let peer = &world.peers[number];
        let rst = peer.segment((peer.nxt.wrapping_add(off), 0), RST, 0, &[], &[]);
        world.take(&rst).unwrap();
        assert_eq!(world.seen().len(), answers, "{off}");
    }
    assert!(world.sockets.open.contains_key(&flow));
}

#[test]
fn case_7_challenges_are_few() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, _) = world.open(peer);
    let peer = &world.peers[number];
    let blind = [
        peer.segment((peer.nxt.wrapping_add(1), 0), RST, 0, &[], &[]),
        peer.segment((peer.nxt.wrapping_add(1), 0), SYN, 0, &[], &[]),
        peer.segment((peer.nxt, peer.rcv_nxt.wrapping_add(9)), ACK, 0, &[], &[]),
        peer.segment((peer.nxt, peer.rcv_nxt.wrapping_sub(8 << 20)), ACK, 0, &[], &[]),
    ];
    let mut answers = 0;
    for n in 0..100 {
        world.take(&blind[n % blind.len()]).unwrap();
        answers += world.seen().len();
    }
    assert_eq!(answers, 10);
    world.advance(Duration::from_secs(1));
    world.take(&blind[0]).unwrap();
    assert_eq!(world.seen().len(), 1);
}

#[test]
fn a_reset_behind_a_fin_that_waits_is_one() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.sockets.set_room(flow, Some(0));
    world.peers[number].send(&pattern(70_000));
    world.run();
    world.peers[number].unsent.clear();
    world.peers[number].una = world.peers[number].nxt;
    let peer = &world.peers[number];
    let fin = peer.segment((peer.nxt, peer.rcv_nxt), FIN | ACK, 500, &[], &[]);
    let rst = peer.segment((peer.nxt.wrapping_add(1), peer.rcv_nxt), RST | ACK, 0, &[], &[]);
    world.batch(&[fin, rst]);
    assert!(world.sockets.closed[0].1);
    world.step();
    world.assert_nothing_is_left();
}

#[test]
fn a_socket_that_takes_no_more_is_read_to_its_end() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.sockets.set_room(flow, Some(0));
    world.peers[number].send(&pattern(9_000));
    world.run();
    world.sockets.feed(flow, b"too large");
    world.sockets.events.clear();
    world.sockets.fail(flow, Failure::Reset);
    world.run();
    assert_eq!(world.peers[number].received, b"too large");
    assert!(world.peers[number].is_reset && world.sockets.closed[0].1);
    world.assert_nothing_is_left();
}

#[test]
fn a_reset_behind_the_end_of_the_servers_data() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.sockets.end(flow);
    world.run();
    assert!(world.peers[number].has_end && !world.peers[number].is_reset);
    world.sockets.fail(flow, Failure::Reset);
    world.run();
    assert!(world.peers[number].is_reset);
    world.assert_nothing_is_left();
}

#[test]
fn case_22_flows_are_closed_in_every_state() {
    for state in ["queued", "connecting", "accepting", "open", "kept", "gone"] {
        let mut world = World::new();
        let mut peer = world.peer();
        world.take(&peer.syn()).unwrap();
        peer.is_open = false;
        world.peers.push(peer);
        if state != "queued" {
            world.step();
        }
        if !["queued", "connecting"].contains(&state) {
            let flow = world.sockets.last();
            world.sockets.is_connected(flow);
            let frames = world.step();
            if state != "accepting" {
                frames.into_iter().for_each(|frame| world.deliver(frame));
                world.run();
                world.sockets.set_room(flow, (state == "kept").then_some(9));
                world.peers[0].send(&pattern(40_000));
                world.sockets.feed(flow, &pattern(90_000));
                world.run();
            }
            if state == "gone" {
                world.peers[0].close();
                world.sockets.end(flow);
                world.run();
            }
        }
        let id = world.tcp.reports().next().unwrap().id;
        let (tcp, mut turn) = world.turn();
        assert_eq!(tcp.close_where(&mut turn, |flow| flow.guest.port() == 40_000), 1, "{state}");
        world.run();
        assert!(world.peers[0].is_reset || ["gone", "accepting"].contains(&state), "{state}");
        let (tcp, mut turn) = world.turn();
        assert!(!tcp.close(&mut turn, id));
        world.assert_nothing_is_left();
    }
}
