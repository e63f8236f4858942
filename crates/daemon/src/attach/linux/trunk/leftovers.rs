//! What killed daemons left on the host's interfaces.

use super::claim::is_taken;
use super::device::{BRIDGE_TAP, HOST_TAP, WIRE_TAP};
use super::filter::{is_ours, remove};
use crate::kernel::{Interface, Kernel, KernelError};

/// Filters of ours on an interface that no running daemon has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The interface's name.
    pub interface: String,
    /// What is there, in words.
    pub what: String,
    index: u32,
    /// Whether the hooks have no other filters.
    alone: bool,
}

/// Finds what was left, in the calling thread's network namespace.
///
/// # Errors
/// What the kernel says.
pub(crate) async fn find(kernel: &Kernel) -> Result<Vec<Leftover>, KernelError> {
    let interfaces = kernel.interfaces().await?;
    let mut found = Vec::new();
    for interface in interfaces.iter().filter(|interface| !is_device(interface) && !is_taken(interface)) {
        let filters = kernel.filters(interface.index).await?;
        let ours = filters.iter().filter(|filter| is_ours(filter)).count();
        if ours > 0 {
            found.push(Leftover {
                interface: interface.name.clone(),
                what: format!("{ours} traffic filters on {}", interface.name),
                index: interface.index,
                alone: ours == filters.len(),
            });
        }
    }
    Ok(found)
}

/// Removes it.
///
/// # Errors
/// What the kernel says.
pub(crate) async fn clean(kernel: &Kernel, leftover: &Leftover) -> Result<(), KernelError> {
    remove(kernel, leftover.index, leftover.alone).await
}

/// Whether it is a trunk's TAP itself, which lives only as long as its daemon.
fn is_device(interface: &Interface) -> bool {
    [HOST_TAP, WIRE_TAP, BRIDGE_TAP]
        .iter()
        .any(|prefix| interface.name.strip_prefix(prefix).is_some_and(|number| number.parse::<u32>().is_ok()))
}
