//! A port's hold on an interface: a TAP of ours, and programs at the hooks of both.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::sync::Arc;

use vmlan_api::{PortState, TrunkHooks};
use vmlan_drivers::Endpoint;
use vmlan_drivers::host::programs::{Side, inject};
use vmlan_drivers::host::{Bounded, Longest, fast as programs};
use vmlan_frame::MacAddr;
use vmlan_sys::ebpf::Hook;

use super::super::{Source, controlled};
use super::fast::Place;
use super::shared::Shared;
use super::{make, pins};
use crate::Seat;
use crate::apart::Apart;
use crate::device::{Device, INTERFACE_TAP};
use crate::hooks::{Hooks, Way, load, refused};
use crate::interface_lock::{Hold, hold};
use crate::kernel::{Interface, Kernel, KernelError, Kind};

const INJECT: &str = "vmlan_inject";
const FROM_GUEST: &str = "vmlan_from";
const TO_GUEST: &str = "vmlan_to";

/// A port's hold on an interface.
pub(super) struct Joint {
    kernel: Arc<Kernel>,
    /// Its place among what the kernel carries. It goes before the programs do.
    place: Option<Place>,
    hooks: Hooks,
    carrier: Device,
    /// Of the carrier.
    injector: Hooks,
    endpoint: Arc<dyn Endpoint>,
    longest: Longest,
    interface: Interface,
    mac: MacAddr,
    /// The interface is a veth whose other end is in another namespace.
    is_peer_elsewhere: bool,
    /// True while frames flow.
    is_up: bool,
    /// Keeps others from the interface.
    _hold: Hold,
}

impl Joint {
    /// Takes the interface for the port of `seat`. From then on nothing of it reaches the host's own stack.
    pub(super) async fn make(
        kernel: Arc<Kernel>,
        shared: &Shared,
        seat: &Seat,
        interface: Interface,
        source: &Source,
    ) -> Result<Joint, Apart> {
        let mac = usable(&kernel, &interface).await?;
        let hold =
            hold(&interface).map_err(|hindrance| Apart::Refused(hindrance.explain(&interface.name)))?;
        let (carrier, medium) = Device::make(&kernel, INTERFACE_TAP, &interface, mac, seat.workers()).await?;
        let injector = load(INJECT, &inject(interface.index, Side::Wire))?;
        let injector = Hooks::of_device(&kernel, carrier.index, TrunkHooks::Auto, injector).await?;
        let longest = Longest::of_mtu(interface.mtu);
        let endpoint = Arc::new(Bounded::new(Arc::new(medium), longest.clone()));
        let fast = shared.network(seat.network()).map_err(refused)?;
        let is_peer_elsewhere = match source {
            Source::Veth(peer) => peer.netns.is_some(),
            Source::Tap { .. } => false,
            // The other end of a veth in another namespace has no number here.
            Source::Found => interface.is_elsewhere && interface.kind == Kind::Veth,
        };
        let place = fast.enter(seat, &interface, carrier.index).map_err(refused)?;
        pins::leftovers::sweep(interface.index);
        let hooks = Hooks::of_interface(&kernel, &interface, injector.way()).await?;
        let mut hooks = hooks.named(fast.links(&seat.place().port));
        if hooks.way() == Way::Clsact {
            place.has_no_names("filters of traffic control have no names; that needs Linux 6.6");
        }
        let program = fast.ingress().as_fd().try_clone_to_owned().map_err(refused)?;
        hooks.put(&kernel, &interface, Hook::Ingress, (FROM_GUEST, program)).await?;
        let program = load(TO_GUEST, &programs::to_guest())?;
        hooks.put(&kernel, &interface, Hook::Egress, program).await?;
        Ok(Joint {
            kernel,
            place: Some(place),
            hooks,
            carrier,
            injector,
            endpoint,
            longest,
            interface,
            mac,
            is_peer_elsewhere,
            is_up: false,
            _hold: hold,
        })
    }

