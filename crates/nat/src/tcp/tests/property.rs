//! Any order of what a network and a host may do: the same octets arrive, or both ends are reset, and nothing is left.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use vmlan_frame::{Frame, PoolSizes, Size, WriteBuf};

use super::peer::Peer;
use super::world::{World, pattern};
use crate::guests::Limits;
use crate::rate::Rates;
use crate::tcp::{Failure, FlowId};

#[derive(Debug, Clone, Copy)]
enum Step {
    GuestSends(u8, u16),
    HostSends(u8, u32),
    GuestEnds(u8),
    HostEnds(u8),
    /// Frames to the guests: which of those on the way.
    Deliver(u8),
    Drop(u8),
    Repeat(u8),
    Refuse(u8),
    /// The same in the other direction.
    Take(u8),
    Lose(u8),
    TakeAgain(u8),
    /// The socket has room for so many octets, or for any number.
    Room(u8, Option<u16>),
    Window(u8, u32),
    Timeout(u8),
    Time(u16),
    Poll(u8),
    /// Buffers are with others, or come back.
    Hold(u8),
    Free,
    Ask,
    Away,
    Back,
    Reset(u8),
    Fail(u8),
}

fn step(resets: bool) -> impl Strategy<Value = Step> {
    let which = any::<u8>;
    let calm = prop_oneof![
        3 => (which(), 1u16..20_000).prop_map(|(a, b)| Step::GuestSends(a, b)),
        3 => (which(), 1u32..100_000).prop_map(|(a, b)| Step::HostSends(a, b)),
        1 => which().prop_map(Step::GuestEnds),
        1 => which().prop_map(Step::HostEnds),
        8 => which().prop_map(Step::Deliver),
        2 => which().prop_map(Step::Drop),
        1 => which().prop_map(Step::Repeat),
        2 => which().prop_map(Step::Refuse),
        8 => which().prop_map(Step::Take),
        2 => which().prop_map(Step::Lose),
        1 => which().prop_map(Step::TakeAgain),
        2 => (which(), proptest::option::of(any::<u16>())).prop_map(|(a, b)| Step::Room(a, b)),
        2 => (which(), 0u32..300_000).prop_map(|(a, b)| Step::Window(a, b)),
        2 => which().prop_map(Step::Timeout),
        3 => (0u16..450).prop_map(Step::Time),
        6 => (1u8..40).prop_map(Step::Poll),
        1 => (0u8..80).prop_map(Step::Hold),
        1 => Just(Step::Free),
        1 => Just(Step::Ask),
        1 => Just(Step::Away),
        1 => Just(Step::Back),
    ];
    let wild = prop_oneof![which().prop_map(Step::Reset), which().prop_map(Step::Fail)];
    let weight = u32::from(resets);
    prop_oneof![40 => calm.boxed(), weight => wild.boxed()]
}

fn rate() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(500_000)]
}

/// A flow, and what each end said.
struct Talk {
    flow: FlowId,
    from_guest: Vec<u8>,
    from_host: Vec<u8>,
    is_broken: bool,
}

struct Run {
    world: World,
    talks: Vec<Talk>,
    to_guest: Vec<Frame>,
    to_host: Vec<Frame>,
    held: Vec<WriteBuf>,
}

impl Run {
    /// With so many octets a second; any number when 0.
    fn new(rate: u64) -> Run {
        let limits = Limits { memory: 1 << 20, ..Limits::default() };
        let mut world = World::with(1500, limits, PoolSizes { small: 64, large: 12, bulk: 0 });
        world.rates = Rates::new(rate);
        let mut talks = Vec::new();
        for (number, ingress) in [(16, 3), (16, 3), (17, 4)].into_iter().enumerate() {
            let (host, ingress) = ingress;
            let guest = format!("10.213.5.{host}:{}", 40_000 + number);
            let peer = Peer { ingress, chunk: 4_000, ..Peer::new(&guest, "203.0.113.7:80", &world.pool) };
            let (_, flow) = world.open(peer);
            talks.push(Talk { flow, from_guest: vec![], from_host: vec![], is_broken: false });
        }
        Run { world, talks, to_guest: vec![], to_host: vec![], held: vec![] }
    }

