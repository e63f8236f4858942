//! Frames that the guest does not get, and what is done about it.

use std::time::Duration;

use vmlan_frame::{Frame, Instant};

use super::peer::{FIN, Peer, RST, read};
use super::world::{World, pattern};
use crate::guests::Limits;
use crate::tcp::State;
use vmlan_frame::PoolSizes;

fn refuse(world: &mut World, frame: &Frame) {
    let (tcp, mut turn) = world.turn();
    tcp.refused(&mut turn, frame);
}

#[test]
fn case_13_a_queue_of_four_frames() {
    let mut world = World::new();
    let peer = Peer { window: 8 << 20, ..world.peer() };
    let (number, flow) = world.open(peer);
    let data = pattern(3 << 20);
    world.sockets.feed(flow, &data);
    let mut refused = 0;
    while world.peers[number].received.len() < data.len() {
        let frames = world.step();
        for (place, frame) in frames.into_iter().enumerate() {
            if place < 4 {
                world.deliver(frame);
            } else {
                refuse(&mut world, &frame);
                refused += 1;
            }
        }
        let answers: Vec<_> = world.peers[number].outbox.drain(..).collect();
        world.batch(&answers);
        world.now = world.now + Duration::from_micros(100);
    }
    assert!(world.peers[number].received == data);
    let statistics = world.tcp.statistics();
    assert_eq!((statistics.timeouts, statistics.refused), (0, refused));
    assert!(refused > 0);
}

#[test]
fn a_guest_that_takes_nothing_is_not_tried_for_ever() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.sockets.feed(flow, &pattern(100_000));
    let (start, mut tries) = (world.now, 0);
    while world.now.since(start) < Duration::from_secs(5) {
        for frame in world.step() {
            tries += 1;
            refuse(&mut world, &frame);
        }
        world.now = world.tcp.deadline().unwrap_or(world.now).max(world.now);
    }
    assert!(tries < 200, "{tries}");
    world.advance(Duration::from_secs(10));
    assert!(world.peers[number].received == pattern(100_000));
}

#[test]
fn refused_acknowledgements_and_ends_come_again() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.peers[number].send(b"data");
    let frames: Vec<_> = world.peers[number].outbox.drain(..).collect();
    world.batch(&frames);
    let acknowledgement = world.step();
    refuse(&mut world, &acknowledgement[0]);
    world.advance(Duration::from_millis(1));
    assert_eq!(world.peers[number].seen.len(), 2);
    world.sockets.end(flow);
    let end = world.step();
    assert!(read(&end[0]).0.flags.contains(FIN));
    refuse(&mut world, &end[0]);
    world.advance(Duration::from_millis(1));
    assert!(world.peers[number].has_end);
    assert_eq!(world.tcp.statistics().timeouts, 0);
    // Of another flow, or none at all.
    let stray = world.peer().syn();
    refuse(&mut world, &stray);
    let short = world.pool.copy(&[0; 20]).unwrap();
    refuse(&mut world, &short);
}

#[test]
fn case_14_a_lost_frame_is_repeated_after_three_duplicates() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    let data = pattern(400_000);
    world.sockets.feed(flow, &data);
    let mut frames = world.step();
    let lost = frames.remove(1);
    let lost = read(&lost);
    frames.into_iter().for_each(|frame| world.deliver(frame));
    // Meanwhile the guest sends, so the repeated frame has another acknowledgement number.
    world.peers[number].send(b"something");
    let answers: Vec<_> = world.peers[number].outbox.drain(..).collect();
    world.batch(&answers);
    let again = world.step();
    let again = read(&again[0]);
    assert_eq!((again.0.sequence, &again.3), (lost.0.sequence, &lost.3));
    assert_ne!(again.0.acknowledgement, lost.0.acknowledgement);
    assert_eq!((world.tcp.statistics().fast_repeats, world.tcp.statistics().timeouts), (1, 0));
    world.advance(Duration::from_secs(1));
    assert!(world.peers[number].received == data);
}

#[test]
fn a_frame_is_repeated_while_the_network_still_holds_the_first() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.sockets.feed(flow, &pattern(5_000));
    let held = world.step();
    let before = read(&held[0]);
    world.peers[number].send(b"something");
    let answers: Vec<_> = world.peers[number].outbox.drain(..).collect();
    world.batch(&answers);
    world.advance(Duration::from_secs(2));
    assert_eq!(read(&held[0]).0, before.0);
    assert_eq!(world.peers[number].received, pattern(5_000));
    drop(held);
    assert_eq!(world.own.out(), 0);
}

#[test]
fn a_part_of_a_frame_that_was_acknowledged_is_not_repeated() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.sockets.feed(flow, &pattern(60_000));
    let frames = world.step();
    let (seen, .., payload) = read(&frames[0]);
    drop(frames);
    // Ten segments of it arrive.
    let peer = &mut world.peers[number];
    peer.received.extend(&payload[..14_600]);
    peer.rcv_nxt = peer.rcv_nxt.wrapping_add(14_600);
    peer.acknowledge();
    world.run();
    world.now = world.now + Duration::from_secs(2);
    let again = world.step();
    let again = read(&again[0]);
    assert_eq!(again.0.sequence, seen.sequence.wrapping_add(14_600));
    // After a timeout it is one segment until something is acknowledged.
    assert_eq!(again.3, payload[14_600..16_060]);
    let peer = &mut world.peers[number];
    peer.rcv_nxt = peer.rcv_nxt.wrapping_add(1_460);
    peer.acknowledge();
    let answer: Vec<_> = peer.outbox.drain(..).collect();
    world.batch(&answer);
    let rest = world.step();
    assert_eq!(read(&rest[0]).3, payload[16_060..]);
}

