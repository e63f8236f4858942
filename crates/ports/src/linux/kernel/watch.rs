use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, Prop};
use rtnetlink::sys::SocketAddr;
use tokio::task::JoinHandle;

use super::KernelError;

/// How long nothing is listened to after the connection failed.
const REOPEN: Duration = Duration::from_secs(1);

/// Word of what changes about interfaces and their addresses.
///
/// It says only that something may have changed: who hears it asks for the present state. So nothing is missed when
/// words are lost, and many words cost one question.
pub(crate) struct Watch {
    events: futures_util::stream::BoxStream<'static, (NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    connection: JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Watch {
    /// Listens from now on, in the calling thread's network namespace.
    ///
    /// # Errors
    /// No descriptor or no memory.
    pub(crate) fn open() -> Result<Watch, KernelError> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let connected = rtnetlink::new_multicast_connection(&groups);
        let (connection, _, events) =
            connected.map_err(|error| KernelError::new("listen to changes of interfaces", error))?;
        Ok(Watch { events: events.boxed(), connection: tokio::spawn(connection) })
    }

    /// Waits for a change of an interface with one of these names or indices. What has come with it is taken as well.
    /// Safe to cancel.
    pub(crate) async fn changed(&mut self, names: &BTreeSet<String>, indices: &BTreeSet<u32>) {
        while !self.heard().await.concern(names, indices) {}
    }

    /// Waits for word, and takes all that has come. Safe to cancel.
    pub(crate) async fn heard(&mut self) -> Words {
        let Some((message, _)) = self.events.next().await else {
            // The connection, or its task, failed. What changed meanwhile is found by looking.
            tokio::time::sleep(REOPEN).await;
            if let Ok(watch) = Watch::open() {
                *self = watch;
                return Words::Lost;
            }
            return Words::Heard(Vec::new());
        };
        let mut messages = vec![message];
        while let Some(Some((message, _))) = self.events.next().now_or_never() {
            messages.push(message);
        }
        Words::Heard(messages)
    }
}

/// The words that were heard.
pub(crate) enum Words {
    Heard(Vec<NetlinkMessage<RouteNetlinkMessage>>),
    /// Something was said that nobody heard.
    Lost,
}

impl Words {
    /// True if they may be about an interface with one of these names or indices.
    pub(crate) fn concern(&self, names: &BTreeSet<String>, indices: &BTreeSet<u32>) -> bool {
        match self {
            Words::Heard(messages) => messages.iter().any(|message| concerns(message, names, indices)),
            Words::Lost => true,
        }
    }
}

fn concerns(
    message: &NetlinkMessage<RouteNetlinkMessage>,
    names: &BTreeSet<String>,
    indices: &BTreeSet<u32>,
) -> bool {
    let NetlinkPayload::InnerMessage(message) = &message.payload else {
        // Words were lost.
        return true;
    };
    match message {
        RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => {
            indices.contains(&link.header.index)
                || link.attributes.iter().any(|attribute| match attribute {
                    LinkAttribute::IfName(name) => names.contains(name),
                    // Something that stands on it comes or goes.
                    LinkAttribute::Link(lower) => indices.contains(lower),
                    LinkAttribute::PropList(others) => others.iter().any(|other| match other {
                        Prop::AltIfName(name) => names.contains(name),
                        _ => false,
                    }),
                    _ => false,
                })
        }
        RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address) => {
            indices.contains(&address.header.index)
        }
        _ => false,
    }
}
