//! The joint of a network and an interface, in whatever mode.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;
use vmlan_api::{SharedMac, TrunkMode};
use vmlan_drivers::{Endpoint, Flows};
use vmlan_frame::{MacAddr, Sides};
use vmlan_lan::{HostAddress, TrunkPolicy};

use super::bridge::Bridge;
use super::filter::Filter;
use super::follow::{Followed, Twice, not_there, tell_addresses, twice};
use super::macvtap::Macvtap;
use super::medium::Medium;
use super::packet::Packet;
use super::xdp::Xdp;
use crate::apart::Apart;
use crate::describe;
use crate::interface_lock::{Hold, hold};
use crate::kernel::{Interface, Kernel, KernelError, Kind};
use crate::{Seat, stable, vlan_role};
use crate::{Trunk, TrunkInterface};

/// A use of the interface that has nothing to do with the trunk.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Use {
    /// The host has an address on it.
    Address(IpAddr),
    /// It is a port of this bridge or bond.
    Controller(u32),
    /// This interface stands on it, and is up.
    Above(u32),
}

/// A network's hold on an interface: everything that was set on the host for it.
pub(super) struct Joint {
    kernel: Kernel,
    /// The interfaces through which the host has addresses on this Ethernet, by index.
    alike: BTreeSet<u32>,
    /// Guests' addresses that the host has elsewhere, which was told.
    twice: BTreeSet<Twice>,
    /// Keeps others from the interface.
    _hold: Hold,
    pub(super) interface: Interface,
    /// The interface's own address.
    mac: MacAddr,
    config: Trunk,
    medium: Box<dyn Medium>,
    /// Why the mode was chosen, where there was a choice.
    why: Option<String>,
    shared_mac: bool,
    pub(super) flows: Flows,
    /// How many MAC addresses are behind the network's ports, where the medium is not told of them.
    guests: u64,
    /// True if a guest is there.
    active: bool,
    /// Once it was brought up because a guest was there: what used it before.
    brought_up: Option<BTreeSet<Use>>,
    /// Has the interface take more than is for the host.
    takes_more: Option<OwnedFd>,
}

impl Joint {
    /// Sets up what the configuration asks for, without diverting anything yet; `not_filter` is why mode `auto` shall
    /// not choose filter.
    pub(super) async fn make(
        kernel: Kernel,
        seat: &Seat,
        config: &Trunk,
        was_there: bool,
        not_filter: Option<&str>,
    ) -> Result<(Joint, Arc<dyn Endpoint>), Apart> {
        let name = config.interface.name();
        let Some(interface) = kernel.interface(name).await? else {
            let others: Vec<_> = kernel.interfaces().await?.into_iter().map(|other| other.name).collect();
            return Err(Apart::NotThere(not_there(name, &others, was_there)));
        };
        let mac = usable(&interface, config).map_err(Apart::Refused)?;
        let hold =
            hold(&interface).map_err(|hindrance| Apart::Refused(hindrance.explain(&interface.name)))?;
        let shared_mac = shares_mac(config, &interface.name);
        let flows = Flows::new(seat.workers());
        let setting =
            Setting { kernel: &kernel, interface: &interface, mac, config, shared_mac, seat, not_filter };
        let (medium, endpoint, why) = setting.make(&flows).await?;
        let joint = Joint {
            kernel,
            alike: BTreeSet::new(),
            twice: BTreeSet::new(),
            _hold: hold,
            mac,
            config: config.clone(),
            medium,
            why,
            shared_mac,
            flows,
            guests: 0,
            active: false,
            brought_up: None,
            takes_more: None,
            interface,
        };
        Ok((joint, endpoint))
    }

    pub(super) fn mode(&self) -> TrunkMode {
        self.medium.mode()
    }

    /// The interfaces whose changes matter, by name and by index.
    pub(super) fn watched(&self) -> (BTreeSet<String>, BTreeSet<u32>) {
        let mut indices = BTreeSet::from([self.interface.index]);
        indices.extend(self.medium.devices());
        indices.extend(&self.alike);
        (BTreeSet::from([self.interface.name.clone()]), indices)
    }

