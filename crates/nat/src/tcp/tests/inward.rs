//! From the socket to the guest: windows, budgets, turns.

use std::time::Duration;

use super::peer::{Peer, read};
use super::world::{World, pattern};
use crate::guests::{Guest, Limits};
use crate::testing::INGRESS;
use vmlan_frame::PoolSizes;

#[test]
fn a_large_read_is_one_frame() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.sockets.feed(flow, &pattern(300_000));
    world.run();
    let longest = world.peers[number].seen.iter().map(|seen| seen.len).max();
    assert_eq!(longest, Some(65_495 / 1460 * 1460));
    assert!(world.peers[number].received == pattern(300_000));
    assert_eq!((world.own.out(), world.guests.of(INGRESS).in_flight), (0, 0));
}

#[test]
fn little_is_kept_in_little() {
    let mut world = World::new();
    let peer = world.peer();
    let (_, flow) = world.open(peer);
    world.sockets.feed(flow, b"little");
    let frames = world.step();
    assert_eq!((world.own.free(vmlan_frame::Size::Large), world.guests.of(INGRESS).memory), (512, 2048));
    frames.into_iter().for_each(|frame| world.deliver(frame));
    world.run();
    assert_eq!(world.guests.of(INGRESS).memory, 0);
}

#[test]
fn case_11_a_closed_window_is_asked_about_with_patience() {
    let mut world = World::new();
    let peer = Peer { window: 100_000, ..world.peer() };
    let (number, flow) = world.open(peer);
    world.peers[number].window = 0;
    world.peers[number].acknowledge();
    world.run();
    world.sockets.feed(flow, &pattern(200_000));
    world.run();
    let (una, start) = (world.peers[number].rcv_nxt, world.now);
    let mut times = Vec::new();
    world.peers[number].seen.clear();
    while times.len() < 6 {
        world.now = world.tcp.deadline().unwrap();
        let count = world.peers[number].seen.len();
        world.run();
        for seen in &world.peers[number].seen[count..] {
            assert_eq!((seen.len, seen.sequence), (0, una.wrapping_sub(1)));
            times.push(world.now.since(start).as_millis() as u64 / 100 * 100);
        }
    }
    assert_eq!(times, [200, 600, 1_400, 3_000, 6_200, 12_600]);
    world.advance(Duration::from_secs(50));
    world.peers[number].window = 100_000;
    // The update is lost.
    world.advance(Duration::from_secs(61));
    assert!(world.peers[number].received == pattern(200_000));
}

#[test]
fn a_closed_window_is_asked_about_for_as_long_as_the_guest_answers() {
    for answers in [true, false] {
        let mut world = World::new();
        let peer = world.peer();
        let (number, flow) = world.open(peer);
        world.peers[number].window = 0;
        world.peers[number].acknowledge();
        world.run();
        world.peers[number].answers = answers;
        world.sockets.feed(flow, b"waits");
        world.advance(Duration::from_secs(1_500));
        assert_eq!(world.tcp.len() == 1, answers);
    }
}

#[test]
fn a_fin_waits_for_the_window() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.peers[number].window = 0;
    world.peers[number].acknowledge();
    world.run();
    world.sockets.end(flow);
    world.advance(Duration::from_secs(1_500));
    assert!(!world.peers[number].has_end && world.tcp.len() == 1);
    world.peers[number].window = 1_000;
    world.advance(Duration::from_secs(61));
    assert!(world.peers[number].has_end);
}

#[test]
fn case_12_a_window_of_one_octet() {
    let mut world = World::new();
    let peer = Peer { window: 1, scale: None, ..world.peer() };
    let (number, flow) = world.open(peer);
    world.peers[number].seen.clear();
    world.sockets.feed(flow, &pattern(100));
    world.advance(Duration::from_secs(4));
    let count = world.peers[number].seen.iter().filter(|seen| seen.len > 0).count();
    assert!((15..=20).contains(&count), "{count}");
    world.peers[number].window = 60_000;
    world.peers[number].acknowledge();
    world.run();
    assert_eq!(world.peers[number].received, pattern(100));
}

#[test]
fn a_small_window_is_used_when_it_never_was_larger() {
    let mut world = World::new();
    let peer = Peer { window: 500, scale: None, ..world.peer() };
    let (number, flow) = world.open(peer);
    world.sockets.feed(flow, &pattern(10_000));
    world.run();
    assert_eq!(world.peers[number].received, pattern(10_000));
}

