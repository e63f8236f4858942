//! The parts that the modes have in common.

use std::future::ready;
use std::pin::Pin;

use vmlan_api::TrunkMode;
use vmlan_frame::{MacAddr, Sides};
use vmlan_lan::Diversion;

use crate::Seat;
use crate::apart::Apart;
use crate::kernel::{Interface, Kernel, KernelError};

/// Something that takes time and may fail.
pub(super) type Attempt<'a, E = Apart> = Pin<Box<dyn Future<Output = Result<(), E>> + Send + 'a>>;

/// That of this work.
pub(super) fn attempt<'a, E>(work: impl Future<Output = Result<(), E>> + Send + 'a) -> Attempt<'a, E> {
    Box::pin(work)
}

/// The set-up of a mode between the network and the interface.
pub(super) trait Medium: Send + Sync {
    fn mode(&self) -> TrunkMode;

    /// Which frames it takes off their way between host and wire, and the sides that it can deliver to.
    fn reach(&self) -> (Diversion, Sides);

    /// True if the interface has to take more than is for the host: frames for every address, or where guests share the
    /// host's address, for every group.
    fn needs_more(&self) -> bool;

    /// The indices of its devices.
    fn devices(&self) -> Vec<u32> {
        Vec::new()
    }

    /// Follows the interface's MTU and address.
    fn resize<'a>(&'a mut self, kernel: &'a Kernel, interface: &'a Interface, mac: MacAddr) -> Attempt<'a>;

    /// Tells the kernel which guests there are; false where it need not know.
    fn sync(&mut self, _station: &Seat) -> Result<bool, Apart> {
        Ok(false)
    }

    /// Brings what is diverted to what the ports want ([`Seat::wants`]).
    fn divert<'a>(
        &'a mut self,
        _kernel: &'a Kernel,
        _interface: &'a Interface,
        _seat: &'a Seat,
    ) -> Attempt<'a> {
        attempt(ready(Ok(())))
    }

    /// Puts back what somebody took away.
    fn repair<'a>(&'a mut self, _kernel: &'a Kernel, _interface: &'a Interface) -> Attempt<'a> {
        attempt(ready(Ok(())))
    }

    /// Takes off the host what does not vanish with its descriptors.
    fn remove<'a>(&'a mut self, _kernel: &'a Kernel, _interface: &'a Interface) -> Attempt<'a, KernelError> {
        attempt(ready(Ok(())))
    }

    /// Writes down what there is to be seen.
    fn describe(&self, interface: &Interface, report: &mut vmlan_api::Trunk);
}
