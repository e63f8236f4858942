use core::sync::atomic::{AtomicBool, Ordering};
use std::collections::BTreeMap;

use proptest::prelude::*;
use vmlan_frame::{Counters, Mutex};

use super::*;
use crate::fdb::{Claimant, FdbConfig};
use crate::{Limits, NetworkConfig, PortConfig, PortPolicy, Rate, TrunkConfig, TrunkPolicy, VlanRole};

type Held = BTreeMap<(MacAddr, Option<VlanId>), PortId>;

/// A fast way that has what was listed and was not withdrawn since.
#[derive(Default)]
struct Replica {
    held: Mutex<Held>,
    due: AtomicBool,
    ports: Mutex<Vec<FastPort>>,
}

impl FastPath for Replica {
    fn withdraw(&self, mac: MacAddr, vlan: Option<VlanId>, port: PortId) {
        let held = self.held.lock().remove(&(mac, vlan));
        assert!(held.is_none_or(|held| held == port), "{mac} is at {held:?} and {port:?}");
    }

    fn changed(&self) {
        self.due.store(true, Ordering::Relaxed);
    }

    fn ports(&self, ports: &[FastPort]) {
        *self.ports.lock() = ports.to_vec();
    }
}

fn network() -> Arc<Network> {
    let fdb = FdbConfig { size: 16, ..FdbConfig::new([7, 8]) };
    Network::new(NetworkConfig { name: "lab".into(), mtu: 1500, fdb, pass_reserved: false })
}

fn vlan(vid: u16) -> VlanId {
    VlanId::new(vid).unwrap()
}

fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

fn add(network: &Network, policy: PortPolicy) -> PortId {
    let id = network.add_port(PortConfig::with("guest", policy, Arc::new(Counters::new(1)))).unwrap();
    network.set_active(id, true).unwrap();
    id
}

#[derive(Clone, Debug)]
enum Step {
    Learn { port: usize, mac: u8, vid: u16 },
    Heard { port: usize, mac: u8, vid: u16 },
    Pass(u64),
    Flush,
    AddStatic { port: usize, mac: u8, vid: Option<u16> },
    RemoveStatic { mac: u8, vid: Option<u16> },
    Activate { port: usize, active: bool },
    Policy { port: usize, macs: Vec<u8>, role: u8, enabled: bool },
    Replace { port: usize },
    Fast { port: usize, fast: bool },
    List,
    Anew,
}

fn step() -> impl Strategy<Value = Step> {
    let (port, mac, vid) = (0..PORTS, 1..=24_u8, 1..=2_u16);
    let some_vid = prop::option::of(1..=2_u16);
    let few = 1..=4_u8;
    prop_oneof![
        12 => (port.clone(), mac, vid.clone()).prop_map(|(port, mac, vid)| Step::Learn { port, mac, vid }),
        12 => (port.clone(), few.clone(), vid.clone())
            .prop_map(|(port, mac, vid)| Step::Learn { port, mac, vid }),
        2 => (port.clone(), few.clone(), vid).prop_map(|(port, mac, vid)| Step::Heard { port, mac, vid }),
        3 => (0..200_u64).prop_map(Step::Pass),
        1 => Just(Step::Flush),
        4 => (port.clone(), few.clone(), some_vid.clone())
            .prop_map(|(port, mac, vid)| Step::AddStatic { port, mac, vid }),
        2 => (few.clone(), some_vid).prop_map(|(mac, vid)| Step::RemoveStatic { mac, vid }),
        2 => (port.clone(), any::<bool>()).prop_map(|(port, active)| Step::Activate { port, active }),
        3 => (port.clone(), prop::collection::vec(few, 0..2), 0..4_u8, prop::bool::weighted(0.8))
            .prop_map(|(port, macs, role, enabled)| Step::Policy { port, macs, role, enabled }),
        1 => port.clone().prop_map(|port| Step::Replace { port }),
        2 => (port, any::<bool>()).prop_map(|(port, fast)| Step::Fast { port, fast }),
        6 => Just(Step::List),
        1 => Just(Step::Anew),
    ]
}

const PORTS: usize = 4;

struct Lab {
    network: Arc<Network>,
    replica: Arc<Replica>,
    ports: Vec<PortId>,
    now: u64,
}

