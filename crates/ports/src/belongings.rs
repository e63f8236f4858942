//! Things that only one port can have.
//!
//! The validator gives each to one port; the plan makes sure that one port has let go before another takes.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::PathBuf;

use vmlan_api::{Error, ErrorCode};

use crate::{Attachment, Trunk};

/// Something that only one port can have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Belonging {
    /// A device in a namespace.
    Device(Option<PathBuf>, String),
    /// A Unix socket that we make.
    Socket(PathBuf),
    /// The directory of a VDE switch.
    Directory(PathBuf),
    /// A TCP address that we listen at.
    Tcp(SocketAddr),
    /// A UDP address that we bind.
    Udp(SocketAddr),
    /// An inherited descriptor.
    Descriptor(RawFd),
    /// An interface of the host's, whole.
    Interface(String),
}

impl fmt::Display for Belonging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(None, name) => write!(f, "device {name}"),
            Self::Device(Some(netns), name) => write!(f, "device {name} in {}", netns.display()),
            Self::Socket(path) => write!(f, "socket {}", path.display()),
            Self::Directory(path) => write!(f, "directory {}", path.display()),
            Self::Tcp(address) => write!(f, "TCP address {address}"),
            Self::Udp(address) => write!(f, "UDP address {address}"),
            Self::Descriptor(number) => write!(f, "descriptor {number}"),
            Self::Interface(name) => write!(f, "interface {name}"),
        }
    }
}

/// The belongings of all ports, each with its holder.
#[derive(Debug, Default)]
pub(crate) struct Holders(BTreeMap<Belonging, String>);

impl Holders {
    /// Returns what is taken already and cannot be had beside `wanted`, with its holder: the same thing, or a TCP
    /// address of which one is all of the host's.
    fn in_the_way(&self, wanted: &Belonging) -> Option<(&Belonging, &String)> {
        if let Some(same) = self.0.get_key_value(wanted) {
            return Some(same);
        }
        let Belonging::Tcp(wanted) = wanted else { return None };
        self.0.iter().find(|(taken, _)| {
            let Belonging::Tcp(taken) = taken else { return false };
            let is_all = taken.ip().is_unspecified() || wanted.ip().is_unspecified();
            is_all && taken.port() == wanted.port() && taken.is_ipv4() == wanted.is_ipv4()
        })
    }

    /// Gives the trunk of the network `network`, whose table is at `path`, its interface.
    ///
    /// # Errors
    /// When another network has it.
    pub(crate) fn take_interface(&mut self, path: &str, network: &str, trunk: &Trunk) -> Result<(), Error> {
        let belonging = Belonging::Interface(trunk.interface.name().to_owned());
        match self.0.get(&belonging) {
            Some(holder) => {
                let message = format!(
                    "{belonging} is busy, used by network {holder}; a network needs an interface of its own, or a port \
                     in that network"
                );
                Err(Error::at(ErrorCode::DuplicateAttachment, path, message))
            }
            None => {
                self.0.insert(belonging, network.to_owned());
                Ok(())
            }
        }
    }

    /// Gives `holder` a thing that the member at the dotted path `field` asks for.
    ///
    /// # Errors
    /// When another one has it.
    pub(crate) fn take_at(&mut self, field: &str, holder: &str, belonging: Belonging) -> Result<(), Error> {
        if let Some((taken, other)) = self.in_the_way(&belonging) {
            let message = match *taken == belonging {
                true => format!("{belonging} is that of {other} already; choose another"),
                false => format!("{belonging} clashes with {taken}, that of {other}; choose another"),
            };
            return Err(Error::at(ErrorCode::DuplicateAttachment, field, message));
        }
        self.0.insert(belonging, holder.to_owned());
        Ok(())
    }

    /// Gives the port at the dotted path `port` what its attachment needs.
    ///
    /// # Errors
    /// The first thing that another port has.
    pub(crate) fn take(&mut self, port: &str, attachment: &Attachment) -> Result<(), Error> {
        for (belonging, key) in attachment.belongings() {
            if let Some((taken, holder)) = self.in_the_way(&belonging) {
                let field = format!("{port}.{}.{key}", attachment.kind().as_str());
                let message = match *taken == belonging {
                    true => format!("{belonging} is that of {holder} already; each port needs its own"),
                    false => format!("{belonging} clashes with {taken}, that of {holder}; choose another"),
                };
                return Err(Error::at(ErrorCode::DuplicateAttachment, field, message));
            }
            self.0.insert(belonging, port.to_owned());
        }
        Ok(())
    }
}
