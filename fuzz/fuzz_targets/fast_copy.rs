//! Whatever becomes of ports and addresses, a fast way's copy of the network forwards a frame as the network would, or
//! leaves it to the network.
//!
//! The copy takes and decides what the one in the kernel does (`ports/interface/linux/fast.rs`, and the program of
//! `drivers/host/fast`).
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use vmlan_frame::{Batch, Context, Counters, Instant, MacAddr, Pool, PoolSizes, VlanId, VlanTag};
use vmlan_lan::{
    Egress, EntryKind, FastEntry, FastPath, FastPort, FdbConfig, Forwarder, Limits, Network, NetworkConfig,
    PortConfig, PortId, PortPolicy, Rate, VlanRole,
};

const PORTS: usize = 4;
/// Addresses that frames are from and to; those that only fill the FDB come behind them.
const ADDRESSES: u8 = 6;
/// Control information of the tags that frames are asked about with: none, VLANs, a priority tag, what is reserved.
const TAGS: [Option<u16>; 6] = [None, Some(1), Some(0xa002), Some(3), Some(0x4000), Some(0xfff)];

/// Per step: what, where, and two choices.
type Input = Vec<(u8, u8, u8, u8)>;

fuzz_target!(|input: Input| {
    let mut bench = Bench::new();
    for step in input.into_iter().take(200) {
        bench.run(step);
        bench.check_entries();
    }
    bench.check_decisions();
});

/// The copy's content, as the kernel has it.
#[derive(Default)]
struct Held {
    stations: BTreeMap<(MacAddr, Option<VlanId>), PortId>,
    /// Those of them that are set for their port.
    set: BTreeSet<(MacAddr, Option<VlanId>)>,
    ports: Vec<FastPort>,
}

#[derive(Default)]
struct Copy(Mutex<Held>);

impl FastPath for Copy {
    fn withdraw(&self, mac: MacAddr, vlan: Option<VlanId>, port: PortId) {
        let held = self.0.lock().expect("no panic").stations.remove(&(mac, vlan));
        assert!(held.is_none_or(|held| held == port), "{mac} is at {held:?} and {port:?}");
    }

    fn changed(&self) {}

    fn ports(&self, ports: &[FastPort]) {
        let mut held = self.0.lock().expect("no panic");
        held.ports = ports.to_vec();
        // A port that is guarded from now on may not send from what was entered before.
        let Held { stations, set, ports } = &mut *held;
        let is_guarded = |port: &PortId| ports.iter().any(|facts| facts.id == *port && facts.guard);
        stations.retain(|key, port| set.contains(key) || !is_guarded(port));
    }
}

impl Held {
    /// The port that the frame goes out by, and its control information there; `None` if it goes slow.
    fn decide(
        &self,
        source: MacAddr,
        destination: MacAddr,
        tci: Option<u16>,
        ingress: PortId,
    ) -> Option<(PortId, Option<u16>)> {
        let facts = |id| self.ports.iter().find(|port| port.id == id && port.slow.is_none());
        let from = facts(ingress)?;
        let tagged = tci.map(|tci| tci & 0xfff);
        let vlan = match (&from.vlan, tagged) {
            (VlanRole::Unset, Some(0xfff)) | (VlanRole::Access(_), Some(_)) => return None,
            (VlanRole::Unset, _) => VlanId::DEFAULT,
            (VlanRole::Access(vlan), None) => *vlan,
            (VlanRole::Trunk { native, .. }, None) => (*native)?,
            (VlanRole::Trunk { allowed, .. }, Some(vid)) => {
                VlanId::new(vid).ok().filter(|vlan| allowed.contains(*vlan))?
            }
        };
        let station = |mac| self.stations.get(&(mac, Some(vlan))).or_else(|| self.stations.get(&(mac, None)));
        if *station(source)? != ingress {
            return None;
        }
        let egress = *station(destination)?;
        let to = facts(egress)?;
        if egress == ingress || from.isolated && to.isolated {
            return None;
        }
        let tag = match (&from.vlan, &to.vlan) {
            (VlanRole::Unset, VlanRole::Unset) => tci,
            (VlanRole::Unset, _) | (_, VlanRole::Unset) => return None,
            (_, VlanRole::Access(of)) => (*of == vlan).then_some(None)?,
            (_, VlanRole::Trunk { native, .. }) if *native == Some(vlan) => None,
            (_, VlanRole::Trunk { allowed, .. }) if !allowed.contains(vlan) => return None,
            _ => tci.or(Some(vlan.get())),
        };
        Some((egress, tag))
    }
}

