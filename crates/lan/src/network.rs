//! A network as the control side sees it, and what it shares with the workers.
//!
//! Theory of operation. The truth about the ports is in [`Control`], behind a mutex that the data path never takes.
//! Every change makes a new [`PortTable`] of it, puts that in the place of the old one and raises the generation;
//! workers compare generations before each batch. An added port is first known to the FDB and then in the table; a
//! removed one is first out of the table and then out of the FDB, which from then on refuses to learn for it.
//! Whatever a worker that still has the old table asks, the id's generation tells it from the slot's next user.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use vmlan_frame::{Account, MacAddr, Mutex, SlotMap};

use crate::VlanRole;
use crate::fdb::{EntryKind, Fdb, FdbConfig, Key};
use crate::group::Group;
use crate::guard::Stages;
use crate::known::Shared;
use crate::port::{Limits, Port, PortConfig, PortError, PortId, PortPolicy, Share};
use crate::port_table::PortTable;
use crate::trunk::{Notify, Trunk, TrunkNotice, TrunkPolicy};

mod fast;
mod fdb;
mod services;
mod trunk;

use self::fast::Fast;
pub use self::services::ServiceGuard;
pub use self::trunk::{SharedAddress, Station};

/// A new network.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// The network's name.
    pub name: String,
    /// Octets that a frame carries at most, without Ethernet header, tags and FCS.
    pub mtu: usize,
    /// The forwarding database.
    pub fdb: FdbConfig,
    /// True if destinations 01-80-C2-00-00-00 to -0F are forwarded, which bridges keep to themselves (IEEE 802.1Q-2022
    /// 8.6.3). PAUSE never is.
    pub pass_reserved: bool,
}

/// An Ethernet network: ports, and which address is behind which. Shared by control and all workers.
pub struct Network {
    name: String,
    pub(crate) fdb: Fdb,
    /// The owners of IP addresses, and the group frames that went to the wire lately. A worker holds the lock for a
    /// batch at most.
    pub(crate) known: Mutex<Shared>,
    /// Of `ports`; changed while that is locked.
    generation: AtomicU64,
    ports: Mutex<Arc<PortTable>>,
    control: Mutex<Control>,
}

struct Control {
    ports: SlotMap<PortId, Member>,
    statics: Vec<StaticEntry>,
    mtu: usize,
    pass_reserved: bool,
    common: Common,
    /// True if a guest is active.
    wanted: bool,
    fast: Option<Fast>,
    services: Option<ServiceGuard>,
}

/// The settings that the ports of a network are compiled from, besides their policies.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Common {
    /// True if a port names a VLAN.
    aware: bool,
    /// The stages of the guests' ports.
    stages: Stages,
    /// The port that has the network's services, and whether DHCP is one of them.
    services: Option<(PortId, bool)>,
}

struct Member {
    id: PortId,
    name: String,
    policy: PortPolicy,
    active: bool,
    account: Account,
    group: Option<Arc<Group>>,
    /// The same for the data path.
    port: Arc<Port>,
    trunk: Option<TrunkMember>,
    /// True if a fast way has its entries.
    fast: bool,
}

/// The part of a member that only the trunk has.
struct TrunkMember {
    policy: TrunkPolicy,
    notify: Notify,
    /// For the data path.
    trunk: Arc<Trunk>,
}

struct StaticEntry {
    key: Key,
    port: PortId,
}

impl Network {
    /// How many ports a network has at most.
    pub const MAX_PORTS: usize = 4096;

    /// A network without ports.
    pub fn new(config: NetworkConfig) -> Arc<Network> {
        let NetworkConfig { name, mtu, fdb, pass_reserved } = config;
        let control = Control {
            ports: SlotMap::new(Network::MAX_PORTS),
            statics: Vec::new(),
            mtu,
            pass_reserved,
            common: Common::default(),
            wanted: false,
            fast: None,
            services: None,
        };
        Arc::new(Network {
            name,
            fdb: Fdb::new(&fdb),
            known: Mutex::new(Shared::new(fdb.seed)),
            generation: AtomicU64::new(0),
            ports: Mutex::new(Arc::new(control.table(0, Box::default()))),
            control: Mutex::new(control),
        })
    }

