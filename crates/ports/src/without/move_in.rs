//! Moving a device to another network namespace: not possible.

use std::os::fd::BorrowedFd;
use std::path::Path;

/// Moves nothing.
///
/// # Errors
/// Always.
pub(crate) async fn move_device(
    _: &str,
    (_, path): (BorrowedFd<'_>, &Path),
    name: &str,
) -> Result<(), String> {
    let path = path.display();
    Err(format!(
        "this vmlan is built without netlink and cannot move a device to {path}; make {name} there before, or leave \
         `netns` out"
    ))
}