    fn is_there(&self, number: usize) -> bool {
        self.world.sockets.open.contains_key(&self.talks[number].flow)
    }

    fn events(&mut self) {
        while let Some((flow, ready)) = self.world.sockets.events.pop_front() {
            let (tcp, mut turn) = self.world.turn();
            tcp.ready(&mut turn, flow, ready);
        }
    }

    fn poll(&mut self, room: usize) {
        self.events();
        let (tcp, mut turn) = self.world.turn();
        tcp.poll(&mut turn, room);
        self.to_guest.extend(self.world.out.drain(..));
        self.world.check();
    }

    fn collect(&mut self) {
        self.to_host.extend(self.world.peers.iter_mut().flat_map(|peer| peer.outbox.drain(..)));
    }

    fn act(&mut self, step: Step) {
        let talk = |number: u8| usize::from(number) % 3;
        let place = |number: u8, list: &[Frame]| (!list.is_empty()).then(|| usize::from(number) % list.len());
        match step {
            Step::GuestSends(n, len) => {
                let peer = &mut self.world.peers[talk(n)];
                if !peer.closes && !peer.is_reset && peer.unsent.len() < 200_000 {
                    let octets = pattern(usize::from(len));
                    self.talks[talk(n)].from_guest.extend(&octets);
                    peer.send(&octets);
                }
            }
            Step::HostSends(n, len) if self.is_there(talk(n)) => {
                let talk = &mut self.talks[talk(n)];
                let socket = self.world.sockets.socket(talk.flow);
                if !socket.has_end && socket.input.len() < 400_000 {
                    let octets = pattern(len as usize);
                    talk.from_host.extend(&octets);
                    self.world.sockets.feed(talk.flow, &octets);
                }
            }
            Step::HostSends(..) => {}
            Step::GuestEnds(n) => self.world.peers[talk(n)].close(),
            Step::HostEnds(n) if self.is_there(talk(n)) => self.world.sockets.end(self.talks[talk(n)].flow),
            Step::HostEnds(_) => {}
            Step::Deliver(n) => {
                if let Some(place) = place(n, &self.to_guest) {
                    let frame = self.to_guest.remove(place);
                    self.world.deliver(frame);
                }
            }
            Step::Drop(n) => {
                if let Some(place) = place(n, &self.to_guest) {
                    self.to_guest.remove(place);
                }
            }
            Step::Repeat(n) => {
                if let Some(place) = place(n, &self.to_guest) {
                    let frame = self.to_guest[place].clone();
                    self.world.deliver(frame);
                }
            }
            Step::Refuse(n) => {
                if let Some(place) = place(n, &self.to_guest) {
                    let frame = self.to_guest.remove(place);
                    let (tcp, mut turn) = self.world.turn();
                    tcp.refused(&mut turn, &frame);
                }
            }
            Step::Take(n) => {
                if let Some(place) = place(n, &self.to_host) {
                    let frame = self.to_host.remove(place);
                    self.world.batch(&[frame]);
                }
            }
            Step::Lose(n) => {
                if let Some(place) = place(n, &self.to_host) {
                    self.to_host.remove(place);
                }
            }
            Step::TakeAgain(n) => {
                if let Some(place) = place(n, &self.to_host) {
                    let frame = self.to_host[place].clone();
                    self.world.batch(&[frame.clone(), frame]);
                }
            }
            Step::Room(n, room) if self.is_there(talk(n)) => {
                self.world.sockets.set_room(self.talks[talk(n)].flow, room.map(usize::from));
            }
            Step::Room(..) => {}
            Step::Window(n, window) => {
                let peer = &mut self.world.peers[talk(n)];
                peer.window = window;
                if !peer.is_reset {
                    peer.acknowledge();
                }
            }
            Step::Timeout(n) => self.world.peers[talk(n)].timeout(),
            Step::Time(millis) => {
                self.world.now = self.world.now + Duration::from_millis(u64::from(millis));
            }
            Step::Poll(room) => self.poll(usize::from(room)),
            Step::Hold(count) => {
                let size = if count % 2 == 0 { Size::Small } else { Size::Large };
                self.held.extend((0..count).map_while(|_| self.world.own.take(size)));
            }
            Step::Free => self.held.clear(),
            Step::Ask => {
                let (tcp, mut turn) = self.world.turn();
                tcp.question(&mut turn, 3);
            }
            Step::Away => {
                let now = self.world.now;
                self.world.tcp.port_away(3, now);
            }
            Step::Back => {
                let (tcp, mut turn) = self.world.turn();
                tcp.port_back(&mut turn, 3);
            }
            Step::Reset(n) => {
                let peer = &mut self.world.peers[talk(n)];
                let rst = peer.bare(super::peer::RST);
                peer.is_reset = true;
                self.talks[talk(n)].is_broken = true;
                self.to_host.push(rst);
            }
            Step::Fail(n) if self.is_there(talk(n)) => {
                self.talks[talk(n)].is_broken = true;
                self.world.sockets.fail(self.talks[talk(n)].flow, Failure::Reset);
            }
            Step::Fail(_) => {}
        }
        self.collect();
    }