impl Lab {
    fn new() -> Lab {
        let network = network();
        let ports = Vec::from_iter((0..PORTS).map(|_| add(&network, PortPolicy::default())));
        ports[..2].iter().for_each(|port| network.set_fast_port(*port, true).unwrap());
        let mut lab = Lab { network, replica: Arc::default(), ports, now: 0 };
        lab.anew();
        lab
    }

    fn anew(&mut self) {
        let former = core::mem::take(&mut self.replica);
        self.network.set_fast_path(Some(Arc::clone(&self.replica) as Arc<dyn FastPath>));
        assert!(former.held.lock().is_empty(), "everything was withdrawn");
    }

    fn run(&mut self, step: Step) {
        let network = Arc::clone(&self.network);
        let seconds = self.now as u32;
        match step {
            Step::Learn { port, mac: n, vid } => {
                let claimant = Claimant { port: self.ports[port], proven: false };
                _ = network.fdb.learn(Key::new(mac(n), vlan(vid)), claimant, seconds);
            }
            Step::Heard { port, mac: n, vid } => {
                network.heard(mac(n), Some(vlan(vid)), self.ports[port], Instant::from_secs(self.now));
            }
            Step::Pass(seconds) => {
                self.now += seconds;
                network.age(Instant::from_secs(self.now));
            }
            Step::Flush => network.flush(),
            // Many are refused, which changes nothing.
            Step::AddStatic { port, mac: n, vid } => {
                _ = network.add_static(mac(n), vid.map(vlan), self.ports[port]);
            }
            Step::RemoveStatic { mac: n, vid } => _ = network.remove_static(mac(n), vid.map(vlan)),
            Step::Activate { port, active } => network.set_active(self.ports[port], active).unwrap(),
            Step::Policy { port, macs, role, enabled } => {
                let both = [1, 2].map(vlan).into_iter().collect();
                let vlan = match role {
                    0 => VlanRole::Unset,
                    1 | 2 => VlanRole::Access(vlan(role.into())),
                    _ => VlanRole::Trunk { allowed: both, native: None },
                };
                let macs = macs.into_iter().map(mac).collect();
                let policy = PortPolicy { macs, vlan, enabled, guard: false, ..PortPolicy::default() };
                _ = network.update_port(self.ports[port], policy);
            }
            Step::Replace { port } => {
                network.remove_port(self.ports[port]);
                self.ports[port] = add(&network, PortPolicy::default());
            }
            Step::Fast { port, fast } => network.set_fast_port(self.ports[port], fast).unwrap(),
            Step::List => self.list(),
            Step::Anew => self.anew(),
        }
    }

    fn list(&self) {
        self.replica.due.store(false, Ordering::Relaxed);
        let put = |entry: FastEntry| _ = self.replica.held.lock().insert((entry.mac, entry.vlan), entry.port);
        self.network.list_fast(&mut { put });
        assert_eq!(*self.replica.held.lock(), self.expected());
    }

    /// The entries at fast ports, without those for every VLAN that another entry contradicts.
    fn expected(&self) -> Held {
        let is_fast = |port| self.network.control.lock().member(port).unwrap().fast;
        let entries = self.network.fdb.entries(0);
        let agrees = |mac, port| entries.iter().all(|other| other.mac != mac || other.port == port);
        let wanted = entries.iter().filter(|entry| is_fast(entry.port));
        let listed = wanted.filter(|entry| entry.vlan.is_some() || agrees(entry.mac, entry.port));
        listed.map(|entry| ((entry.mac, entry.vlan), entry.port)).collect()
    }

    fn check(&self) {
        let (held, expected) = (self.replica.held.lock(), self.expected());
        assert!(held.iter().all(|(key, port)| expected.get(key) == Some(port)), "{held:?} {expected:?}");
        assert!(*held == expected || self.replica.due.load(Ordering::Relaxed), "a listing is due");
        for (n, vid) in (1..=24).flat_map(|n| [1, 2].map(|vid| (n, vid))) {
            let own = held.get(&(mac(n), Some(vlan(vid))));
            let answer = own.or_else(|| held.get(&(mac(n), None)));
            let known = self.network.port_of(mac(n), Some(vlan(vid)));
            assert!(answer.is_none_or(|port| Some(*port) == known), "{} is at {known:?}", mac(n));
        }
    }
}

proptest! {
    #[test]
    fn the_copy_never_says_what_the_fdb_does_not(steps in prop::collection::vec(step(), 1..120)) {
        let mut lab = Lab::new();
        for step in steps {
            lab.run(step);
            lab.check();
        }
        lab.list();
    }
}

