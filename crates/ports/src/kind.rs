//! The seam between ports and what they are attached to. A kind is known by its name and by what is here; nothing
//! outside its own module asks which one it is.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::sync::Arc;

use vmlan_api::{Error, ErrorCode, PortKind};

use super::belongings::Belonging;
use crate::{Clients, PortSettings, Seat, Validator};

/// The attachment of a port, as a checked configuration describes it.
pub trait Kind: Any + fmt::Debug + Send + Sync {
    /// Its kind.
    fn kind(&self) -> PortKind;

    /// Returns the belongings of a port with this attachment, each with the key that asks for it.
    fn belongings(&self) -> Vec<(Belonging, &'static str)>;

    /// Returns the address to which guests connect: a path, or an IP address with a port. None where vmlan connects
    /// itself, makes a device, or was given a descriptor.
    fn address(&self) -> Option<String> {
        None
    }

    /// Why the system will never set it up on a network with an MTU of so many octets, where that is so.
    fn hindrance(&self, _mtu: usize) -> Option<Hindrance> {
        None
    }

    /// Checks what it has to do with its port's settings and with its network. The port's table is at `path`.
    fn fits(
        &self,
        _validator: &mut Validator,
        _path: &str,
        _settings: &PortSettings,
        _network: &mut Surroundings,
    ) {
    }

    /// True if a change of its port's settings needs a new attachment, which costs the guest its connection.
    fn depends_on(&self, old: &PortSettings, new: &PortSettings) -> bool {
        old.queue != new.queue
    }

    /// Returns the way in which a guest passes from one attachment of the port to the next.
    fn hand_over(&self) -> HandOver {
        HandOver::Reconnects
    }

    /// True if `other` is of this kind and has equal settings.
    fn equals(&self, other: &dyn Kind) -> bool;

    /// Returns the keeper that keeps a port attached.
    fn keeper(&self) -> Keeper;
}

/// The way in which a guest passes from one attachment of its port to the next, when the attachment changes or the
/// daemon is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandOver {
    /// It loses its connection, and connects again.
    Reconnects,
    /// Its device goes, and comes again without what others set on it.
    DeviceAnew,
    /// Its device stays, and is without a carrier meanwhile.
    DeviceStays,
    /// All guests of the network lose their connections to the outside, and get other addresses.
    OtherAddresses,
    /// It never comes back: what it hung on was inherited.
    Ends,
}

impl HandOver {
    /// The same for people, said of a port.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reconnects => "its guest has to connect again",
            Self::DeviceAnew => "its device is made anew",
            Self::DeviceStays => "its device stays, without a carrier meanwhile",
            Self::OtherAddresses => {
                "the network's guests lose their connections to the outside, and get other addresses"
            }
            Self::Ends => "the connection that it was started with ends",
        }
    }
}

/// [`Kind::equals`] for a kind that can be compared.
pub(super) fn same<T: Kind + PartialEq>(one: &T, other: &dyn Kind) -> bool {
    (other as &dyn Any).downcast_ref::<T>().is_some_and(|other| one == other)
}

/// The attachment of a port, of whatever kind.
#[derive(Clone)]
pub struct Attachment(Arc<dyn Kind>);

impl Attachment {
    /// Makes an attachment of the kind.
    pub fn new(kind: impl Kind) -> Attachment {
        Attachment(Arc::new(kind))
    }

    /// The inherited descriptors that it is made of.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.belongings().into_iter().filter_map(|(belonging, _)| match belonging {
            Belonging::Descriptor(number) => Some(number),
            _ => None,
        })
    }

    /// The same as one of the kind `T`, if it is.
    pub fn downcast<T: Kind>(&self) -> Option<&T> {
        (&*self.0 as &dyn Any).downcast_ref()
    }
}

impl Deref for Attachment {
    type Target = dyn Kind;

    fn deref(&self) -> &dyn Kind {
        &*self.0
    }
}

impl PartialEq for Attachment {
    fn eq(&self, other: &Attachment) -> bool {
        self.0.equals(&*other.0)
    }
}

impl Eq for Attachment {}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The facts about a network and its other ports that matter to a port's attachment.
#[derive(Debug)]
pub struct Surroundings {
    /// The network's MTU in octets.
    pub mtu: u64,
    /// The IP addresses that vmlan itself has in the network, each with the path of its port.
    pub hosts: BTreeMap<IpAddr, String>,
}

/// Why something can never be set up.
#[derive(Debug)]
pub struct Hindrance {
    code: ErrorCode,
    key: Option<&'static str>,
    pub(crate) message: String,
}

impl Hindrance {
    pub(super) fn new(code: ErrorCode, message: String) -> Hindrance {
        Hindrance { code, key: None, message }
    }

    /// It is this key's.
    pub(super) fn within(self, key: &'static str) -> Hindrance {
        Hindrance { key: Some(key), ..self }
    }

    /// As a fault of the table at `path`.
    pub fn at(self, path: &str) -> Error {
        let path = self.key.map_or(path.to_owned(), |key| format!("{path}.{key}"));
        Error::at(self.code, path, self.message)
    }
}

/// The work of a keeper, for as long as it takes.
pub type Work<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// The keeper of a port's attachment.
pub enum Keeper {
    /// The port is one guest's.
    Guest(Box<dyn KeepGuest>),
    /// Clients become ports of their own.
    Clients(Box<dyn KeepClients>),
}

/// Keeps one guest's port attached.
pub trait KeepGuest: Send {
    /// Sets the port up, brings it up and down as the guest comes and goes, and begins again, for ever. It is dropped
    /// where it waits when the port is to stop, and called anew after a panic.
    fn keep<'a>(&'a mut self, seat: &'a mut Seat) -> Work<'a>;

    /// Does what has to be done in order once the port is down or has left. May be called anew after it was dropped,
    /// and goes on where it was.
    fn close(&mut self) -> Work<'_> {
        Box::pin(std::future::ready(()))
    }
}

/// Keeps a port whose clients become ports of their own.
pub trait KeepClients: Send {
    /// Lets clients come, and serves them, for ever. It is dropped where it waits when the port is to stop, and called
    /// anew after a panic: clients that are there stay.
    fn keep<'a>(&'a mut self, clients: &'a mut Clients) -> Work<'a>;

    /// Ends every client's task, and then gives back what the port has made.
    fn close(self: Box<Self>) -> Work<'static>;
}

/// A kind's entry in the list of those that there are.
pub(crate) struct Entry {
    pub(crate) kind: PortKind,
    /// True if a port's table has a table of this kind.
    pub(crate) is_in: fn(&vmlan_api::PortConfig) -> bool,
    /// The members of that table that may be paths of sockets or of a directory for them.
    pub(crate) paths: fn(&mut vmlan_api::PortConfig) -> Vec<&mut Option<String>>,
    /// Checks that table, whose path is given.
    pub(crate) check: fn(&mut Validator, &str, &vmlan_api::PortConfig) -> Option<Attachment>,
}