struct Bench {
    network: Arc<Network>,
    copy: Arc<Copy>,
    ports: [PortId; PORTS],
    forwarder: Forwarder,
    egress: Egress,
    pool: Pool,
    now: u64,
}

impl Bench {
    fn new() -> Bench {
        let ageing = Duration::from_secs(20);
        let fdb = FdbConfig { size: 16, ageing, ..FdbConfig::new([1, 2]) };
        let network =
            Network::new(NetworkConfig { name: "lab".into(), mtu: 1500, fdb, pass_reserved: false });
        let ports = std::array::from_fn(|at| add(&network, at));
        let copy = Arc::new(Copy::default());
        network.set_fast_path(Some(Arc::clone(&copy) as Arc<dyn FastPath>));
        // One of them is of another kind.
        ports[1..].iter().for_each(|port| network.set_fast_port(*port, true).expect("just added"));
        let forwarder = Forwarder::new(Arc::clone(&network));
        let pool = Pool::new(PoolSizes { small: 64, large: 0, bulk: 0 });
        Bench { network, copy, ports, forwarder, egress: Egress::new(64), pool, now: 100 }
    }

    fn run(&mut self, (what, place, choice, other): (u8, u8, u8, u8)) {
        let at = usize::from(place) % PORTS;
        let (id, network) = (self.ports[at], Arc::clone(&self.network));
        let vlan = |choice: u8| (choice % 4 > 0).then(|| vlan(u16::from(choice % 4)));
        match what % 16 {
            0..=4 => {
                let destination = if other & 0x80 == 0 { MacAddr::BROADCAST } else { mac(other % ADDRESSES) };
                _ = self.send(mac(choice % 24), destination, TAGS[usize::from(other) % TAGS.len()], at);
            }
            5 | 6 => {
                self.list();
                // The copy never has more than now.
                self.check_decisions();
            }
            7 => {
                self.now += u64::from(choice % 30);
                network.age(Instant::from_secs(self.now));
            }
            // As the kernel's time stamps do, which may be late.
            8 => {
                let held: Vec<_> = self.held(|held| held.stations.clone()).into_iter().collect();
                if let Some(((mac, vlan), port)) = held.get(usize::from(choice) % held.len().max(1)) {
                    let time = Instant::from_secs(self.now - u64::from(other % 40));
                    network.heard(*mac, *vlan, *port, time);
                }
            }
            // Many are refused, which changes nothing.
            9 => _ = network.add_static(mac(choice % ADDRESSES), vlan(other), id),
            10 => _ = network.remove_static(mac(choice % ADDRESSES), vlan(other)),
            11 => network.set_active(id, choice & 1 == 0).expect("a port of ours"),
            12 | 13 => _ = network.update_port(id, policy(choice, other)),
            14 => match choice % 4 {
                0 => network.flush(),
                1 => network.set_mtu(if other & 1 == 0 { 1500 } else { 68 }),
                _ => network.set_fast_port(id, other & 1 == 0).expect("a port of ours"),
            },
            _ => {
                assert!(network.remove_port(id));
                self.ports[at] = add(&network, at);
                network.set_fast_port(self.ports[at], choice & 1 == 0).expect("just added");
            }
        }
    }

    /// Puts in what is listed, as control does.
    fn list(&mut self) {
        self.network.list_fast(&mut |FastEntry { mac, vlan, port, kind, .. }| {
            let mut held = self.copy.0.lock().expect("no panic");
            // There is one table of sources and of destinations.
            let is_guarded = held.ports.iter().any(|facts| facts.id == port && facts.guard);
            if kind == EntryKind::Set || !is_guarded {
                let former = held.stations.insert((mac, vlan), port);
                assert!(former.is_none_or(|former| former == port), "{mac} was at {former:?}");
                match kind {
                    EntryKind::Set => held.set.insert((mac, vlan)),
                    _ => held.set.remove(&(mac, vlan)),
                };
            }
        });
    }

    fn held<T>(&self, look: impl FnOnce(&Held) -> T) -> T {
        look(&self.copy.0.lock().expect("no panic"))
    }

