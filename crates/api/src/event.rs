//! Events, as lines of `GET /v1/events`.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Something that happened, when, and to what: `{"time":"…","event":"port_up","network":"lab","port":"web"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Event {
    /// Wall clock of the moment.
    pub time: Timestamp,
    /// The kind of event.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// The kind of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the members are the network and port concerned and repeat in every variant")]
#[non_exhaustive]
pub enum EventKind {
    /// Frames can flow to and from the guest.
    PortUp { network: String, port: String },
    /// The device of the port has no link.
    PortDown { network: String, port: String, reason: Option<String> },
    /// The port waits for its guest.
    PortWaiting { network: String, port: String, reason: Option<String> },
    /// The port could not be set up.
    PortFailed { network: String, port: String, reason: String },
    /// The port's link changed: `link_on`, `link_off`, `flags_changed`, `mtu_changed`, `link_address_changed`, or
    /// `driver` for what its driver tells.
    LinkChanged { network: String, port: String, change: String },
    /// A guest connected.
    PeerConnected { network: String, port: String, peer: Option<String> },
    /// A guest went away.
    PeerDisconnected { network: String, port: String, peer: Option<String>, reason: Option<String> },
    /// An address was seen for the first time.
    MacLearnt { network: String, port: String, mac: String, vlan: Option<u64> },
    /// An address went from one port to another.
    MacMoved { network: String, from: String, port: String, mac: String, vlan: Option<u64> },
    /// Port `claimant` sends from an address that `port` had first and keeps.
    MacContested { network: String, port: String, claimant: String, mac: String, vlan: Option<u64> },
    /// The guest uses an address that is `owner`'s: another port's, or the host's, which is behind `trunk`.
    AddressConflict { network: String, port: String, mac: String, address: Option<String>, owner: String },
    /// An IP address went from `old_mac` at port `from` to `mac` at `port`.
    AddressMoved {
        network: String,
        address: String,
        from: String,
        old_mac: String,
        port: String,
        mac: String,
    },
    /// A guest got an address, or keeps it.
    Lease {
        network: String,
        port: String,
        address: String,
        mac: String,
        name: Option<String>,
        until: Option<Timestamp>,
    },
    /// A guest's time for an address is over.
    LeaseExpired { network: String, port: Option<String>, address: String, mac: String },
    /// A guest asked for an address, and none is free.
    PoolExhausted { network: String, port: String, mac: String },
    /// A guest was kept from `target`, which it may not reach; once a second for a guest and a target at most.
    EgressDenied { network: String, port: String, target: String },
    /// A guest has as many as it may of `limit`: `flows`, `new_per_second`, `memory`, or `descriptors` of all.
    FlowLimit { network: String, port: String, limit: String },
    /// Other servers are asked for names that are not the network's.
    ResolversChanged { network: String, resolvers: Vec<String> },
    /// Nothing gets out of the network, or not all that should, for this reason.
    UplinkBlocked { network: String, reason: String },
    /// The port broke its protocol and was shut off.
    Quarantined { network: String, port: String, reason: String },
    /// A network was made.
    NetworkAdded { network: String },
    /// A network was removed.
    NetworkRemoved { network: String },
    /// A port was made.
    PortAdded { network: String, port: String },
    /// A port was removed.
    PortRemoved { network: String, port: String },
    /// A configuration was applied.
    Applied { actions: u64, failed: u64 },
    /// The reader was too slow: so many events are missing here.
    Lost { count: u64 },
}

impl EventKind {
    /// Returns a sentence, with cause and cure, for what a person should act on; the log says the same. `None` for
    /// events whose members say it all.
    pub fn in_words(&self) -> Option<String> {
        if let Some((network, port, words)) = self.clash() {
            return Some(format!("{network}/{port} {words}"));
        }
        match self {
            Self::MacMoved { network, from, port, mac, vlan } => {
                let vlan = vlan.map(|vlan| format!(" in VLAN {vlan}")).unwrap_or_default();
                Some(format!("{mac} moved from {network}/{from} to {network}/{port}{vlan}"))
            }
            Self::AddressMoved { network, address, from, port, .. } => {
                Some(format!("{address} moved from {network}/{from} to {network}/{port}"))
            }
            _ => self.of_uplink(),
        }
    }

