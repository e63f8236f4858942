//! The checks of a configuration: faults are collected, and what several kinds of port have in common is checked here.

mod access;
mod address;
mod names;
mod octets;
mod vlans;

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::RawFd;

use vmlan_api::keys::{self, Keyed};
use vmlan_api::{Error, ErrorCode};

pub(crate) use access::AccessKeys;
pub use address::{Address, Allow, misunderstood, resolve_port};
pub(crate) use address::{family, is_host};

use crate::belongings::{Belonging, Holders};
use crate::{Attachment, KINDS};

/// Collects faults and what belongs to each port.
#[derive(Debug, Default)]
pub struct Validator {
    pub(crate) faults: Vec<Error>,
    pub(crate) holders: Holders,
    notes: Vec<String>,
}

impl Validator {
    /// Every fault that was found.
    pub fn faults(self) -> Vec<Error> {
        self.faults
    }

    /// The notes on what is no fault, but hardly meant or worth knowing; each begins with the dotted path of its table.
    pub fn notes(self) -> Vec<String> {
        self.notes
    }

    /// How many faults there are.
    pub fn count(&self) -> usize {
        self.faults.len()
    }

    /// Notes a fault of the member at the dotted path `field`.
    pub fn fault(&mut self, code: ErrorCode, field: &str, message: impl Into<String>) {
        self.faults.push(Error::at(code, field, message));
    }

    /// Notes something about the table at the dotted path `path` that is no fault.
    pub fn note(&mut self, path: &str, note: &str) {
        self.notes.push(format!("{path}: {note}"));
    }

    /// Adds a fault as [`Validator::fault`] does, where there is then nothing to go on with.
    pub fn refuse<T>(&mut self, code: ErrorCode, path: &str, message: impl Into<String>) -> Option<T> {
        self.fault(code, path, message);
        None
    }

    /// The one attachment of the port whose table is at `path`.
    pub fn attachment(&mut self, path: &str, port: &vmlan_api::PortConfig) -> Option<Attachment> {
        let entries: Vec<_> = KINDS.iter().filter(|entry| (entry.is_in)(port)).collect();
        let [entry] = entries[..] else {
            let kinds: Vec<_> = entries.iter().map(|entry| entry.kind).collect();
            self.not_one_attachment(path, &kinds);
            return None;
        };
        let attachment = (entry.check)(self, &join(path, entry.kind.as_str()), port)?;
        self.holders.take(path, &attachment).map_err(|error| self.faults.push(error)).ok()?;
        Some(attachment)
    }

    /// Gives the daemon itself the TCP address that the member at the dotted path `field` names. At all of IPv6 it
    /// listens for IPv4 too, unlike ports. An address that another one has is a fault.
    pub fn listen_at(&mut self, field: &str, address: SocketAddr) -> Option<SocketAddr> {
        let as_ipv4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
        let is_all = address.is_ipv6() && address.ip().is_unspecified();
        for address in [address].into_iter().chain(is_all.then_some(as_ipv4)) {
            let taken = self.holders.take_at(field, field, Belonging::Tcp(address));
            taken.map_err(|error| self.faults.push(error)).ok()?;
        }
        Some(address)
    }

    fn not_one_attachment(&mut self, path: &str, kinds: &[vmlan_api::PortKind]) {
        let quoted = |kinds: &[vmlan_api::PortKind]| {
            kinds.iter().map(|kind| format!("`{}`", kind.as_str())).collect::<Vec<_>>().join(", ")
        };
        if kinds.is_empty() {
            let message =
                format!("the port has no attachment; add one of {}", quoted(&vmlan_api::PortKind::ALL));
            self.fault(ErrorCode::NoAttachment, path, message);
        } else {
            let message = format!("the port has several attachments ({}); keep one", quoted(kinds));
            self.fault(ErrorCode::SeveralAttachments, path, message);
        }
    }

    /// Returns the number given for a key of `T`, or the key's default. A number out of the key's range is a fault, and
    /// becomes the least.
    pub fn number<T: Keyed>(&mut self, path: &str, key: &str, given: Option<u64>) -> Option<u64> {
        let (range, default) = keys::range(T::KEYS, key);
        let least = *range.start();
        given.map(|given| self.in_range(Some(given), &join(path, key), range, least)).or(default)
    }

    /// The number, or `default` without one, or with one out of range, which is a fault.
    pub fn in_range(
        &mut self,
        number: Option<u64>,
        path: &str,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> u64 {
        match number {
            Some(number) if range.contains(&number) => number,
            Some(number) => {
                let message = format!("{number} is out of range; use {} to {}", range.start(), range.end());
                self.fault(ErrorCode::OutOfRange, path, message);
                default
            }
            None => default,
        }
    }

    /// The number of an inherited descriptor.
    pub fn descriptor(&mut self, path: &str, number: u64) -> Option<RawFd> {
        let Some(fd) = RawFd::try_from(number).ok().filter(|fd| *fd > 2) else {
            let message = format!("{number} is no inherited descriptor; use 3 or more");
            return self.refuse(ErrorCode::OutOfRange, path, message);
        };
        Some(fd)
    }

    /// Permissions in octal; 0600 when nothing is said.
    pub fn mode(&mut self, path: &str, text: Option<&str>) -> Option<u32> {
        let mode = text.unwrap_or("0600");
        let octal =
            mode.bytes().all(|c| c.is_ascii_digit()).then(|| u32::from_str_radix(mode, 8).ok()).flatten();
        octal.filter(|mode| mode & !0o777 == 0).or_else(|| {
            let message = format!("`{}` are no permissions; write them in octal: \"0660\"", shown(mode));
            self.refuse(ErrorCode::OutOfRange, &join(path, "mode"), message)
        })
    }
}

/// A number whose range was checked.
pub fn as_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// `path` extended by `key`.
pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Text of the user's that is safe and short enough to show.
pub fn shown(text: &str) -> String {
    const MOST: usize = 64;
    let mut shown: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    if text.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    shown
}
