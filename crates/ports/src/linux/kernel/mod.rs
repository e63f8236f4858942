//! Requests of trunks to Linux, by rtnetlink(7): interfaces, their addresses, traffic control, and word of changes.
//!
//! Everything is asked of the network namespace in which the [`Kernel`] was opened. Only the control side asks; frames
//! never wait for an answer.

mod interface;
mod traffic;
mod watch;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::{Stream, TryStreamExt};
use rtnetlink::packet_core::{DefaultNla, NLM_F_DUMP, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};
use tokio::task::JoinHandle;
use vmlan_frame::MacAddr;

pub(crate) use interface::{Interface, Kind, MARK};
pub(crate) use traffic::{Filter, Rule};
pub(crate) use watch::{Watch, Words};

/// Octets of an interface's name; alternative ones may be longer.
const LONGEST_NAME: usize = 15;

/// linux/if_link.h: an alternative name.
const IFLA_ALT_IFNAME: u16 = 53;

/// A request that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}")]
pub(crate) struct KernelError {
    what: String,
    #[source]
    pub(crate) source: io::Error,
}

impl KernelError {
    pub(crate) fn new(what: impl Into<String>, source: io::Error) -> KernelError {
        KernelError { what: what.into(), source }
    }

    /// True if the system's error is `errno`.
    pub(crate) fn is(&self, errno: rustix::io::Errno) -> bool {
        rustix::io::Errno::from_io_error(&self.source) == Some(errno)
    }
}