    /// Returns the sentence for an event of a network's uplink.
    fn of_uplink(&self) -> Option<String> {
        match self {
            Self::PoolExhausted { network, port, mac } => Some(format!(
                "{network}/{port} gets no address for {mac}: all of the pool are given; widen `dhcp.pool` of \
                 [network.{network}.uplink], or take one back with `vmlan leases release {network} ADDRESS`"
            )),
            Self::EgressDenied { network, port, target } => Some(format!(
                "{network}/{port} may not reach {target}; `egress` and `host` of [network.{network}.uplink], and \
                 `egress` of the port, say what it may"
            )),
            Self::FlowLimit { network, port, limit } => {
                let cure = match limit.as_str() {
                    "descriptors" => {
                        "the daemon has no more descriptors: raise its limit of open files".to_owned()
                    }
                    limit => {
                        format!("raise `limits.{limit}` of [network.{network}.uplink] if all of it is meant")
                    }
                };
                Some(format!(
                    "{network}/{port} has reached its limit of {limit}; {cure} (`vmlan flows {network}/{port}` lists \
                     what is open)"
                ))
            }
            Self::ResolversChanged { network, resolvers } => Some(match &resolvers[..] {
                [] => format!(
                    "network {network} knows no server for other names than its own; name one in /etc/resolv.conf, or \
                     with `dns.servers`"
                ),
                resolvers => format!("network {network} asks {} for names now", resolvers.join(", ")),
            }),
            Self::UplinkBlocked { network, reason } => {
                Some(format!("the uplink of network {network} is blocked: {reason}"))
            }
            _ => None,
        }
    }

    /// Returns the network and the port that uses another one's address, and what it does, with the cure.
    pub fn clash(&self) -> Option<(&str, &str, String)> {
        match self {
            Self::MacContested { network, port, claimant, mac, .. } => {
                let words = format!(
                    "sends from {mac}, which {network}/{port} had first and keeps: give one of them another address \
                     (QEMU: `-device …,mac=52:54:00:…`), or set `mac` at the port whose address it is"
                );
                Some((network, claimant, words))
            }
            Self::AddressConflict { network, port, mac, address, owner } => {
                let address = address.as_deref().unwrap_or(mac);
                let words = format!(
                    "uses {address}, from {mac}, which is that of {network}/{owner}: give one of them another address"
                );
                Some((network, port, words))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_guests_with_one_address_are_named_in_full_with_the_cure() {
        let contested = EventKind::MacContested {
            network: "lab".into(),
            port: "web".into(),
            claimant: "db".into(),
            mac: "52:54:00:12:34:56".into(),
            vlan: None,
        };
        let words = contested.in_words().expect("a sentence");
        assert!(words.starts_with("lab/db sends from 52:54:00:12:34:56, which lab/web had first"), "{words}");
        assert!(words.contains("mac=52:54:00:…"), "{words}");
        assert_eq!(EventKind::NetworkAdded { network: "lab".into() }.in_words(), None);
    }

    #[test]
    fn events_of_an_uplink_say_what_to_do() {
        let (network, port) = ("lab".to_owned(), "web".to_owned());
        let of = |limit: &str| EventKind::FlowLimit {
            network: network.clone(),
            port: port.clone(),
            limit: limit.into(),
        };
        let mac = "52:54:00:00:00:01".to_owned();
        let reason = "docker's rules drop what is forwarded".to_owned();
        let resolvers = |list: &[&str]| EventKind::ResolversChanged {
            network: network.clone(),
            resolvers: list.iter().map(|&server| server.into()).collect(),
        };
        for (event, words) in [
            (of("flows"), "raise `limits.flows` of [network.lab.uplink]"),
            (of("descriptors"), "raise its limit of open files"),
            (
                EventKind::PoolExhausted { network: network.clone(), port: port.clone(), mac },
                "lab/web gets no address for 52:54:00:00:00:01",
            ),
            (
                EventKind::EgressDenied { network: network.clone(), port, target: "10.0.0.1:22/tcp".into() },
                "lab/web may not reach 10.0.0.1:22/tcp; `egress`",
            ),
            (resolvers(&["127.0.0.53"]), "asks 127.0.0.53 for names now"),
            (resolvers(&[]), "knows no server"),
            (EventKind::UplinkBlocked { network: network.clone(), reason }, "is blocked: docker's rules"),
        ] {
            let said = event.in_words().expect("a sentence");
            assert!(said.contains(words), "{said}");
        }
    }
}
