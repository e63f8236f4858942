use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
    VlanProtocol,
};
use vmlan_frame::{MacAddr, VlanId};

/// An interface as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// None for what is no Ethernet interface.
    pub(crate) mac: Option<MacAddr>,
    /// In octets, without the Ethernet header.
    pub(crate) mtu: u32,
    /// True if the interface was brought up.
    pub(crate) up: bool,
    /// True if the interface is up and has a carrier.
    pub(crate) running: bool,
    /// How many want it to be promiscuous (`IFLA_PROMISCUITY`).
    pub(crate) promiscuity: u32,
    /// The bridge or bond that it is a port of, by index.
    pub(crate) controller: Option<u32>,
    /// True if its other end, or what it stands on, is in another namespace.
    pub(crate) is_elsewhere: bool,
    /// The interface of this namespace that it stands on, as a VLAN interface does, by index.
    pub(crate) lower: Option<u32>,
    pub(crate) kind: Kind,
    /// True if what it sends waits in a queueing discipline.
    pub(crate) has_queue: bool,
    /// Words about it, for people.
    pub(crate) alias: Option<String>,
}

/// The prefix of the alias of every device that vmlan makes and may delete.
pub(crate) const MARK: &str = "vmlan:";

/// The kinds of interface that are treated differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bridge,
    Bond,
    Tap,
    /// One end of a pair.
    Veth,
    MacVtap,
    /// A macvlan or an ipvlan.
    MacVlan,
    /// An interface for the frames with a customer tag of that VLAN.
    Vlan(VlanId),
    Loopback,
    Other,
}

impl Interface {
    /// True if the interface bears our [`MARK`].
    pub(crate) fn is_marked(&self) -> bool {
        self.alias.as_deref().is_some_and(|alias| alias.starts_with(MARK))
    }

    /// The others among `all` through which the host is on the same Ethernet as through this interface, and the VLAN
    /// whose tag is on their frames there: what is stacked on it, and the bridge or bond that it is a port of, with
    /// what is stacked on that. A VLAN in a VLAN is another Ethernet.
    pub(crate) fn alike<'a>(&self, all: &'a [Interface]) -> Vec<(&'a Interface, Option<VlanId>)> {
        let mut found: Vec<(&Interface, Option<VlanId>)> = Vec::new();
        let mut next = Some((self, None));
        let mut looked = 0;
        while let Some((one, tag)) = next {
            for other in all {
                let stands_on_it = other.lower == Some(one.index);
                let tag = match other.kind {
                    Kind::MacVlan | Kind::MacVtap if stands_on_it => tag,
                    Kind::Vlan(vlan) if stands_on_it && tag.is_none() => Some(vlan),
                    Kind::Bridge | Kind::Bond if one.controller == Some(other.index) => tag,
                    _ => continue,
                };
                let is_known =
                    other.index == self.index || found.iter().any(|(known, _)| known.index == other.index);
                if !is_known {
                    found.push((other, tag));
                }
            }
            next = found.get(looked).copied();
            looked += 1;
        }
        found
    }

    pub(super) fn parse(message: &LinkMessage) -> Option<Interface> {
        let flags = message.header.flags;
        let mut interface = Interface {
            index: message.header.index,
            name: String::new(),
            mac: None,
            mtu: 0,
            up: flags.contains(LinkFlags::Up),
            running: flags.contains(LinkFlags::Up | LinkFlags::Running),
            promiscuity: 0,
            controller: None,
            is_elsewhere: false,
            lower: None,
            kind: Kind::Other,
            has_queue: false,
            alias: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::Link(index) => interface.lower = Some(*index).filter(|index| *index != 0),
                LinkAttribute::LinkNetNsId(_) => interface.is_elsewhere = true,
                LinkAttribute::IfName(name) => interface.name.clone_from(name),
                LinkAttribute::IfAlias(alias) => interface.alias = Some(alias.clone()),
                LinkAttribute::Address(octets) if message.header.link_layer_type == LinkLayerType::Ether => {
                    interface.mac = (octets.len() == 6).then(|| MacAddr::from_slice(octets));
                }
                LinkAttribute::Qdisc(kind) => interface.has_queue = kind != "noqueue",
                LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
                LinkAttribute::Promiscuity(count) => interface.promiscuity = *count,
                LinkAttribute::Controller(index) => {
                    interface.controller = Some(*index).filter(|index| *index != 0)
                }
                LinkAttribute::LinkInfo(info) => {
                    let kind = info.iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind),
                        _ => None,
                    });
                    interface.kind = match kind {
                        Some(InfoKind::Bridge) => Kind::Bridge,
                        Some(InfoKind::Bond) => Kind::Bond,
                        Some(InfoKind::Tun) => Kind::Tap,
                        Some(InfoKind::Veth) => Kind::Veth,
                        Some(InfoKind::MacVtap) => Kind::MacVtap,
                        Some(InfoKind::MacVlan | InfoKind::IpVlan) => Kind::MacVlan,
                        Some(InfoKind::Vlan) => customer_vlan(info).map_or(Kind::Other, Kind::Vlan),
                        _ => Kind::Other,
                    };
                }
                _ => {}
            }
        }
        if interface.is_elsewhere {
            interface.lower = None;
        }
        if flags.contains(LinkFlags::Loopback) {
            interface.kind = Kind::Loopback;
        }
        (!interface.name.is_empty()).then_some(interface)
    }
}