    /// Asks what the interface is now, and tells the network and the devices.
    pub(super) async fn follow(&mut self, seat: &Seat) -> Result<Followed, Apart> {
        let name = self.config.interface.name();
        let Some(now) = self.kernel.interface(name).await? else {
            let others: Vec<_> =
                self.kernel.interfaces().await?.into_iter().map(|other| other.name).collect();
            return Ok(Followed::Gone(not_there(name, &others, true)));
        };
        if now.index != self.interface.index {
            return Ok(Followed::Another);
        }
        let mac = usable(&now, &self.config).map_err(Apart::Refused)?;
        let changed = mac != self.mac || now.mtu != self.interface.mtu;
        (self.mac, self.interface) = (mac, now);
        if changed {
            self.medium.resize(&self.kernel, &self.interface, mac).await?;
            self.tell_network(seat)?;
        }
        let all = self.kernel.interfaces().await?;
        let mut there = self.kernel.all_addresses().await?;
        let alike = self.interface.alike(&all).into_iter().map(|(other, tag)| (other.index, tag));
        let tags: BTreeMap<_, _> = alike.chain([(self.interface.index, None)]).collect();
        let own = there
            .iter()
            .filter_map(|(index, address)| Some(HostAddress { address: *address, tag: *tags.get(index)? }));
        tell_addresses(seat.network(), own.collect());
        there.retain(|(index, _)| !tags.contains_key(index));
        self.tell_twice(seat, there, &all);
        self.alike = tags.into_keys().collect();
        Ok(Followed::There)
    }

    /// Tells, once each, of guests' addresses that the host has on other interfaces.
    fn tell_twice(&mut self, seat: &Seat, elsewhere: Vec<(u32, IpAddr)>, all: &[Interface]) {
        let twice = twice(elsewhere, seat.network().shared_addresses());
        for Twice { address, mac, interface } in twice.difference(&self.twice) {
            let Some(interface) = all.iter().find(|other| other.index == *interface) else { continue };
            tracing::warn!(
                port = %seat.place(),
                "a guest ({mac}) has {address}, which the host has on {}: neither is kept from it, but what the host \
                 sends there does not reach the guest",
                interface.name
            );
        }
        self.twice = twice;
    }

    /// Tells the network what the trunk is now.
    pub(super) fn tell_network(&self, seat: &Seat) -> Result<(), Apart> {
        let (diversion, reaches) = self.medium.reach();
        let policy = TrunkPolicy {
            macs: vec![self.mac],
            enabled: self.sides(),
            promiscuous: Sides::NONE,
            reaches,
            diversion,
            vlan: vlan_role(&self.config.vlan),
            shared_mac: self.shared_mac,
            ..TrunkPolicy::default()
        };
        seat.network().update_trunk(seat.id(), policy).map_err(|error| {
            Apart::Refused(format!(
                "the host's interface {} does not fit the network: {error}",
                self.interface.name
            ))
        })
    }

    /// The sides that guests may talk to, and can in this mode.
    fn sides(&self) -> Sides {
        let (_, reaches) = self.medium.reach();
        [Sides::HOST, Sides::WIRE]
            .into_iter()
            .filter(|side| sides(&self.config).contains(*side) && reaches.contains(*side))
            .fold(Sides::NONE, Sides::with)
    }

    /// Tells the kernel which guests there are.
    pub(super) fn sync(&mut self, seat: &Seat) -> Result<(), Apart> {
        if !self.medium.sync(seat)? {
            let macs = seat.network().stations().into_iter().map(|guest| guest.mac);
            self.guests = macs.collect::<BTreeSet<_>>().len() as u64;
        }
        Ok(())
    }

    /// Brings what is diverted to what the ports want.
    pub(super) async fn divert(&mut self, seat: &Seat) -> Result<(), Apart> {
        self.medium.divert(&self.kernel, &self.interface, seat).await
    }

    /// Puts back what somebody took away.
    pub(super) async fn repair(&mut self) -> Result<(), Apart> {
        self.medium.repair(&self.kernel, &self.interface).await?;
        // Somebody reset the interface's count.
        if !self.shared_mac && self.interface.promiscuity == 0 {
            self.takes_more = None;
        }
        if self.active { self.take_more() } else { Ok(()) }
    }

    /// Follows whether a guest is there: with one, the interface is up and takes what is for guests.
    pub(super) async fn activate(&mut self, wanted: bool) -> Result<(), Apart> {
        if self.active == wanted {
            return Ok(());
        }
        self.active = wanted;
        if wanted { self.hold().await } else { self.release().await }
    }

    async fn hold(&mut self) -> Result<(), Apart> {
        if !self.interface.up {
            let before = self.uses().await?;
            let what = format!("bring {} up", self.interface.name);
            self.kernel.set(self.interface.index, &what, |link| link.up()).await?;
            self.interface.up = true;
            self.brought_up = Some(before);
        }
        self.take_more()
    }

