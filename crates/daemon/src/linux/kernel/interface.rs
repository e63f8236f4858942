use frame::MacAddr;
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};

/// An interface as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// None for what is no Ethernet interface.
    pub(crate) mac: Option<MacAddr>,
    /// In octets, without the Ethernet header.
    pub(crate) mtu: u32,
    /// Whether it was brought up.
    pub(crate) up: bool,
    /// Whether it is up and has a carrier.
    pub(crate) running: bool,
    /// How many want it to be promiscuous (`IFLA_PROMISCUITY`).
    pub(crate) promiscuity: u32,
    /// The bridge or bond that it is a port of, by index.
    pub(crate) controller: Option<u32>,
    /// The interface of this namespace that it stands on, as a VLAN interface does, by index.
    pub(crate) lower: Option<u32>,
    pub(crate) kind: Kind,
    /// Words about it, for people.
    pub(crate) alias: Option<String>,
}

/// What the alias of every device begins with that vmlan makes and may delete.
pub(crate) const MARK: &str = "vmlan:";

/// The kinds of interface that are treated differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bridge,
    Bond,
    Tap,
    MacVtap,
    /// A macvlan or an ipvlan.
    MacVlan,
    Loopback,
    Other,
}

impl Interface {
    /// Whether it bears our [`MARK`].
    pub(crate) fn is_marked(&self) -> bool {
        self.alias.as_deref().is_some_and(|alias| alias.starts_with(MARK))
    }

    /// The others among `all` through which the host is on the same Ethernet as through this interface: what is stacked
    /// on it without a VLAN, and the bridge or bond that it is a port of, with what is stacked on that.
    pub(crate) fn alike<'a>(&self, all: &'a [Interface]) -> Vec<&'a Interface> {
        let mut found: Vec<&Interface> = Vec::new();
        let mut next = Some(self);
        let mut looked = 0;
        while let Some(one) = next {
            for other in all {
                let above = match other.kind {
                    Kind::MacVlan | Kind::MacVtap => other.lower == Some(one.index),
                    Kind::Bridge | Kind::Bond => one.controller == Some(other.index),
                    _ => false,
                };
                let is_known =
                    other.index == self.index || found.iter().any(|known| known.index == other.index);
                if above && !is_known {
                    found.push(other);
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
            lower: None,
            kind: Kind::Other,
            alias: None,
        };
        let mut is_elsewhere = false;
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::Link(index) => interface.lower = Some(*index).filter(|index| *index != 0),
                LinkAttribute::LinkNetNsId(_) => is_elsewhere = true,
                LinkAttribute::IfName(name) => interface.name.clone_from(name),
                LinkAttribute::IfAlias(alias) => interface.alias = Some(alias.clone()),
                LinkAttribute::Address(octets) if message.header.link_layer_type == LinkLayerType::Ether => {
                    interface.mac = (octets.len() == 6).then(|| MacAddr::from_slice(octets));
                }
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
                        Some(InfoKind::MacVtap) => Kind::MacVtap,
                        Some(InfoKind::MacVlan | InfoKind::IpVlan) => Kind::MacVlan,
                        _ => Kind::Other,
                    };
                }
                _ => {}
            }
        }
        if is_elsewhere {
            interface.lower = None;
        }
        if flags.contains(LinkFlags::Loopback) {
            interface.kind = Kind::Loopback;
        }
        (!interface.name.is_empty()).then_some(interface)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_alike_those_that_are_stacked_on_it_without_a_vlan() {
        let interface = |index, kind, lower, controller| Interface {
            index,
            name: format!("if{index}"),
            mac: None,
            mtu: 1500,
            up: true,
            running: true,
            promiscuity: 0,
            controller,
            lower,
            kind,
            alias: None,
        };
        let all = [
            interface(1, Kind::Loopback, None, None),
            interface(2, Kind::Other, None, Some(3)),
            interface(3, Kind::Bridge, None, None),
            // On the port, on the bridge, a VLAN, another port, the other end of a cable, and on something else.
            interface(4, Kind::MacVlan, Some(2), None),
            interface(5, Kind::MacVlan, Some(3), None),
            interface(6, Kind::Other, Some(2), None),
            interface(7, Kind::Other, None, Some(3)),
            interface(8, Kind::Other, Some(2), None),
            interface(9, Kind::MacVlan, Some(7), None),
        ];
        let alike = |one: &Interface| one.alike(&all).iter().map(|other| other.index).collect::<Vec<_>>();
        assert_eq!(alike(&all[1]), [3, 4, 5]);
        assert_eq!(alike(&all[2]), [5]);
        assert!(alike(&all[0]).is_empty());
    }
}
