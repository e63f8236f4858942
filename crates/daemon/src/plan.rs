//! The actions that lead from the running to the wanted configuration.
//!
//! The order is such that each action can be carried out on what the ones before it left: what goes, goes first, so
//! that a device, socket or descriptor is free before another port takes it. A port that did not change is in no
//! action, and neither is a network whose own settings did not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroUsize;

use crate::config::{
    Attachment, Belonging, Network, NetworkSettings, Port, PortSettings, Trunk, UserLimits, ValidConfig,
    WebPage,
};

#[cfg(test)]
mod tests;

/// A change that is done as a whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Detach a port and forget it.
    RemovePort {
        /// Its network.
        network: String,
        /// Its name.
        name: String,
    },
    /// Forget a network, which has no ports any more.
    RemoveNetwork {
        /// Its name.
        network: String,
    },
    /// Change the settings of a network; its ports stay.
    ChangeNetwork {
        /// Its name.
        network: String,
        /// The new settings.
        settings: NetworkSettings,
    },
    /// Make a network without ports.
    AddNetwork {
        /// Its name.
        network: String,
        /// Its settings.
        settings: NetworkSettings,
    },
    /// Give a port another attachment, and the settings that go with it.
    ReplacePort {
        /// Its network.
        network: String,
        /// Its name.
        name: String,
        /// The wanted port.
        port: Port,
        /// The attachment that it has.
        before: Attachment,
    },
    /// Give a port other settings; its guest notices nothing.
    ChangePort {
        /// Its network.
        network: String,
        /// Its name.
        name: String,
        /// The new settings.
        settings: PortSettings,
    },
    /// Make a port.
    AddPort {
        /// Its network.
        network: String,
        /// Its name.
        name: String,
        /// The wanted port.
        port: Port,
    },
    /// Give the host's interface back.
    RemoveTrunk {
        /// The network.
        network: String,
    },
    /// Set the trunk up anew, on the same interface.
    ReplaceTrunk {
        /// The network.
        network: String,
        /// The wanted trunk.
        trunk: Trunk,
    },
    /// Join the network to an interface of the host's.
    AddTrunk {
        /// The network.
        network: String,
        /// The wanted trunk.
        trunk: Trunk,
    },
    /// Use another number of workers, which takes a restart of the daemon.
    SetWorkers {
        /// How many.
        workers: NonZeroUsize,
    },
    /// Wait for traffic in another way.
    SetPoll {
        /// How.
        poll: vmlan_api::Poll,
    },
    /// Serve metrics at another address.
    SetMetrics {
        /// Where; nowhere without it.
        address: Option<SocketAddr>,
    },
    /// Serve the web page otherwise.
    SetUi {
        /// How; not at all without it.
        page: Option<WebPage>,
    },
    /// Let users hold another part of what all share.
    SetLimits {
        /// How much.
        limits: UserLimits,
    },
}

impl Action {
    /// The account of this action for clients.
    pub fn report(&self, outcome: vmlan_api::Outcome, reason: Option<String>) -> vmlan_api::ActionReport {
        vmlan_api::ActionReport {
            action: self.kind(),
            network: self.network().map(str::to_owned),
            port: self.port().map(str::to_owned),
            outcome,
            reason,
        }
    }

    /// Returns the kind of this change.
    pub fn kind(&self) -> vmlan_api::ActionKind {
        match self {
            Self::RemovePort { .. } => vmlan_api::ActionKind::RemovePort,
            Self::RemoveNetwork { .. } => vmlan_api::ActionKind::RemoveNetwork,
            Self::ChangeNetwork { .. } => vmlan_api::ActionKind::ChangeNetwork,
            Self::AddNetwork { .. } => vmlan_api::ActionKind::AddNetwork,
            Self::ReplacePort { .. } => vmlan_api::ActionKind::ReplacePort,
            Self::ChangePort { .. } => vmlan_api::ActionKind::ChangePort,
            Self::AddPort { .. } => vmlan_api::ActionKind::AddPort,
            Self::RemoveTrunk { .. } => vmlan_api::ActionKind::RemoveTrunk,
            Self::ReplaceTrunk { .. } => vmlan_api::ActionKind::ReplaceTrunk,
            Self::AddTrunk { .. } => vmlan_api::ActionKind::AddTrunk,
            Self::SetWorkers { .. } => vmlan_api::ActionKind::SetWorkers,
            Self::SetPoll { .. } => vmlan_api::ActionKind::SetPoll,
            Self::SetMetrics { .. } => vmlan_api::ActionKind::SetMetrics,
            Self::SetUi { .. } => vmlan_api::ActionKind::SetUi,
            Self::SetLimits { .. } => vmlan_api::ActionKind::SetLimits,
        }
    }

