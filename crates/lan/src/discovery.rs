//! Neighbour discovery in IPv6 packets, as its receivers find it.

use vmlan_frame::wire::{Icmpv6Packet, Icmpv6Type, IpProtocol, Ipv6Packet, Ipv6Repr, NdpMessage, Upper};

/// The part of a packet in neighbour discovery.
pub(crate) enum Discovery<'a> {
    /// Nothing.
    None,
    /// It is a message that receivers ignore, since it came through a router.
    Ignored,
    /// It is a message that no receiver has to believe and some do, or may hide one.
    Doubtful,
    /// It is a message.
    Message {
        message: NdpMessage<&'a [u8]>,
        /// Where it starts in the packet's payload.
        offset: usize,
    },
}

/// Looks for a neighbour discovery message behind the extension headers.
///
/// With another hop limit than 255 receivers ignore it (RFC 4861 section 7.1). It is doubtful with another code than 0,
/// in a fragment (RFC 6980), and where it cannot be told what the packet carries.
pub(crate) fn discovery<'a>(packet: &'a Ipv6Packet<&[u8]>) -> Discovery<'a> {
    let is_near = packet.hop_limit() == Ipv6Repr::NDP_HOP_LIMIT;
    let doubtful = if is_near { Discovery::Doubtful } else { Discovery::None };
    let headers = packet.extension_headers();
    let offset = match headers.upper {
        Upper::Header { protocol: IpProtocol::ICMPV6, offset } => offset - Ipv6Repr::HEADER_LEN,
        // Without a first fragment, which is looked at, the later ones come to nothing.
        Upper::Header { .. } | Upper::LaterFragment { .. } | Upper::Absent => return Discovery::None,
        Upper::Undecidable(_) => return doubtful,
    };
    let Ok(message) = Icmpv6Packet::new_checked(&packet.payload()[offset..]) else { return doubtful };
    let kinds = Icmpv6Type::ROUTER_SOLICITATION.0..=Icmpv6Type::REDIRECT.0;
    if !kinds.contains(&message.message_type().0) {
        return Discovery::None;
    }
    if !is_near {
        return Discovery::Ignored;
    }
    let is_clear = message.code() == 0 && headers.fragment.is_none();
    match NdpMessage::new_checked(message.into_inner()) {
        Ok(message) if is_clear => Discovery::Message { message, offset },
        _ => Discovery::Doubtful,
    }
}
