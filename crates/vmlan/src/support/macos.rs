//! Facts about a process and the system: macOS has no /proc to read them from.

/// A file of the archive, a line about it, and how it is read of a process.
pub type Fact = (&'static str, &'static str, fn(i32) -> Result<String, String>);

/// Facts that are told of the daemon's process beside its threads.
pub const FACTS: [Fact; 0] = [];

/// The name of the system.
pub fn system() -> String {
    "macOS".to_owned()
}

/// Names of users of this machine.
pub fn users() -> Vec<String> {
    Vec::new()
}

/// The threads of a process.
pub fn threads(_pid: i32) -> Result<String, String> {
    Err("this system does not tell; `sample` and `vmmap` do".to_owned())
}