    /// The network concerned.
    pub fn network(&self) -> Option<&str> {
        match self {
            Self::RemovePort { network, .. }
            | Self::RemoveNetwork { network }
            | Self::ChangeNetwork { network, .. }
            | Self::AddNetwork { network, .. }
            | Self::ReplacePort { network, .. }
            | Self::ChangePort { network, .. }
            | Self::AddPort { network, .. }
            | Self::RemoveTrunk { network }
            | Self::ReplaceTrunk { network, .. }
            | Self::AddTrunk { network, .. } => Some(network),
            Self::SetWorkers { .. }
            | Self::SetPoll { .. }
            | Self::SetMetrics { .. }
            | Self::SetUi { .. }
            | Self::SetLimits { .. } => None,
        }
    }

    /// The port concerned.
    pub fn port(&self) -> Option<&str> {
        match self {
            Self::RemovePort { name, .. }
            | Self::ReplacePort { name, .. }
            | Self::ChangePort { name, .. }
            | Self::AddPort { name, .. } => Some(name),
            _ => None,
        }
    }
}

/// The actions in the order in which they can be carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    actions: Vec<Action>,
}

impl Plan {
    /// The actions in their order.
    pub fn actions(&self) -> &[Action] {
        &self.actions
    }

    /// True if the wanted configuration runs already.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    /// Returns the report of a dry run.
    pub fn preview(&self) -> vmlan_api::ApplyReport {
        let planned = |action: &Action| {
            let notice = match action {
                Action::ReplacePort { before, .. } => Some(before.hand_over().as_str().to_owned()),
                _ => None,
            };
            action.report(vmlan_api::Outcome::Planned, notice)
        };
        vmlan_api::ApplyReport {
            dry_run: true,
            actions: self.actions.iter().map(planned).collect(),
            notes: Vec::new(),
        }
    }
}

impl IntoIterator for Plan {
    type Item = Action;
    type IntoIter = std::vec::IntoIter<Action>;

    fn into_iter(self) -> Self::IntoIter {
        self.actions.into_iter()
    }
}

/// Compares the running with the wanted configuration.
///
/// Two set addresses that change places between ports are on both ports between the two actions.
pub fn plan(running: &ValidConfig, wanted: &ValidConfig) -> Plan {
    let in_the_way = in_the_way(running, wanted);
    let mut steps = Steps::default();
    for (name, network) in running.networks() {
        if !wanted.networks().contains_key(name) {
            steps.remove_network(name, network);
        }
    }
    for (name, network) in wanted.networks() {
        match running.network(name) {
            Some(before) => steps.change_network(name, before, network, &in_the_way),
            None => steps.add_network(name, network),
        }
    }
    let mut actions = steps.removals;
    if running.limits() != wanted.limits() {
        actions.push(Action::SetLimits { limits: wanted.limits().clone() });
    }
    // Their addresses may be a removed port's, and an added one's.
    if running.metrics() != wanted.metrics() {
        actions.push(Action::SetMetrics { address: wanted.metrics() });
    }
    if running.ui() != wanted.ui() {
        actions.push(Action::SetUi { page: wanted.ui() });
    }
    actions.append(&mut steps.networks);
    actions.append(&mut steps.changes);
    actions.append(&mut steps.additions);
    if running.workers() != wanted.workers() {
        actions.push(Action::SetWorkers { workers: wanted.workers() });
    }
    if running.poll() != wanted.poll() {
        actions.push(Action::SetPoll { poll: wanted.poll() });
    }
    Plan { actions }
}