    /// Has the interface take what is for guests, where the mode needs that. With a shared address that is what is for
    /// the host, and for groups of which the host knows nothing: Wi-Fi takes nothing else, or suffers from being
    /// promiscuous.
    fn take_more(&mut self) -> Result<(), Apart> {
        if !self.medium.needs_more() || self.takes_more.is_some() {
            return Ok(());
        }
        let index = self.interface.index;
        let (taken, what) = match self.shared_mac {
            true => (vmlan_sys::packet::all_groups(index), "take every group"),
            false => (vmlan_sys::packet::promiscuous(index), "be promiscuous"),
        };
        let failed = |error| KernelError::new(format!("have {} {what}", self.interface.name), error);
        self.takes_more = Some(taken.map_err(failed)?);
        Ok(())
    }

    /// Returns the uses of the interface, beside the guests.
    async fn uses(&self) -> Result<BTreeSet<Use>, KernelError> {
        let index = self.interface.index;
        let is_own = |address: &IpAddr| match address {
            IpAddr::V4(_) => true,
            // Every interface gets one when it is brought up.
            IpAddr::V6(address) => !address.is_unicast_link_local(),
        };
        let addresses = self.kernel.addresses(&self.interface).await?.into_iter().filter(is_own);
        let mut uses: BTreeSet<Use> = addresses.map(Use::Address).collect();
        for other in self.kernel.interfaces().await? {
            if other.index == index {
                uses.extend(other.controller.map(Use::Controller));
            } else if other.up && other.lower == Some(index) && self.interface.lower != Some(other.index) {
                uses.insert(Use::Above(other.index));
            }
        }
        Ok(uses)
    }

    /// Undoes what [`Joint::hold`] did.
    async fn release(&mut self) -> Result<(), Apart> {
        self.takes_more = None;
        if let Some(before) = self.brought_up.take() {
            if !self.uses().await?.is_subset(&before) {
                tracing::info!(trunk = %self.interface.name, "the interface stays up: the host uses it since");
                return Ok(());
            }
            let what = format!("bring {} down again", self.interface.name);
            match self.kernel.set(self.interface.index, &what, |link| link.down()).await {
                Err(error) if error.is(Errno::NODEV) => {}
                done => done?,
            }
        }
        Ok(())
    }

    /// Takes everything off the host, as far as it is there; what cannot be is told.
    pub(super) async fn let_go(&mut self) {
        if let Err(error) = self.medium.remove(&self.kernel, &self.interface).await {
            tracing::warn!(trunk = %self.interface.name, "{}; see `vmlan doctor`", describe(&error));
        }
        if let Err(Apart::Refused(reason)) = self.release().await {
            tracing::warn!(trunk = %self.interface.name, "{reason}");
        }
    }

    /// Writes down what there is to be seen.
    pub(super) fn describe(&self, report: &mut vmlan_api::Trunk) {
        report.mode = self.mode();
        report.active = self.active;
        let enabled = self.sides();
        let named = [(Sides::HOST, "host"), (Sides::WIRE, "wire")];
        report.sides = named
            .iter()
            .filter(|(side, _)| enabled.contains(*side))
            .map(|(_, name)| (*name).to_owned())
            .collect();
        report.host_mac = Some(self.mac.to_string());
        report.mtu = Some(self.interface.mtu.into());
        report.carrier = self.interface.running;
        report.shared_mac = self.shared_mac;
        if report.reason.is_none() {
            report.reason.clone_from(&self.why);
        }
        report.stations = self.guests;
        self.medium.describe(&self.interface, report);
        if self.takes_more.is_some() {
            let what = if self.shared_mac { "takes every group" } else { "is promiscuous" };
            report.installed.push(format!("{} {what}", self.interface.name));
        }
        if self.brought_up.is_some() {
            report.installed.push(format!("{} was brought up", self.interface.name));
        }
    }
}

/// The circumstances that a medium is made for.
struct Setting<'a> {
    kernel: &'a Kernel,
    interface: &'a Interface,
    mac: MacAddr,
    config: &'a Trunk,
    shared_mac: bool,
    seat: &'a Seat,
    not_filter: Option<&'a str>,
}

/// A medium, what the data plane has of it, and why this one where there was a choice.
type Made = (Box<dyn Medium>, Arc<dyn Endpoint>, Option<String>);

