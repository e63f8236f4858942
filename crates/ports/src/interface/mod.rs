//! Interfaces of this host's, behind which guests are: found, or made for them.

#[cfg(all(target_os = "linux", feature = "netlink"))]
#[path = "linux/mod.rs"]
mod keep;
#[cfg(not(all(target_os = "linux", feature = "netlink")))]
#[path = "without.rs"]
mod keep;

pub(crate) use keep::Shared;
#[cfg(all(target_os = "linux", feature = "netlink"))]
pub(crate) use keep::{Parts, TrunkPlace, left_pins, leftovers};

use std::path::PathBuf;

use vmlan_api::{ErrorCode, InterfaceKind, PortKind};
use vmlan_drivers::tunnel::message::Prefixed;
use vmlan_frame::MacAddr;

use super::belongings::Belonging;
use super::check::Validator;
use super::kind::{Attachment, Entry, HandOver, Hindrance, Keeper, Kind, Surroundings, same};
use super::reserved_name;
use crate::{PortSettings, join};

/// Octets of the name of an interface that is made, and of one that exists: that may be an alternative name.
const LONGEST_NAME: usize = 15;
const LONGEST_ALTERNATIVE: usize = 127;

/// Most octets of a TAP's packets: 65535 with the Ethernet header.
const LONGEST_TAP: usize = 65_521;

pub(crate) const ENTRY: Entry = Entry {
    kind: PortKind::Interface,
    is_in: |port| port.interface.is_some(),
    paths: |_| Vec::new(),
    check: |validator, at, port| validator.interface_port(at, port.interface.as_ref()?).map(Attachment::new),
};

/// The words of a refusal, with the cure, for an interface that is a port of a bridge, a bond or the like.
pub fn controlled(name: &str) -> String {
    format!(
        "{name} is a port of a bridge, bond or the like; `ip link set {name} nomaster` takes it out, and `ip -d link \
         show {name}` says of which"
    )
}

/// An interface behind which a guest is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Where it comes from.
    pub source: Source,
}

/// Where an interface comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// It exists, or is waited for.
    Found,
    /// A persistent TAP that vmlan makes, for a program to open.
    Tap {
        /// A user who may open it.
        owner: Option<u32>,
        /// A group whose members may.
        group: Option<u32>,
        /// True if it can be opened more than once.
        multi_queue: bool,
    },
    /// One end of a veth that vmlan makes.
    Veth(Peer),
}

/// The guest's end of a veth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// The file of the network namespace that it is in; our own without one.
    pub netns: Option<PathBuf>,
    /// The addresses that it gets.
    pub addresses: Vec<Prefixed>,
    /// Its MAC address; the kernel chooses one without.
    pub mac: Option<MacAddr>,
    /// Its MTU; the network's without.
    pub mtu: Option<u32>,
}

impl Kind for Interface {
    fn kind(&self) -> PortKind {
        PortKind::Interface
    }

    fn belongings(&self) -> Vec<(Belonging, &'static str)> {
        // A trunk has interfaces as well, and a TAP port makes devices.
        let mut belongings = vec![(Belonging::Interface(self.name.clone()), "name")];
        if self.source != Source::Found {
            belongings.push((Belonging::Device(None, self.name.clone()), "name"));
        }
        if let Source::Veth(Peer { name, netns, .. }) = &self.source {
            belongings.push((Belonging::Device(netns.clone(), name.clone()), "peer.name"));
        }
        belongings
    }

    fn hindrance(&self, mtu: usize) -> Option<Hindrance> {
        if let Some(hindrance) = reserved_name(&self.name) {
            return Some(hindrance.within("name"));
        }
        (matches!(self.source, Source::Tap { .. }) && mtu > LONGEST_TAP).then(|| {
            let message = format!(
                "a TAP takes an MTU of at most {LONGEST_TAP}, and the network has {mtu}; choose a lower `mtu`"
            );
            Hindrance::new(ErrorCode::OutOfRange, message)
        })
    }

    fn hand_over(&self) -> HandOver {
        HandOver::DeviceStays
    }

    fn fits(
        &self,
        validator: &mut Validator,
        path: &str,
        _settings: &PortSettings,
        network: &mut Surroundings,
    ) {
        if let Source::Veth(Peer { addresses, mtu, .. }) = &self.source {
            let mtu = mtu.map_or(network.mtu, u64::from);
            validator.fits_ipv6(&join(path, "interface.peer.address"), mtu, addresses);
        }
    }

    fn equals(&self, other: &dyn Kind) -> bool {
        same(self, other)
    }

    fn keeper(&self) -> Keeper {
        Keeper::Guest(Box::new(keep::Keep::new(self.clone())))
    }
}

