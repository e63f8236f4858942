use std::sync::Arc;

use vmlan_frame::wire::EtherType;
use vmlan_frame::{Batch, Context, Frame, Mutex};

use super::{Resolution, Resolver};
use crate::{
    Address, Arp, ControlResult, Error, Event, EventCode, Link, LinkAddress, PreOutput, Protocol, Request,
};

/// A protocol whose next hops a [`Resolver`] finds. IPv4 and IPv6 of one link share the resolver.
///
/// Input gives the resolver its messages and the protocol `upper` the rest. `pre_output` asks the resolver: a packet
/// whose next hop is not known yet is consumed, and comes out of [`Resolver::poll_transmit`] when it is. Whoever moves
/// the link's frames takes out what that call has, after input, after output and at [`Resolver::poll_timeout`], and
/// hands it to [`Link::output`].
pub struct WithResolver<P> {
    resolver: Arc<Mutex<Resolver>>,
    upper: P,
}

impl<P: Protocol> WithResolver<P> {
    /// Puts `resolver` before `upper`.
    pub fn new(resolver: Arc<Mutex<Resolver>>, upper: P) -> WithResolver<P> {
        WithResolver { resolver, upper }
    }
}

impl<P: Protocol> Protocol for WithResolver<P> {
    fn input(&self, cx: &Context<'_>, batch: &mut Batch) -> Result<(), Error> {
        {
            let mut resolver = self.resolver.lock();
            batch.retain(|frame| !resolver.handle(frame, cx.now));
        }
        if batch.is_empty() { Ok(()) } else { self.upper.input(cx, batch) }
    }

    fn pre_output(
        &self,
        cx: &Context<'_>,
        packet: &mut Frame,
        destination: &Address,
    ) -> Result<PreOutput, Error> {
        let frame_type = frame_type(packet.octets()).ok_or(Error::InvalidArgument)?.0;
        let send = |destination| Ok(PreOutput::Send { frame_type, destination: Some(destination) });
        let ip = match destination {
            Address::Link(link) => return send(*link),
            Address::Ip(ip) => *ip,
        };
        match self.resolver.lock().send(ip, packet, cx.now) {
            Resolution::Send(mac) => send(mac.into()),
            Resolution::Waiting => {
                drop(core::mem::take(packet));
                Ok(PreOutput::Consumed)
            }
            Resolution::Refused(refusal) => Err(refusal.into()),
        }
    }

    fn event(&self, link: &Link, event: &Event) {
        if event.code == EventCode::LinkAddressChanged
            && let Some(mac) = link.address().and_then(|address| address.mac())
        {
            self.resolver.lock().set_link_address(mac);
        }
        self.upper.event(link, event);
    }

    fn control(&self, link: &Link, request: &mut Request<'_>) -> ControlResult {
        self.upper.control(link, request)
    }

    fn send_arp(&self, _: &Link, arp: &Arp) -> Result<(), Error> {
        self.resolver.lock().send_arp(arp)
    }

    fn resolve_multicast(&self, group: &Address) -> Result<LinkAddress, Error> {
        self.upper.resolve_multicast(group)
    }

    fn detached(&self) {
        self.upper.detached();
    }
}

/// The type of a frame with this packet.
pub(super) fn frame_type(packet: &[u8]) -> Option<EtherType> {
    match packet.first()? >> 4 {
        4 => Some(EtherType::IPV4),
        6 => Some(EtherType::IPV6),
        _ => None,
    }
}