    /// Sends a frame through the network; answers where copies came out, with their control information.
    fn send(
        &mut self,
        source: MacAddr,
        destination: MacAddr,
        tci: Option<u16>,
        at: usize,
    ) -> Vec<(PortId, Option<u16>)> {
        let ip = [8, 0, 0x45, 0, 0, 46, 0, 1, 0, 0, 64, 17, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2];
        let mut octets = [&destination.0[..], &source.0, &ip].concat();
        octets.resize(60, 0);
        let mut frame = self.pool.copy(&octets).expect("every buffer is back");
        frame.meta.tag = tci.map(|tci| VlanTag { tci });
        let mut batch = Batch::from_iter([frame]);
        let cx = Context { worker: 0, now: Instant::from_secs(self.now), pool: &self.pool };
        assert!(self.forwarder.forward(&cx, self.ports[at], &mut batch, &mut self.egress));
        let mut copies = Vec::new();
        self.egress.drain(|port, batch| {
            for frame in batch.drain() {
                assert_eq!(frame.octets(), octets);
                copies.push((port, frame.meta.tag.map(|tag| tag.tci)));
            }
        });
        copies
    }

    /// Every entry of the copy is what the network knows, and so is what a look-up in it finds.
    fn check_entries(&self) {
        let held = self.copy.0.lock().expect("no panic");
        for (mac, id) in held.stations.keys() {
            for vlan in id.map_or_else(|| vec![vlan(1), vlan(2), vlan(3), vlan(4)], |vlan| vec![vlan]) {
                let own = held.stations.get(&(*mac, Some(vlan)));
                let found = own.or_else(|| held.stations.get(&(*mac, None)));
                assert_eq!(found.copied(), self.network.port_of(*mac, Some(vlan)), "{mac} in VLAN {vlan:?}");
            }
        }
    }

    /// Asks for every decision: a frame that goes fast goes where the network sends it.
    fn check_decisions(&mut self) {
        for (at, ingress) in self.ports.into_iter().enumerate() {
            for (from, to) in (0..ADDRESSES).flat_map(|from| (0..ADDRESSES).map(move |to| (from, to))) {
                for tci in TAGS {
                    let decision = self.held(|held| held.decide(mac(from), mac(to), tci, ingress));
                    if let Some((egress, tag)) = decision {
                        let copies = self.send(mac(from), mac(to), tci, at);
                        assert_eq!(copies, [(egress, tag)], "{from} to {to} with {tci:x?} from {ingress:?}");
                    }
                }
            }
        }
    }
}

fn mac(number: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, number])
}

fn vlan(number: u16) -> VlanId {
    VlanId::new(number).expect("a VLAN")
}

fn add(network: &Arc<Network>, at: usize) -> PortId {
    let counters = Arc::new(Counters::new(1));
    let policy = PortPolicy { limits: Limits::NONE, ..PortPolicy::default() };
    let id = network.add_port(PortConfig::with(format!("guest{at}"), policy, counters)).expect("room");
    network.set_active(id, true).expect("just added");
    id
}

/// A policy by choice.
fn policy(choice: u8, other: u8) -> PortPolicy {
    let trunk = |allowed: &[u16], native| VlanRole::Trunk {
        allowed: allowed.iter().copied().map(vlan).collect(),
        native,
    };
    let role = match choice % 8 {
        0..=2 => VlanRole::Unset,
        3 => VlanRole::Access(vlan(1)),
        4 => VlanRole::Access(vlan(2)),
        5 => trunk(&[1, 2], None),
        6 => trunk(&[1, 2, 3], Some(vlan(1))),
        _ => trunk(&[3], Some(vlan(2))),
    };
    let macs = match choice >> 3 & 3 {
        0 | 1 => Vec::new(),
        2 => vec![mac(other % ADDRESSES)],
        _ => vec![mac(other % ADDRESSES), mac(other.wrapping_add(1) % ADDRESSES)],
    };
    let is_rare = |number: u8| other >> 4 == number;
    PortPolicy {
        macs,
        vlan: role,
        guard: choice & 0x40 == 0,
        isolated: choice & 0x80 != 0,
        enabled: !is_rare(1),
        promiscuous: is_rare(2),
        fast: !is_rare(3),
        quota: if is_rare(4) { 2 } else { 100 },
        limits: Limits { rate: is_rare(5).then(|| Rate::octets(1)), ..Limits::NONE },
        ..PortPolicy::default()
    }
}