impl Setting<'_> {
    /// Makes the medium of the wanted mode, or of the best that is possible.
    async fn make(&self, flows: &Flows) -> Result<Made, Apart> {
        match (&self.config.interface, self.config.mode) {
            (TrunkInterface::Bridge(_), _) | (_, TrunkMode::Bridge) => {
                let Setting { kernel, interface, mac, seat, .. } = *self;
                let (bridge, endpoint) = Bridge::make(kernel, interface, mac, seat, flows.clone()).await?;
                Ok((Box::new(bridge), endpoint, None))
            }
            (_, TrunkMode::Filter) => self.filter(flows).await,
            (_, TrunkMode::Packet) => self.packet(flows),
            (_, TrunkMode::Xdp) => self.xdp(flows),
            (_, TrunkMode::Macvtap) => self.macvtap(flows).await,
            (_, TrunkMode::Auto) => {
                let ((medium, endpoint, _), why) = match self.not_filter {
                    None => {
                        let why = "mode filter: the fastest, and the one that reaches the host";
                        (self.filter(flows).await?, why.to_owned())
                    }
                    Some(reason) => {
                        let why = "mode packet, which does not reach the host, since filter is not possible";
                        (self.packet(flows)?, format!("{why}: {reason}"))
                    }
                };
                Ok((medium, endpoint, Some(why)))
            }
        }
    }

    async fn filter(&self, flows: &Flows) -> Result<Made, Apart> {
        let Setting { kernel, interface, mac, config, shared_mac, seat, .. } = *self;
        let made = Filter::make(kernel, interface, mac, (config, shared_mac), seat, flows.clone());
        let (filter, endpoint) = made.await?;
        Ok((Box::new(filter), endpoint, None))
    }

    fn packet(&self, flows: &Flows) -> Result<Made, Apart> {
        let (packet, endpoint) = Packet::make(self.interface, self.mac, self.shared_mac, flows.clone())?;
        Ok((Box::new(packet), endpoint, None))
    }

    fn xdp(&self, flows: &Flows) -> Result<Made, Apart> {
        let Setting { interface, mac, shared_mac, seat, .. } = *self;
        let (xdp, endpoint) = Xdp::make(interface, mac, shared_mac, seat.workers(), flows.clone())?;
        Ok((Box::new(xdp), endpoint, None))
    }

    async fn macvtap(&self, flows: &Flows) -> Result<Made, Apart> {
        let workers = self.seat.workers();
        let (macvtap, endpoint) = Macvtap::make(self.kernel, self.interface, workers, flows.clone()).await?;
        Ok((Box::new(macvtap), endpoint, None))
    }
}

/// True if mode `packet` may replace mode `filter` where `filter` is not possible.
pub(super) fn may_do_with_packet(config: &Trunk) -> bool {
    let is_auto = config.mode == TrunkMode::Auto && !matches!(config.interface, TrunkInterface::Bridge(_));
    is_auto && config.host != Some(true) && config.wire
}

/// The sides that guests may talk to.
pub(super) fn sides(config: &Trunk) -> Sides {
    let mut sides = Sides::NONE;
    if config.host.unwrap_or(true) {
        sides = sides.with(Sides::HOST);
    }
    if config.wire {
        sides = sides.with(Sides::WIRE);
    }
    sides
}

/// The interface's address, if the interface can be a trunk's.
fn usable(interface: &Interface, config: &Trunk) -> Result<MacAddr, String> {
    let name = &interface.name;
    let wants_bridge = matches!(config.interface, TrunkInterface::Bridge(_));
    if interface.kind == Kind::Loopback {
        return Err(format!("{name} is the loopback interface, which no guest can share; name another"));
    }
    if wants_bridge && interface.kind != Kind::Bridge {
        return Err(format!("{name} is no bridge; write `interface = \"{name}\"`, or name a bridge"));
    }
    let mac = interface.mac.filter(|mac| mac.is_station());
    // A bridge lost its own when its last port left it, and takes that of the port that it gets.
    let joins = interface.kind == Kind::Bridge && (wants_bridge || config.mode == TrunkMode::Bridge);
    let mac = mac.or_else(|| joins.then(|| stable::mac(name, "bridge")));
    mac.ok_or_else(|| format!("{name} is no Ethernet interface, or has no address; name another"))
}

fn shares_mac(config: &Trunk, name: &str) -> bool {
    match config.shared_mac {
        SharedMac::On => true,
        SharedMac::Off => false,
        SharedMac::Auto => is_wireless(name),
    }
}

/// True if the interface is a Wi-Fi interface.
fn is_wireless(name: &str) -> bool {
    let directory = Path::new("/sys/class/net").join(name);
    directory.join("phy80211").exists() || directory.join("wireless").exists()
}
