//! A network against the plainest description of a learning switch, over sequences of frames and changes.

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use support::{Lan, mac};
use vmlan_frame::{Counters, DropReason, MacAddr, VlanId, VlanTag};
use vmlan_lan::{PortConfig, PortId, PortPolicy, VlanRole};

const AGEING: u64 = 300;
const HOLD: u64 = 10;
const MOVES_PER_SECOND: u32 = 4;

/// A learnt address.
#[derive(Clone, Copy)]
struct Learnt {
    holder: PortId,
    seen: u64,
    /// The port that had it first, and when it was heard there before it left.
    home: PortId,
    heard: u64,
    returns: u32,
    /// The second of the last attempt to move, and how many there were in it.
    attempts: (u64, u32),
    held_until: u64,
}

impl Learnt {
    fn at(holder: PortId, seen: u64) -> Learnt {
        let (home, heard) = (holder, seen);
        Learnt { holder, seen, home, heard, returns: 0, attempts: (0, 0), held_until: 0 }
    }
}

struct Port {
    id: PortId,
    policy: PortPolicy,
    active: bool,
    room: usize,
    counters: Arc<Counters>,
    /// The expected values of the counters.
    received: u64,
    copies: u64,
    drops: HashMap<DropReason, u64>,
}

impl Port {
    fn is_active(&self) -> bool {
        self.active && self.policy.enabled
    }
}

#[derive(Default)]
struct Model {
    ports: Vec<Port>,
    learnt: HashMap<(MacAddr, u16), Learnt>,
}

impl Model {
    fn is_aware(&self) -> bool {
        self.ports.iter().any(|port| port.policy.vlan != VlanRole::Unset)
    }

    fn is_member(&self, port: &Port, vid: u16) -> bool {
        match &port.policy.vlan {
            VlanRole::Unset => vid == 1,
            VlanRole::Access(vlan) => vlan.get() == vid,
            VlanRole::Trunk { allowed, native } => {
                VlanId::new(vid).is_ok_and(|vlan| allowed.contains(vlan) || *native == Some(vlan))
            }
        }
    }

    fn vid(&self, port: &Port, tag: Option<VlanTag>) -> Option<u16> {
        let vid = tag.map_or(0, VlanTag::vid);
        if !self.is_aware() {
            return (vid != 4095).then_some(1);
        }
        match &port.policy.vlan {
            VlanRole::Unset => (vid == 0).then_some(1),
            VlanRole::Access(vlan) => (vid == 0).then_some(vlan.get()),
            VlanRole::Trunk { native, .. } if vid == 0 => native.map(VlanId::get),
            VlanRole::Trunk { allowed, .. } => {
                VlanId::new(vid).ok().filter(|vlan| allowed.contains(*vlan)).map(VlanId::get)
            }
        }
    }

    fn egress_tag(&self, port: &Port, vid: u16, tag: Option<VlanTag>) -> Option<VlanTag> {
        match &port.policy.vlan {
            _ if !self.is_aware() => tag,
            VlanRole::Trunk { native, .. } if native.map(VlanId::get) != Some(vid) => {
                Some(VlanTag { tci: tag.map_or(0, |tag| tag.tci & 0xf000) | vid })
            }
            _ => None,
        }
    }

    /// The port for which the address is set in that VLAN.
    fn set(&self, mac: MacAddr, vid: u16) -> Option<&Port> {
        self.ports.iter().find(|port| port.policy.macs.contains(&mac) && self.is_member(port, vid))
    }

    fn forget(&mut self, id: PortId) {
        self.learnt.retain(|_, learnt| learnt.holder != id);
    }

    /// Addresses that are set are no longer learnt.
    fn forget_set(&mut self) {
        let ports = &self.ports;
        let set = |mac: MacAddr, vid: u16| {
            ports.iter().any(|port| match &port.policy.vlan {
                VlanRole::Trunk { .. } => port.policy.macs.contains(&mac),
                VlanRole::Access(vlan) => port.policy.macs.contains(&mac) && vlan.get() == vid,
                VlanRole::Unset => port.policy.macs.contains(&mac) && vid == 1,
            })
        };
        self.learnt.retain(|(mac, vid), _| !set(*mac, *vid));
    }