    /// The interfaces whose changes matter, by number.
    pub(super) fn indices(&self) -> BTreeSet<u32> {
        BTreeSet::from([self.interface.index, self.carrier.index])
    }

    /// Asks what the interface is now, and has the port and the devices follow it.
    pub(super) async fn follow(&mut self, seat: &mut Seat) -> Result<(), Apart> {
        let Some(now) = self.kernel.interface_at(self.interface.index).await? else {
            return Err(Apart::NotThere(format!("the interface {} is gone", self.interface.name)));
        };
        let Some(carrier) = self.kernel.interface_at(self.carrier.index).await? else {
            return Err(Apart::Anew);
        };
        let mac = usable(&self.kernel, &now).await?;
        if (mac, now.mtu) != (self.mac, self.interface.mtu) {
            self.longest.set_mtu(now.mtu);
            self.carrier.set(&self.kernel, now.mtu, mac).await?;
        }
        let is_same = now == self.interface && self.is_up;
        (self.mac, self.interface) = (mac, now);
        self.carrier.repair(&self.kernel, &carrier).await?;
        self.injector.repair(&self.kernel, &carrier).await?;
        self.hooks.repair(&self.kernel, &self.interface).await?;
        // What is handed to the other end at once passes nothing that others have on the way out.
        let to_peer = self.is_peer_elsewhere
            && !self.hooks.are_shared_on_the_way_out(&self.kernel, &self.interface).await?;
        if let Some(place) = &self.place {
            place.is(&self.interface, self.interface.running, to_peer);
        }
        if !is_same {
            self.tell(seat).await;
        }
        Ok(())
    }

    /// Brings the port's state to that of the interface.
    async fn tell(&mut self, seat: &mut Seat) {
        let Interface { name, up, running, .. } = &self.interface;
        if *running {
            let peer = make::opener(&self.interface).await;
            let peer = peer.map_or(name.clone(), |program| format!("{name} ({program})"));
            if self.is_up {
                seat.device_is(PortState::Up, None, peer);
            } else {
                seat.up(self.endpoint.clone(), Some(peer)).await;
            }
            self.is_up = true;
            return;
        }
        if std::mem::take(&mut self.is_up) {
            seat.down().await;
        }
        if !up {
            seat.is_down(format!("{name} is down; `ip link set {name} up` brings it up"));
        } else if self.interface.kind == Kind::Tap {
            seat.waiting(Some(format!("waiting for a program that opens the TAP {name}")));
        } else {
            seat.waiting(Some(format!("{name} has no carrier: its other end is down or gone")));
        }
    }

    /// Takes what is ours off the interface.
    pub(super) async fn let_go(&mut self) -> Result<(), KernelError> {
        self.place = None;
        self.hooks.clear(&self.kernel, &self.interface).await
    }
}

/// The interface's address, when a port can have the interface; else why not.
async fn usable(kernel: &Kernel, interface: &Interface) -> Result<MacAddr, Apart> {
    let name = &interface.name;
    let reason = match (interface.mac, interface.kind) {
        (_, Kind::Loopback) | (None, _) => format!("{name} is no Ethernet interface; choose another"),
        (_, Kind::Bridge) => {
            format!(
                "{name} is a bridge; join the network to it as its trunk: `trunk = {{ bridge = \"{name}\" }}`"
            )
        }
        (_, Kind::Tap) if interface.is_carrier() => {
            format!("{name} carries frames of another port or trunk of vmlan's; choose another interface")
        }
        (Some(mac), _) => match interface.controller {
            Some(_) => controlled(name),
            None if kernel.has_default_route(interface.index).await? => format!(
                "the host's default route leaves by {name}, which a port would take from the host; join the network \
                 to it as its trunk: `trunk = {{ interface = \"{name}\" }}`"
            ),
            None => return Ok(mac),
        },
    };
    Err(Apart::Refused(reason))
}