    /// Returns the network's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The MTU, as in [`NetworkConfig::mtu`].
    pub fn mtu(&self) -> usize {
        self.control.lock().mtu
    }

    /// Changes the MTU.
    pub fn set_mtu(&self, mtu: usize) {
        let mut control = self.control.lock();
        control.mtu = mtu;
        self.publish(&mut control);
    }

    /// True if a port names a VLAN, so that ports without a role are in VLAN 1.
    pub fn is_vlan_aware(&self) -> bool {
        self.control.lock().common.aware
    }

    /// Adds a port. It is not active yet.
    ///
    /// # Errors
    /// When the network is full, or an address cannot be set for the port. Nothing changed then.
    pub fn add_port(&self, config: PortConfig) -> Result<PortId, PortError> {
        let (name, policy, account, group) = config.split();
        self.add_member(name, policy, (account, group), None)
    }

    fn add_member(
        &self,
        name: String,
        policy: PortPolicy,
        (account, group): (Account, Option<Arc<Group>>),
        trunk: Option<(TrunkPolicy, Notify)>,
    ) -> Result<PortId, PortError> {
        let mut control = self.control.lock();
        if trunk.is_some()
            && let Some(other) = control.trunk()
        {
            return Err(PortError::TrunkTaken { port: name, trunk: other.name.clone() });
        }
        control.check(&name, &policy, None)?;
        let Some(id) = control.ports.vacant_key() else {
            return Err(PortError::TooManyPorts { port: name, limit: Network::MAX_PORTS });
        };
        self.set_addresses(&name, id, &keys(&policy))?;
        self.fdb.admit_port(id, policy.quota, group.as_ref());
        let trunk = trunk.map(|(policy, notify)| {
            self.fdb.watch(id, Some(Arc::clone(&notify)));
            TrunkMember { trunk: Arc::new(Trunk::new(&policy)), policy, notify }
        });
        let common = control.common;
        let stages = common.stages(id, &policy, trunk.is_some());
        let port = Arc::new(compile(id, &policy, false, (&account, group.as_ref()), (common.aware, stages)));
        let member = Member { id, name, policy, active: false, account, group, port, trunk, fast: false };
        let inserted = control.ports.insert(member);
        debug_assert_eq!(inserted, Some(id));
        self.publish(&mut control);
        Ok(id)
    }

    /// Removes a port and forgets its addresses and static entries; false when it is gone already.
    ///
    /// A worker may still forward batches of it until its next one: [`Forwarder`](crate::Forwarder) tells.
    pub fn remove_port(&self, id: PortId) -> bool {
        let mut control = self.control.lock();
        let Some(member) = control.ports.remove(id) else { return false };
        if member.trunk.is_some() {
            self.fdb.watch(id, None);
        }
        drop(member);
        control.statics.retain(|entry| entry.port != id);
        control.services.take_if(|services| services.port == id);
        self.publish(&mut control);
        self.fdb.dismiss_port(id);
        true
    }

    /// Changes the policy of a port. What was learnt behind it is forgotten when its addresses or VLANs change.
    ///
    /// # Errors
    /// When the port is gone, or an address cannot be set for it. Nothing changed then.
    pub fn update_port(&self, id: PortId, policy: PortPolicy) -> Result<(), PortError> {
        let mut control = self.control.lock();
        if control.member(id)?.trunk.is_some() {
            return Err(control.member(id)?.other_kind());
        }
        self.update_member(&mut control, id, policy)
    }

