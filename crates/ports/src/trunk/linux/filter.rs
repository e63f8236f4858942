//! Mode `filter`: the kernel diverts what is for guests, and takes what they send to either side.
//!
//! Theory of operation. The trunk has a TAP for each side. On the interface, a program on the way in (from the wire)
//! and one on the way out (from the host) redirect what is for a guest to the TAP of that side and copy what is for a
//! group; all else passes as it did, and never leaves the kernel. On each TAP, a program takes what we write: from the
//! host's TAP it is received by the interface, from the wire's TAP it is sent. It is marked on the way, so that the
//! interface's programs leave it alone: nothing of ours comes back. They take the mark off, for what the host forwards
//! bears the mark that it came with.
//!
//! Where the network has interface ports, both programs ask the kernel's tables about a frame for a guest before they
//! redirect it ([`TrunkPlace`]); what the tables let pass goes to the guest's interface at once.
//!
//! Programs of others on the interface are not touched ([`Hooks`]). The TAPs vanish with the process. The next process
//! takes over what else a killed one leaves.

use std::sync::Arc;

use vmlan_api::TrunkMode;
use vmlan_drivers::host::programs::{self, Divert, Side};
use vmlan_drivers::host::{Longest, Stations, TwoSides};
use vmlan_drivers::{Endpoint, Flows};
use vmlan_frame::{MacAddr, Sides};
use vmlan_lan::Diversion;
use vmlan_sys::ebpf::Hook;

use super::medium::{Attempt, Medium, attempt};
use crate::Seat;
use crate::Trunk;
use crate::apart::Apart;
use crate::device::{Device, HOST_TAP, WIRE_TAP};
use crate::hooks::{Hooks, load, refused};
use crate::interface::{Parts, TrunkPlace};
use crate::kernel::{Interface, Kernel, KernelError};

const FROM_WIRE: &str = "vmlan_wire";
const FROM_HOST: &str = "vmlan_host";
const INJECT: &str = "vmlan_inject";
const UNMARK: &str = "vmlan_unmark";

/// The set-up of mode `filter`: two TAPs and the hooks.
pub(super) struct Filter {
    /// Its place among what the kernel carries, which it has once the network has interface ports. It goes before the
    /// programs do.
    place: Option<TrunkPlace>,
    /// True if it could not have one.
    stays_apart: bool,
    flows: Flows,
    host: Device,
    wire: Device,
    /// Of the TAPs.
    injectors: [Hooks; 2],
    hooks: Hooks,
    stations: Arc<Stations>,
    longest: Longest,
    enabled: Sides,
    /// True if the wire knows guests by the host's address only.
    shared_mac: bool,
    /// How many addresses of guests the kernel has no room for.
    left_out: usize,
    /// The extra frames diverted now, once a diversion was set: those for unknown addresses, and all.
    diverted: Option<(bool, bool)>,
}

impl Filter {
    /// Makes the TAPs and what takes frames from them. Nothing is diverted yet.
    pub(super) async fn make(
        kernel: &Kernel,
        interface: &Interface,
        mac: MacAddr,
        (config, shared_mac): (&Trunk, bool),
        seat: &Seat,
        flows: Flows,
    ) -> Result<(Filter, Arc<dyn Endpoint>), Apart> {
        let workers = seat.workers();
        let (host, host_medium) = Device::make(kernel, HOST_TAP, interface, mac, workers).await?;
        let (wire, wire_medium) = Device::make(kernel, WIRE_TAP, interface, mac, workers).await?;
        let (network, trunk) = (seat.network().clone(), seat.id());
        let is_station =
            Box::new(move |mac, vlan| network.port_of(mac, vlan).is_some_and(|port| port != trunk));
        let stations = Arc::new(Stations::new(is_station).map_err(refused)?);
        let inject = |side| load(INJECT, &programs::inject(interface.index, side));
        let to_host = Hooks::of_device(kernel, host.index, config.hooks, inject(Side::Host)?).await?;
        let to_wire = Hooks::of_device(kernel, wire.index, config.hooks, inject(Side::Wire)?).await?;
        let hooks = Hooks::of_interface(kernel, interface, to_wire.way()).await?;
        let longest = Longest::of_mtu(interface.mtu);
        let known = (stations.clone(), longest.clone());
        let media = (Arc::new(host_medium), Arc::new(wire_medium));
        let endpoint = TwoSides::new(media.0, media.1, known, flows.clone(), workers);
        let filter = Filter {
            place: None,
            // What packets say of addresses is learnt there, so workers see all of them.
            stays_apart: shared_mac,
            flows,
            host,
            wire,
            injectors: [to_host, to_wire],
            hooks,
            stations,
            longest,
            enabled: super::joint::sides(config),
            shared_mac,
            left_out: 0,
            diverted: None,
        };
        Ok((filter, Arc::new(endpoint)))
    }

    /// Takes its place among what the kernel carries, if it can now and has none; true if it just did.
    fn take_part(&mut self, interface: &Interface, seat: &Seat) -> bool {
        if self.place.is_some() || self.stays_apart {
            return false;
        }
        let carriers = [self.host.index, self.wire.index];
        let parts = Parts { interface, carriers, flows: &self.flows, stations: &self.stations };
        match seat.interfaces().enter_trunk(seat, &parts) {
            None => false,
            Some(Ok(place)) => {
                self.place = Some(place);
                true
            }
            Some(Err(error)) => {
                self.stays_apart = true;
                tracing::warn!(port = %seat.place(), "all frames of the trunk go by the daemon: {error}");
                false
            }
        }
    }
}

