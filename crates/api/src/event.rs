//! Events, as lines of `GET /v1/events`.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Something that happened, when, and to what: `{"time":"…","event":"port_up","network":"lab","port":"web"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Wall clock of the moment.
    pub time: Timestamp,
    /// The kind of event.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// The kind of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
}
