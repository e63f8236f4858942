//! What the modes have in common, and what each has of its own.

use api::TrunkMode;
use frame::{MacAddr, Sides};
use lan::Diversion;

use super::Apart;
use super::bridge::Bridge;
use super::filter::Filter;
use super::macvtap::Macvtap;
use super::packet::Packet;
use super::xdp::Xdp;
use crate::kernel::{Interface, Kernel, KernelError};
use crate::supervisor::Station;

/// What a mode has set up between the network and the interface.
pub(super) enum Medium {
    Filter(Filter),
    Bridge(Bridge),
    Packet(Packet),
    Xdp(Xdp),
    Macvtap(Macvtap),
}

impl Medium {
    pub(super) fn mode(&self) -> TrunkMode {
        match self {
            Medium::Filter(_) => TrunkMode::Filter,
            Medium::Bridge(_) => TrunkMode::Bridge,
            Medium::Packet(_) => TrunkMode::Packet,
            Medium::Xdp(_) => TrunkMode::Xdp,
            Medium::Macvtap(_) => TrunkMode::Macvtap,
        }
    }

    /// Which frames it takes off their way between host and wire, and the sides that it can deliver to.
    pub(super) fn reach(&self) -> (Diversion, Sides) {
        match self {
            Medium::Filter(_) => (Diversion::Guests, Sides::BOTH),
            // What a bridge brings to one port it has brought to the others as well.
            Medium::Bridge(_) => (Diversion::Nothing, Sides::BOTH),
            Medium::Packet(_) | Medium::Xdp(_) => (Diversion::Nothing, Sides::WIRE),
            Medium::Macvtap(_) => (Diversion::Everything, Sides::WIRE),
        }
    }

    /// Whether the interface has to take more than is for the host: frames for every address, or where guests share the
    /// host's address, for every group.
    pub(super) fn needs_more(&self) -> bool {
        match self {
            Medium::Filter(_) | Medium::Packet(_) | Medium::Xdp(_) => true,
            Medium::Bridge(_) | Medium::Macvtap(_) => false,
        }
    }

    /// The indices of its devices.
    pub(super) fn devices(&self) -> Vec<u32> {
        match self {
            Medium::Filter(filter) => filter.devices().to_vec(),
            Medium::Bridge(bridge) => vec![bridge.device()],
            Medium::Packet(_) | Medium::Xdp(_) => Vec::new(),
            Medium::Macvtap(macvtap) => vec![macvtap.device()],
        }
    }

    /// Follows the interface's MTU and address.
    pub(super) async fn resize(
        &mut self,
        kernel: &Kernel,
        interface: &Interface,
        mac: MacAddr,
    ) -> Result<(), Apart> {
        match self {
            Medium::Filter(filter) => filter.resize(kernel, interface.mtu, mac).await,
            Medium::Bridge(bridge) => bridge.resize(kernel, interface, mac).await,
            Medium::Packet(packet) => packet.resize(mac),
            Medium::Xdp(xdp) => xdp.resize(interface, mac),
            Medium::Macvtap(macvtap) => {
                macvtap.resize(interface);
                Ok(())
            }
        }
    }

    /// Tells the kernel which guests there are.
    pub(super) fn sync(&mut self, station: &Station) -> Result<(), Apart> {
        match self {
            Medium::Filter(filter) => filter.sync(station),
            Medium::Packet(packet) => packet.sync(station),
            Medium::Xdp(xdp) => xdp.sync(station),
            Medium::Bridge(_) | Medium::Macvtap(_) => Ok(()),
        }
    }

    /// Brings what is diverted to what the ports want: frames for addresses that nobody is known to have, and all.
    pub(super) async fn divert(
        &mut self,
        kernel: &Kernel,
        interface: &Interface,
        wants: (bool, bool),
    ) -> Result<(), Apart> {
        match self {
            Medium::Filter(filter) => filter.divert(kernel, interface, wants).await,
            Medium::Packet(packet) => packet.divert(wants),
            Medium::Xdp(xdp) => xdp.divert(wants),
            Medium::Bridge(_) | Medium::Macvtap(_) => Ok(()),
        }
    }

    /// Puts back what somebody took away.
    pub(super) async fn repair(&mut self, kernel: &Kernel, interface: &Interface) -> Result<(), Apart> {
        match self {
            Medium::Filter(filter) => filter.repair(kernel, interface).await,
            Medium::Bridge(bridge) => bridge.repair(kernel, interface).await,
            Medium::Xdp(xdp) => xdp.repair(interface),
            Medium::Packet(_) | Medium::Macvtap(_) => Ok(()),
        }
    }

    /// Takes off the host what does not vanish with its descriptors.
    pub(super) async fn remove(&mut self, kernel: &Kernel, interface: &Interface) -> Result<(), KernelError> {
        match self {
            Medium::Filter(filter) => filter.remove(kernel, interface).await,
            Medium::Macvtap(macvtap) => macvtap.remove(kernel).await,
            Medium::Bridge(_) | Medium::Packet(_) | Medium::Xdp(_) => Ok(()),
        }
    }

    /// Writes down what there is to be seen.
    pub(super) fn describe(&self, interface: &Interface, report: &mut api::Trunk) {
        match self {
            Medium::Filter(filter) => filter.describe(interface, report),
            Medium::Bridge(bridge) => bridge.describe(interface, report),
            Medium::Packet(packet) => packet.describe(interface, report),
            Medium::Xdp(xdp) => xdp.describe(interface, report),
            Medium::Macvtap(macvtap) => macvtap.describe(interface, report),
        }
    }
}