/// The ports, by network and name, that stay with another attachment and have what another port wants: replacing them
/// in place could come too late, or in a circle, so they are removed and added.
fn in_the_way<'c>(running: &'c ValidConfig, wanted: &ValidConfig) -> BTreeSet<(&'c str, &'c str)> {
    let takers: BTreeMap<Belonging, (&str, &str)> =
        ports(wanted).flat_map(|(at, port)| belongings(port).map(move |belonging| (belonging, at))).collect();
    let keeps =
        |at: (&str, &str), belonging: &Belonging| takers.get(belonging).is_none_or(|taker| *taker == at);
    ports(running)
        .filter(|(at, port)| belongings(port).any(|belonging| !keeps(*at, &belonging)))
        .map(|(at, _)| at)
        .collect()
}

fn ports(config: &ValidConfig) -> impl Iterator<Item = ((&str, &str), &Port)> {
    config.networks().iter().flat_map(|(network, settings)| {
        settings.ports.iter().map(|(name, port)| ((network.as_str(), name.as_str()), port))
    })
}

fn belongings(port: &Port) -> impl Iterator<Item = Belonging> {
    port.attachment.belongings().into_iter().map(|(belonging, _)| belonging)
}

/// Actions by the stage in which they are carried out.
#[derive(Debug, Default)]
struct Steps {
    removals: Vec<Action>,
    networks: Vec<Action>,
    changes: Vec<Action>,
    additions: Vec<Action>,
}

impl Steps {
    fn remove_network(&mut self, name: &str, network: &Network) {
        for port in network.ports.keys() {
            self.remove_port(name, port);
        }
        if network.trunk.is_some() {
            self.removals.push(Action::RemoveTrunk { network: name.to_owned() });
        }
        self.removals.push(Action::RemoveNetwork { network: name.to_owned() });
    }

    fn add_network(&mut self, name: &str, network: &Network) {
        self.networks
            .push(Action::AddNetwork { network: name.to_owned(), settings: network.settings.clone() });
        self.change_trunk(name, None, network.trunk.as_ref());
        for (port_name, port) in &network.ports {
            self.add_port(name, port_name, port);
        }
    }

    /// A trunk that goes to another interface gives the old one back first, whoever wants it next.
    fn change_trunk(&mut self, name: &str, before: Option<&Trunk>, after: Option<&Trunk>) {
        let network = name.to_owned();
        match (before, after) {
            (Some(before), Some(after)) if before == after => {}
            (Some(before), Some(after)) if before.interface == after.interface => {
                self.changes.push(Action::ReplaceTrunk { network, trunk: after.clone() });
            }
            (before, after) => {
                if before.is_some() {
                    self.removals.push(Action::RemoveTrunk { network: network.clone() });
                }
                if let Some(trunk) = after {
                    self.additions.push(Action::AddTrunk { network, trunk: trunk.clone() });
                }
            }
        }
    }

    fn change_network(
        &mut self,
        name: &str,
        before: &Network,
        after: &Network,
        in_the_way: &BTreeSet<(&str, &str)>,
    ) {
        if before.settings != after.settings {
            let settings = after.settings.clone();
            self.networks.push(Action::ChangeNetwork { network: name.to_owned(), settings });
        }
        self.change_trunk(name, before.trunk.as_ref(), after.trunk.as_ref());
        for port in before.ports.keys().filter(|port| !after.ports.contains_key(*port)) {
            self.remove_port(name, port);
        }
        for (port_name, port) in &after.ports {
            let (network, name) = (name.to_owned(), port_name.to_owned());
            match before.ports.get(port_name) {
                None => self.add_port(&network, &name, port),
                Some(same) if same == port => {}
                Some(other) if other.attachment == port.attachment => {
                    self.changes.push(Action::ChangePort { network, name, settings: port.settings.clone() });
                }
                Some(_) if in_the_way.contains(&(network.as_str(), name.as_str())) => {
                    self.remove_port(&network, &name);
                    self.add_port(&network, &name, port);
                }
                Some(other) => {
                    let (before, port) = (other.attachment.clone(), port.clone());
                    self.changes.push(Action::ReplacePort { network, name, port, before });
                }
            }
        }
    }

    fn remove_port(&mut self, network: &str, name: &str) {
        self.removals.push(Action::RemovePort { network: network.to_owned(), name: name.to_owned() });
    }

    fn add_port(&mut self, network: &str, name: &str, port: &Port) {
        let (network, name) = (network.to_owned(), name.to_owned());
        self.additions.push(Action::AddPort { network, name, port: port.clone() });
    }
}
