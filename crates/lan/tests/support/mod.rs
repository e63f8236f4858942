//! A network, one worker's part of it, and what its ports got.
#![allow(dead_code, reason = "every test program uses a part of it")]

pub mod packets;

use std::sync::Arc;

use vmlan_frame::{
    Batch, Context, Counters, DropReason, Frame, Instant, MacAddr, Pool, PoolSizes, Sides, Tally, VlanId,
    VlanTag,
};
use vmlan_lan::{
    Egress, FdbConfig, Forwarder, Network, NetworkConfig, PortConfig, PortId, TrunkConfig, TrunkPolicy,
    VlanRole,
};

pub struct Lan {
    pub network: Arc<Network>,
    pub forwarder: Forwarder,
    pub egress: Egress,
    pub pool: Pool,
    pub now: Instant,
    batch: Batch,
}

/// A copy that came out of a port: the port, what its frame said, its tag.
pub type Copy = (PortId, Vec<u8>, Option<VlanTag>);

pub fn network(fdb_size: usize) -> Arc<Network> {
    let fdb = FdbConfig { size: fdb_size, ..FdbConfig::new([7, 8]) };
    Network::new(NetworkConfig { name: "lab".into(), mtu: 1500, fdb, pass_reserved: false })
}

impl Lan {
    pub fn new() -> Lan {
        Lan::of(network(1024))
    }

    pub fn of(network: Arc<Network>) -> Lan {
        let forwarder = Forwarder::new(Arc::clone(&network));
        let pool = Pool::new(PoolSizes { small: 256, large: 0, bulk: 0 });
        let now = Instant::from_secs(1000);
        Lan { network, forwarder, egress: Egress::new(64), pool, now, batch: Batch::new() }
    }

    /// An active port with these set addresses, and its counters.
    pub fn port(&self, macs: &[MacAddr]) -> (PortId, Arc<Counters>) {
        self.port_with(|config| config.macs = macs.to_vec())
    }

    pub fn port_with(&self, change: impl FnOnce(&mut PortConfig)) -> (PortId, Arc<Counters>) {
        let counters = Arc::new(Counters::new(2));
        let mut config = PortConfig::new("guest", Arc::clone(&counters));
        change(&mut config);
        let id = self.network.add_port(config).unwrap();
        self.network.set_active(id, true).unwrap();
        (id, counters)
    }

    /// The active trunk with this policy, and its counters.
    pub fn trunk(&self, policy: TrunkPolicy) -> (PortId, Arc<Counters>) {
        let counters = Arc::new(Counters::new(2));
        let notify = Arc::new(|_| {});
        let config =
            TrunkConfig { name: "trunk".into(), policy, notify, account: Arc::clone(&counters).into() };
        let id = self.network.add_trunk(config).unwrap();
        self.network.set_active(id, true).unwrap();
        (id, counters)
    }

    pub fn frame(&self, destination: MacAddr, source: MacAddr) -> Frame {
        self.pool.copy(&octets(destination, source)).unwrap()
    }

    /// Lets `port` receive `frames` in one batch, and counts them as its link would.
    pub fn receive(&mut self, port: (PortId, &Counters), frames: impl IntoIterator<Item = Frame>) {
        let mut tally = Tally::default();
        for frame in frames {
            tally.add(&frame);
            self.batch.push(frame);
        }
        port.1.received(0, &tally);
        let cx = Context { worker: 0, now: self.now, pool: &self.pool };
        if !self.forwarder.forward(&cx, port.0, &mut self.batch, &mut self.egress) {
            port.1.dropped_unseen(0, DropReason::NotAttached, self.batch.len() as u64);
            self.batch.clear();
        }
        assert!(self.batch.is_empty());
    }

    /// Lets a second go by, and the network decide about claims that were held back.
    pub fn decide(&mut self) {
        self.now = self.now + std::time::Duration::from_secs(1);
        let cx = Context { worker: 0, now: self.now, pool: &self.pool };
        self.forwarder.decide(&cx, &mut self.egress);
    }

    /// Takes the frames that wait for every port, ports in the order in which they are flushed.
    pub fn copies(&mut self) -> Vec<Copy> {
        let mut copies = Vec::new();
        self.egress.drain(|port, batch| {
            copies.extend(batch.drain().map(|frame| (port, frame.octets().to_vec(), frame.meta.tag)));
        });
        copies
    }

    /// Takes the frames that wait for every port, with the sides that are to get them.
    pub fn copies_beside(&mut self) -> Vec<(PortId, Sides, Vec<u8>)> {
        let mut copies = Vec::new();
        self.egress.drain(|port, batch| {
            copies.extend(batch.drain().map(|frame| (port, frame.meta.sides, frame.octets().to_vec())));
        });
        copies
    }

    /// The ports that get the unicast or multicast `source` → `destination` which `port` receives, in ascending order.
    pub fn receivers(
        &mut self,
        port: (PortId, &Counters),
        destination: MacAddr,
        source: MacAddr,
    ) -> Vec<PortId> {
        let frame = self.frame(destination, source);
        self.receive(port, [frame]);
        let mut ports = Vec::from_iter(self.copies().into_iter().map(|(port, ..)| port));
        ports.sort();
        ports
    }
}

pub fn mac(n: u8) -> MacAddr {
    MacAddr([0x52, 0x54, 0, 0, 0, n])
}

pub fn octets(destination: MacAddr, source: MacAddr) -> Vec<u8> {
    let mut octets = [destination.0, source.0].concat();
    octets.extend([0x08, 0x00]);
    octets.resize(60, 0);
    octets
}

/// A VLAN.
pub fn vlan(vid: u16) -> VlanId {
    VlanId::new(vid).unwrap()
}

/// The role of a port that is in one VLAN, without tags.
pub fn access(vid: u16) -> VlanRole {
    VlanRole::Access(vlan(vid))
}

/// The role of a port whose frames have tags of these VLANs, or are of the native one without.
pub fn trunk(allowed: &[u16], native: Option<u16>) -> VlanRole {
    VlanRole::Trunk { allowed: allowed.iter().copied().map(vlan).collect(), native: native.map(vlan) }
}
