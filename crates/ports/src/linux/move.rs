//! Moving a device to another network namespace, by rtnetlink(7).

use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use crate::describe;
use crate::kernel::Kernel;

/// Moves the device `made` from our own namespace to the one given, whose file is at the path, and names it `name`,
/// which may be a pattern.
///
/// # Errors
/// The kernel's, explained.
pub(crate) async fn move_device(
    made: &str,
    (namespace, path): (BorrowedFd<'_>, &Path),
    name: &str,
) -> Result<(), String> {
    let explain = |error| describe(&error);
    let kernel = Kernel::open().map_err(explain)?;
    let device = kernel.interface(made).await.map_err(explain)?;
    let device = device.ok_or_else(|| format!("the device {made} is gone"))?;
    let what = format!("move the device to {} as {name}", path.display());
    let to = namespace.as_raw_fd();
    kernel.set(device.index, &what, |link| link.setns_by_fd(to).name(name)).await.map_err(explain)
}
