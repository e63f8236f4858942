//! Mode `filter`: the kernel diverts what is for guests, and takes what they send to either side.
//!
//! Theory of operation. The trunk has a TAP for each side. On the interface, filters on the way in (from the wire) and
//! on the way out (from the host) redirect what is for a guest to the TAP of that side and mirror what is for a group;
//! all else passes as it did, and never leaves the kernel. On each TAP, one filter takes what we write: from the host's
//! TAP it is received by the interface, from the wire's TAP it is sent. It is marked on the way, so that the
//! interface's filters leave it alone: nothing of ours comes back.
//!
//! The filters have priorities of their own ([`PRIORITIES`]) and names ([`PREFIX`]); nothing else on the interface is
//! touched. The `clsact` qdisc that they hang on is used when it is there, and removed at the end only when it was made
//! here and nobody else hangs on it. The TAPs vanish with the process; what else a killed one leaves, the next takes
//! over.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use drivers::host::{Stations, TwoSides, programs};
use drivers::{Endpoint, Flows};
use frame::{MacAddr, Sides};
use rustix::io::Errno;

use super::Apart;
use super::device::{Device, HOST_TAP, WIRE_TAP};
use crate::config::Trunk;
use crate::kernel::{Filter as Installed, Hook, Interface, Kernel, KernelError, Rule, Then};
use crate::supervisor::Station;

/// The priorities of our filters. They come before what most hosts have, since a filter of the host's that ends the
/// search would keep frames from guests.
pub(super) const PRIORITIES: std::ops::RangeInclusive<u16> = 20..=24;

/// What the names of our filters begin with.
pub(super) const PREFIX: &str = "vmlan_";

const GUESTS: (&str, u16) = ("vmlan_guests", 20);
const ADDRESSES: (&str, u16) = ("vmlan_addresses", 21);
const WRAPPED: (&str, u16) = ("vmlan_wrapped", 22);
const GROUPS: (&str, u16) = ("vmlan_groups", 23);
const EVERYTHING: (&str, u16) = ("vmlan_all", 23);
const OTHERS: (&str, u16) = ("vmlan_others", 24);
const INJECT: (&str, u16) = ("vmlan_inject", 20);

/// What mode `filter` has set up.
pub(super) struct Filter {
    host: Device,
    wire: Device,
    stations: Arc<Stations>,
    programs: Programs,
    /// Whether the interface had no hooks before.
    made_hooks: bool,
    enabled: Sides,
    /// Whether the wire knows guests by the host's address only.
    shared_mac: bool,
    /// What is diverted now, once something is.
    diverted: Option<(bool, bool)>,
}

/// The classifiers, loaded.
struct Programs {
    guests: OwnedFd,
    addresses: OwnedFd,
    wrapped: OwnedFd,
    groups: OwnedFd,
    others: OwnedFd,
    everything: OwnedFd,
    mark: OwnedFd,
}

impl Programs {
    fn load(stations: &Stations) -> std::io::Result<Programs> {
        let load = |(name, _): (&str, u16), program: Vec<u64>| sys::ebpf::load_classifier(name, &program);
        Ok(Programs {
            guests: load(GUESTS, programs::guests(stations))?,
            addresses: load(ADDRESSES, programs::addressees(stations.addresses()))?,
            wrapped: load(WRAPPED, programs::wrapped())?,
            groups: load(GROUPS, programs::groups())?,
            others: load(OTHERS, programs::others())?,
            everything: load(EVERYTHING, programs::everything())?,
            mark: load(INJECT, programs::mark())?,
        })
    }

    fn of(&self, rule: &Rule<'_>) -> &OwnedFd {
        match rule.name {
            name if name == GUESTS.0 => &self.guests,
            name if name == ADDRESSES.0 => &self.addresses,
            name if name == WRAPPED.0 => &self.wrapped,
            name if name == GROUPS.0 => &self.groups,
            name if name == EVERYTHING.0 => &self.everything,
            _ => &self.others,
        }
    }
}

