//! Where the control socket and the configuration are, when nobody says.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::process::geteuid;

use crate::doctor;

/// The socket named on the command line or in `VMLAN_CONTROL`, else that of our user.
///
/// # Errors
/// Where the place could be somebody else's.
pub fn control_path(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    if geteuid().is_root() {
        return Ok(Path::new(doctor::ROOT_RUNTIME_DIRECTORY).join("vmlan/control.sock"));
    }
    if let Some(directory) = variable("XDG_RUNTIME_DIR") {
        return Ok(directory.join("vmlan/control.sock"));
    }
    let directory = std::env::temp_dir().join(format!("vmlan-{}", geteuid().as_raw()));
    check_private(&directory).context("XDG_RUNTIME_DIR is not set, and")?;
    Ok(directory.join("control.sock"))
}

/// Refuses a directory that another user may have made to be taken for ours; one that is not there is made by the
/// daemon, for our user alone.
pub fn check_private(directory: &Path) -> anyhow::Result<()> {
    let Ok(found) = directory.symlink_metadata() else { return Ok(()) };
    let ours = found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o022 == 0;
    anyhow::ensure!(
        ours,
        "{} is not a directory of ours alone; name a socket with --control",
        directory.display()
    );
    Ok(())
}

/// The configuration file of our user, where there is one.
pub fn default_file() -> Option<PathBuf> {
    let directory = match geteuid().is_root() {
        true => Some(PathBuf::from("/etc")),
        false => variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config"))),
    };
    Some(directory?.join("vmlan/vmlan.toml")).filter(|file| file.exists())
}

/// The directory that a variable names; a relative path counts as none (XDG Base Directory Specification).
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// The control sockets of other users' daemons that root sees, where nobody answers at root's own, `asked`.
pub fn others(asked: &Path) -> Vec<PathBuf> {
    if !geteuid().is_root() || control_path(None).ok().as_deref() != Some(asked) {
        return Vec::new();
    }
    let within = |directory: &str| std::fs::read_dir(directory).into_iter().flatten().flatten();
    let of_sessions = within("/run/user").map(|entry| entry.path().join("vmlan/control.sock"));
    let is_private =
        |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlan-"));
    let private = within("/tmp").map(|entry| entry.path()).filter(|path| is_private(path));
    let sockets = of_sessions.chain(private.map(|path| path.join("control.sock")));
    sockets.filter(|socket| std::os::unix::net::UnixStream::connect(socket).is_ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn only_a_directory_of_our_own_is_private() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        std::fs::create_dir(path("own")).expect("a directory");
        std::fs::create_dir(path("open")).expect("a directory");
        std::fs::set_permissions(path("open"), PermissionsExt::from_mode(0o777)).expect("a mode");
        symlink(path("own"), path("link")).expect("a link");
        std::fs::write(path("file"), "").expect("a file");
        for (name, good) in [("own", true), ("none", true), ("open", false), ("link", false), ("file", false)]
        {
            assert_eq!(check_private(&path(name)).is_ok(), good, "{name}");
        }
    }
}
