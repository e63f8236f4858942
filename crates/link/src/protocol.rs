//! Protocols on a link: who gets the frames that are for this station.
//!
//! Theory of operation. Protocols stand in the link's [`Chain`](crate::chain::Chain) as filters do, each behind a gate:
//! a use in flight is being inside. Detaching takes the protocol off the list, so nobody finds it any more, and
//! closes the gate; the last use out calls `detached` and posts the event, or, when that is in a worker, leaves it to
//! the control side ([`ending`](crate::ending)). Nobody waits.

use std::sync::Arc;

use vmlan_frame::{Batch, Context, Frame};

use crate::gate::Gate;
use crate::{
    Address, Arp, ControlResult, Error, Event, EventCode, Link, LinkAddress, ProtocolFamily, Request,
};

/// The decision of `pre_output` about a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PreOutput {
    /// It goes to the next hop.
    Send {
        /// The frame type: on Ethernet the EtherType. Of no matter to a family of LLC or SNAP.
        frame_type: u16,
        /// The link address of the next hop, where the medium has addresses.
        destination: Option<LinkAddress>,
    },
    /// The protocol owns the packet (it took it with [`core::mem::take`]), for example until an address is resolved.
    Consumed,
}

/// A protocol on a link. Every hook but input has a default that does nothing.
pub trait Protocol: Send + Sync {
    /// Consecutive received frames of the family, in order, with their link header. What the protocol does not take
    /// out of `batch` is freed.
    ///
    /// # Errors
    /// On an error, the protocol refuses the frames that are left in `batch`. They are freed, and counted as refused.
    fn input(&self, cx: &Context<'_>, batch: &mut Batch) -> Result<(), Error>;

    /// Finds the next hop of a packet to be sent to `destination`.
    ///
    /// # Errors
    /// Ends the call with this packet and all after it freed.
    fn pre_output(
        &self,
        cx: &Context<'_>,
        packet: &mut Frame,
        destination: &Address,
    ) -> Result<PreOutput, Error> {
        let _ = (cx, packet, destination);
        Err(Error::NotSupported)
    }

    /// An event of the link.
    fn event(&self, link: &Link, event: &Event) {
        let _ = (link, event);
    }

    /// A control request for this family.
    ///
    /// # Errors
    /// [`Error::OperationNotSupported`] leaves the request to the driver; any other error ends it.
    fn control(&self, link: &Link, request: &mut Request<'_>) -> ControlResult {
        let _ = (link, request);
        Err(Error::OperationNotSupported)
    }

    /// Sends an ARP message, or what the family has instead, on `link`.
    ///
    /// # Errors
    /// [`Error::NotSupported`] when the family has none.
    fn send_arp(&self, link: &Link, arp: &Arp) -> Result<(), Error> {
        let _ = (link, arp);
        Err(Error::NotSupported)
    }

    /// The link address of a group of this family.
    ///
    /// # Errors
    /// [`Error::OperationNotSupported`] leaves the answer to the driver; any other error ends the search.
    fn resolve_multicast(&self, group: &Address) -> Result<LinkAddress, Error> {
        let _ = group;
        Err(Error::OperationNotSupported)
    }

    /// The protocol is off the link and no use of it is left. Never runs in a thread that moves frames: when such a use
    /// was the last, [`Registry::settle`](crate::Registry::settle) runs it. So it may block.
    fn detached(&self) {}
}

/// Turns a function that takes frames one by one into a [`Protocol`]. A frame for which it fails is freed, and the
/// others go on.
pub struct PerFrame<F>(pub F);

impl<F> Protocol for PerFrame<F>
where
    F: Fn(&Context<'_>, &mut Frame) -> Result<(), Error> + Send + Sync,
{
    fn input(&self, cx: &Context<'_>, batch: &mut Batch) -> Result<(), Error> {
        let mut result = Ok(());
        batch.retain(|frame| {
            let refused = self.0(cx, frame);
            if refused.is_err() {
                result = refused;
            }
            refused.is_err()
        });
        result
    }
}

/// How a protocol is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProtocolOptions {
    /// Its family.
    pub family: ProtocolFamily,
    /// True if the protocol also wants frames that are not for this link's address.
    pub promiscuous: bool,
}

/// A protocol in its place on a link.
pub(crate) struct Slot {
    pub(crate) options: ProtocolOptions,
    pub(crate) protocol: Arc<dyn Protocol>,
    gate: Gate,
}

impl Slot {
    /// How many protocols a link has at most.
    const LIMIT: usize = 32;