    fn update_member(&self, control: &mut Control, id: PortId, policy: PortPolicy) -> Result<(), PortError> {
        let member = control.member(id)?;
        if member.policy == policy {
            return Ok(());
        }
        control.check(&member.name, &policy, Some(id))?;
        let (old, new) = (keys(&member.policy), keys(&policy));
        let added = Vec::from_iter(new.iter().copied().filter(|key| !old.contains(key)));
        self.set_addresses(&member.name, id, &added)?;
        for key in old.iter().filter(|key| !new.contains(key)) {
            self.fdb.remove_fixed(*key, EntryKind::Set);
        }
        self.fdb.admit_port(id, policy.quota, member.group.as_ref());
        let relearn = (&member.policy.macs, &member.policy.vlan, member.policy.guard)
            != (&policy.macs, &policy.vlan, policy.guard);
        let common = control.common;
        let member = control.member_mut(id)?;
        let enabled = (member.policy.enabled != policy.enabled).then_some(policy.enabled);
        member.policy = policy;
        member.compile(common);
        let active = member.active;
        self.publish(control);
        if let Some(enabled) = enabled {
            self.set_learning(id, active && enabled);
        }
        if relearn {
            self.fdb.flush(Some(id));
        }
        Ok(())
    }

    /// Says whether somebody is there to receive at the port. What was learnt behind it is forgotten when nobody is;
    /// frames that it sends are forwarded all the same.
    ///
    /// # Errors
    /// When the port is gone.
    pub fn set_active(&self, id: PortId, active: bool) -> Result<(), PortError> {
        let mut control = self.control.lock();
        let common = control.common;
        let member = control.member_mut(id)?;
        let learns = active && member.policy.enabled;
        if member.active != active {
            member.active = active;
            member.compile(common);
            self.publish(&mut control);
        }
        self.set_learning(id, learns);
        Ok(())
    }

    /// Has the FDB learn behind a port, or forget what it learnt there and learn nothing more.
    fn set_learning(&self, id: PortId, learns: bool) {
        self.fdb.set_learning(id, learns);
        if !learns {
            self.fdb.flush(Some(id));
        }
    }

    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn ports(&self) -> Arc<PortTable> {
        Arc::clone(&self.ports.lock())
    }

    /// Enters the addresses of a port, all or none.
    fn set_addresses(&self, port: &str, id: PortId, keys: &[Key]) -> Result<(), PortError> {
        for (i, key) in keys.iter().enumerate() {
            if !self.fdb.insert_fixed(*key, EntryKind::Set, id) {
                keys[..i].iter().for_each(|key| {
                    self.fdb.remove_fixed(*key, EntryKind::Set);
                });
                return Err(PortError::FdbFull { port: port.to_owned(), mac: key.mac() });
            }
        }
        Ok(())
    }

    /// Shows the workers what changed.
    fn publish(&self, control: &mut Control) {
        let common = control.follow();
        let former = core::mem::replace(&mut control.common, common);
        if former != common {
            control.compile();
        }
        let host = self.keep_addresses(control);
        let old = {
            let mut ports = self.ports.lock();
            let table = Arc::new(control.table(ports.generation + 1, host));
            self.generation.store(table.generation, Ordering::Release);
            core::mem::replace(&mut *ports, table)
        };
        drop(old);
        control.tell_fast_ports();
        let wanted = control.members().any(|member| member.port.active && member.trunk.is_none());
        if core::mem::replace(&mut control.wanted, wanted) != wanted
            && let Some(trunk) = control.trunk().and_then(|member| member.trunk.as_ref())
        {
            (trunk.notify)(TrunkNotice::Wanted);
        }
        if former.aware != common.aware {
            // Without VLANs, tagged frames too were learnt for VLAN 1.
            self.fdb.flush(None);
        }
    }
}

impl Control {
    fn compile(&mut self) {
        let common = self.common;
        self.ports.values_mut().for_each(|member| member.compile(common));
    }

    /// Derives the settings for all ports from the present members.
    fn follow(&self) -> Common {
        let trunk = self.trunk().and_then(|member| member.trunk.as_ref());
        let floating = self.members().any(|member| !member.policy.floating.is_empty());
        Common {
            aware: self.members().any(|member| member.policy.vlan != VlanRole::Unset),
            stages: Stages::of_guests(trunk.map(|trunk| &trunk.policy), floating),
            services: self.services.as_ref().map(|services| (services.port, services.dhcp)),
        }
    }

    fn members(&self) -> impl Iterator<Item = &Member> {
        self.ports.values()
    }