    /// Learns the address. True if the port may send from it.
    fn learn(&mut self, from: usize, mac: MacAddr, vid: u16, now: u64) -> bool {
        let port = &self.ports[from];
        let trunk_has_it = self.ports.iter().any(|port| {
            port.policy.macs.contains(&mac) && matches!(port.policy.vlan, VlanRole::Trunk { .. })
        });
        if port.policy.macs.contains(&mac) || trunk_has_it {
            return true;
        }
        let (id, key) = (port.id, (mac, vid));
        let has_room = |of: PortId| {
            let held = self.learnt.values().filter(|learnt| learnt.holder == of).count();
            let learns = |port: &&Port| port.id == of && port.is_active() && held < port.policy.quota;
            self.ports.iter().find(learns).is_some()
        };
        let Some(mut learnt) = self.learnt.get(&key).copied() else {
            if has_room(id) {
                self.learnt.insert(key, Learnt::at(id, now));
            }
            return true;
        };
        if learnt.holder == id {
            learnt.seen = now;
            self.learnt.insert(key, learnt);
            return true;
        }
        let home_is_there = self.ports.iter().any(|port| port.id == learnt.home && port.is_active());
        if learnt.home == learnt.holder {
            learnt.heard = learnt.seen;
        } else if now - learnt.heard >= AGEING || !home_is_there {
            learnt = Learnt::at(learnt.holder, learnt.seen);
        }
        if now - learnt.attempts.0 >= AGEING {
            learnt.returns = 0;
        }
        learnt.attempts = (now, if learnt.attempts.0 < now { 1 } else { learnt.attempts.1 + 1 });
        let silent = now - learnt.seen;
        let hold = if learnt.returns == 0 { 0 } else { AGEING.min(HOLD << (learnt.returns - 1).min(20)) };
        let mut may_send = true;
        let mut to = None;
        if learnt.home == id {
            to = has_room(id).then_some(id);
            learnt.returns += u32::from(to.is_some() && silent < HOLD);
        } else if now < learnt.held_until || learnt.home == learnt.holder && silent < hold {
            may_send = false;
        } else if learnt.attempts.1 > MOVES_PER_SECOND {
            may_send = false;
            learnt.held_until = now + HOLD;
            to = (learnt.home != learnt.holder && has_room(learnt.home)).then_some(learnt.home);
        } else {
            to = has_room(id).then_some(id);
        }
        if let Some(to) = to {
            (learnt.holder, learnt.seen) = (to, now);
        }
        self.learnt.insert(key, learnt);
        may_send
    }

    /// Returns the ports that get the frame, each with the tag that the frame has there.
    fn forward(
        &mut self,
        from: usize,
        frame: &Sent,
        now: u64,
    ) -> Result<Vec<(PortId, Option<VlanTag>)>, DropReason> {
        let (destination, source) = (frame.destination, frame.source);
        let port = &self.ports[from];
        if !port.policy.enabled {
            return Err(DropReason::PortDown);
        }
        if source.is_multicast() || source == MacAddr::ZERO {
            return Err(DropReason::BadSource);
        }
        if destination.is_reserved_group() {
            return Err(DropReason::ReservedAddress);
        }
        if port.policy.guard && !port.policy.macs.is_empty() && !port.policy.macs.contains(&source) {
            return Err(DropReason::SourceGuard);
        }
        let vid = self.vid(port, frame.tag).ok_or(DropReason::VlanNotAllowed)?;
        if self.set(source, vid).is_some_and(|owner| owner.id != port.id) {
            return Err(DropReason::SourceGuard);
        }
        if !self.learn(from, source, vid, now) {
            return Err(DropReason::Contested);
        }
        let port = &self.ports[from];
        let learnt = self.learnt.get(&(destination, vid)).map(|learnt| learnt.holder);
        let owner = self.set(destination, vid).map(|owner| owner.id).or(learnt);
        let wanted = |to: &&Port| {
            let reachable = to.is_active()
                && to.id != port.id
                && !(to.policy.isolated && port.policy.isolated)
                && (!self.is_aware() || self.is_member(to, vid));
            let addressed = destination.is_multicast()
                || to.policy.promiscuous
                || owner.map_or(to.policy.macs.is_empty(), |owner| owner == to.id);
            reachable && addressed
        };
        let nowhere = destination == source || owner == Some(port.id);
        let receivers = self.ports.iter().filter(wanted).filter(|_| destination.is_multicast() || !nowhere);
        let copies = Vec::from_iter(receivers.map(|to| (to.id, self.egress_tag(to, vid, frame.tag))));
        match copies.is_empty() {
            true if destination.is_multicast() || (destination != source && owner.is_none()) => {
                Err(DropReason::NoReceiver)
            }
            true => Err(DropReason::NoDestination),
            false => Ok(copies),
        }
    }
}

#[derive(Clone, Debug)]
struct Sent {
    destination: MacAddr,
    source: MacAddr,
    tag: Option<VlanTag>,
}

