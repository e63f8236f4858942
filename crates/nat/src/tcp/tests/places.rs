//! Addresses that go to other guests, and slots that are used again.

use super::peer::{ACK, Peer, SYN};
use super::world::{World, pattern};
use crate::testing::INGRESS;
use vmlan_frame::MacAddr;

const OTHER: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 2]);

#[test]
fn a_flow_whose_address_went_elsewhere_is_over() {
    for (mac, ingress) in [(OTHER, INGRESS), (crate::testing::GUEST_MAC, 4)] {
        let mut world = World::new();
        let peer = world.peer();
        let (number, flow) = world.open(peer);
        world.sockets.feed(flow, &pattern(90_000));
        drop(world.step());
        let old = &world.peers[number];
        let stranger = Peer { mac, ingress, iss: 9, ..world.peer() };
        let data = stranger.segment((old.nxt, old.rcv_nxt), ACK, 100, &[], b"not mine");
        world.take(&data).unwrap();
        assert!(world.sockets.closed[0].1 && world.sockets.closed[0].0.taken.is_empty());
        drop((data, world.step()));
        let (number, flow) = world.open(stranger);
        world.sockets.feed(flow, b"mine");
        world.run();
        assert_eq!((&world.peers[number].received[..], world.tcp.len()), (&b"mine"[..], 1));
        assert_eq!(world.guests.of(ingress).flows, 1);
    }
}

#[test]
fn a_slot_that_is_used_again_is_another_flow() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, first) = world.open(peer);
    world.sockets.feed(first, &pattern(90_000));
    let (tcp, mut turn) = world.turn();
    tcp.ready(&mut turn, first, (true, true));
    // It is listed, starved of nothing, and ends before its turn.
    let (tcp, mut turn) = world.turn();
    assert!(tcp.close(&mut turn, first));
    world.peers.remove(number);
    world.step();
    let next = Peer { iss: 1, ..Peer::new("10.213.5.16:7", "203.0.113.7:80", &world.pool) };
    let (number, second) = world.open(next);
    assert_eq!((second.slot, second.generation), (first.slot, first.generation + 1));
    world.sockets.events.push_back((first, (true, true)));
    world.sockets.feed(second, b"hello");
    world.run();
    assert_eq!(world.peers[number].received, b"hello");
    let (tcp, mut turn) = world.turn();
    assert!(!tcp.close(&mut turn, first));
}

#[test]
fn a_batch_may_end_a_flow_that_it_brought_data_for() {
    let mut world = World::new();
    let peer = world.peer();
    let (number, _) = world.open(peer);
    let peer = &world.peers[number];
    let data = peer.data(peer.nxt, b"data");
    let rst = peer.segment((peer.nxt.wrapping_add(4), 0), super::peer::RST, 0, &[], &[]);
    let syn = peer.segment((7, 0), SYN, 100, &[], &[]);
    world.batch(&[data, rst, syn]);
    world.run();
    assert_eq!(world.sockets.connected.len(), 2);
    let id = world.sockets.last();
    let (tcp, mut turn) = world.turn();
    tcp.close(&mut turn, id);
    world.step();
    world.assert_nothing_is_left();
}

#[test]
fn sequence_numbers_wrap_in_both_directions() {
    let mut world = World::new();
    let peer = Peer { iss: 0xffff_fff0, chunk: 20_000, window: 4 << 20, ..world.peer() };
    let (number, flow) = world.open(peer);
    // As if 4 GiB were nearly sent.
    let slot = flow.slot as usize;
    let start = 0xffff_f000;
    let record = &mut world.tcp.flows[slot];
    (record.una, record.nxt, record.max, record.wl2) = (start, start, start, start);
    world.peers[number].rcv_nxt = start;
    let data = pattern(500_000);
    world.sockets.feed(flow, &data);
    world.peers[number].send(&data);
    world.run();
    assert!(world.peers[number].received == data && world.sockets.socket(flow).taken == data);
    world.sockets.end(flow);
    world.peers[number].close();
    world.run();
    assert!(world.peers[number].is_done());
    world.assert_nothing_is_left();
}