    /// Uses the protocol; `None` when it is being detached.
    #[inline]
    pub(crate) fn enter<'a>(self: &'a Arc<Slot>, link: &'a Link) -> Option<Usage<'a>> {
        self.gate.enter().map(|_| Usage { slot: self, link })
    }

    /// Begins the end of a protocol that is off the list.
    pub(crate) fn close(self: &Arc<Slot>, link: &Link) {
        if self.gate.close() {
            self.end(link);
        }
    }

    fn end(self: &Arc<Slot>, link: &Link) {
        let slot = Arc::clone(self);
        link.run_end(move |link| {
            slot.protocol.detached();
            {
                let mut settings = link.record().settings();
                // The chain changes under this lock.
                let left = link.chain().protocols.len();
                link.record().note(&mut settings, EventCode::ProtocolDetached(slot.options.family, left));
            }
            link.tell();
        });
    }
}

/// A use of a protocol in flight.
pub(crate) struct Usage<'a> {
    pub(crate) slot: &'a Arc<Slot>,
    link: &'a Link,
}

impl Drop for Usage<'_> {
    fn drop(&mut self) {
        if self.slot.gate.leave() {
            self.slot.end(self.link);
        }
    }
}

impl Link {
    /// Attaches a protocol: frames of its family are given to it, unless the link is bridged.
    ///
    /// # Errors
    /// `EINVAL` when the family is 0, `ENXIO` when the link is not attached, `EEXIST` when the family is there
    /// already, `ENOBUFS` when there are too many; else what the medium says to it.
    pub fn attach_protocol(
        &self,
        options: ProtocolOptions,
        protocol: Arc<dyn Protocol>,
    ) -> Result<(), Error> {
        if options.family == ProtocolFamily::UNSPECIFIED {
            return Err(Error::InvalidArgument);
        }
        let _inside = self.io_ref().ok_or(Error::NotAttached)?;
        {
            // The medium is asked once at a time, and only for a family that is not there.
            let _change = self.record().protocol_change.lock();
            let chain = self.chain();
            if chain.protocol(options.family).is_some() {
                return Err(Error::AlreadyExists);
            }
            if chain.protocols.len() >= Slot::LIMIT {
                return Err(Error::NoBuffers);
            }
            chain.media.add_protocol(options.family)?;
            let slot = Arc::new(Slot { options, protocol, gate: Gate::opened() });
            self.change_chain(|settings, chain| {
                chain.protocols.push(slot);
                let code = EventCode::ProtocolAttached(options.family, chain.protocols.len());
                self.record().note(settings, code);
                Ok(())
            })?;
        }
        self.tell();
        Ok(())
    }

    /// Detaches a protocol. Uses in flight end in their own time; the last one calls `detached` and posts the event,
    /// or leaves it to [`Registry::settle`](crate::Registry::settle) when it is in a call that moves frames.
    ///
    /// # Errors
    /// `EINVAL` when the family is 0, `ENXIO` when it is not attached.
    pub fn detach_protocol(&self, family: ProtocolFamily) -> Result<(), Error> {
        if family == ProtocolFamily::UNSPECIFIED {
            return Err(Error::InvalidArgument);
        }
        let _inside = self.io_ref().ok_or(Error::NotAttached)?;
        let slot = {
            let _change = self.record().protocol_change.lock();
            let chain = self.chain();
            let slot = chain.protocol(family).ok_or(Error::NotAttached)?.clone();
            chain.media.del_protocol(family);
            self.unlink_protocol(&slot);
            slot
        };
        slot.close(self);
        Ok(())
    }

    pub(crate) fn unlink_protocol(&self, slot: &Arc<Slot>) {
        let unlinked = self.change_chain(|_, chain| {
            chain.protocols.retain(|other| !Arc::ptr_eq(other, slot));
            Ok(())
        });
        unlinked.expect("unlinking does not fail");
    }

    /// The families of the attached protocols, in the order of attachment.
    pub fn protocols(&self) -> Vec<ProtocolFamily> {
        self.chain().protocols.iter().map(|slot| slot.options.family).collect()
    }
}
