//! Time: keep-alives, guests that were started anew, ports that are away.

use std::time::Duration;

use super::peer::{ACK, Peer, RST};
use super::world::{World, pattern};
use crate::tcp::State;
use crate::testing::INGRESS;

#[test]
fn case_17_an_idle_flow_stays_and_costs_little() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.sockets.feed(flow, b"hello");
    world.run();
    let frames = world.peers[number].seen.len();
    world.wakes = 0;
    world.advance(Duration::from_secs(2 * 3_600));
    assert!(world.tcp.len() == 1 && !world.peers[number].is_reset);
    let questions = world.peers[number].seen.len() - frames;
    assert!((6..=12).contains(&questions), "{questions}");
    // The wheel turns before a timer is due, and an answer that came since sets it once more.
    assert!(world.wakes <= 5 * questions, "{} {questions}", world.wakes);
    let una = world.peers[number].rcv_nxt;
    assert_eq!(world.peers[number].seen.last().unwrap().sequence, una.wrapping_sub(1));
    world.sockets.feed(flow, b"again");
    world.run();
    assert_eq!(world.peers[number].received, b"helloagain");
}

#[test]
fn case_17_keep_alives_of_the_guest_keep_questions_away() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, _) = world.open(peer);
    let seen = world.peers[number].seen.len();
    for _ in 0..120 {
        world.advance(Duration::from_secs(60));
        let peer = &world.peers[number];
        let frame = peer.data(peer.nxt.wrapping_sub(1), &[]);
        world.batch(&[frame]);
        world.run();
    }
    assert_eq!(world.peers[number].seen.len() - seen, 120, "an answer for each, and no more");
}

#[test]
fn case_17_a_guest_that_is_gone_silently() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, _) = world.open(peer);
    world.peers[number].answers = false;
    world.advance(Duration::from_secs(20 * 60));
    assert_eq!(world.sockets.open.len(), 1);
    world.advance(Duration::from_secs(5 * 60));
    assert!(world.sockets.closed[0].1);
    world.peers[number].outbox.clear();
    world.assert_nothing_is_left();
}

#[test]
fn case_17_an_answer_to_the_last_question_begins_anew() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.peers[number].answers = false;
    world.advance(Duration::from_secs(21 * 60));
    world.peers[number].answers = true;
    world.advance(Duration::from_secs(2 * 60));
    world.peers[number].answers = false;
    world.advance(Duration::from_secs(20 * 60));
    assert!(world.sockets.open.contains_key(&flow));
    // Nor do unanswered questions count as repetitions of what comes then.
    world.sockets.feed(flow, b"lost");
    let start = world.now;
    drop(world.step());
    let again = std::iter::repeat_with(|| {
        world.now = world.tcp.deadline().unwrap();
        world.seen().len()
    });
    assert!(again.take(3).any(|count| count == 1));
    assert!(world.now.since(start) < Duration::from_millis(1_100));
}

#[test]
fn case_16_a_guest_that_was_started_anew_is_found_out() {
    let mut world = World::new();
    let count = 300;
    for port in 0..count {
        let peer = Peer::new(&format!("10.213.5.16:{}", 10_000 + port), "203.0.113.7:80", &world.pool);
        world.open(peer);
        world.now = world.now + Duration::from_millis(5);
    }
    let elsewhere = Peer { ingress: 4, ..Peer::new("10.213.5.17:1", "203.0.113.7:80", &world.pool) };
    world.open(elsewhere);
    // None of its connections is left, so every segment is answered with a reset.
    let (tcp, mut turn) = world.turn();
    tcp.question(&mut turn, INGRESS);
    let mut asked = 0;
    while world.tcp.has_output() {
        world.poll();
        let frames: Vec<_> = world.out.drain(..).collect();
        assert!(frames.len() <= 64);
        for frame in frames {
            let seen = super::peer::read(&frame);
            asked += 1;
            let peer = Peer { guest: seen.1, other: seen.2, ..world.peer() };
            let rst = peer.segment((seen.0.acknowledgement, 0), RST, 0, &[], &[]);
            world.take(&rst).unwrap();
        }
    }
    assert_eq!((asked, world.tcp.len(), world.sockets.closed.len()), (count, 1, count as usize));
    assert!(world.sockets.closed.iter().all(|(_, is_reset)| *is_reset));
}

