//! Datagram sockets: the guest sends first, or its address is known.

mod keep;
mod silence;

use std::os::fd::RawFd;

use vmlan_api::{ErrorCode, PortKind};
use vmlan_drivers::unix::Access;

use super::belongings::Belonging;
use super::check::{AccessKeys, Address, Allow, Validator, family};
use super::kind::{Attachment, Entry, HandOver, KeepGuest, Keeper, Kind, Work, same};
use crate::Seat;
use crate::join;

pub(crate) const ENTRY: Entry = Entry {
    kind: PortKind::Datagram,
    is_in: |port| port.datagram.is_some(),
    paths: |port| {
        port.datagram
            .iter_mut()
            .flat_map(|datagram| [&mut datagram.listen, &mut datagram.local, &mut datagram.remote])
            .collect()
    },
    check: |validator, at, port| validator.datagram(at, port.datagram.as_ref()?).map(Attachment::new),
};

/// A datagram socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Datagram {
    /// The guest is who sends first, and has this access to a path.
    Listen(Address, Allow, Access),
    /// The guest's address is known; both are of one family.
    Pair {
        /// Ours.
        local: Address,
        /// The guest's.
        remote: Address,
        /// The guest's access to our path.
        access: Access,
    },
    /// Inherited.
    Fd(RawFd),
}

impl Kind for Datagram {
    fn kind(&self) -> PortKind {
        PortKind::Datagram
    }

    fn belongings(&self) -> Vec<(Belonging, &'static str)> {
        let (address, key) = match self {
            Datagram::Listen(address, ..) => (address, "listen"),
            Datagram::Pair { local, .. } => (local, "local"),
            Datagram::Fd(fd) => return vec![(Belonging::Descriptor(*fd), "fd")],
        };
        match address {
            Address::Unix(path) => vec![(Belonging::Socket(path.clone()), key)],
            Address::Inet(address) => vec![(Belonging::Udp(*address), key)],
        }
    }

    fn address(&self) -> Option<String> {
        match self {
            Datagram::Listen(address, ..) | Datagram::Pair { local: address, .. } => {
                Some(address.to_string())
            }
            Datagram::Fd(_) => None,
        }
    }

    fn hand_over(&self) -> HandOver {
        match self {
            Datagram::Fd(_) => HandOver::Ends,
            _ => HandOver::Reconnects,
        }
    }

    fn equals(&self, other: &dyn Kind) -> bool {
        same(self, other)
    }

    fn keeper(&self) -> Keeper {
        Keeper::Guest(Box::new(self.clone()))
    }
}

impl KeepGuest for Datagram {
    fn keep<'a>(&'a mut self, seat: &'a mut Seat) -> Work<'a> {
        Box::pin(keep::keep(seat, self))
    }
}

impl Validator {
    fn datagram(&mut self, path: &str, datagram: &vmlan_api::DatagramConfig) -> Option<Datagram> {
        if let (None, Some(_)) = (&datagram.listen, &datagram.allow) {
            return self.refuse(ErrorCode::Conflict, path, "`allow` goes with `listen`; remove it");
        }
        let keys = AccessKeys { mode: &datagram.mode, owner: &datagram.owner, group: &datagram.group };
        match (&datagram.listen, &datagram.local, &datagram.remote, datagram.fd) {
            (Some(listen), None, None, None) => {
                let (address, allow) = self.listening(path, listen, datagram.allow.as_ref())?;
                let access = self.access_at(path, &address, keys)?;
                Some(Datagram::Listen(address, allow, access))
            }
            (None, Some(local), Some(remote), None) => {
                let remote = self.peer_address(&join(path, "remote"), remote);
                let local = self.address(&join(path, "local"), local)?;
                let remote = remote?;
                if family(&local) != family(&remote) || local == remote {
                    let message = "`local` and `remote` must be two different addresses of one family: both paths, \
                                   both IPv4 or both IPv6";
                    return self.refuse(ErrorCode::Conflict, path, message);
                }
                let access = self.access_at(path, &local, keys)?;
                Some(Datagram::Pair { local, remote, access })
            }
            (None, None, None, Some(fd)) => {
                self.no_access(path, keys, "an inherited socket stays as it is");
                self.descriptor(&join(path, "fd"), fd).map(Datagram::Fd)
            }
            (None, Some(_), None, None) | (None, None, Some(_), None) => self.refuse(
                ErrorCode::MissingKey,
                path,
                "`local` and `remote` go together; add the other one",
            ),
            (None, None, None, None) => {
                self.refuse(ErrorCode::MissingKey, path, "add `listen`, or `local` and `remote`, or `fd`")
            }
            _ => self.refuse(
                ErrorCode::Conflict,
                path,
                "`listen`, `local` with `remote`, and `fd` exclude each other; keep one way",
            ),
        }
    }
}