    fn member(&self, id: PortId) -> Result<&Member, PortError> {
        self.ports.get(id).ok_or(PortError::Gone(id))
    }

    fn trunk(&self) -> Option<&Member> {
        self.members().find(|member| member.trunk.is_some())
    }

    fn member_mut(&mut self, id: PortId) -> Result<&mut Member, PortError> {
        self.ports.get_mut(id).ok_or(PortError::Gone(id))
    }

    /// Checks that the addresses in `policy` can be set for the port `name`, which has the id `own` if it is there yet.
    fn check(&self, name: &str, policy: &PortPolicy, own: Option<PortId>) -> Result<(), PortError> {
        for mac in policy.macs.iter().copied() {
            if !mac.is_station() {
                return Err(PortError::NotAStation { port: name.to_owned(), mac });
            }
            if let Some(owner) = self.owner(mac, &policy.vlan, own) {
                return Err(PortError::MacTaken { port: name.to_owned(), mac, owner: owner.to_owned() });
            }
        }
        Ok(())
    }

    /// The name of another port for which `mac` is set, or entered by hand, where a port of role `vlan` is too.
    fn owner(&self, mac: MacAddr, vlan: &VlanRole, own: Option<PortId>) -> Option<&str> {
        let holds = |member: &&Member| {
            let is_set = member.policy.macs.contains(&mac) && member.policy.vlan.overlaps(vlan);
            is_set && Some(member.id) != own
        };
        let entered = self.statics.iter().find(|entry| entry.key.mac() == mac).map(|entry| entry.port);
        let by_hand = entered.and_then(|port| self.member(port).ok());
        self.members().find(holds).or(by_hand).map(|member| &*member.name)
    }

    fn table(&self, generation: u64, host: Box<[crate::guard::addresses::Key]>) -> PortTable {
        let ports = self.ports.iter().map(|(id, member)| (id, Arc::clone(&member.port)));
        let trunk = self.trunk().and_then(|member| {
            member.trunk.as_ref().map(|trunk| (Arc::clone(&member.port), Arc::clone(&trunk.trunk)))
        });
        let (ports, services) = (ports.collect(), self.served());
        PortTable::new(generation, self.mtu, self.pass_reserved, ports, trunk, host, services)
    }
}

impl Member {
    fn compile(&mut self, common: Common) {
        let stages = common.stages(self.id, &self.policy, self.trunk.is_some());
        let shared = (&self.account, self.group.as_ref());
        self.port = Arc::new(compile(self.id, &self.policy, self.active, shared, (common.aware, stages)));
        if let Some(trunk) = &mut self.trunk {
            trunk.trunk = Arc::new(Trunk::new(&trunk.policy));
        }
    }
}

fn compile(
    id: PortId,
    policy: &PortPolicy,
    active: bool,
    (account, group): (&Account, Option<&Arc<Group>>),
    (aware, stages): (bool, Stages),
) -> Port {
    let all = policy.limits;
    let limits = match group {
        None => all,
        Some(_) => Limits { storm: all.fair_part(), copies: None, rate: all.rate },
    };
    Port {
        id,
        active: active && policy.enabled,
        enabled: policy.enabled,
        macs: policy.macs.clone().into(),
        guard: policy.guard && !policy.macs.is_empty(),
        vlan: policy.vlan.membership(aware),
        promiscuous: policy.promiscuous,
        sees_trunk: policy.sees_trunk,
        isolated: policy.isolated,
        roles: policy.roles,
        floating: policy.floating.clone().into(),
        stages,
        limits,
        shared: group.map(|group| Share { group: Arc::clone(group), limits: all }),
        account: account.clone(),
    }
}

/// The FDB keys of a port's set addresses: in its VLAN, or in every VLAN for a trunk. A network without VLANs is
/// VLAN 1 to the FDB, so entries stay as they are when another port brings VLANs in.
fn keys(policy: &PortPolicy) -> Vec<Key> {
    let vlan = policy.vlan.access_vlan();
    let key = |mac: &MacAddr| vlan.map_or_else(|| Key::wildcard(*mac), |vlan| Key::new(*mac, vlan));
    policy.macs.iter().map(key).collect()
}
