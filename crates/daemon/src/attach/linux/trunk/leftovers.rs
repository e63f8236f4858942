//! What killed daemons left on the host's interfaces.

use super::device::{BRIDGE_TAP, HOST_TAP, MACVTAP, WIRE_TAP};
use super::hold::is_held;
use super::hooks::{is_ours, remove};
use crate::kernel::{Interface, Kernel, KernelError};

/// Something of ours on an interface that no running daemon has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The interface, or the device.
    pub interface: String,
    /// What is there, in words.
    pub what: String,
    index: u32,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Filters, and whether the hooks have no others.
    Filters { alone: bool },
    /// A device that is ours.
    Device,
}

/// Finds what was left, in the calling thread's network namespace.
///
/// # Errors
/// What the kernel says.
pub(crate) async fn find(kernel: &Kernel) -> Result<Vec<Leftover>, KernelError> {
    let interfaces = kernel.interfaces().await?;
    let mut found = Vec::new();
    for interface in interfaces.iter().filter(|interface| !is_device(interface) && !is_held(interface)) {
        let filters = kernel.filters(interface.index).await?;
        let ours = filters.iter().filter(|filter| is_ours(filter)).count();
        if ours > 0 {
            found.push(Leftover {
                interface: interface.name.clone(),
                what: format!("{ours} traffic filters on {}", interface.name),
                index: interface.index,
                kind: Kind::Filters { alone: ours == filters.len() },
            });
        }
    }
    for device in interfaces.iter().filter(|device| device.kind == crate::kernel::Kind::MacVtap) {
        let Some(number) = device.name.strip_prefix(MACVTAP).and_then(|number| number.parse::<u32>().ok())
        else {
            continue;
        };
        if interfaces.iter().any(|interface| interface.index == number && is_held(interface)) {
            continue;
        }
        found.push(Leftover {
            interface: device.name.clone(),
            what: format!("the macvtap {}", device.name),
            index: device.index,
            kind: Kind::Device,
        });
    }
    Ok(found)
}

/// Removes it.
///
/// # Errors
/// What the kernel says.
pub(crate) async fn clean(kernel: &Kernel, leftover: &Leftover) -> Result<(), KernelError> {
    match leftover.kind {
        Kind::Filters { alone } => remove(kernel, leftover.index, alone).await,
        Kind::Device => kernel.delete(leftover.index, &leftover.interface).await,
    }
}

/// Whether it is a trunk's TAP itself, which lives only as long as its daemon.
fn is_device(interface: &Interface) -> bool {
    [HOST_TAP, WIRE_TAP, BRIDGE_TAP]
        .iter()
        .any(|prefix| interface.name.strip_prefix(prefix).is_some_and(|number| number.parse::<u32>().is_ok()))
}
