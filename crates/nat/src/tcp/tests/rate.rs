//! The rate of an uplink holds flows back, and loses nothing.

use std::time::Duration;

use super::peer::Peer;
use super::world::{World, pattern};
use crate::rate::Rates;
use crate::tcp::FlowId;
use crate::testing::INGRESS;

/// 50 Mbit/s.
const RATE: u64 = 6_250_000;
const BURST: usize = 64 << 10;
const A_TENTH: Duration = Duration::from_millis(100);

fn limited() -> World {
    let mut world = World::new();
    world.rates = Rates::new(RATE);
    world
}

/// So many octets may have passed in so many tenths of a second.
#[track_caller]
fn assert_rate(octets: usize, tenths: usize) {
    let most = BURST + tenths * RATE as usize / 10;
    // A part may be held back for a while.
    assert!((most - (16 << 10)..=most + (8 << 10)).contains(&octets), "{octets} of {most}");
}

#[test]
fn reads_wait() {
    let mut world = limited();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    let wanted = pattern(4 << 20);
    world.sockets.feed(flow, &wanted);
    let (reads, wakes) = (world.sockets.reads, world.wakes);
    for tenths in 1..=6 {
        world.advance(A_TENTH);
        assert_rate(world.peers[number].received.len(), tenths);
    }
    // One for each part of a burst, not one for each moment.
    assert!(world.sockets.reads - reads < 600 && world.wakes - wakes < 700, "{}", world.wakes - wakes);
    world.advance(A_TENTH);
    world.sockets.end(flow);
    world.peers[number].close();
    world.advance(A_TENTH);
    assert!(world.peers[number].received == wanted && world.peers[number].has_end);
    assert_eq!(world.tcp.statistics(), crate::tcp::Statistics::default());
    world.assert_nothing_is_left();
}

#[test]
fn what_a_guest_sends_waits_and_its_window_closes() {
    let mut world = limited();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    let wanted = pattern(4 << 20);
    world.peers[number].send(&wanted);
    world.peers[number].close();
    for tenths in 1..=6 {
        world.advance(A_TENTH);
        assert_rate(world.sockets.socket(flow).taken.len(), tenths);
        let kept = world.tcp.reports().next().expect("a flow").kept.0;
        assert!(kept > 0 && kept <= u64::from(crate::tcp::flow::MOST_WINDOW), "{kept}");
        assert!(!world.sockets.socket(flow).is_shut);
    }
    assert!(world.peers[number].seen.iter().any(|seen| u32::from(seen.window) << 7 < 16 << 10));
    world.advance(A_TENTH);
    let socket = world.sockets.socket(flow);
    assert!(socket.taken == wanted && socket.is_shut);
    world.sockets.end(flow);
    world.advance(A_TENTH);
    world.assert_nothing_is_left();
}

#[test]
fn a_jammed_socket_takes_no_allowance() {
    let mut world = limited();
    let peer = world.peer();
    let (number, flow) = world.open(peer);
    world.sockets.set_room(flow, Some(1_000));
    world.peers[number].send(&pattern(30_000));
    world.advance(A_TENTH);
    let sends = world.sockets.sends;
    world.advance(A_TENTH);
    assert_eq!(world.sockets.sends, sends, "it is not tried again before it has room");
    world.sockets.set_room(flow, None);
    world.run();
    assert!(world.sockets.socket(flow).taken == pattern(30_000));
}

/// Opens a flow of a guest at a port, which has much to send both ways.
fn busy(world: &mut World, host: u16, ingress: u16, number: u16) -> (usize, FlowId) {
    let guest = format!("10.213.5.{host}:{}", 40_000 + number);
    let peer = Peer { ingress, ..Peer::new(&guest, "203.0.113.7:80", &world.pool) };
    let (number, flow) = world.open(peer);
    world.sockets.feed(flow, &pattern(6 << 20));
    world.peers[number].send(&pattern(6 << 20));
    (number, flow)
}

#[test]
fn a_guest_with_many_flows_has_no_more_than_one_with_a_single_one() {
    let mut world = limited();
    let many: Vec<_> = (0..8).map(|number| busy(&mut world, 16, INGRESS, number)).collect();
    let (number, flow) = busy(&mut world, 17, INGRESS + 1, 0);
    world.advance(A_TENTH);
    let of_many = |world: &mut World| {
        let counts = many.iter().map(|(number, flow)| {
            (world.peers[*number].received.len(), world.sockets.socket(*flow).taken.len())
        });
        counts.fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1))
    };
    let of_one =
        |world: &mut World| (world.peers[number].received.len(), world.sockets.socket(flow).taken.len());
    let before = (of_many(&mut world), of_one(&mut world));
    world.advance(5 * A_TENTH);
    let after = (of_many(&mut world), of_one(&mut world));
    let grown =
        [[after.0.0 - before.0.0, after.1.0 - before.1.0], [after.0.1 - before.0.1, after.1.1 - before.1.1]];
    for [many, one] in grown {
        assert!((one * 9 / 10..=one * 11 / 10).contains(&many), "{grown:?}");
        assert!(many + one > RATE as usize * 45 / 100, "{grown:?}");
    }
}

#[test]
fn a_rate_that_is_lifted_frees_what_it_held() {
    let mut world = limited();
    let (number, flow) = busy(&mut world, 16, INGRESS, 0);
    world.advance(A_TENTH);
    world.rates.set(0);
    world.advance(A_TENTH);
    assert!(world.peers[number].received == pattern(6 << 20));
    assert!(world.sockets.socket(flow).taken == pattern(6 << 20));
    assert!(world.tcp.reads.is_empty() && world.tcp.writes.is_empty());
}
