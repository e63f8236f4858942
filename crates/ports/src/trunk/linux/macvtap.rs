//! Mode `macvtap`: the interface is taken over whole.
//!
//! A macvtap in its passthru mode gets every frame that the interface receives, and sends through it; the host's own
//! stack has nothing of the interface meanwhile. The device stays when its daemon is killed; the next one finds it by
//! its name, which has the number of the interface, and makes it anew if it bears our mark. A device cannot be made
//! with the mark on it, so it is brought up only after that; one that a daemon was killed over in between is nobody's,
//! and people have to delete it.

use std::future::ready;
use std::sync::Arc;

use rtnetlink::LinkMacVtap;
use rtnetlink::packet_route::link::MacVtapMode;
use rustix::io::Errno;
use vmlan_api::TrunkMode;
use vmlan_drivers::host::{Bounded, BySource, Longest};
use vmlan_drivers::tap::{Device as Tap, set_offloads};
use vmlan_drivers::{Endpoint, Flows};
use vmlan_frame::{MacAddr, Sides};
use vmlan_lan::Diversion;

use super::medium::{Attempt, Medium, attempt};
use crate::apart::Apart;
use crate::device::{ALIAS, MACVTAP};
use crate::kernel::{Interface, Kernel, KernelError, Kind, MARK};

/// The set-up of mode `macvtap`: a device on the interface.
pub(super) struct Macvtap {
    name: String,
    index: u32,
    longest: Longest,
}

impl Macvtap {
    /// Makes the device, in the place of one that was left, and opens it.
    pub(super) async fn make(
        kernel: &Kernel,
        interface: &Interface,
        workers: usize,
        flows: Flows,
    ) -> Result<(Macvtap, Arc<dyn Endpoint>), Apart> {
        let name = format!("{MACVTAP}{}", interface.index);
        if let Some(left) = kernel.interface(&name).await? {
            if !(left.kind == Kind::MacVtap && left.is_marked()) {
                return Err(Apart::Refused(format!(
                    "a device {name} is in the way that vmlan did not make (its alias would begin with {MARK:?}); rename \
                     it, or delete it: `ip link delete {name}`"
                )));
            }
            tracing::info!("{name} was left by an earlier vmlan; it is made anew");
            kernel.delete(left.index, &name).await?;
        }
        let message = LinkMacVtap::new(&name, interface.index, MacVtapMode::Passthrough).build();
        let added = kernel.add(&format!("make the macvtap {name}"), message).await;
        added.map_err(|error| match error.is(Errno::BUSY) || error.is(Errno::INVAL) {
            true => Apart::Refused(format!(
                "{} cannot be taken over whole: it has a macvlan, a bridge or a bond on it; remove that, or use \
                 `mode = \"filter\"`",
                interface.name
            )),
            false => error.into(),
        })?;
        let made = kernel.interface(&name).await?.ok_or(Apart::Anew)?;
        let device = Macvtap { name, index: made.index, longest: Longest::of_mtu(interface.mtu) };
        let what = format!("mark {} and bring it up", device.name);
        let marked = kernel.set(device.index, &what, |link| link.alias(ALIAS).up()).await;
        if let Err(error) = marked {
            kernel.delete(device.index, &device.name).await?;
            return Err(error.into());
        }
        match device.open(workers) {
            Ok(tap) => {
                let endpoint = Arc::new(BySource::of_wire(Arc::new(tap), flows));
                let endpoint = Bounded::new(endpoint, device.longest.clone());
                Ok((device, Arc::new(endpoint)))
            }
            Err(error) => {
                let reason = format!(
                    "cannot open /dev/tap{}, the device of {}: {error}; where nothing makes device files (udev, \
                     devtmpfs), use `mode = \"packet\"`",
                    device.index, device.name
                );
                kernel.delete(device.index, &device.name).await?;
                Err(Apart::Refused(reason))
            }
        }
    }

    fn open(&self, workers: usize) -> std::io::Result<Tap> {
        let options = vmlan_sys::tap::Options { multi_queue: workers > 1, ..Default::default() };
        let queues: Result<Vec<_>, _> = (0..workers.max(1))
            .map(|_| vmlan_sys::tap::open_macvtap(self.index, &self.name, options))
            .collect();
        let queues = queues?;
        let takes = set_offloads(&queues[0], true)?;
        Ok(Tap::new(queues, takes))
    }
}

impl Medium for Macvtap {
    fn mode(&self) -> TrunkMode {
        TrunkMode::Macvtap
    }

    fn reach(&self) -> (Diversion, Sides) {
        (Diversion::Everything, Sides::WIRE)
    }

    fn needs_more(&self) -> bool {
        false
    }

    fn devices(&self) -> Vec<u32> {
        vec![self.index]
    }

    /// The kernel has the device follow by itself.
    fn resize<'a>(&'a mut self, _: &'a Kernel, interface: &'a Interface, _: MacAddr) -> Attempt<'a> {
        self.longest.set_mtu(interface.mtu);
        attempt(ready(Ok(())))
    }

    fn remove<'a>(&'a mut self, kernel: &'a Kernel, _interface: &'a Interface) -> Attempt<'a, KernelError> {
        attempt(async move { kernel.delete(self.index, &self.name).await })
    }

    fn describe(&self, interface: &Interface, report: &mut vmlan_api::Trunk) {
        report.installed.push(format!("device {}, a macvtap that has {} whole", self.name, interface.name));
    }
}
