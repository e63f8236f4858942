//! The network namespace in which a port's device is.
//!
//! A descriptor of a TAP or TUN belongs to the namespace in which it was opened, and keeps it alive. So a device for
//! another namespace is made in our own one and moved: the namespace ends with its last process or its file, the kernel
//! deletes the device, and the port is set up again. A device that is in the other namespace already can only be opened
//! there. Therefore the namespace's file is looked at as well: when it is gone, or names another namespace, the device
//! is closed.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use vmlan_sys::netdev;
use vmlan_sys::netns::{self, Identity};

use crate::move_in::move_device;

/// The name under which a device is made that is about to be moved.
pub(crate) const MADE: &str = "vmlt%d";

/// A namespace while a device is set up there.
pub(crate) enum Home {
    /// Our own.
    Here,
    /// Another one, kept alive meanwhile.
    There { namespace: OwnedFd, residence: Residence },
}

/// The namespace of a device that is set up. It is not kept alive.
#[derive(Clone)]
pub(crate) struct Residence(Option<(PathBuf, Identity)>);

impl Home {
    /// Our own namespace, or the one that the file at `path` names.
    pub(crate) fn find(path: Option<&Path>) -> Result<Home, String> {
        let Some(path) = path else { return Ok(Home::Here) };
        let explain = |error: io::Error| unreachable(path, &error);
        let namespace = netns::open(path).map_err(explain)?;
        let identity = Identity::of(&namespace).map_err(explain)?;
        Ok(Home::There { namespace, residence: Residence(Some((path.to_owned(), identity))) })
    }

    /// Runs `work` there.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, String> {
        match self {
            Home::Here => Ok(work()),
            // A thread of its own enters the namespace; this one only waits for it.
            Home::There { namespace, residence } => netns::enter(namespace, || Ok(work()))
                .map_err(|error| unreachable(residence.path().unwrap_or(Path::new("")), &error)),
        }
    }

    /// True if the namespace already has a device of this name, which then has to be opened there. False for a pattern.
    pub(crate) fn has(&self, name: &str) -> Result<bool, String> {
        if name.contains('%') {
            return Ok(false);
        }
        self.run(|| netdev::exists(name))
    }

    /// Moves the device `made` from our own namespace there, and names it `name`, which may be a pattern.
    pub(crate) async fn move_in(&self, made: &str, name: &str) -> Result<(), String> {
        let Home::There { namespace, residence } = self else { return Ok(()) };
        let place = residence.path().unwrap_or(Path::new(""));
        move_device(made, (namespace.as_fd(), place), name).await
    }

    /// Returns the residence, which is looked at while the device is in use.
    pub(crate) fn residence(&self) -> Residence {
        match self {
            Home::Here => Residence(None),
            Home::There { residence, .. } => residence.clone(),
        }
    }
}

impl Residence {
    fn path(&self) -> Option<&Path> {
        self.0.as_ref().map(|(path, _)| path.as_path())
    }

    /// Why the device has to be closed: the namespace's file is gone or names another namespace.
    pub(crate) fn lost(&self) -> Option<String> {
        let (path, identity) = self.0.as_ref()?;
        match Identity::at(path) {
            Ok(now) if now == *identity => None,
            Ok(_) => Some(format!("{} names another network namespace now", path.display())),
            Err(error) => Some(format!("the network namespace {} is gone: {error}", path.display())),
        }
    }

    /// Runs `work` in the namespace, if it still is the same.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        match &self.0 {
            None => work(),
            Some((path, _)) => netns::within(path, work),
        }
    }
}

fn unreachable(path: &Path, error: &io::Error) -> String {
    let cure = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "give vmlan CAP_SYS_ADMIN; the unit of its package has a drop-in for that"
        }
        _ => "see `ip netns list`",
    };
    format!("cannot enter the network namespace {}: {error}; {cure}", path.display())
}