#[derive(Clone, Debug)]
enum Step {
    Add(PortPolicy),
    Remove(usize),
    Update(usize, PortPolicy),
    Active(usize, bool),
    Room(usize, usize),
    Wait(u64),
    Receive(usize, Vec<Sent>),
}

fn role() -> impl Strategy<Value = VlanRole> {
    let vlan = |vid| VlanId::new(vid).unwrap();
    let trunk = move |native| VlanRole::Trunk { allowed: [vlan(10), vlan(20)].into_iter().collect(), native };
    prop_oneof![
        6 => Just(VlanRole::Unset),
        1 => Just(VlanRole::Access(vlan(10))),
        1 => Just(VlanRole::Access(vlan(1))),
        1 => Just(trunk(None)),
        1 => Just(trunk(Some(vlan(1)))),
    ]
}

fn policy() -> impl Strategy<Value = PortPolicy> {
    let macs = prop_oneof![2 => Just(vec![]), 1 => prop::collection::vec((1u8..5).prop_map(mac), 1..3)];
    let rare = || prop::bool::weighted(0.15);
    let enabled = prop::bool::weighted(0.9);
    (macs, any::<bool>(), role(), rare(), (rare(), enabled), prop_oneof![1 => 0usize..3, 3 => Just(100)])
        .prop_map(|(macs, guard, vlan, promiscuous, (isolated, enabled), quota)| PortPolicy {
            enabled,
            macs,
            guard,
            vlan,
            promiscuous,
            isolated,
            quota,
            ..PortPolicy::default()
        })
}

fn sent() -> impl Strategy<Value = Sent> {
    let station = || (1u8..9).prop_map(mac);
    let destination = prop_oneof![
        8 => station(),
        1 => Just(MacAddr::BROADCAST),
        1 => Just(MacAddr([0x01, 0x80, 0xc2, 0, 0, 0x0e])),
    ];
    let source = prop_oneof![20 => station(), 1 => Just(MacAddr::ZERO), 1 => Just(MacAddr::BROADCAST)];
    let tci = prop::sample::select(vec![0, 0xe000, 1, 10, 0x600a, 20, 30, 4095]);
    let tag = prop_oneof![2 => Just(None), 1 => tci.prop_map(|tci| Some(VlanTag { tci }))];
    (destination, source, tag).prop_map(|(destination, source, tag)| Sent { destination, source, tag })
}

fn step() -> impl Strategy<Value = Step> {
    let port = || 0usize..6;
    prop_oneof![
        2 => policy().prop_map(Step::Add),
        1 => port().prop_map(Step::Remove),
        2 => (port(), policy()).prop_map(|(port, policy)| Step::Update(port, policy)),
        1 => (port(), prop::bool::weighted(0.7)).prop_map(|(port, active)| Step::Active(port, active)),
        1 => (port(), 0usize..3).prop_map(|(port, room)| Step::Room(port, room)),
        1 => (1u64..200).prop_map(Step::Wait),
        20 => (port(), prop::collection::vec(sent(), 1..5)).prop_map(|(port, frames)| Step::Receive(port, frames)),
    ]
}

/// The network and the model side by side.
struct Bench {
    lan: Lan,
    model: Model,
}

impl Bench {
    fn new() -> Bench {
        let mut bench = Bench { lan: Lan::new(), model: Model::default() };
        (0..3).for_each(|_| bench.add(PortPolicy::default()));
        bench
    }

    fn add(&mut self, policy: PortPolicy) {
        let PortPolicy { macs, guard, vlan, promiscuous, isolated, enabled, quota, .. } = policy.clone();
        let counters = Arc::new(Counters::new(1));
        let config = PortConfig {
            enabled,
            macs,
            guard,
            vlan,
            promiscuous,
            isolated,
            quota,
            ..PortConfig::new("guest", Arc::clone(&counters))
        };
        let aware = self.model.is_aware();
        let Ok(id) = self.lan.network.add_port(config) else { return };
        self.lan.network.set_active(id, true).unwrap();
        let drops = HashMap::new();
        let port = Port { id, policy, active: true, room: 64, counters, received: 0, copies: 0, drops };
        // Floods go by slot.
        let at = self.model.ports.partition_point(|port| port.id.slot() < id.slot());
        self.model.ports.insert(at, port);
        self.settle(aware);
    }

    fn update(&mut self, n: usize, policy: PortPolicy) {
        let aware = self.model.is_aware();
        let port = &mut self.model.ports[n];
        if self.lan.network.update_port(port.id, policy.clone()).is_err() {
            return;
        }
        let old = std::mem::replace(&mut port.policy, policy);
        let new = &port.policy;
        let is_relearnt = (&old.macs, &old.vlan, old.guard) != (&new.macs, &new.vlan, new.guard);
        if is_relearnt || old.enabled && !new.enabled {
            let id = port.id;
            self.model.forget(id);
        }
        self.settle(aware);
    }