impl Medium for Filter {
    fn mode(&self) -> TrunkMode {
        TrunkMode::Filter
    }

    fn reach(&self) -> (Diversion, Sides) {
        (Diversion::Guests, Sides::BOTH)
    }

    fn needs_more(&self) -> bool {
        true
    }

    fn devices(&self) -> Vec<u32> {
        vec![self.host.index, self.wire.index]
    }

    fn resize<'a>(&'a mut self, kernel: &'a Kernel, interface: &'a Interface, mac: MacAddr) -> Attempt<'a> {
        attempt(async move {
            let mtu = interface.mtu;
            self.longest.set_mtu(mtu);
            self.host.set(kernel, mtu, mac).await?;
            self.wire.set(kernel, mtu, mac).await
        })
    }

    fn sync(&mut self, seat: &Seat) -> Result<bool, Apart> {
        let guests = || seat.network().stations().into_iter().map(|guest| guest.mac);
        let addresses = seat.network().shared_addresses().into_iter().map(|shared| shared.address);
        let before = self.stations.departures();
        let told = self.stations.set(guests).and_then(|left_out| match self.shared_mac {
            true => Ok(left_out + self.stations.set_addresses(addresses)?),
            false => Ok(left_out),
        });
        let left_out =
            told.map_err(|error| KernelError::new("tell the kernel which guests there are", error))?;
        // One that was taken out may have come back since the network was asked.
        if let Some(place) = self.place.as_ref().filter(|_| self.stations.departures() != before) {
            place.divert_guests();
        }
        if left_out > 0 && self.left_out == 0 {
            tracing::warn!(
                port = %seat.place(),
                "{left_out} addresses of guests are not delivered to from host and wire: the kernel has \
                 been told the most that it is, {}",
                Stations::LIMIT
            );
        }
        self.left_out = left_out;
        Ok(true)
    }

    fn divert<'a>(&'a mut self, kernel: &'a Kernel, interface: &'a Interface, seat: &'a Seat) -> Attempt<'a> {
        attempt(async move {
            let wants = seat.wants();
            let takes_part = self.take_part(interface, seat);
            if let Some(place) = &self.place {
                place.is(interface);
            }
            if self.diverted == Some(wants) && !takes_part {
                return Ok(());
            }
            self.diverted = Some(wants);
            let (unknown, everything) = wants;
            let divert = Divert {
                to: self.wire.index,
                guests: self.stations.guests(),
                from_wire: true,
                shared: self.shared_mac.then(|| self.stations.addresses()),
                unknown,
                unheard: None,
                everything,
            };
            let unheard = unknown.then(|| self.stations.unheard());
            let to_guests = Divert {
                to: self.host.index,
                from_wire: false,
                shared: None,
                unknown: false,
                unheard,
                ..divert
            };
            let hooks = [
                (Hook::Ingress, (Sides::WIRE, Side::Wire), (FROM_WIRE, divert)),
                (Hook::Egress, (Sides::HOST, Side::Host), (FROM_HOST, to_guests)),
            ];
            for (hook, (sides, side), (name, divert)) in hooks {
                let fast = self.place.as_ref().map(|place| place.way_of(side));
                let program = match self.enabled.contains(sides) {
                    true => load(name, &programs::divert(&divert, fast))?,
                    false => load(UNMARK, &programs::unmark())?,
                };
                self.hooks.put(kernel, interface, hook, program).await?;
            }
            Ok(())
        })
    }

    /// Has guests looked for again, too, that were not heard of.
    fn repair<'a>(&'a mut self, kernel: &'a Kernel, interface: &'a Interface) -> Attempt<'a> {
        attempt(async move {
            let looked = self.stations.look_again();
            looked.map_err(|error| {
                KernelError::new("empty the table of addresses that are looked for", error)
            })?;
            let all = kernel.interfaces().await?;
            for (device, hooks) in [&self.host, &self.wire].into_iter().zip(&mut self.injectors) {
                let Some(there) = all.iter().find(|there| there.index == device.index) else {
                    return Err(Apart::Anew);
                };
                device.repair(kernel, there).await?;
                hooks.repair(kernel, there).await?;
            }
            self.hooks.repair(kernel, interface).await
        })
    }

    fn remove<'a>(&'a mut self, kernel: &'a Kernel, interface: &'a Interface) -> Attempt<'a, KernelError> {
        attempt(async move {
            self.diverted = None;
            self.place = None;
            self.hooks.clear(kernel, interface).await
        })
    }

    fn describe(&self, interface: &Interface, report: &mut vmlan_api::Trunk) {
        report.stations = self.stations.count().unwrap_or_default() as u64;
        report.installed.push(format!("device {} (the host's side)", self.host.name));
        report.installed.push(format!("device {} (the wire's side)", self.wire.name));
        self.hooks.describe(interface, [&self.wire.name, &self.host.name], &mut report.installed);
        if self.left_out > 0 {
            let (left_out, limit) = (self.left_out, Stations::LIMIT);
            report.installed.push(format!("{limit} addresses of guests, the most; {left_out} are left out"));
        }
        let Some((unknown, everything)) = self.diverted else { return };
        let mut diverted = vec!["frames for guests", "copies of frames for groups"];
        if everything {
            diverted = vec!["frames for guests", "copies of all others (for promiscuous ports)"];
        } else if unknown {
            diverted.push("copies of frames for unknown addresses (for ports without a set `mac`)");
        }
        report.installed.push(format!("diverted: {}", diverted.join(", ")));
        if self.place.is_some() {
            report
                .installed
                .push("carried by the kernel alone: frames to and from interface ports".to_owned());
        }
    }
}