impl Filter {
    /// Makes the TAPs and what takes frames from them. Nothing is diverted yet.
    pub(super) async fn make(
        kernel: &Kernel,
        interface: &Interface,
        mac: MacAddr,
        (config, shared_mac): (&Trunk, bool),
        station: &Station,
        flows: Flows,
    ) -> Result<(Filter, Arc<dyn Endpoint>), Apart> {
        let workers = station.workers();
        let (host, host_medium) = Device::make(kernel, HOST_TAP, interface, mac, workers).await?;
        let (wire, wire_medium) = Device::make(kernel, WIRE_TAP, interface, mac, workers).await?;
        let (network, trunk) = (station.network().clone(), station.id());
        let is_station =
            Box::new(move |mac, vlan| network.port_of(mac, vlan).is_some_and(|port| port != trunk));
        let refused = |error| {
            let error = KernelError::new("give the kernel the table of guests and the classifiers", error);
            Apart::Refused(format!("{}; run vmlan with CAP_BPF", super::describe(&error)))
        };
        let stations = Arc::new(Stations::new(is_station).map_err(refused)?);
        let programs = Programs::load(&stations).map_err(refused)?;
        let left = sweep(kernel, interface).await?;
        let made_hooks = add_hooks(kernel, interface).await? || left;
        for (device, then) in
            [(&host, Then::Receive(interface.index)), (&wire, Then::Redirect(interface.index))]
        {
            kernel.add_hooks(device.index).await?;
            let rule = Rule { hook: Hook::Ingress, priority: INJECT.1, name: INJECT.0, then };
            kernel.add_filter(device.index, rule, &programs.mark).await?;
        }
        let endpoint =
            TwoSides::new(Arc::new(host_medium), Arc::new(wire_medium), stations.clone(), flows, workers);
        let enabled = super::joint::sides(config);
        let filter =
            Filter { host, wire, stations, programs, made_hooks, enabled, shared_mac, diverted: None };
        Ok((filter, Arc::new(endpoint)))
    }

    /// The indices of its devices.
    pub(super) fn devices(&self) -> [u32; 2] {
        [self.host.index, self.wire.index]
    }

    /// Follows the interface's MTU and address.
    pub(super) async fn resize(&self, kernel: &Kernel, mtu: u32, mac: MacAddr) -> Result<(), Apart> {
        self.host.set(kernel, mtu, mac).await?;
        self.wire.set(kernel, mtu, mac).await
    }

    /// Tells the kernel which guests there are.
    pub(super) fn sync(&self, station: &Station) -> Result<(), Apart> {
        let guests = station.network().stations().into_iter().map(|guest| guest.mac);
        let addresses = station.network().shared_addresses().into_iter().map(|shared| shared.address);
        let told = self.stations.set(guests).and_then(|()| match self.shared_mac {
            true => self.stations.set_addresses(addresses),
            false => Ok(()),
        });
        told.map_err(|error| KernelError::new("tell the kernel which guests there are", error).into())
    }

    /// Puts the filters on the interface that divert what is wanted: frames for addresses that nobody is known to have,
    /// and all frames.
    pub(super) async fn divert(
        &mut self,
        kernel: &Kernel,
        interface: &Interface,
        wants: (bool, bool),
    ) -> Result<(), Apart> {
        if self.diverted == Some(wants) {
            return Ok(());
        }
        self.diverted = Some(wants);
        self.bring_about(kernel, interface).await
    }

    /// Puts back the hooks and filters that somebody removed.
    pub(super) async fn repair(&mut self, kernel: &Kernel, interface: &Interface) -> Result<(), Apart> {
        if self.diverted.is_none() {
            return Ok(());
        }
        if add_hooks(kernel, interface).await? {
            self.made_hooks = true;
        }
        self.bring_about(kernel, interface).await
    }