/// The VLAN of a VLAN interface, unless its tag is a provider's.
fn customer_vlan(info: &[LinkInfo]) -> Option<VlanId> {
    let data = info.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vlan(data)) => Some(data),
        _ => None,
    })?;
    let is_customer = |vlan: &InfoVlan| !matches!(vlan, InfoVlan::Protocol(VlanProtocol::Ieee8021Ad));
    let id = data.iter().find_map(|vlan| match vlan {
        InfoVlan::Id(id) => VlanId::new(*id).ok(),
        _ => None,
    });
    id.filter(|_| data.iter().all(is_customer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vlan_interface_is_known_by_its_customer_tag() {
        let kind = |data: Vec<InfoVlan>| {
            let info = vec![LinkInfo::Kind(InfoKind::Vlan), LinkInfo::Data(InfoData::Vlan(data))];
            let mut message = LinkMessage::default();
            message.attributes = vec![LinkAttribute::IfName("v".into()), LinkAttribute::LinkInfo(info)];
            Interface::parse(&message).expect("an interface").kind
        };
        let customer = InfoVlan::Protocol(VlanProtocol::Ieee8021Q);
        assert_eq!(kind(vec![InfoVlan::Id(10), customer]), Kind::Vlan(VlanId::new(10).expect("a VLAN")));
        let provider = InfoVlan::Protocol(VlanProtocol::Ieee8021Ad);
        assert_eq!(kind(vec![provider, InfoVlan::Id(10)]), Kind::Other);
        assert_eq!((kind(vec![InfoVlan::Id(4095)]), kind(vec![])), (Kind::Other, Kind::Other));
    }

    #[test]
    fn an_interface_is_alike_those_that_are_stacked_on_it_in_their_vlans() {
        let interface = |index, kind, lower, controller| Interface {
            index,
            name: format!("if{index}"),
            mac: None,
            mtu: 1500,
            up: true,
            running: true,
            promiscuity: 0,
            controller,
            is_elsewhere: false,
            lower,
            kind,
            has_queue: false,
            alias: None,
        };
        let vlan = VlanId::new(10).expect("a VLAN");
        let all = [
            interface(1, Kind::Loopback, None, None),
            interface(2, Kind::Other, None, Some(3)),
            interface(3, Kind::Bridge, None, None),
            // On the port, on the bridge, a VLAN, another port, the other end of a cable, and on something else.
            interface(4, Kind::MacVlan, Some(2), None),
            interface(5, Kind::MacVlan, Some(3), None),
            interface(6, Kind::Vlan(vlan), Some(2), Some(10)),
            interface(7, Kind::Other, None, Some(3)),
            interface(8, Kind::Other, Some(2), None),
            interface(9, Kind::MacVlan, Some(7), None),
            // A bridge of the VLAN, what stands on it, and a VLAN in the VLAN.
            interface(10, Kind::Bridge, None, None),
            interface(11, Kind::MacVlan, Some(10), None),
            interface(12, Kind::Vlan(vlan), Some(6), None),
        ];
        let alike = |one: &Interface| {
            let alike = one.alike(&all).into_iter();
            alike.map(|(other, tag)| (other.index, tag.is_some())).collect::<Vec<_>>()
        };
        let expected = [(3, false), (4, false), (6, true), (5, false), (10, true), (11, true)];
        assert_eq!(alike(&all[1]), expected);
        assert_eq!(alike(&all[2]), [(5, false)]);
        assert!(alike(&all[0]).is_empty());
    }
}