/// The facts about the first of the network's fast ports.
fn first(replica: &Replica) -> FastPort {
    replica.ports.lock()[0].clone()
}

#[test]
fn the_fast_way_has_the_facts_when_the_call_that_changed_them_returns() {
    let network = network();
    let replica = Arc::new(Replica::default());
    network.set_fast_path(Some(Arc::clone(&replica) as Arc<dyn FastPath>));
    let id = network
        .add_port(PortConfig::with("guest", PortPolicy::default(), Arc::new(Counters::new(1))))
        .unwrap();
    assert!(replica.ports.lock().is_empty());
    network.set_fast_port(id, true).unwrap();
    let facts = FastPort {
        id,
        vlan: VlanRole::Unset,
        guard: false,
        isolated: false,
        frame_limit: 1514,
        sides: Sides::NONE,
        services: false,
        slow: Some(SlowReason::Inactive),
    };
    assert_eq!(first(&replica), facts);
    network.set_active(id, true).unwrap();
    assert_eq!(first(&replica).slow, None);
    let set = |policy| network.update_port(id, policy).unwrap();
    set(PortPolicy { enabled: false, ..PortPolicy::default() });
    assert_eq!(first(&replica).slow, Some(SlowReason::Disabled));
    set(PortPolicy {
        limits: Limits { rate: Some(Rate::octets(1)), ..Limits::NONE },
        ..PortPolicy::default()
    });
    assert_eq!(first(&replica).slow, Some(SlowReason::Rate));
    set(PortPolicy { macs: vec![mac(1)], isolated: true, ..PortPolicy::default() });
    assert!(first(&replica).guard && first(&replica).isolated);
    network.set_mtu(9000);
    assert_eq!(first(&replica).frame_limit, 9014);
    let other = add(&network, PortPolicy { vlan: VlanRole::Access(vlan(7)), ..PortPolicy::default() });
    assert_eq!(first(&replica).vlan, VlanRole::Access(VlanId::DEFAULT));
    network.remove_port(other);
    assert_eq!(first(&replica).vlan, VlanRole::Unset);
    network.set_fast_port(id, false).unwrap();
    assert!(replica.ports.lock().is_empty());
    network.set_fast_port(id, true).unwrap();
    network.remove_port(id);
    assert!(replica.ports.lock().is_empty());
    assert_eq!(network.set_fast_port(id, true), Err(PortError::Gone(id)));
}

#[test]
fn the_switch_sees_what_may_be_a_dhcp_servers_where_another_port_serves() {
    let network = network();
    let replica = Arc::new(Replica::default());
    network.set_fast_path(Some(Arc::clone(&replica) as Arc<dyn FastPath>));
    let roles = crate::Roles { dhcp: true };
    let id = add(&network, PortPolicy { roles, ..PortPolicy::default() });
    network.set_fast_port(id, true).unwrap();
    let uplink = add(&network, PortPolicy::default());
    for (dhcp, expected) in [(true, true), (false, false)] {
        let services = crate::ServiceGuard { port: uplink, addresses: vec![], dhcp };
        network.set_services(Some(services)).unwrap();
        assert_eq!((first(&replica).services, first(&replica).slow), (expected, None), "{dhcp}");
    }
    network.update_port(id, PortPolicy::default()).unwrap();
    assert!(first(&replica).services, "it is trusted no more");
    network.remove_port(uplink);
    assert!(!first(&replica).services);
}

#[test]
fn a_listener_makes_every_port_slow_while_it_is_there() {
    let network = network();
    let replica = Arc::new(Replica::default());
    network.set_fast_path(Some(Arc::clone(&replica) as Arc<dyn FastPath>));
    let id = add(&network, PortPolicy::default());
    network.set_fast_port(id, true).unwrap();
    let listener = add(&network, PortPolicy { promiscuous: true, ..PortPolicy::default() });
    assert_eq!(first(&replica).slow, Some(SlowReason::Promiscuous));
    network.set_active(listener, false).unwrap();
    assert_eq!(first(&replica).slow, None);
    let config = TrunkConfig {
        name: "trunk".into(),
        policy: TrunkPolicy::default(),
        notify: Arc::new(|_| {}),
        account: Arc::new(Counters::new(1)).into(),
    };
    let trunk = network.add_trunk(config).unwrap();
    network.set_active(trunk, true).unwrap();
    assert_eq!(first(&replica).slow, None);
    let policy = |promiscuous, shared_mac| TrunkPolicy { promiscuous, shared_mac, ..TrunkPolicy::default() };
    network.update_trunk(trunk, policy(Sides::HOST, false)).unwrap();
    assert_eq!(first(&replica).slow, Some(SlowReason::Promiscuous));
    network.update_trunk(trunk, policy(Sides::NONE, true)).unwrap();
    assert_eq!(first(&replica).slow, Some(SlowReason::SharedMac));
    network.update_trunk(trunk, policy(Sides::NONE, false)).unwrap();
    assert_eq!(first(&replica).slow, None);
}

