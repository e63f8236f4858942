//! Neighbour solicitations and advertisements (RFC 4861 7.1, 7.2), with detection of duplicates (RFC 4862 5.4).
//!
//! Router discovery and redirects are not the resolver's: it leaves them to whoever has a use for them.

use core::net::Ipv6Addr;

use vmlan_frame::ip::solicited_node;
use vmlan_frame::wire::{
    Icmpv6Packet, Icmpv6Type, IpProtocol, Ipv6Packet, Ipv6Repr, NdpMessage, NdpOption, NeighborAdvertRepr,
    NeighborSolicitRepr, Upper,
};
use vmlan_frame::{Instant, MacAddr};

use super::Resolver;
use super::message::Message;
use super::own::{AddressState, is_station};
use super::table::Claim;

impl Resolver {
    /// Takes a received IPv6 packet that came from the link address `from`. False, and nothing done, when it is
    /// neither a neighbour solicitation nor an advertisement.
    ///
    /// Solicitations for assigned addresses are answered; what the sender says of itself changes only what is in the
    /// table already. What RFC 4861 7.1 calls invalid is ignored and counted.
    pub fn handle_nd<T: AsRef<[u8]>>(&mut self, packet: &Ipv6Packet<T>, from: MacAddr, now: Instant) -> bool {
        let headers = packet.extension_headers();
        let Upper::Header { protocol: IpProtocol::ICMPV6, offset } = headers.upper else { return false };
        let Ok(message) = Icmpv6Packet::new_checked(&packet.payload()[offset - Ipv6Repr::HEADER_LEN..])
        else {
            return false;
        };
        let solicits = match message.message_type() {
            Icmpv6Type::NEIGHBOR_SOLICITATION => true,
            Icmpv6Type::NEIGHBOR_ADVERTISEMENT => false,
            _ => return false,
        };
        self.advance(now);
        // Fragments are not believed (RFC 6980).
        let valid = headers.fragment.is_none()
            && packet.hop_limit() == Ipv6Repr::NDP_HOP_LIMIT
            && message.code() == 0
            && message.verify_checksum(&packet.addresses())
            && message.ndp().is_ok_and(|message| self.handle_message(solicits, packet, &message, from, now));
        self.statistics.ignored += u64::from(!valid);
        true
    }

    /// Handles a message; returns true if it is valid.
    fn handle_message<T: AsRef<[u8]>>(
        &mut self,
        solicits: bool,
        packet: &Ipv6Packet<T>,
        message: &NdpMessage<&[u8]>,
        from: MacAddr,
        now: Instant,
    ) -> bool {
        let (source, destination) = (packet.source(), packet.destination());
        let in_order = message.options().all(|option| option.is_ok_and(|option| self.is_credible(&option)));
        if !in_order || source.is_multicast() || message.target().is_none_or(|target| target.is_multicast()) {
            return false;
        }
        if from == self.mac {
            // Our own, come back.
            return true;
        }
        if solicits {
            NeighborSolicitRepr::parse(message)
                .is_some_and(|message| self.handle_solicitation(&message, source, destination, from, now))
        } else {
            NeighborAdvertRepr::parse(message)
                .is_some_and(|message| self.handle_advertisement(&message, destination, from, now))
        }
    }

    fn handle_solicitation(
        &mut self,
        message: &NeighborSolicitRepr,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        from: MacAddr,
        now: Instant,
    ) -> bool {
        let target = message.target;
        let probe = source.is_unspecified();
        if probe {
            if destination != solicited_node(target) || message.source_link_layer.is_some() {
                return false;
            }
        } else if !is_station(source.into()) || self.addresses.state(source.into()).is_some() {
            return false;
        }
        match self.addresses.state(target.into()) {
            // Somebody else is about to use it (RFC 4862 5.4.3).
            Some(AddressState::Tentative) if probe => self.conflict(target.into(), from, now),
            Some(AddressState::Assigned) if probe => {
                self.answer(Message::announcement(self.mac, target.into()))
            }
            Some(AddressState::Assigned) => {
                if let Some(link) = message.source_link_layer {
                    let claim = Claim { link: Some(link), solicited: false, replaces: true };
                    self.claim(source.into(), &claim, now);
                }
                let asker = (message.source_link_layer.unwrap_or(from), source);
                if asker.0.is_station() {
                    self.answer(Message::advertisement(self.mac, target, Some(asker)));
                }
            }
            _ => {}
        }
        true
    }

    fn handle_advertisement(
        &mut self,
        message: &NeighborAdvertRepr,
        destination: Ipv6Addr,
        from: MacAddr,
        now: Instant,
    ) -> bool {
        if message.solicited && destination.is_multicast() {
            return false;
        }
        let target = message.target.into();
        if self.addresses.state(target).is_some() {
            self.conflict(target, message.target_link_layer.unwrap_or(from), now);
        } else {
            let NeighborAdvertRepr { solicited, replaces, target_link_layer: link, .. } = *message;
            self.claim(target, &Claim { link, solicited, replaces }, now);
        }
        true
    }

    /// True if a link-layer address in an option can be a neighbour's.
    fn is_credible(&self, option: &NdpOption<'_>) -> bool {
        option.link_layer_address().is_none_or(|mac| mac.is_station() && mac != self.mac)
    }
}
