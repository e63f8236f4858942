//! A VDE directory: every client becomes a port of its own.

mod keep;

use std::path::PathBuf;

use vmlan_api::{ErrorCode, PortKind};
use vmlan_drivers::unix::Access;

use super::belongings::Belonging;
use super::check::{AccessKeys, Validator};
use super::kind::{Attachment, Entry, Keeper, Kind, same};
use crate::join;

/// The most octets that a VDE switch puts behind its directory: `/` and the name of a client's socket.
const LONGEST_NAME: usize = 24;

pub(crate) const ENTRY: Entry = Entry {
    kind: PortKind::Vde,
    is_in: |port| port.vde.is_some(),
    paths: |port| port.vde.iter_mut().flat_map(|vde| [&mut vde.directory]).collect(),
    check: |validator, at, port| validator.vde(at, port.vde.as_ref()?).map(Attachment::new),
};

/// A VDE switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vde {
    /// The directory that holds its control socket: an absolute path.
    pub directory: PathBuf,
    /// Clients' access to its sockets.
    pub access: Access,
}

impl Kind for Vde {
    fn kind(&self) -> PortKind {
        PortKind::Vde
    }

    fn belongings(&self) -> Vec<(Belonging, &'static str)> {
        vec![
            (Belonging::Directory(self.directory.clone()), "directory"),
            (Belonging::Socket(self.directory.join("ctl")), "directory"),
        ]
    }

    fn address(&self) -> Option<String> {
        Some(self.directory.display().to_string())
    }

    fn equals(&self, other: &dyn Kind) -> bool {
        same(self, other)
    }

    fn keeper(&self) -> Keeper {
        Keeper::Clients(Box::new(keep::Directory::new(self.clone())))
    }
}

impl Validator {
    fn vde(&mut self, path: &str, vde: &vmlan_api::VdeConfig) -> Option<Vde> {
        let Some(text) = &vde.directory else {
            return self.refuse(ErrorCode::MissingKey, path, "the key `directory` is missing");
        };
        let directory_path = join(path, "directory");
        let longest_socket = format!("{}/{}", text.trim_end_matches('/'), "x".repeat(LONGEST_NAME - 1));
        let fits = self.socket_path(&directory_path, &longest_socket);
        let keys = AccessKeys { mode: &vde.mode, owner: &vde.owner, group: &vde.group };
        let access = self.access(path, keys);
        fits?;
        let directory = PathBuf::from(text);
        Some(Vde { directory, access: access? })
    }
}