#[test]
fn repetition_by_time_has_patience_and_an_end() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.sockets.feed(flow, b"first");
    world.run();
    world.peers[number].answers = false;
    let start = world.now;
    world.sockets.feed(flow, b"second");
    let mut times: Vec<u64> = Vec::new();
    while !world.tcp.is_empty() {
        for seen in world.seen() {
            times.push(world.now.since(start).as_millis() as u64 / 100);
            assert!(seen.len == 6 || seen.flags.contains(RST));
        }
        world.now = world.tcp.deadline().unwrap_or(world.now).max(world.now);
    }
    assert_eq!(times[..9], [0, 2, 6, 14, 30, 62, 126, 254, 510]);
    assert_eq!(times.len(), 1 + 15 + 1);
    assert!(*times.last().unwrap() > 5 * 600 && *times.last().unwrap() < 20 * 600);
    assert!(world.sockets.closed[0].1);
    world.assert_nothing_is_left();
}

#[test]
fn case_15_a_guest_that_was_paused_for_five_minutes_goes_on() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.sockets.feed(flow, &pattern(90_000));
    let start = world.now;
    while world.now.since(start) < Duration::from_secs(300) {
        drop(world.step());
        world.now = world.tcp.deadline().unwrap().max(world.now);
    }
    world.advance(Duration::from_secs(61));
    assert!(world.peers[number].received == pattern(90_000));
}

#[test]
fn a_guest_that_sends_does_not_put_off_repetition() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.sockets.feed(flow, b"lost");
    drop(world.step());
    world.peers[number].answers = false;
    let start = world.now;
    let mut at: Option<Instant> = None;
    for _ in 0..200 {
        world.now = world.now + Duration::from_millis(10);
        let peer = &mut world.peers[number];
        peer.send(b"more");
        let answers: Vec<_> = peer.outbox.drain(..).collect();
        world.batch(&answers);
        if world.seen().iter().any(|seen| seen.len == 4) {
            at = at.or(Some(world.now));
        }
    }
    assert!(at.is_some_and(|at| at.since(start) < Duration::from_millis(1_100)));
}

#[test]
fn a_lost_fin_is_repeated_and_a_lost_answer_too() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.sockets.feed(flow, b"last words");
    world.sockets.end(flow);
    drop(world.step());
    world.advance(Duration::from_secs(3));
    assert!(world.peers[number].has_end);
    assert_eq!(world.peers[number].received, b"last words");
    world.peers[number].close();
    let fin: Vec<_> = world.peers[number].outbox.drain(..).collect();
    world.batch(&fin);
    drop(world.step());
    assert_eq!(world.tcp.reports().next().unwrap().state, State::Gone);
    world.peers[number].timeout();
    world.run();
    assert!(world.peers[number].is_done());
}

#[test]
fn the_same_octets_arrive_over_a_link_that_loses_and_repeats() {
    let sizes = PoolSizes { small: 4096, large: 64, bulk: 0 };
    for seed in 0..8u64 {
        let mut world = World::with(1500, Limits::default(), sizes);
        let peer = Peer { window: 200_000, ..world.peer() };
        let (number, flow) = world.open(peer);
        let data = pattern(600_000);
        world.sockets.feed(flow, &data);
        let mut random = seed * 2 + 1;
        for _ in 0..3_000 {
            let mut frames = world.step();
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if random >> 60 < 3 && !frames.is_empty() {
                frames.remove((random >> 40) as usize % frames.len());
            }
            if random >> 60 == 5 {
                frames.reverse();
            }
            frames.into_iter().for_each(|frame| world.deliver(frame));
            let answers: Vec<_> = world.peers[number].outbox.drain(..).collect();
            world.batch(&answers);
            if answers.is_empty() {
                world.now = world.tcp.deadline().unwrap().max(world.now);
            }
            if world.peers[number].received.len() == data.len() {
                break;
            }
        }
        assert!(world.peers[number].received == data, "{seed}");
    }
}

#[test]
fn a_repetition_waits_for_no_buffer_that_its_arrival_would_free() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    let data = pattern(50_000);
    world.sockets.feed(flow, &data);
    // Lost, all of it.
    assert!(!world.step().is_empty());
    let held: Vec<_> = [vmlan_frame::Size::Small, vmlan_frame::Size::Large]
        .into_iter()
        .flat_map(|size| std::iter::from_fn(|| world.own.take(size)).collect::<Vec<_>>())
        .collect();
    world.advance(Duration::from_secs(20));
    assert!(world.peers[number].received == data);
    drop(held);
}

#[test]
fn of_what_the_guest_sends_only_what_was_lost_is_sent_again() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.peers[number].send(&pattern(20 * 1460));
    let mut frames: Vec<_> = world.peers[number].outbox.drain(..).collect();
    let lost: Vec<_> = [12, 5].map(|place| frames.remove(place)).into();
    world.batch(&frames);
    world.poll();
    assert_eq!(world.sockets.socket(flow).taken.len(), 5 * 1460);
    // The first hole, then the other: what is between and behind was kept.
    world.batch(&lost[1..]);
    assert_eq!(world.sockets.socket(flow).taken.len(), 12 * 1460);
    world.batch(&lost[..1]);
    assert!(world.sockets.socket(flow).taken == pattern(20 * 1460));
    world.run();
    assert_eq!((world.own.out(), world.guests.of(crate::testing::INGRESS).memory), (0, 0));
}
