//! The kernel's variables that an uplink needs, and what they were before.
//!
//! Theory of operation. A ledger has a line for each variable and user: the path, the value before, and the value that
//! was set. A variable is put back when its last user goes, unless it was changed meanwhile.

use std::fs;
use std::io;
use std::path::Path;

use super::ledger::{self, Ledger, User};

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// The path below /proc/sys.
    variable: String,
    before: String,
    set: String,
    user: User,
}

impl ledger::Entry for Entry {
    fn parse(line: &str) -> Option<Entry> {
        let mut fields = line.split(' ');
        let mut next = || fields.next().map(str::to_owned);
        let (variable, before, set) = (next()?, next()?, next()?);
        // It becomes part of a path.
        if variable.split('/').any(|part| part.is_empty() || part == "..") {
            return None;
        }
        Some(Entry { variable, before, set, user: User::parse(fields)? })
    }

    fn emit(&self) -> String {
        let Entry { variable, before, set, user } = self;
        format!("{variable} {before} {set} {user}")
    }
}

/// The kernel's variables, below a directory.
trait Variables {
    fn get(&self, variable: &str) -> io::Result<String>;
    fn set(&self, variable: &str, value: &str) -> io::Result<()>;
}

struct Proc;

impl Variables for Proc {
    fn get(&self, variable: &str) -> io::Result<String> {
        fs::read_to_string(Path::new("/proc/sys").join(variable)).map(|value| value.trim().to_owned())
    }

    fn set(&self, variable: &str, value: &str) -> io::Result<()> {
        fs::write(Path::new("/proc/sys").join(variable), value)
    }
}

/// Reads a variable; `None` where the kernel does not have it.
pub(super) fn get(variable: &str) -> Option<String> {
    Proc.get(variable).ok()
}

/// Sets a variable of a device that is ours and goes with us.
pub(super) fn set_own(variable: &str, value: &str) -> io::Result<()> {
    Proc.set(variable, value)
}

/// Adds what `user` needs; the entries and the variables are in step afterwards, also after an error.
fn acquire(
    entries: &mut Vec<Entry>,
    kernel: &impl Variables,
    user: &User,
    wanted: &[(String, String)],
) -> Result<(), String> {
    for (variable, value) in wanted {
        if entries.iter().any(|entry| entry.user == *user && entry.variable == *variable) {
            continue;
        }
        let others = entries.iter().find(|entry| entry.variable == *variable);
        let before = others.map(|entry| entry.before.clone());
        let now = kernel.get(variable).map_err(|error| format!("cannot read {variable}: {error}"))?;
        if before.is_none() && now == *value {
            continue;
        }
        if now != *value {
            kernel.set(variable, value).map_err(|error| {
                let name = variable.replace('/', ".");
                format!("cannot set {name} to {value}: {error}; run `sysctl -w {name}={value}`")
            })?;
        }
        let (variable, set) = (variable.clone(), value.clone());
        entries.push(Entry { variable, before: before.unwrap_or(now), set, user: user.clone() });
    }
    Ok(())
}

/// Removes the entries of users that `is_gone` says, and puts back what nobody needs any more, last first.
fn release(entries: &mut Vec<Entry>, kernel: &impl Variables, is_gone: impl Fn(&User) -> bool) {
    let (gone, kept): (Vec<_>, Vec<_>) = entries.drain(..).partition(|entry| is_gone(&entry.user));
    *entries = kept;
    for entry in gone.iter().rev() {
        let is_needed = entries.iter().any(|other| other.variable == entry.variable);
        // A variable that another has changed meanwhile is that one's, and one of an interface that is gone is
        // nobody's.
        if !is_needed && kernel.get(&entry.variable).is_ok_and(|now| now == entry.set) {
            let _ = kernel.set(&entry.variable, &entry.before);
        }
    }
}

/// Variables that are set for an uplink until this is dropped.
pub(super) struct Held(Ledger);

impl Held {
    /// Puts back what killed daemons left, and begins with nothing.
    pub(super) fn begin(network: &str) -> Result<Held, String> {
        let held = Held(Ledger::new("sysctl", network)?);
        held.0.change(|entries, user| {
            release(entries, &Proc, |other| other == user || !other.is_alive());
            Ok(())
        })?;
        Ok(held)
    }

    /// Sets what is not set yet.
    pub(super) fn need(&self, wanted: &[(String, String)]) -> Result<(), String> {
        self.0.change(|entries, user| acquire(entries, &Proc, user, wanted))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let released = self.0.change(|entries, user| {
            release(entries, &Proc, |other| other == user);
            Ok(())
        });
        if let Err(error) = released {
            tracing::warn!(network = %self.0.user.network, "variables of the kernel are not put back: {error}");
        }
    }
}

#[cfg(test)]
#[path = "sysctl_tests.rs"]
mod tests;
