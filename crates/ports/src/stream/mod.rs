//! Stream sockets: the guest connects to us, or we connect to it.

mod keep;

use std::os::fd::RawFd;

use vmlan_api::{ErrorCode, PortKind};
use vmlan_drivers::unix::Access;

use super::belongings::Belonging;
use super::check::{AccessKeys, Address, Allow, Validator};
use super::kind::{Attachment, Entry, HandOver, KeepGuest, Keeper, Kind, Work, same};
use crate::Seat;
use crate::join;

pub(crate) const ENTRY: Entry = Entry {
    kind: PortKind::Stream,
    is_in: |port| port.stream.is_some(),
    paths: |port| {
        port.stream.iter_mut().flat_map(|stream| [&mut stream.listen, &mut stream.connect]).collect()
    },
    check: |validator, at, port| validator.stream(at, port.stream.as_ref()?).map(Attachment::new),
};

/// A stream socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stream {
    /// The guest connects, and has this access to a path.
    Listen(Address, Allow, Access),
    /// The guest listens.
    Connect(Address),
    /// Inherited: connected, or listening.
    Fd(RawFd),
}

impl Kind for Stream {
    fn kind(&self) -> PortKind {
        PortKind::Stream
    }

    fn belongings(&self) -> Vec<(Belonging, &'static str)> {
        match self {
            Stream::Listen(Address::Unix(path), ..) => vec![(Belonging::Socket(path.clone()), "listen")],
            Stream::Listen(Address::Inet(address), ..) => vec![(Belonging::Tcp(*address), "listen")],
            Stream::Connect(_) => Vec::new(),
            Stream::Fd(fd) => vec![(Belonging::Descriptor(*fd), "fd")],
        }
    }

    fn address(&self) -> Option<String> {
        match self {
            Stream::Listen(address, ..) => Some(address.to_string()),
            Stream::Connect(_) | Stream::Fd(_) => None,
        }
    }

    fn hand_over(&self) -> HandOver {
        match self {
            Stream::Fd(_) => HandOver::Ends,
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

impl KeepGuest for Stream {
    fn keep<'a>(&'a mut self, seat: &'a mut Seat) -> Work<'a> {
        Box::pin(keep::keep(seat, self))
    }
}

impl Validator {
    fn stream(&mut self, path: &str, stream: &vmlan_api::StreamConfig) -> Option<Stream> {
        if let (None, Some(_)) = (&stream.listen, &stream.allow) {
            return self.refuse(ErrorCode::Conflict, path, "`allow` goes with `listen`; remove it");
        }
        let keys = AccessKeys { mode: &stream.mode, owner: &stream.owner, group: &stream.group };
        match (&stream.listen, &stream.connect, stream.fd) {
            (Some(listen), None, None) => {
                let (address, allow) = self.listening(path, listen, stream.allow.as_ref())?;
                let access = self.access_at(path, &address, keys)?;
                Some(Stream::Listen(address, allow, access))
            }
            (None, Some(connect), None) => {
                self.no_access(path, keys, "the socket is the guest's");
                self.peer_address(&join(path, "connect"), connect).map(Stream::Connect)
            }
            (None, None, Some(fd)) => {
                self.no_access(path, keys, "an inherited socket stays as it is");
                self.descriptor(&join(path, "fd"), fd).map(Stream::Fd)
            }
            (None, None, None) => self.refuse(ErrorCode::MissingKey, path, "add `listen`, `connect` or `fd`"),
            _ => self.refuse(
                ErrorCode::Conflict,
                path,
                "`listen`, `connect` and `fd` exclude each other; keep one",
            ),
        }
    }
}
