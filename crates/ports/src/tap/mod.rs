//! TAP devices: made or taken over by name, or inherited.

#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod keep;
#[cfg(target_os = "macos")]
#[path = "macos.rs"]
mod keep;
#[cfg(target_os = "linux")]
mod program;

use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use vmlan_api::{ErrorCode, PortKind};
use vmlan_drivers::tunnel::message::Prefixed;

use super::belongings::Belonging;
use super::check::Validator;
use super::kind::{Attachment, Entry, HandOver, Hindrance, Keeper, Kind, Surroundings, same};
use super::reserved_name;
use crate::{PortSettings, join, shown};

/// Most octets of a TAP's packets: 65535 with the Ethernet header.
const LONGEST_MTU: usize = 65_521;

pub(crate) const ENTRY: Entry = Entry {
    kind: PortKind::Tap,
    is_in: |port| port.tap.is_some(),
    paths: |_| Vec::new(),
    check: |validator, at, port| validator.tap(at, port.tap.as_ref()?).map(Attachment::new),
};

/// A TAP device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tap {
    /// Where the device comes from.
    pub source: TapSource,
    /// Runs before the device is opened: an absolute path.
    pub setup: Option<PathBuf>,
    /// True if segmentation and checksums may be left to the receiver.
    pub offloads: bool,
    /// Runs after the device was closed: an absolute path.
    pub terminate: Option<PathBuf>,
}

/// Where a TAP device comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TapSource {
    /// Made, or taken over if it exists.
    Named {
        /// Its name, at most 15 octets, or a pattern with one `%d`; `None`: the setup program tells it.
        name: Option<String>,
        /// Another user that may open the device.
        owner: Option<u32>,
        /// True if the device stays when the daemon ends.
        persistent: bool,
        /// The file of the network namespace that it lives in; our own without one.
        netns: Option<PathBuf>,
        /// The addresses that it gets from us.
        addresses: Vec<Prefixed>,
        /// True if we bring it up.
        up: bool,
    },
    /// Inherited.
    Fd(RawFd),
}

impl Kind for Tap {
    fn kind(&self) -> PortKind {
        PortKind::Tap
    }

    fn belongings(&self) -> Vec<(Belonging, &'static str)> {
        match &self.source {
            TapSource::Fd(fd) => vec![(Belonging::Descriptor(*fd), "fd")],
            // The kernel finds a free name for a pattern.
            TapSource::Named { name: Some(name), netns, .. } if !name.contains('%') => {
                vec![(Belonging::Device(netns.clone(), name.clone()), "name")]
            }
            TapSource::Named { .. } => Vec::new(),
        }
    }

    fn hindrance(&self, mtu: usize) -> Option<Hindrance> {
        let TapSource::Named { name, .. } = &self.source else { return None };
        if let Some(hindrance) = name.as_deref().and_then(reserved_name) {
            return Some(hindrance.within("name"));
        }
        (mtu > LONGEST_MTU).then(|| {
            let message = format!(
                "a TAP takes an MTU of at most {LONGEST_MTU}, and the network has {mtu}; choose a lower `mtu`"
            );
            Hindrance::new(ErrorCode::OutOfRange, message)
        })
    }

    fn hand_over(&self) -> HandOver {
        match &self.source {
            TapSource::Named { persistent: true, .. } => HandOver::DeviceStays,
            TapSource::Named { .. } => HandOver::DeviceAnew,
            TapSource::Fd(_) => HandOver::Ends,
        }
    }

    fn fits(
        &self,
        validator: &mut Validator,
        path: &str,
        _policy: &PortSettings,
        network: &mut Surroundings,
    ) {
        if let TapSource::Named { addresses, .. } = &self.source {
            let at = join(path, "tap.address");
            validator.fits_ipv6(&at, network.mtu, addresses);
            validator.hosts(&at, path, addresses, network);
        }
    }

    fn equals(&self, other: &dyn Kind) -> bool {
        same(self, other)
    }

    fn keeper(&self) -> Keeper {
        Keeper::Guest(Box::new(keep::Keep::new(self.clone())))
    }
}

impl Validator {
    fn tap(&mut self, path: &str, tap: &vmlan_api::TapConfig) -> Option<Tap> {
        let setup = self.program(&join(path, "setup"), tap.setup.as_deref());
        let terminate = self.program(&join(path, "terminate"), tap.terminate.as_deref());
        let source = match tap.fd {
            Some(fd) => self.tap_by_descriptor(path, tap, fd),
            None => self.tap_by_name(path, tap),
        };
        let offloads = tap.offloads.unwrap_or(true);
        Some(Tap { source: source?, setup: setup?, offloads, terminate: terminate? })
    }

    fn tap_by_descriptor(&mut self, path: &str, tap: &vmlan_api::TapConfig, fd: u64) -> Option<TapSource> {
        let alone = tap.name.is_none()
            && tap.owner.is_none()
            && tap.persistent.is_none()
            && tap.netns.is_none()
            && tap.address.is_none()
            && tap.up.is_none()
            && tap.setup.is_none();
        if !alone {
            self.fault(
                ErrorCode::Conflict,
                path,
                "an inherited `fd` goes with `terminate` and `offloads` only; remove the others",
            );
        }
        self.descriptor(&join(path, "fd"), fd).map(TapSource::Fd)
    }

    fn tap_by_name(&mut self, path: &str, tap: &vmlan_api::TapConfig) -> Option<TapSource> {
        let netns = match &tap.netns {
            Some(text) => Some(self.netns(&join(path, "netns"), text)?),
            None => None,
        };
        let owner = match &tap.owner {
            Some(text) => Some(self.user(&join(path, "owner"), text)?),
            None => None,
        };
        match &tap.name {
            Some(name) => {
                self.device_name(&join(path, "name"), name)?;
            }
            None if tap.setup.is_none() => {
                let message = "the device has no name; add `name` (\"tap%d\" lets the kernel number it), or a \
                               `setup` program that prints it, or an inherited `fd`";
                self.fault(ErrorCode::MissingKey, path, message);
                return None;
            }
            None => {}
        }
        let addresses = self.addresses(&join(path, "address"), tap.address.as_ref())?;
        let (persistent, up) = (tap.persistent.unwrap_or(false), tap.up.unwrap_or(true));
        Some(TapSource::Named { name: tap.name.clone(), owner, persistent, netns, addresses, up })
    }

    /// The outer `None` is a fault.
    fn program(&mut self, path: &str, text: Option<&str>) -> Option<Option<PathBuf>> {
        let Some(text) = text else { return Some(None) };
        let program = Path::new(text);
        let complaint = if !program.is_absolute() || text.contains('\0') {
            "is no absolute path; programs are not searched for".to_owned()
        } else {
            match program.metadata() {
                Err(error) => format!("cannot be run: {error}"),
                Ok(metadata) if !metadata.is_file() => "is no file".to_owned(),
                Ok(_) => match rustix::fs::access(program, rustix::fs::Access::EXEC_OK) {
                    Err(_) => "is not executable; chmod +x it".to_owned(),
                    Ok(()) => return Some(Some(program.to_owned())),
                },
            }
        };
        self.fault(ErrorCode::MissingProgram, path, format!("`{}` {complaint}", shown(text)));
        None
    }
}
