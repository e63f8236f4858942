use std::sync::Arc;

use vmlan_frame::{ETHERNET_HEADER, SecondaryMap};

use crate::PortId;
use crate::guard::addresses::Key;
use crate::guard::services::Services;
use crate::port::Port;
use crate::trunk::Trunk;

/// The ports of a network at one time. Never changed: control makes a new one, workers take it up before their next
/// batch.
pub(crate) struct PortTable {
    /// Counts the tables of the network.
    pub(crate) generation: u64,
    /// Octets of the longest frame without a tag.
    pub(crate) frame_limit: usize,
    pub(crate) pass_reserved: bool,
    ports: SecondaryMap<PortId, Arc<Port>>,
    /// The ports that get multicast and broadcast: every active guest.
    pub(crate) active: Vec<Arc<Port>>,
    /// The ports that get unicast to an unknown address: active guests that may hold it, and promiscuous ones.
    pub(crate) flooded: Vec<Arc<Port>>,
    /// The ports that get unicast to other ports.
    pub(crate) promiscuous: Vec<Arc<Port>>,
    pub(crate) trunk: Option<TrunkEntry>,
    /// The host's IP addresses on the trunk's interface, in their VLANs.
    pub(crate) host: Box<[Key]>,
    /// The services of the network, and the port that has them.
    pub(crate) services: Option<Services>,
}

/// The trunk in a port table; its port is not in the table's lists.
pub(crate) struct TrunkEntry {
    pub(crate) port: Arc<Port>,
    pub(crate) trunk: Arc<Trunk>,
    /// The ports that get unicast from one side to an unknown address.
    pub(crate) flooded: Vec<Arc<Port>>,
    /// The ports that get unicast from one side to the other.
    pub(crate) listeners: Vec<Arc<Port>>,
}

impl PortTable {
    pub(crate) fn new(
        generation: u64,
        mtu: usize,
        pass_reserved: bool,
        ports: SecondaryMap<PortId, Arc<Port>>,
        trunk: Option<(Arc<Port>, Arc<Trunk>)>,
        host: Box<[Key]>,
        services: Option<Services>,
    ) -> PortTable {
        let is_trunk = |port: &Port| trunk.as_ref().is_some_and(|(trunk, _)| trunk.id == port.id);
        let guests = ports.values().filter(|port| port.active && !is_trunk(port));
        let active: Vec<Arc<Port>> = guests.cloned().collect();
        let select = |wanted: fn(&Port) -> bool| active.iter().filter(|port| wanted(port)).cloned().collect();
        let flooded = select(|port| port.macs.is_empty() || port.promiscuous);
        let promiscuous = select(|port| port.promiscuous);
        let trunk = trunk.map(|(port, trunk)| TrunkEntry {
            port,
            trunk,
            flooded: select(|port| port.macs.is_empty() || port.promiscuous && port.sees_trunk),
            listeners: select(|port| port.promiscuous && port.sees_trunk),
        });
        let frame_limit = mtu.saturating_add(ETHERNET_HEADER);
        PortTable {
            generation,
            frame_limit,
            pass_reserved,
            ports,
            active,
            flooded,
            promiscuous,
            trunk,
            host,
            services,
        }
    }

    #[inline]
    pub(crate) fn port(&self, id: PortId) -> Option<&Port> {
        self.ports.get(id).map(|port| &**port)
    }
}
