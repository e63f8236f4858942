//! From the guest to the socket: acknowledgements, what is kept, windows.

use std::time::Duration;

use vmlan_frame::Frame;

use super::peer::{ACK, FIN, Peer};
use super::world::{World, pattern};
use crate::tcp::flow::{MOST_WINDOW, WINDOW};
use crate::testing::INGRESS;

fn window(world: &World) -> u32 {
    u32::from(world.peers[0].seen.last().unwrap().window) << 7
}

#[test]
fn case_1_what_the_socket_took_is_acknowledged() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.peers[number].send(&pattern(512));
    world.run();
    let seen = *world.peers[number].seen.last().unwrap();
    assert_eq!((seen.acknowledgement, seen.flags), (0x101, ACK));
    assert_eq!(world.sockets.socket(flow).taken, pattern(512));
}

#[test]
fn case_1_what_the_socket_does_not_take_is_kept() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    let before = 0xffff;
    world.sockets.set_room(flow, Some(100));
    world.peers[number].send(&pattern(512));
    world.run();
    assert_eq!(world.peers[number].seen.last().unwrap().acknowledgement, 0x101);
    assert_eq!(world.tcp.reports().next().unwrap().kept.0, 412);
    let after = window(&world);
    assert!(before - after >= 412 && before - after < 512 + 128, "{before} {after}");
    world.peers[number].close();
    world.run();
    assert!(!world.sockets.socket(flow).is_shut);
    assert_eq!(world.peers[number].seen.last().unwrap().acknowledgement, 0x101, "the FIN waits");
    world.sockets.set_room(flow, None);
    world.run();
    assert!(world.sockets.socket(flow).is_shut);
    assert_eq!(world.sockets.socket(flow).taken, pattern(512));
    assert_eq!(world.peers[number].seen.last().unwrap().acknowledgement, 0x102);
    assert_eq!((world.own.out(), world.guests.of(INGRESS).memory), (0, 0));
}

#[test]
fn a_batch_is_one_call_and_one_acknowledgement() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    let (sends, seen) = (world.sockets.sends, world.peers[number].seen.len());
    world.peers[number].send(&pattern(40 * 1460));
    assert_eq!(world.peers[number].outbox.len(), 40);
    world.run();
    assert_eq!((world.sockets.sends - sends, world.peers[number].seen.len() - seen), (1, 1));
    assert!(world.sockets.socket(flow).taken == pattern(40 * 1460));
}

#[test]
fn more_pieces_than_slices_are_more_calls_and_none_is_left_behind() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.peers[number].chunk = 100;
    world.peers[number].send(&pattern(20_000));
    let frames: Vec<Frame> = world.peers[number].outbox.drain(..).collect();
    assert_eq!(frames.len(), 200);
    let sends = world.sockets.sends;
    world.batch(&frames);
    assert_eq!(world.sockets.sends - sends, 4);
    assert_eq!(world.tcp.reports().next().unwrap().kept.0, 0);
    assert!(world.sockets.socket(flow).taken == pattern(20_000));
}

#[test]
fn data_before_the_next_number_is_used_as_far_as_it_is_new() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    let start = world.peers[number].nxt;
    let data = pattern(400);
    let pieces = [(0, 200), (0, 200), (100, 300), (300, 400), (50, 60)];
    let frames: Vec<Frame> = pieces
        .iter()
        .map(|(from, to)| world.peers[number].data(start.wrapping_add(*from), &data[*from as usize..*to]))
        .collect();
    world.batch(&frames);
    let seen = world.seen();
    assert_eq!((seen.len(), seen[0].acknowledgement), (1, start.wrapping_add(400)));
    assert_eq!(world.sockets.socket(flow).taken, data);
}

#[test]
fn each_segment_beyond_a_gap_is_answered() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    let start = world.peers[number].nxt;
    let frames: Vec<Frame> =
        (1..5).map(|n| world.peers[number].data(start.wrapping_add(100 * n), &[7; 100])).collect();
    world.batch(&frames);
    let seen = world.seen();
    assert_eq!(seen.len(), 4);
    assert!(seen.iter().all(|seen| (seen.acknowledgement, seen.len) == (start, 0)));
    assert!(world.sockets.socket(flow).taken.is_empty());
    assert_eq!(world.tcp.statistics().out_of_order, 4);
    let all: Vec<Frame> =
        (0..5).map(|n| world.peers[number].data(start.wrapping_add(100 * n), &[7; 100])).collect();
    world.batch(&all);
    assert_eq!(world.seen().last().unwrap().acknowledgement, start.wrapping_add(500));
}

#[test]
fn data_beyond_the_window_is_cut() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    let start = world.peers[number].nxt;
    let frames: Vec<Frame> =
        (0..3).map(|n| world.peers[number].data(start.wrapping_add(n * 30_000), &pattern(30_000))).collect();
    world.batch(&frames);
    let taken = world.sockets.socket(flow).taken.len();
    assert_eq!(taken, 0xffff);
    assert_eq!(world.seen()[0].acknowledgement, start.wrapping_add(0xffff));
}

#[test]
fn the_window_grows_while_everything_is_taken() {
    let mut world = World::new();
    let peer = Peer { chunk: 32_000, ..world.peer() };
    let (number, flow) = world.open(peer);
    world.peers[number].send(&pattern(1_000));
    world.run();
    assert!(window(&world) <= WINDOW);
    world.peers[number].send(&pattern(6 << 20));
    world.run();
    let told = world.peers[number].seen[1..].iter().map(|seen| u32::from(seen.window) << 7).max().unwrap();
    // An eighth of the guest's memory, which is less than the most.
    assert!(told > 1 << 20 && told <= MOST_WINDOW.min(16 << 17), "{told}");
    assert_eq!(world.sockets.socket(flow).taken.len(), 1_000 + (6 << 20));
}