    /// The network and the host are well again, and everything comes to its end.
    fn finish(&mut self) {
        self.held.clear();
        self.act(Step::Back);
        for number in 0..3u8 {
            self.act(Step::Room(number, None));
            self.act(Step::HostEnds(number));
            self.act(Step::GuestEnds(number));
            self.act(Step::Window(number, 300_000));
        }
        self.to_guest.clear();
        for _ in 0..400 {
            for frame in std::mem::take(&mut self.to_host) {
                let _ = self.world.take(&frame);
            }
            let (tcp, mut turn) = self.world.turn();
            tcp.flush(&mut turn);
            self.world.advance(Duration::from_millis(500));
            let is_over = |peer: &Peer| peer.is_done() || peer.is_reset;
            let ends = self.talks.iter().filter(|talk| !talk.is_broken);
            let are_closed = !ends.clone().any(|talk| self.world.sockets.open.contains_key(&talk.flow));
            if are_closed && self.world.peers.iter().all(is_over) {
                break;
            }
            self.world.peers.iter_mut().for_each(Peer::timeout);
            self.collect();
        }
    }
}

/// True if both directions came to their end. A guest that repeats something after the flow was forgotten, since it
/// lost the last acknowledgements, may be reset: then the host has all that the guest sent.
fn is_through(run: &Run, number: usize) -> bool {
    let (peer, talk) = (&run.world.peers[number], &run.talks[number]);
    let has_all = || {
        run.world.sockets.closed.iter().any(|(socket, is_reset)| !is_reset && socket.taken == talk.from_guest)
    };
    peer.is_done() || peer.has_end && peer.closes && (peer.unsent.is_empty() || peer.is_reset && has_all())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_same_octets_arrive_whatever_happens(rate in rate(), steps in vec(step(false), 1..250)) {
        let mut run = Run::new(rate);
        for step in steps {
            run.act(step);
        }
        run.finish();
        for (number, talk) in run.talks.iter().enumerate() {
            let peer = &run.world.peers[number];
            prop_assert!(is_through(&run, number), "{number} did not end in order");
            prop_assert!(peer.received == talk.from_host, "{number} to the guest");
        }
        let taken: Vec<&Vec<u8>> = run.world.sockets.closed.iter().map(|(socket, _)| &socket.taken).collect();
        for talk in &run.talks {
            prop_assert!(taken.contains(&&talk.from_guest));
        }
        prop_assert!(run.world.sockets.closed.iter().all(|(_, is_reset)| !is_reset));
        run.world.assert_nothing_is_left();
    }

    #[test]
    fn resets_reach_both_ends_and_nothing_is_left(rate in rate(), steps in vec(step(true), 1..250)) {
        let mut run = Run::new(rate);
        for step in steps {
            run.act(step);
        }
        run.finish();
        for (number, talk) in run.talks.iter().enumerate() {
            let peer = &run.world.peers[number];
            prop_assert!(talk.from_host.starts_with(&peer.received));
            if !talk.is_broken {
                prop_assert!(is_through(&run, number) && peer.received == talk.from_host, "{number} is whole");
            }
        }
        // A flow may still wait for an end that was reset and says nothing.
        let (tcp, mut turn) = run.world.turn();
        tcp.close_where(&mut turn, |_| true);
        run.to_guest.clear();
        run.to_host.clear();
        run.world.run();
        run.world.assert_nothing_is_left();
    }
}