    /// Applies the consequences of new addresses, and of the first or last VLAN role.
    fn settle(&mut self, was_aware: bool) {
        self.model.forget_set();
        if self.model.is_aware() != was_aware {
            self.model.learnt.clear();
        }
    }

    fn receive(&mut self, n: usize, sent: &[Sent]) {
        let now = self.lan.now.as_secs();
        let mut expected: HashMap<PortId, Vec<_>> = HashMap::new();
        for frame in sent {
            let outcome = self.model.forward(n, frame, now);
            let port = &mut self.model.ports[n];
            port.received += 1;
            match outcome {
                Err(reason) => *port.drops.entry(reason).or_default() += 1,
                Ok(copies) => {
                    port.copies += copies.len() as u64;
                    for (to, tag) in copies {
                        let to = self.model.ports.iter_mut().find(|port| port.id == to).unwrap();
                        let queue = expected.entry(to.id).or_default();
                        if queue.len() < to.room {
                            queue.push((support::octets(frame.destination, frame.source), tag));
                        } else {
                            *to.drops.entry(DropReason::QueueFull).or_default() += 1;
                        }
                    }
                }
            }
        }
        expected.retain(|_, queue| !queue.is_empty());

        let lan = &mut self.lan;
        let frames = Vec::from_iter(sent.iter().map(|sent| {
            let mut frame = lan.frame(sent.destination, sent.source);
            frame.meta.tag = sent.tag;
            frame
        }));
        let port = &self.model.ports[n];
        lan.receive((port.id, &port.counters), frames);
        let mut got: HashMap<PortId, Vec<_>> = HashMap::new();
        for (to, octets, tag) in lan.copies() {
            got.entry(to).or_default().push((octets, tag));
        }
        assert!(!got.contains_key(&port.id), "never back to the ingress");
        assert_eq!(got, expected);
        assert_eq!(lan.pool.out(), 0, "every buffer comes back");
    }

    fn step(&mut self, step: &Step) {
        self.lan.now = self.lan.now + Duration::from_secs(1);
        let count = self.model.ports.len().max(1);
        let exists = !self.model.ports.is_empty();
        match step {
            Step::Add(policy) if self.model.ports.len() < 6 => self.add(policy.clone()),
            Step::Wait(seconds) => self.lan.now = self.lan.now + Duration::from_secs(*seconds),
            Step::Receive(n, frames) if exists => self.receive(n % count, frames),
            Step::Update(n, policy) if exists => self.update(n % count, policy.clone()),
            Step::Room(n, room) if exists => {
                let port = &mut self.model.ports[n % count];
                port.room = *room;
                self.lan.egress.set_room(port.id, *room);
            }
            Step::Active(n, active) if exists => {
                let port = &mut self.model.ports[n % count];
                self.lan.network.set_active(port.id, *active).unwrap();
                port.active = *active;
                let id = port.id;
                if !active {
                    self.model.forget(id);
                }
            }
            Step::Remove(n) if exists => {
                let aware = self.model.is_aware();
                let port = self.model.ports.remove(n % count);
                assert!(self.lan.network.remove_port(port.id));
                self.check_counters(&port);
                self.model.forget(port.id);
                self.settle(aware);
            }
            _ => {}
        }
        let now = self.lan.now.as_secs();
        self.lan.network.age(self.lan.now);
        self.model.learnt.retain(|_, learnt| now - learnt.seen < AGEING);
        self.check_fdb();
    }

    fn check_fdb(&self) {
        let set: usize = self.model.ports.iter().map(|port| unique(&port.policy.macs)).sum();
        assert_eq!(self.lan.network.fdb(self.lan.now).len(), set + self.model.learnt.len());
    }

    fn check_counters(&self, port: &Port) {
        let counters = port.counters.snapshot();
        assert_eq!((counters.rx_frames, counters.copies), (port.received, port.copies));
        for reason in DropReason::ALL {
            assert_eq!(counters.dropped(*reason), port.drops.get(reason).copied().unwrap_or(0), "{reason}");
        }
    }
}

fn unique(macs: &[MacAddr]) -> usize {
    macs.iter().collect::<std::collections::HashSet<_>>().len()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Deliveries, tags, drops by reason and the number of known addresses are those of the model, after every step.
    #[test]
    fn forwards_as_the_model_does(steps in prop::collection::vec(step(), 1..80)) {
        let mut bench = Bench::new();
        steps.iter().for_each(|step| bench.step(step));
        bench.model.ports.iter().for_each(|port| bench.check_counters(port));
    }
}
