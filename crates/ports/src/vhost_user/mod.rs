//! vhost-user sockets: a machine monitor hands over its guest's memory, and the guest's rings are served in it.

#[cfg(target_os = "linux")]
mod keep;
#[cfg(not(target_os = "linux"))]
#[path = "without.rs"]
mod keep;

use std::os::fd::RawFd;
use std::path::PathBuf;

use vmlan_api::{ConfigSpace, ErrorCode, PortKind, VhostUserConfig};
use vmlan_drivers::unix::Access;

use super::belongings::Belonging;
use super::check::{AccessKeys, Validator};
use super::kind::{Attachment, Entry, HandOver, Hindrance, Keeper, Kind, same};
use crate::join;

/// Octets of memory that are mapped at most where nothing is said.
const MEMORY: u64 = 1 << 40;
/// The least bound that makes sense, and the most: all that ports map together.
const MEMORY_RANGE: std::ops::RangeInclusive<u64> = 1 << 20..=16 << 40;

pub(crate) const ENTRY: Entry = Entry {
    kind: PortKind::VhostUser,
    is_in: |port| port.vhost_user.is_some(),
    paths: |port| {
        port.vhost_user.iter_mut().flat_map(|table| [&mut table.listen, &mut table.connect]).collect()
    },
    check: |validator, at, port| validator.vhost_user(at, port.vhost_user.as_ref()?).map(Attachment::new),
};

/// A vhost-user socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VhostUser {
    /// The way to the machine monitor.
    pub source: VhostUserSource,
    /// Most pairs of queues: 1 to 63.
    pub queues: u16,
    /// True if packed rings are offered.
    pub packed: bool,
    /// True if segmentation and checksums may be left to the receiver.
    pub offloads: bool,
    /// The offer to tell the device's configuration.
    pub config: ConfigSpace,
    /// Most octets of the guest's memory that are mapped.
    pub memory: u64,
    /// True if memory is refused whose file may shrink.
    pub sealed: bool,
}

/// The way to a machine monitor that speaks vhost-user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VhostUserSource {
    /// It connects to this path, and has this access to it.
    Listen(PathBuf, Access),
    /// It listens at this path.
    Connect(PathBuf),
    /// Inherited: connected, or listening.
    Fd(RawFd),
}

impl Kind for VhostUser {
    fn kind(&self) -> PortKind {
        PortKind::VhostUser
    }

    fn belongings(&self) -> Vec<(Belonging, &'static str)> {
        match &self.source {
            VhostUserSource::Listen(path, _) => vec![(Belonging::Socket(path.clone()), "listen")],
            VhostUserSource::Connect(_) => Vec::new(),
            VhostUserSource::Fd(fd) => vec![(Belonging::Descriptor(*fd), "fd")],
        }
    }

    fn address(&self) -> Option<String> {
        match &self.source {
            VhostUserSource::Listen(path, _) => Some(path.display().to_string()),
            VhostUserSource::Connect(_) | VhostUserSource::Fd(_) => None,
        }
    }

    fn hindrance(&self, _mtu: usize) -> Option<Hindrance> {
        keep::hindrance()
    }

    fn hand_over(&self) -> HandOver {
        match self.source {
            VhostUserSource::Fd(_) => HandOver::Ends,
            _ => HandOver::Reconnects,
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
    fn vhost_user(&mut self, path: &str, config: &VhostUserConfig) -> Option<VhostUser> {
        let source = self.vhost_user_source(path, config);
        let queues = self.number::<VhostUserConfig>(path, "queues", config.queues)?;
        let memory = match &config.memory {
            Some(text) => self.octets(&join(path, "memory"), text, MEMORY_RANGE),
            None => Some(MEMORY),
        };
        Some(VhostUser {
            source: source?,
            queues: u16::try_from(queues).unwrap_or(u16::MAX),
            packed: config.packed.unwrap_or(true),
            offloads: config.offloads.unwrap_or(true),
            config: config.config.unwrap_or_default(),
            memory: memory?,
            sealed: config.sealed.unwrap_or(false),
        })
    }

    fn vhost_user_source(&mut self, path: &str, config: &VhostUserConfig) -> Option<VhostUserSource> {
        let keys = AccessKeys { mode: &config.mode, owner: &config.owner, group: &config.group };
        match (&config.listen, &config.connect, config.fd) {
            (Some(listen), None, None) => {
                let listen = self.shared_memory_path(&join(path, "listen"), listen);
                let access = self.access(path, keys);
                Some(VhostUserSource::Listen(listen?, access?))
            }
            (None, Some(connect), None) => {
                self.no_access(path, keys, "the socket is the machine monitor's");
                self.shared_memory_path(&join(path, "connect"), connect).map(VhostUserSource::Connect)
            }
            (None, None, Some(fd)) => {
                self.no_access(path, keys, "an inherited socket stays as it is");
                self.descriptor(&join(path, "fd"), fd).map(VhostUserSource::Fd)
            }
            (None, None, None) => self.refuse(ErrorCode::MissingKey, path, "add `listen`, `connect` or `fd`"),
            _ => self.refuse(
                ErrorCode::Conflict,
                path,
                "`listen`, `connect` and `fd` exclude each other; keep one",
            ),
        }
    }

    /// The path of a Unix socket, by which alone a peer can share memory.
    fn shared_memory_path(&mut self, path: &str, text: &str) -> Option<PathBuf> {
        if !text.contains('/') && text.parse::<std::net::SocketAddr>().is_ok() {
            let message = "memory is shared by Unix sockets only; write a path";
            return self.refuse(ErrorCode::BadAddress, path, message);
        }
        self.socket_path(path, text)
    }
}