#[test]
fn the_window_shrinks_for_a_slow_socket_and_its_edge_never_goes_back() {
    let mut world = World::new();
    let peer = Peer { chunk: 32_000, ..world.peer() };
    let (number, flow) = world.open(peer);
    world.peers[number].send(&pattern(6 << 20));
    world.run();
    world.sockets.set_room(flow, Some(0));
    let data = pattern(4 << 20);
    world.peers[number].send(&data);
    world.run();
    let mut kept = vec![];
    let from = world.peers[number].seen.len() - 1;
    for _ in 0..400 {
        world.advance(Duration::from_millis(150));
        kept.push(world.tcp.reports().next().unwrap().kept.0);
        world.sockets.set_room(flow, Some(20_000));
        world.run();
    }
    assert!(kept[0] > 1 << 20 && *kept.last().unwrap() <= 2 * u64::from(WINDOW), "{:?}", kept.last());
    let edges = world.peers[number].seen[from..]
        .iter()
        .map(|seen| seen.acknowledgement.wrapping_add(u32::from(seen.window) << 7));
    let mut last = 0;
    for edge in edges {
        // What scaling cuts off is no step back.
        assert!(edge.wrapping_sub(last) as i32 > -128 || last == 0);
        last = edge;
    }
    world.sockets.set_room(flow, None);
    world.run();
    assert!(world.sockets.socket(flow).taken[6 << 20..] == data);
}

#[test]
fn no_silly_windows() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.sockets.set_room(flow, Some(0));
    world.peers[number].send(&pattern(1 << 20));
    world.run();
    assert_eq!(window(&world), 0);
    let seen = world.peers[number].seen.len();
    // Little by little: no update is told before there is room for a segment.
    for _ in 0..14 {
        world.sockets.set_room(flow, Some(100));
        world.run();
    }
    assert_eq!(world.peers[number].seen.len(), seen);
    world.sockets.set_room(flow, Some(200));
    world.run();
    assert!(world.peers[number].seen.len() > seen);
    assert!(world.peers[number].seen[seen..].iter().all(|seen| seen.window == 0 || seen.window >= 11));
    world.sockets.set_room(flow, None);
    world.run();
    assert!(world.sockets.socket(flow).taken == pattern(1 << 20));
}

#[test]
fn a_guest_that_ignores_the_window_costs_no_more() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.sockets.set_room(flow, Some(0));
    let start = world.peers[number].nxt;
    for n in 0..300u32 {
        let frame = world.peers[number].data(start.wrapping_add(n * 10_000), &pattern(10_000));
        world.batch(&[frame]);
        world.step();
    }
    assert!(world.guests.of(INGRESS).memory <= 3 * (68 << 10));
    world.sockets.set_room(flow, None);
    world.step();
    assert_eq!(world.sockets.socket(flow).taken.len(), 0xffff);
}

#[test]
fn without_buffers_data_is_dropped_and_the_window_is_told_as_closed() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    let held: Vec<_> = [vmlan_frame::Size::Small, vmlan_frame::Size::Large]
        .into_iter()
        .flat_map(|size| std::iter::from_fn(|| world.own.take(size)).collect::<Vec<_>>())
        .collect();
    world.sockets.set_room(flow, Some(700));
    world.peers[number].send(&pattern(5_000));
    world.run();
    let seen = *world.peers[number].seen.last().unwrap();
    assert_eq!((seen.acknowledgement, seen.window), (0xffff_ff01u32.wrapping_add(700), 0));
    drop(held);
    world.sockets.set_room(flow, None);
    world.run();
    assert!(window(&world) > 0);
    world.peers[number].timeout();
    world.run();
    assert!(world.sockets.socket(flow).taken == pattern(5_000));
}

#[test]
fn keep_alives_of_guests_are_answered() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, _) = world.open(peer);
    let (before, nxt) = (world.peers[number].nxt.wrapping_sub(1), world.peers[number].nxt);
    for payload in [&[][..], &[0]] {
        let frame = world.peers[number].data(before, payload);
        world.batch(&[frame]);
        let seen = world.seen();
        assert_eq!((seen.len(), seen[0].acknowledgement, seen[0].flags), (1, nxt, ACK));
    }
}

#[test]
fn a_fin_that_is_taken_back_with_its_data_comes_again() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    let held: Vec<_> = [vmlan_frame::Size::Small, vmlan_frame::Size::Large]
        .into_iter()
        .flat_map(|size| std::iter::from_fn(|| world.own.take(size)).collect::<Vec<_>>())
        .collect();
    world.sockets.set_room(flow, Some(10));
    let peer = &world.peers[number];
    let last = peer.segment((peer.nxt, peer.rcv_nxt), FIN | ACK, 500, &[], &pattern(20));
    world.batch(std::slice::from_ref(&last));
    assert_eq!(world.seen()[0].acknowledgement, world.peers[number].nxt.wrapping_add(10));
    drop(held);
    world.sockets.set_room(flow, None);
    world.run();
    world.batch(&[last]);
    assert_eq!(world.seen().last().unwrap().acknowledgement, world.peers[number].nxt.wrapping_add(21));
    assert!(world.sockets.socket(flow).is_shut && world.sockets.socket(flow).taken == pattern(20));
}