#[test]
fn a_copy_of_an_earlier_network_is_adopted() {
    let network = network();
    let access = |vid| PortPolicy { vlan: VlanRole::Access(vlan(vid)), ..PortPolicy::default() };
    let set = |n| PortPolicy { macs: vec![mac(n)], ..access(10) };
    let open = network.add_port(PortConfig::with("open", access(10), Arc::new(Counters::new(1)))).unwrap();
    let guarded = add(&network, set(9));
    for port in [open, guarded] {
        network.set_fast_port(port, true).unwrap();
    }
    let heard = Instant::from_nanos(7_000_000_000);
    let adopt = |n, vid, port| network.adopt(mac(n), vid, port, heard);
    assert!(adopt(1, Some(vlan(10)), open), "before the port is active");
    network.set_active(open, true).unwrap();
    assert!(adopt(1, Some(vlan(10)), open), "again");
    assert!(!adopt(1, Some(vlan(10)), guarded), "another has it");
    assert!(!adopt(2, Some(vlan(11)), open), "not its VLAN");
    assert!(!adopt(3, Some(vlan(10)), guarded), "its addresses are set");
    assert!(!adopt(9, Some(vlan(10)), open), "set elsewhere");
    assert!(adopt(9, Some(vlan(10)), guarded));
    assert!(!adopt(1, None, open), "never learnt for every VLAN");
    assert!(!network.adopt(MacAddr::BROADCAST, Some(vlan(10)), open, heard));
    let learnt: Vec<_> = network.fdb(heard).into_iter().filter(|entry| entry.age.is_some()).collect();
    assert_eq!(learnt.len(), 1);
    assert_eq!((learnt[0].mac, learnt[0].port, learnt[0].age.unwrap().as_secs()), (mac(1), open, 0));
}

#[test]
fn every_entry_at_the_trunk_is_at_one_of_its_sides() {
    let network = network();
    let replica = Arc::new(Replica::default());
    network.set_fast_path(Some(Arc::clone(&replica) as Arc<dyn FastPath>));
    let policy =
        |enabled, reaches| TrunkPolicy { macs: vec![mac(1)], enabled, reaches, ..TrunkPolicy::default() };
    let config = TrunkConfig {
        name: "trunk".into(),
        policy: policy(Sides::BOTH, Sides::BOTH),
        notify: Arc::new(|_| {}),
        account: Arc::new(Counters::new(1)).into(),
    };
    let trunk = network.add_trunk(config).unwrap();
    network.set_active(trunk, true).unwrap();
    network.set_fast_port(trunk, true).unwrap();
    let guest = add(&network, PortPolicy { macs: vec![mac(2)], ..PortPolicy::default() });
    network.set_fast_port(guest, true).unwrap();
    let claimant = Claimant { port: trunk, proven: false };
    _ = network.fdb.learn(Key::new(mac(3), VlanId::DEFAULT), claimant, 0);
    network.add_static(mac(4), None, trunk).unwrap();

    let mut listed = BTreeMap::new();
    network.list_fast(&mut |entry| _ = listed.insert(entry.mac, (entry.port, entry.side)));

    let at = |port, side| (port, side);
    let expected = [
        (mac(1), at(trunk, Sides::HOST)),
        (mac(2), at(guest, Sides::NONE)),
        (mac(3), at(trunk, Sides::WIRE)),
        (mac(4), at(trunk, Sides::WIRE)),
    ];
    assert_eq!(listed, expected.into());
    let sides = || replica.ports.lock().iter().find(|facts| facts.id == trunk).unwrap().sides;
    assert_eq!(sides(), Sides::BOTH);
    network.update_trunk(trunk, policy(Sides::BOTH, Sides::WIRE)).unwrap();
    assert_eq!(sides(), Sides::WIRE);
    network.update_trunk(trunk, policy(Sides::HOST, Sides::BOTH)).unwrap();
    assert_eq!(sides(), Sides::HOST);
}