#[test]
fn the_budget_of_a_guest_bounds_what_is_in_flight_and_grows() {
    let mut world = World::new();
    let peer = Peer { window: 8 << 20, ..world.peer() };
    let (number, flow) = world.open(peer);
    world.sockets.feed(flow, &pattern(6 << 20));
    let frames = world.step();
    let octets: usize = frames.iter().map(|frame| read(frame).0.len).sum();
    assert!(octets > 450 << 10 && octets <= 512 << 10, "{octets}");
    assert_eq!(world.guests.of(INGRESS).in_flight, octets);
    frames.into_iter().for_each(|frame| world.deliver(frame));
    world.run();
    assert!(world.peers[number].received == pattern(6 << 20));
    assert!(world.guests.of(INGRESS).budget > 800 << 10);
}

#[test]
fn a_flow_that_is_not_acknowledged_starves_no_other_guest() {
    let mut world = World::new();
    let deaf = Peer { answers: false, window: 8 << 20, ..world.peer() };
    let (_, first) = world.open(deaf);
    let other = Peer { ingress: 4, ..Peer::new("10.213.5.17:40000", "203.0.113.7:80", &world.pool) };
    let (other, second) = world.open(other);
    world.sockets.feed(first, &pattern(2 << 20));
    world.sockets.feed(second, &pattern(1 << 20));
    world.run();
    assert!(world.peers[other].received == pattern(1 << 20));
    assert!(world.guests.of(INGRESS).in_flight <= 512 << 10);
}

#[test]
fn flows_that_wait_for_budget_have_it_in_turn() {
    let mut world = World::new();
    let mut flows = Vec::new();
    for port in 0..40 {
        let guest = format!("10.213.5.16:{}", 40_000 + port);
        let peer = Peer { window: 8 << 20, ..Peer::new(&guest, "203.0.113.7:80", &world.pool) };
        flows.push(world.open(peer));
    }
    for (_, flow) in &flows {
        world.sockets.feed(*flow, &pattern(300_000));
    }
    // The first round takes all the budget, and most of them wait.
    let frames = world.step();
    assert!(frames.len() < 10);
    frames.into_iter().for_each(|frame| world.deliver(frame));
    world.run();
    for (number, _) in flows {
        assert!(world.peers[number].received == pattern(300_000));
    }
}

#[test]
fn flows_of_a_guest_take_turns_and_guests_do() {
    let mut world = World::new();
    world.guests.of(INGRESS).budget = 4 << 20;
    world.guests.of(4).budget = 4 << 20;
    let mut flows = Vec::new();
    for port in 0..10 {
        let guest = format!("10.213.5.16:{}", 40_000 + port);
        let peer = Peer { window: 8 << 20, ..Peer::new(&guest, "203.0.113.7:80", &world.pool) };
        flows.push(world.open(peer).1);
    }
    let single =
        Peer { ingress: 4, window: 8 << 20, ..Peer::new("10.213.5.17:1", "203.0.113.7:80", &world.pool) };
    flows.push(world.open(single).1);
    for flow in &flows {
        world.sockets.feed(*flow, &pattern(1 << 20));
    }
    while let Some((flow, ready)) = world.sockets.events.pop_front() {
        let (tcp, mut turn) = world.turn();
        tcp.ready(&mut turn, flow, ready);
    }
    let (tcp, mut turn) = world.turn();
    tcp.poll(&mut turn, 20);
    let mut counts = std::collections::HashMap::<_, usize>::new();
    for frame in &world.out {
        *counts.entry(read(frame).1).or_default() += 1;
    }
    assert_eq!(counts.len(), 11);
    assert_eq!(counts[&"10.213.5.17:1".parse().unwrap()], 10, "{counts:?}");
    assert!(counts.values().filter(|count| **count == 1).count() == 10);
}

#[test]
fn without_buffers_flows_wait_and_go_on() {
    let sizes = PoolSizes { small: 4, large: 1, bulk: 0 };
    let mut world = World::with(1500, Limits::default(), sizes);
    let peer = world.peer();
    let (one, first) = world.open(peer);
    let other = Peer::new("10.213.5.16:40001", "203.0.113.7:80", &world.pool);
    let (other, second) = world.open(other);
    for flow in [first, second] {
        world.sockets.feed(flow, &pattern(100_000));
    }
    // The network holds the frames.
    let mut frames = Vec::new();
    for (flow, ready) in std::mem::take(&mut world.sockets.events) {
        let (tcp, mut turn) = world.turn();
        tcp.ready(&mut turn, flow, ready);
    }
    world.poll();
    frames.extend(world.out.drain(..));
    assert!(!world.tcp.has_output() && world.tcp.has_work());
    assert!(world.tcp.deadline().is_some_and(|at| at.since(world.now) <= Duration::from_millis(1)));
    frames.into_iter().for_each(|frame| world.deliver(frame));
    world.advance(Duration::from_millis(50));
    assert!(world.peers[one].received == pattern(100_000));
    assert!(world.peers[other].received == pattern(100_000));
}