    /// Brings the interface's filters to what is to be diverted.
    async fn bring_about(&self, kernel: &Kernel, interface: &Interface) -> Result<(), Apart> {
        let wanted = self.rules();
        let present = kernel.filters(interface.index).await?;
        let is = |rule: &Rule<'_>, filter: &Installed| {
            filter.hook == rule.hook
                && filter.priority == rule.priority
                && filter.name.as_deref() == Some(rule.name)
        };
        for filter in present.iter().filter(|filter| is_ours(filter)) {
            if !wanted.iter().any(|rule| is(rule, filter)) {
                kernel.delete_filter(interface.index, filter).await?;
            }
        }
        for rule in wanted.iter().filter(|rule| !present.iter().any(|filter| is(rule, filter))) {
            let added = kernel.add_filter(interface.index, *rule, self.programs.of(rule)).await;
            added.map_err(|error| match error.is(Errno::INVAL) {
                true => Apart::Refused(format!(
                    "{} has a traffic filter of another kind with priority {}, which vmlan uses ({} to {}); give that \
                     one another priority: `tc filter show dev {0} ingress` and `egress`",
                    interface.name,
                    rule.priority,
                    PRIORITIES.start(),
                    PRIORITIES.end()
                )),
                false => error.into(),
            })?;
        }
        Ok(())
    }

    /// The filters that the interface is to have.
    fn rules(&self) -> Vec<Rule<'static>> {
        let Some((unknown, everything)) = self.diverted else { return Vec::new() };
        let sides =
            [(Sides::WIRE, Hook::Ingress, self.wire.index), (Sides::HOST, Hook::Egress, self.host.index)];
        let mut rules = Vec::new();
        for (_, hook, device) in sides.into_iter().filter(|(side, ..)| self.enabled.contains(*side)) {
            let mut add = |(name, priority), then| rules.push(Rule { hook, priority, name, then });
            add(GUESTS, Then::Redirect(device));
            if self.shared_mac && hook == Hook::Ingress {
                add(ADDRESSES, Then::Redirect(device));
                add(WRAPPED, Then::Mirror(device));
            }
            if everything {
                add(EVERYTHING, Then::Mirror(device));
                continue;
            }
            add(GROUPS, Then::Mirror(device));
            // What the host sends to somebody unknown is for the wire: the host has heard of every guest it speaks to.
            if unknown && hook == Hook::Ingress {
                add(OTHERS, Then::Mirror(device));
            }
        }
        rules
    }

    /// Takes the filters off the interface, and the hooks if they are ours alone.
    pub(super) async fn remove(&mut self, kernel: &Kernel, interface: &Interface) -> Result<(), KernelError> {
        self.diverted = None;
        remove(kernel, interface.index, self.made_hooks).await
    }

    /// Writes down what there is to be seen.
    pub(super) fn describe(&self, interface: &Interface, report: &mut api::Trunk) {
        report.stations = self.stations.count().unwrap_or_default() as u64;
        report.installed.push(format!("device {} (the host's side)", self.host.name));
        report.installed.push(format!("device {} (the wire's side)", self.wire.name));
        let whose = if self.made_hooks { "made by vmlan" } else { "was there" };
        report.installed.push(format!("qdisc clsact on {} ({whose})", interface.name));
        for Rule { hook, priority, name, then } in self.rules() {
            let hook = match hook {
                Hook::Ingress => "ingress",
                Hook::Egress => "egress",
            };
            let device = if hook == "ingress" { &self.wire.name } else { &self.host.name };
            let what = match then {
                Then::Redirect(_) => "redirects to",
                Then::Mirror(_) => "mirrors to",
                Then::Receive(_) => "is received by",
            };
            report.installed.push(format!(
                "filter {name} on {} {hook}, priority {priority}, {what} {device}",
                interface.name
            ));
        }
    }
}

/// Whether a filter is one of ours.
pub(super) fn is_ours(filter: &Installed) -> bool {
    PRIORITIES.contains(&filter.priority)
        && filter.kind == "bpf"
        && filter.name.as_deref().is_some_and(|name| name.starts_with(PREFIX))
}

/// Takes our filters off an interface, and its hooks if they are `ours` and nobody else's filter is on them.
pub(super) async fn remove(kernel: &Kernel, index: u32, ours: bool) -> Result<(), KernelError> {
    for filter in kernel.filters(index).await?.iter().filter(|filter| is_ours(filter)) {
        kernel.delete_filter(index, filter).await?;
    }
    if ours && kernel.filters(index).await?.is_empty() {
        kernel.delete_hooks(index).await?;
    }
    Ok(())
}

/// Removes what a killed daemon left on the interface; answers whether the hooks were surely its.
async fn sweep(kernel: &Kernel, interface: &Interface) -> Result<bool, KernelError> {
    let filters = kernel.filters(interface.index).await?;
    let (left, foreign): (Vec<_>, Vec<_>) = filters.iter().partition(|filter| is_ours(filter));
    for filter in &left {
        kernel.delete_filter(interface.index, filter).await?;
    }
    if !left.is_empty() {
        tracing::info!(
            "{}: removed {} traffic filters that an earlier vmlan left",
            interface.name,
            left.len()
        );
    }
    Ok(!left.is_empty() && foreign.is_empty())
}

async fn add_hooks(kernel: &Kernel, interface: &Interface) -> Result<bool, Apart> {
    kernel.add_hooks(interface.index).await.map_err(|error| match error.is(Errno::EXIST) {
        true => Apart::Refused(format!(
            "{0} has an `ingress` qdisc, in whose place vmlan needs `clsact`; `tc qdisc del dev {0} ingress`, and add \
             its filters again to `tc qdisc add dev {0} clsact`, which takes the same ones",
            interface.name
        )),
        false => error.into(),
    })
}
