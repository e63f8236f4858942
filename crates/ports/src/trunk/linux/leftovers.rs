//! Leftovers of killed daemons on the host's interfaces.
//!
//! A name says nothing of who made a thing. A device is ours when its alias says so, a filter when its own name does,
//! and the qdisc when the name of a filter of ours on it does.

use std::path::PathBuf;

use crate::device::MACVTAP;
use crate::hooks::{is_ours, made_qdisc, remove};
use crate::interface_lock::is_held;
use crate::kernel::{Interface, Kernel, KernelError, Kind as DeviceKind};

/// Something of ours on an interface that no running daemon has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The interface, the device, or the directory.
    pub interface: String,
    /// A description of the leftover, in words.
    pub what: String,
    index: u32,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// Filters, and the qdisc if it was made for them.
    Filters { qdisc: bool },
    /// A device that is ours.
    Device,
    /// Names in the BPF file system, with what they keep.
    Names(PathBuf),
}

impl Leftover {
    /// A device of ours, whole.
    pub(crate) fn device(device: &Interface, what: String) -> Leftover {
        Leftover { interface: device.name.clone(), what, index: device.index, kind: Kind::Device }
    }
}

/// Finds what was left, in the calling thread's network namespace.
///
/// # Errors
/// The kernel's error.
pub(crate) async fn find(kernel: &Kernel) -> Result<Vec<Leftover>, KernelError> {
    let interfaces = kernel.interfaces().await?;
    let mut found = Vec::new();
    for interface in interfaces.iter().filter(|interface| !is_device(interface) && !is_held(interface)) {
        let filters = kernel.filters(interface.index).await?;
        let ours = filters.iter().filter(|filter| is_ours(filter)).count();
        let qdisc = filters.iter().any(made_qdisc);
        if ours > 0 {
            found.push(Leftover {
                interface: interface.name.clone(),
                what: format!("{ours} traffic filters on {}", interface.name),
                index: interface.index,
                kind: Kind::Filters { qdisc },
            });
        }
    }
    let is_macvtap = |device: &&Interface| device.kind == DeviceKind::MacVtap && device.is_marked();
    for device in interfaces.iter().filter(is_macvtap) {
        let Some(number) = device.name.strip_prefix(MACVTAP).and_then(|number| number.parse::<u32>().ok())
        else {
            continue;
        };
        if interfaces.iter().any(|interface| interface.index == number && is_held(interface)) {
            continue;
        }
        found.push(Leftover::device(device, format!("the macvtap {}", device.name)));
    }
    // First, for they keep programs on the others.
    for (path, programs) in crate::interface::left_pins::find() {
        found.push(Leftover {
            interface: path.display().to_string(),
            what: format!(
                "{programs} programs on interfaces, by which guests that know each other go on, in {}",
                path.display()
            ),
            index: 0,
            kind: Kind::Names(path),
        });
    }
    found.extend(crate::interface::leftovers::find(&interfaces));
    Ok(found)
}

/// Removes it.
///
/// # Errors
/// The kernel's error.
pub(crate) async fn clean(kernel: &Kernel, leftover: &Leftover) -> Result<(), KernelError> {
    match &leftover.kind {
        Kind::Names(path) => crate::interface::left_pins::clean(path)
            .map_err(|error| KernelError::new(format!("remove {}", path.display()), error)),
        Kind::Filters { qdisc } => remove(kernel, leftover.index, *qdisc).await,
        Kind::Device => kernel.delete(leftover.index, &leftover.interface).await,
    }
}

/// True for a trunk's TAP itself, which lives only as long as its daemon.
fn is_device(interface: &Interface) -> bool {
    interface.kind == DeviceKind::Tap && interface.is_marked()
}
