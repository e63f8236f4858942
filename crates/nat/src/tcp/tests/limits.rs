//! Limits on new flows.

use std::time::Duration;

use super::peer::Peer;
use super::world::World;
use crate::drop::Drop;
use crate::guests::Limits;
use crate::testing::INGRESS;
use vmlan_frame::PoolSizes;

const SIZES: PoolSizes = PoolSizes { small: 4096, large: 16, bulk: 0 };

fn number(n: u32) -> String {
    format!("10.213.5.16:{}", 1_024 + n)
}

fn syn(world: &mut World, n: u32) -> Result<(), Drop> {
    let peer = Peer::new(&number(n), "203.0.113.7:80", &world.pool);
    world.take(&peer.syn())
}

#[test]
fn case_27_three_hundred_a_second_are_all_connected() {
    let mut world = World::new();
    for n in 0..3_000 {
        world.now = world.now + Duration::from_nanos(1_000_000_000 / 300);
        let peer = Peer::new(&number(n), "203.0.113.7:80", &world.pool);
        world.open(peer);
        world.peers.clear();
    }
    assert_eq!((world.tcp.len(), world.tcp.statistics().flow_limit), (3_000, 0));
}

#[test]
fn case_27_a_flood_is_held_to_its_rate() {
    let limits = Limits { half_open: 100_000, flows: 100_000, ..Limits::default() };
    let mut world = World::with(1500, limits, SIZES);
    let mut refused = 0;
    for n in 0..20_000 {
        world.now = world.now + Duration::from_micros(200);
        match syn(&mut world, n) {
            Ok(()) => {}
            Err(drop) => {
                assert_eq!(drop, Drop::FlowLimit);
                refused += 1;
            }
        }
        assert!(world.seen().is_empty(), "no answer, so that it comes again");
    }
    let connected = world.sockets.connected.len();
    assert!((2_400..=2_501).contains(&connected) && refused + connected == 20_000, "{connected}");
    assert_eq!(world.tcp.statistics().flow_limit as usize, refused);
}

#[test]
fn case_27_flows_are_bounded() {
    let limits = Limits { flows: 100, ..Limits::default() };
    let mut world = World::with(1500, limits, SIZES);
    let accepted = (0..300).filter(|n| syn(&mut world, *n).is_ok()).count();
    assert_eq!(accepted, 100);
    assert_eq!(world.guests.of(INGRESS).flows, 100);
}

#[test]
fn half_open_flows_are_bounded_and_open_ones_do_not_count() {
    let limits = Limits { half_open: 4, ..Limits::default() };
    let mut world = World::with(1500, limits, SIZES);
    for n in 0..20 {
        let peer = Peer::new(&number(n), "203.0.113.7:80", &world.pool);
        world.open(peer);
    }
    assert_eq!(world.guests.of(INGRESS).half_open, 0);
    assert_eq!((20..40).filter(|n| syn(&mut world, *n).is_ok()).count(), 4);
}

#[test]
fn connections_are_begun_a_few_at_a_time() {
    let mut world = World::new();
    let accepted = (0..400).filter(|n| syn(&mut world, *n).is_ok()).count();
    assert_eq!(accepted, 256);
    for turn in 1..=16 {
        assert!(world.tcp.has_output());
        world.poll();
        assert_eq!(world.sockets.connected.len(), 16 * turn);
    }
    assert!(!world.tcp.has_output());
}

#[test]
fn syns_that_were_given_up_take_no_turn() {
    let mut world = World::new();
    for n in 0..200 {
        syn(&mut world, n).unwrap();
    }
    let ids: Vec<_> = world.tcp.reports().take(190).map(|report| report.id).collect();
    for id in ids {
        let (tcp, mut turn) = world.turn();
        tcp.close(&mut turn, id);
    }
    world.poll();
    assert_eq!(world.sockets.connected.len(), 10);
}
