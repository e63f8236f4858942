//! Leftovers of killed daemons on the host's interfaces: not looked for.

use std::io;

/// Something that a killed daemon left.
pub struct Leftover {
    /// A description of the leftover, in words.
    pub what: String,
}

/// Finds nothing.
///
/// # Errors
/// Always.
pub fn find() -> io::Result<Vec<Leftover>> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "this vmlan is built without netlink and cannot look for them",
    ))
}

/// Removes nothing; there is nothing to be found.
///
/// # Errors
/// None.
pub fn clean(_: &[Leftover]) -> io::Result<()> {
    Ok(())
}
