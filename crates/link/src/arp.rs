//! Asking for link addresses, with what link-local IPv4 addresses need (RFC 3927).

use core::net::IpAddr;

use crate::{Address, Error, Link, LinkAddress};

/// Which ARP message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum ArpOperation {
    Request,
    Reply,
}

/// An ARP message, or what IPv6 has instead (RFC 826, RFC 4861).
///
/// The sender's two addresses are one statement: every station that hears it keeps them together (RFC 826). So a
/// message that goes out on several links carries on each of them a pair that is true there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arp {
    /// Request or reply.
    pub operation: ArpOperation,
    /// The sender's link address; the link's own when it is missing.
    pub sender_link: Option<LinkAddress>,
    /// The sender's address. All zero in a probe, which must not change what others have learnt (RFC 5227 1.1). A
    /// missing one leaves the choice to the link and the protocol.
    pub sender: Option<IpAddr>,
    /// The target's link address, in a reply.
    pub target_link: Option<LinkAddress>,
    /// The target's address.
    pub target: IpAddr,
}

impl Link {
    /// True if requests for link-local targets go out on this link too.
    pub fn link_local_arp(&self) -> bool {
        self.record().settings().link_local_arp
    }

    /// Marks the link for link-local ARP.
    pub fn set_link_local_arp(&self, on: bool) {
        self.record().settings().link_local_arp = on;
    }

    /// Has the target's protocol send an ARP message.
    ///
    /// A request for an IPv4 link-local target goes out once on every link marked for link-local ARP that has an IPv4
    /// address. A link that has the sender's address sends with it, another one with its own first IPv4 address; the
    /// link address is that link's own, but where the caller named one for this link and its address. The result is
    /// the first that is not `ENOTSUP`. A probe (the sender is all zero) and an announcement (sender equals target)
    /// are about an address on this link, and go out on it only.
    ///
    /// # Errors
    /// `EINVAL` when sender and target are of different families; `ENOTSUP` when there is no protocol that can.
    pub fn send_arp(&self, arp: &Arp) -> Result<(), Error> {
        let family = Address::Ip(arp.target).family();
        if arp.sender.is_some_and(|sender| Address::Ip(sender).family() != family) {
            return Err(Error::InvalidArgument);
        }
        let link_local = matches!(arp.target, IpAddr::V4(target) if target.is_link_local());
        let about_this_link =
            arp.sender.is_some_and(|sender| sender.is_unspecified() || sender == arp.target);
        match self.registry() {
            Some(registry) if link_local && !about_this_link && arp.operation == ArpOperation::Request => {
                let mut result = Err(Error::NotSupported);
                for link in registry.links() {
                    if let Some(sender) = link.link_local_sender(arp.sender) {
                        let is_callers = link.index() == self.index() && arp.sender == Some(sender);
                        let sender_link = arp.sender_link.filter(|_| is_callers);
                        let own = Arp { sender_link, sender: Some(sender), target_link: None, ..*arp };
                        let answer = link.send_own_arp(&own);
                        if result == Err(Error::NotSupported) {
                            result = answer;
                        }
                    }
                }
                result
            }
            _ => self.send_own_arp(arp),
        }
    }

    /// The sender's address on a link that is marked for link-local ARP: `wanted` where the link has it.
    fn link_local_sender(&self, wanted: Option<IpAddr>) -> Option<IpAddr> {
        let settings = self.record().settings();
        let mut own = settings.addresses.iter().copied().filter(IpAddr::is_ipv4);
        wanted
            .filter(|wanted| settings.addresses.contains(wanted))
            .or_else(|| own.next())
            .filter(|_| settings.link_local_arp)
    }

    fn send_own_arp(&self, arp: &Arp) -> Result<(), Error> {
        let _inside = self.io_ref().ok_or(Error::NotSupported)?;
        let chain = self.chain();
        let family = Address::Ip(arp.target).family();
        let usage = chain.protocol(family).and_then(|slot| slot.enter(self)).ok_or(Error::NotSupported)?;
        let sender_link = arp.sender_link.or_else(|| self.address());
        usage.slot.protocol.send_arp(self, &Arp { sender_link, ..*arp })
    }
}