impl Validator {
    fn interface_port(&mut self, path: &str, config: &vmlan_api::InterfaceConfig) -> Option<Interface> {
        let Some(name) = &config.name else {
            let message = "which interface is it? add `name = \"…\"`";
            return self.refuse(ErrorCode::MissingKey, path, message);
        };
        let at = join(path, "name");
        match config.create {
            Some(_) => self.made_name(&at, name),
            None => self.interface_name(&at, name, LONGEST_ALTERNATIVE),
        }?;
        let of_tap = [
            ("owner", config.owner.is_some()),
            ("group", config.group.is_some()),
            ("queues", config.queues.is_some()),
        ];
        let foreign: Vec<_> = match config.create {
            Some(InterfaceKind::Tap) => [("peer", config.peer.is_some())].into_iter().collect(),
            Some(InterfaceKind::Veth) => of_tap.to_vec(),
            None => of_tap.into_iter().chain([("peer", config.peer.is_some())]).collect(),
        };
        if let Some((key, _)) = foreign.into_iter().find(|(_, is_there)| *is_there) {
            let with = if key == "peer" { "veth" } else { "tap" };
            let message = format!("`{key}` goes with `create = \"{with}\"` only; remove it");
            return self.refuse(ErrorCode::Conflict, &join(path, key), message);
        }
        let source = match config.create {
            None => Source::Found,
            Some(InterfaceKind::Tap) => {
                let (owner, group) = (config.owner.as_deref(), config.group.as_deref());
                let owner_and_group = self.owner_and_group(path, owner, group);
                let queues = self.number::<vmlan_api::InterfaceConfig>(path, "queues", config.queues);
                let (owner, group) = owner_and_group?;
                Source::Tap { owner, group, multi_queue: queues.is_some_and(|queues| queues > 1) }
            }
            Some(InterfaceKind::Veth) => {
                let Some(peer) = &config.peer else {
                    let message = "where is the guest's end? add `peer = { name = \"eth0\", netns = \"…\" }`";
                    return self.refuse(ErrorCode::MissingKey, path, message);
                };
                Source::Veth(self.peer(&join(path, "peer"), peer, name)?)
            }
        };
        Some(Interface { name: name.clone(), source })
    }

    /// The name of an interface that is made, which is one and no pattern.
    fn made_name(&mut self, path: &str, name: &str) -> Option<()> {
        self.device_name(path, name)?;
        if name.contains('%') {
            let message = format!("`{name}` is a pattern; the port needs one name");
            return self.refuse(ErrorCode::BadDeviceName, path, message);
        }
        debug_assert!(name.len() <= LONGEST_NAME);
        Some(())
    }

    fn peer(&mut self, path: &str, peer: &vmlan_api::PeerConfig, own: &str) -> Option<Peer> {
        let Some(name) = &peer.name else {
            let message = "what is the guest's end called? add `name = \"eth0\"`";
            return self.refuse(ErrorCode::MissingKey, path, message);
        };
        self.made_name(&join(path, "name"), name)?;
        let netns = match &peer.netns {
            Some(text) => Some(self.netns(&join(path, "netns"), text)?),
            None => None,
        };
        if netns.is_none() && name == own {
            let message = format!("both ends cannot be called {own} in one namespace; choose another name");
            return self.refuse(ErrorCode::Conflict, &join(path, "name"), message);
        }
        let addresses = self.addresses(&join(path, "address"), peer.address.as_ref())?;
        let mac = match &peer.mac {
            Some(text) => Some(self.mac(&join(path, "mac"), text)?),
            None => None,
        };
        let mtu = self.number::<vmlan_api::PeerConfig>(path, "mtu", peer.mtu);
        let mtu = mtu.and_then(|mtu| u32::try_from(mtu).ok());
        Some(Peer { name: name.clone(), netns, addresses, mac, mtu })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use vmlan_api::PortConfig;

    use super::*;

    fn check(table: serde_json::Value) -> Result<Interface, (ErrorCode, String)> {
        let port = serde_json::json!({ "interface": table });
        let port: PortConfig = serde_json::from_value(port).expect("a port");
        let mut validator = Validator::default();
        let checked = validator.interface_port("a.interface", port.interface.as_ref().expect("the table"));
        let faults = validator.faults();
        match faults.first() {
            None => Ok(checked.expect("an interface without faults")),
            Some(fault) => Err((fault.code, fault.field.clone().unwrap_or_default())),
        }
    }

    #[test]
    fn an_interface_is_found_or_made() {
        let found = check(json!({"name": "fc-tap1"})).expect("found");
        assert_eq!(found, Interface { name: "fc-tap1".into(), source: Source::Found });
        let tap = check(json!({"name": "t", "create": "tap", "owner": "0", "queues": 4})).expect("a TAP");
        assert_eq!(tap.source, Source::Tap { owner: Some(0), group: None, multi_queue: true });
        let peer = json!({"name": "eth0", "netns": "blue", "address": "10.0.0.5/24", "mtu": 1400});
        let veth = check(json!({"name": "v", "create": "veth", "peer": peer})).expect("a veth");
        let Source::Veth(peer) = veth.source else { panic!("no veth") };
        assert_eq!((peer.name.as_str(), peer.mtu), ("eth0", Some(1400)));
        assert_eq!(peer.netns, Some("/run/netns/blue".into()));
        assert_eq!(peer.addresses.len(), 1);
    }

    #[test]
    fn keys_that_do_not_go_together_are_named() {
        use ErrorCode::{BadDeviceName, Conflict, MissingKey, OutOfRange, UnknownUser};
        for (table, code, field) in [
            (json!({"create": "tap"}), MissingKey, ""),
            (json!({"name": "v", "create": "veth"}), MissingKey, ""),
            (json!({"name": "v", "create": "veth", "peer": {}}), MissingKey, ".peer"),
            (json!({"name": "v", "owner": "root"}), Conflict, ".owner"),
            (json!({"name": "v", "create": "tap", "peer": {}}), Conflict, ".peer"),
            (json!({"name": "v", "create": "veth", "peer": {"name": "v"}}), Conflict, ".peer.name"),
            (json!({"name": "t%d", "create": "tap"}), BadDeviceName, ".name"),
            (json!({"name": "vmlh3", "create": "tap"}), BadDeviceName, ".name"),
            (json!({"name": "a/b"}), BadDeviceName, ".name"),
            (json!({"name": "t", "create": "tap", "queues": 0}), OutOfRange, ".queues"),
            (json!({"name": "t", "create": "tap", "owner": "nobody-of-that-name"}), UnknownUser, ".owner"),
        ] {
            assert_eq!(check(table.clone()), Err((code, format!("a.interface{field}"))), "{table}");
        }
    }
}
