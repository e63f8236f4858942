//! Mode `bridge`: the network is a port of a bridge of the host's.
//!
//! A TAP is made a port of the bridge. A bridge takes the lowest MTU and the lowest address of its ports for itself
//! unless it was given others, so the TAP has the bridge's address, and the lowest MTU of the other ports: the bridge
//! keeps what it had. Leaving the bridge is a change of the TAP's, which the kernel tells, and which is undone.
//!
//! The bridge learns which guests are behind the TAP, and would remember one that left for as long as one that is
//! silent. Where the guest is elsewhere now, behind another port or on another host (VXLAN), it would not be found
//! meanwhile. So the bridge is told to forget it.

use std::collections::BTreeSet;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vmlan_api::TrunkMode;
use vmlan_drivers::host::{Bounded, BySource, Longest};
use vmlan_drivers::{Endpoint, Flows};
use vmlan_frame::{MacAddr, Sides};
use vmlan_lan::Diversion;

use super::medium::{Attempt, Medium, attempt};
use crate::Seat;
use crate::apart::Apart;
use crate::device::{BRIDGE_TAP, Device};
use crate::kernel::{Interface, Kernel, KernelError};

/// The set-up of mode `bridge`: a TAP in the bridge.
pub(super) struct Bridge {
    tap: Device,
    /// The host's address, by which its frames are told from those of the wire.
    host: Arc<AtomicU64>,
    longest: Longest,
    guests: BTreeSet<MacAddr>,
    /// Guests that left, which the bridge may remember still.
    departed: BTreeSet<MacAddr>,
}

/// Guests that left of which the bridge is told at once; it forgets others by itself.
const DEPARTED: usize = 1024;

impl Bridge {
    /// Makes a TAP and puts it into the bridge.
    pub(super) async fn make(
        kernel: &Kernel,
        bridge: &Interface,
        mac: MacAddr,
        seat: &Seat,
        flows: Flows,
    ) -> Result<(Bridge, Arc<dyn Endpoint>), Apart> {
        let (tap, medium) = Device::make(kernel, BRIDGE_TAP, bridge, mac, seat.workers()).await?;
        let host = Arc::new(AtomicU64::new(mac.to_u64()));
        let longest = Longest::of_mtu(bridge.mtu);
        let endpoint = Arc::new(BySource::new(Arc::new(medium), host.clone(), flows));
        let endpoint = Bounded::new(endpoint, longest.clone());
        let (guests, departed) = (BTreeSet::new(), BTreeSet::new());
        let made = Bridge { tap, host, longest, guests, departed };
        made.follow(kernel, bridge, mac).await?;
        made.join(kernel, bridge).await?;
        Ok((made, Arc::new(endpoint)))
    }

    async fn join(&self, kernel: &Kernel, bridge: &Interface) -> Result<(), KernelError> {
        let what = format!("make {} a port of {}", self.tap.name, bridge.name);
        kernel.set(self.tap.index, &what, |link| link.controller(bridge.index)).await
    }

    /// Notes which guests there are now, and which there were.
    fn note(&mut self, guests: BTreeSet<MacAddr>) {
        let former = mem::replace(&mut self.guests, guests);
        self.departed.extend(former);
        self.departed.retain(|mac| !self.guests.contains(mac));
        while self.departed.len() > DEPARTED {
            self.departed.pop_last();
        }
    }

    /// Follows the bridge's address and the other ports' MTU.
    async fn follow(&self, kernel: &Kernel, bridge: &Interface, mac: MacAddr) -> Result<(), Apart> {
        self.host.store(mac.to_u64(), Ordering::Relaxed);
        let mtu = self.mtu(bridge, &kernel.interfaces().await?);
        self.longest.set_mtu(mtu);
        self.tap.set(kernel, mtu, mac).await
    }

    /// The lowest MTU of the other ports, or the bridge's where there is none.
    fn mtu(&self, bridge: &Interface, all: &[Interface]) -> u32 {
        let others =
            all.iter().filter(|port| port.controller == Some(bridge.index) && port.index != self.tap.index);
        others.map(|port| port.mtu).min().unwrap_or(bridge.mtu)
    }
}

impl Medium for Bridge {
    fn mode(&self) -> TrunkMode {
        TrunkMode::Bridge
    }

    /// Diverts nothing: a bridge that brings a frame to one port has brought it to the others as well.
    fn reach(&self) -> (Diversion, Sides) {
        (Diversion::Nothing, Sides::BOTH)
    }

    fn needs_more(&self) -> bool {
        false
    }

    fn devices(&self) -> Vec<u32> {
        vec![self.tap.index]
    }

    fn sync(&mut self, seat: &Seat) -> Result<bool, Apart> {
        self.note(seat.network().stations().into_iter().map(|guest| guest.mac).collect());
        Ok(false)
    }

    /// Has the bridge forget the guests that left.
    fn divert<'a>(&'a mut self, kernel: &'a Kernel, bridge: &'a Interface, _seat: &'a Seat) -> Attempt<'a> {
        attempt(async move {
            for mac in mem::take(&mut self.departed) {
                if let Err(error) = kernel.forget_station(self.tap.index, mac).await {
                    // It forgets by itself later.
                    tracing::debug!(trunk = %bridge.name, "{error}: {}", error.source);
                }
            }
            Ok(())
        })
    }

    fn resize<'a>(&'a mut self, kernel: &'a Kernel, interface: &'a Interface, mac: MacAddr) -> Attempt<'a> {
        attempt(self.follow(kernel, interface, mac))
    }

    /// Joins the bridge again when somebody took the TAP out, and follows the other ports' MTU.
    fn repair<'a>(&'a mut self, kernel: &'a Kernel, bridge: &'a Interface) -> Attempt<'a> {
        attempt(async move {
            let all = kernel.interfaces().await?;
            let Some(tap) = all.iter().find(|interface| interface.index == self.tap.index) else {
                return Err(Apart::Anew);
            };
            let mtu = self.mtu(bridge, &all);
            if tap.mtu != mtu {
                self.longest.set_mtu(mtu);
                self.tap.set_mtu(kernel, mtu).await?;
            }
            if tap.controller != Some(bridge.index) {
                tracing::warn!("{} was taken out of {}; it joins again", tap.name, bridge.name);
                self.join(kernel, bridge).await?;
            }
            self.tap.repair(kernel, tap).await
        })
    }

    fn describe(&self, bridge: &Interface, report: &mut vmlan_api::Trunk) {
        report.installed.push(format!("device {}, a port of {}", self.tap.name, bridge.name));
    }
}