#[test]
fn without_small_buffers_of_the_worker_nothing_hangs() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.peers[number].send(&pattern(1_000));
    let frames: Vec<_> = world.peers[number].outbox.drain(..).collect();
    world.batch(&frames);
    let held: Vec<_> = std::iter::from_fn(|| world.pool.take(vmlan_frame::Size::Small)).collect();
    world.sockets.end(flow);
    let (tcp, mut turn) = world.turn();
    tcp.poll(&mut turn, 64);
    assert!(world.out.is_empty() && !world.tcp.has_output());
    drop(held);
    world.advance(Duration::from_millis(2));
    assert_eq!(world.peers[number].seen.last().unwrap().acknowledgement, 0xffff_ff01u32.wrapping_add(1_000));
}

#[test]
fn memory_is_bounded_for_octets_that_trickle() {
    let limits = Limits { memory: 1 << 20, ..Limits::default() };
    let mut world = World::with(1500, limits, PoolSizes { small: 8192, large: 64, bulk: 0 });
    let peer = Peer { answers: false, ..world.peer() };
    let (number, flow) = world.open(peer);
    for n in 0..2_000u32 {
        world.sockets.feed(flow, &[n as u8]);
        world.run();
    }
    assert!(world.guests.of(INGRESS).memory <= 1 << 20 && world.own.out() <= 512);
    world.peers[number].answers = true;
    world.advance(Duration::from_secs(5));
    assert_eq!(world.peers[number].received.len(), 2_000);
}

#[test]
fn no_guest_keeps_more_than_is_left_for_all_others() {
    let mut world = World::new();
    world.guests.set_limits(Limits { memory: usize::MAX, ..Limits::default() });
    world.tcp.memory = 40 << 20;
    world.guests.of(INGRESS).memory = 40 << 20;
    let left = world.tcp.left(INGRESS, &mut world.guests);
    assert_eq!(left, 48 << 20);
    assert_eq!(world.tcp.left(4, &mut world.guests), 88 << 20);
    world.guests.of(INGRESS).memory = 0;
    world.tcp.memory = 0;
}

#[test]
fn reading_waits_for_the_acknowledgement_of_a_large_frame() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.sockets.feed(flow, &pattern(10_000));
    let first = world.step();
    let reads = world.sockets.reads;
    for _ in 0..5 {
        world.sockets.feed(flow, &pattern(1_460));
        assert!(world.step().is_empty());
    }
    assert_eq!(world.sockets.reads, reads);
    assert!(world.tcp.deadline().is_some_and(|at| at.since(world.now) == Duration::from_micros(200)));
    first.into_iter().for_each(|frame| world.deliver(frame));
    let answer: Vec<_> = world.peers[number].outbox.drain(..).collect();
    world.batch(&answer);
    assert_eq!(world.seen()[0].len, 5 * 1_460);
    world.sockets.feed(flow, &pattern(100));
    assert!(world.step().is_empty());
    world.now = world.tcp.deadline().unwrap();
    assert_eq!(world.seen()[0].len, 100);
}

#[test]
fn small_answers_do_not_wait_for_each_other() {
    let mut world = World::new();
    let peer = world.peer();
    let (_, flow) = world.open(peer);
    for _ in 0..5 {
        world.sockets.feed(flow, &pattern(100));
        assert_eq!(world.seen()[0].len, 100);
    }
}

#[test]
fn the_budget_grows_to_a_bound_and_shrinks_once_a_round() {
    let mut world = World::new();
    let guest: &mut Guest = world.guests.of(INGRESS);
    for _ in 0..10_000 {
        guest.acknowledged(64 << 10, 0);
    }
    assert_eq!(guest.budget, 4 << 20);
    let now = vmlan_frame::Instant::from_secs(9);
    for _ in 0..3 {
        guest.lost(Duration::from_millis(1), now);
    }
    assert_eq!(guest.budget, 2 << 20);
    for n in 1..20 {
        guest.lost(Duration::from_millis(1), now + Duration::from_millis(n));
    }
    assert_eq!(guest.budget, 64 << 10);
}