#[test]
fn a_guest_that_asks_to_be_asked_is_asked_once_a_second() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, _) = world.open(peer);
    let seen = world.peers[number].seen.len();
    for _ in 0..100 {
        let (tcp, mut turn) = world.turn();
        tcp.question(&mut turn, INGRESS);
        world.advance(Duration::from_millis(20));
    }
    assert!((2..=3).contains(&(world.peers[number].seen.len() - seen)));
}

#[test]
fn a_syn_of_a_guest_that_was_started_anew_finds_its_old_flow() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, _) = world.open(peer);
    let (old_next, told) = (world.peers[number].nxt, world.peers[number].rcv_nxt);
    let new = Peer { iss: 5, ..world.peer() };
    world.take(&new.syn()).unwrap();
    let seen = world.seen();
    assert_eq!((seen[0].flags, seen[0].acknowledgement, seen[0].sequence), (ACK, old_next, told));
    let rst = new.segment((old_next, 0), RST, 0, &[], &[]);
    world.take(&rst).unwrap();
    assert!(world.sockets.closed[0].1);
    world.open(new);
    assert_eq!(world.tcp.len(), 1);
}

fn away(world: &mut World) {
    let now = world.now;
    world.tcp.port_away(INGRESS, now);
}

fn back(world: &mut World) {
    let (tcp, mut turn) = world.turn();
    tcp.port_back(&mut turn, INGRESS);
}

#[test]
fn while_a_port_is_away_nothing_is_sent_and_then_all() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.sockets.feed(flow, &pattern(20_000));
    drop(world.step());
    away(&mut world);
    world.sockets.feed(flow, &pattern(50_000));
    let seen = world.peers[number].seen.len();
    world.advance(Duration::from_secs(100));
    assert_eq!((world.peers[number].seen.len(), world.tcp.statistics().timeouts), (seen, 0));
    back(&mut world);
    world.advance(Duration::from_millis(1));
    assert!(world.peers[number].received[20_000..] == pattern(50_000));
    assert!(world.peers[number].received[..20_000] == pattern(20_000));
    // The time counts from the beginning again.
    away(&mut world);
    world.advance(Duration::from_secs(100));
    assert_eq!(world.tcp.len(), 1);
}

#[test]
fn the_flows_of_a_port_that_stays_away_end() {
    let mut world = World::new();
    let peer = world.peer();
    let (_, flow) = world.open(peer);
    let queued = Peer::new("10.213.5.16:2", "203.0.113.7:80", &world.pool).syn();
    world.take(&queued).unwrap();
    let elsewhere = Peer { ingress: 4, ..Peer::new("10.213.5.17:1", "203.0.113.7:80", &world.pool) };
    world.open(elsewhere);
    world.sockets.feed(flow, &pattern(50_000));
    away(&mut world);
    world.advance(Duration::from_secs(119));
    assert_eq!(world.tcp.len(), 2, "the SYN that was not repeated is gone");
    world.advance(Duration::from_secs(2));
    assert_eq!(world.tcp.len(), 1);
    assert_eq!(world.tcp.reports().next().unwrap().ingress, 4);
    let guest = "10.213.5.16:22".parse().unwrap();
    assert!(world.guests.is_own("10.213.5.16".parse().unwrap(), crate::testing::GUEST_MAC, INGRESS));
    let (tcp, mut turn) = world.turn();
    assert!(tcp.call(&mut turn, guest, "198.51.100.7:5".parse().unwrap()).is_none());
    back(&mut world);
    let (tcp, mut turn) = world.turn();
    let flow = tcp.call(&mut turn, guest, "198.51.100.7:5".parse().unwrap()).unwrap();
    assert_eq!(tcp.reports().find(|report| report.id == flow).unwrap().state, State::Calling);
}