/// A connection to rtnetlink, kept up by a task that ends with it.
pub(crate) struct Kernel {
    handle: Handle,
    /// Held while something is listed: the kernel lists one thing at a time for a socket, and refuses another.
    listing: tokio::sync::Mutex<()>,
    connection: JoinHandle<()>,
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Kernel {
    /// Connects, in the calling thread's network namespace.
    ///
    /// # Errors
    /// No descriptor or no memory.
    pub(crate) fn open() -> Result<Kernel, KernelError> {
        let connected = rtnetlink::new_connection();
        let (connection, handle, _) =
            connected.map_err(|error| KernelError::new("reach the kernel's rtnetlink", error))?;
        Ok(Kernel { handle, listing: tokio::sync::Mutex::default(), connection: tokio::spawn(connection) })
    }

    /// True while its task keeps it up.
    pub(crate) fn is_open(&self) -> bool {
        !self.connection.is_finished()
    }

    /// Every interface.
    ///
    /// # Errors
    /// The kernel's error; here and in every method.
    pub(crate) async fn interfaces(&self) -> Result<Vec<Interface>, KernelError> {
        let _listing = self.listing.lock().await;
        let links: Vec<LinkMessage> =
            said("list the interfaces", self.handle.link().get().execute().try_collect().await)?;
        Ok(links.iter().filter_map(Interface::parse).collect())
    }

    /// The interface of this name, or of this alternative name; `None` when there is none.
    pub(crate) async fn interface(&self, name: &str) -> Result<Option<Interface>, KernelError> {
        // The kernel looks for alternative names as well in both cases, but takes long ones in another attribute only.
        let mut request = self.handle.link().get().match_index(0);
        request.message_mut().attributes.push(if name.len() <= LONGEST_NAME {
            LinkAttribute::IfName(name.to_owned())
        } else {
            let value = [name.as_bytes(), &[0]].concat();
            LinkAttribute::Other(DefaultNla::new(IFLA_ALT_IFNAME, value))
        });
        let mut found = Box::pin(request.execute());
        match found.try_next().await {
            Ok(link) => Ok(link.as_ref().and_then(Interface::parse)),
            Err(error) => {
                let error = error_of(format!("look for the interface {name}"), error);
                if error.is(rustix::io::Errno::NODEV) { Ok(None) } else { Err(error) }
            }
        }
    }

    /// The interface with this index; `None` when there is none.
    pub(crate) async fn interface_at(&self, index: u32) -> Result<Option<Interface>, KernelError> {
        let mut found = Box::pin(self.handle.link().get().match_index(index).execute());
        match found.try_next().await {
            Ok(link) => Ok(link.as_ref().and_then(Interface::parse)),
            Err(error) => {
                let error = error_of(format!("look for the interface with number {index}"), error);
                if error.is(rustix::io::Errno::NODEV) { Ok(None) } else { Err(error) }
            }
        }
    }

    /// True if a default route of the host's leaves by the interface.
    pub(crate) async fn has_default_route(&self, index: u32) -> Result<bool, KernelError> {
        for list in
            [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()]
        {
            let _listing = self.listing.lock().await;
            let routes: Vec<_> =
                said("list the routes", self.handle.route().get(list).execute().try_collect().await)?;
            let leaves_by_it = |route: &&RouteMessage| {
                route.header.destination_prefix_length == 0
                    && route.header.kind == RouteType::Unicast
                    && route.attributes.contains(&RouteAttribute::Oif(index))
            };
            if routes.iter().find(leaves_by_it).is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The addresses of an interface that are the host's: one that is tentative may be found to be another's, as one
    /// that failed duplicate address detection was.
    pub(crate) async fn addresses(&self, interface: &Interface) -> Result<Vec<IpAddr>, KernelError> {
        let all = self.all_addresses().await?.into_iter();
        Ok(all.filter(|(index, _)| *index == interface.index).map(|(_, address)| address).collect())
    }

    /// The same of all interfaces, each address with its interface's index.
    pub(crate) async fn all_addresses(&self) -> Result<Vec<(u32, IpAddr)>, KernelError> {
        let _listing = self.listing.lock().await;
        let list = self.handle.address().get().execute();
        let messages: Vec<_> = said("list the host's addresses", list.try_collect().await)?;
        let address = |message: &AddressMessage| Some((message.header.index, own_address(message)?));
        Ok(messages.iter().filter_map(address).collect())
    }

    /// Changes what `change` sets of the interface with this index.
    pub(crate) async fn set(
        &self,
        index: u32,
        what: &str,
        change: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
    ) -> Result<(), KernelError> {
        let message = change(LinkUnspec::new_with_index(index)).build();
        said(what, self.handle.link().set(message).execute().await)
    }

    /// Makes an interface.
    pub(crate) async fn add(&self, what: &str, message: LinkMessage) -> Result<(), KernelError> {
        said(what, self.handle.link().add(message).execute().await)
    }

    /// Deletes an interface; nothing happens when it is gone.
    pub(crate) async fn delete(&self, index: u32, name: &str) -> Result<(), KernelError> {
        let what = format!("delete {name}");
        unless_gone(said(&what, self.handle.link().del(index).execute().await))
    }

    /// Lets the bridge of which an interface is a port forget what it learnt of an address there, in every VLAN;
    /// nothing happens when it has learnt nothing, or that the address is behind another port.
    pub(crate) async fn forget_station(&self, port: u32, mac: MacAddr) -> Result<(), KernelError> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = port;
        // The bridge's table, and not one of the interface's own.
        message.header.flags = NeighbourFlags::Controller;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
        let what = format!("have the bridge forget {mac}");
        unless_gone(said(&what, self.handle.neighbours().del(message).execute().await))
    }

    /// Sends a request that rtnetlink has no method for, and answers all that comes back.
    async fn request(
        &self,
        what: &str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, KernelError> {
        let _listing = match flags & NLM_F_DUMP == NLM_F_DUMP {
            true => Some(self.listing.lock().await),
            false => None,
        };
        let mut request = NetlinkMessage::from(message);
        request.header.flags = flags;
        let answers = said(what, self.handle.clone().request(request))?;
        collect(what, answers).await
    }
}

/// The address that a message tells of, when it is the host's.
fn own_address(message: &AddressMessage) -> Option<IpAddr> {
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
    // A peer's address stands beside our own, which is the local one then.
    let local = find(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = local.or_else(|| {
        find(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    });
    address.filter(|_| is_assigned(message))
}

/// True if duplicate address detection has nothing against the address (RFC 4862 section 5.4).
fn is_assigned(message: &AddressMessage) -> bool {
    let doubtful = AddressFlags::Tentative | AddressFlags::Dadfailed;
    !message.attributes.iter().any(|attribute| match attribute {
        AddressAttribute::Flags(flags) => flags.intersects(doubtful),
        _ => false,
    })
}

async fn collect(
    what: &str,
    answers: impl Stream<Item = NetlinkMessage<RouteNetlinkMessage>>,
) -> Result<Vec<RouteNetlinkMessage>, KernelError> {
    use futures_util::StreamExt;
    let mut answers = std::pin::pin!(answers);
    let mut messages = Vec::new();
    while let Some(answer) = answers.next().await {
        match answer.payload {
            NetlinkPayload::InnerMessage(message) => messages.push(message),
            NetlinkPayload::Error(error) if error.code.is_some() => {
                return Err(KernelError::new(what, error.to_io()));
            }
            _ => {}
        }
    }
    Ok(messages)
}

/// Nothing is wrong when what was to go is gone already.
fn unless_gone(result: Result<(), KernelError>) -> Result<(), KernelError> {
    use rustix::io::Errno;
    match result {
        Err(error) if [Errno::NODEV, Errno::NOENT].iter().any(|errno| error.is(*errno)) => Ok(()),
        result => result,
    }
}

fn said<T>(what: &str, result: Result<T, rtnetlink::Error>) -> Result<T, KernelError> {
    result.map_err(|error| error_of(what, error))
}

fn error_of(what: impl Into<String>, error: rtnetlink::Error) -> KernelError {
    let source = match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    };
    KernelError::new(what, source)
}
