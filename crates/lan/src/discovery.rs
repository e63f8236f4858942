use frame::wire::{
    ExtensionHeaders, Icmpv6Packet, Icmpv6Type, IpProtocol, Ipv6Packet, Ipv6Repr, NdpMessage, Upper,
};

/// What a packet has to do with neighbour discovery.
pub(super) enum Discovery<'a> {
    /// Nothing.
    None,
    /// It says to be a message that nobody is to believe.
    Doubtful,
    /// It is one.
    Message(NdpMessage<&'a [u8]>),
}

impl<'a> Discovery<'a> {
    pub(super) fn believed(self) -> Option<NdpMessage<&'a [u8]>> {
        match self {
            Discovery::Message(message) => Some(message),
            Discovery::None | Discovery::Doubtful => None,
        }
    }
}

/// The neighbour discovery message of a packet, to be believed when its hop limit is 255, its code 0 and it is no
/// fragment (RFC 4861 section 7.1, RFC 6980).
pub(super) fn discovery<'a>(packet: &'a Ipv6Packet<&[u8]>) -> Discovery<'a> {
    let Some((offset, fragmented)) = icmpv6_at(packet) else { return Discovery::None };
    let Ok(message) = Icmpv6Packet::new_checked(&packet.payload()[offset..]) else { return Discovery::None };
    let kinds = Icmpv6Type::ROUTER_SOLICITATION.0..=Icmpv6Type::REDIRECT.0;
    if !kinds.contains(&message.message_type().0) {
        return Discovery::None;
    }
    let believed = packet.hop_limit() == 255 && message.code() == 0 && !fragmented;
    match NdpMessage::new_checked(message.into_inner()) {
        Ok(message) if believed => Discovery::Message(message),
        _ => Discovery::Doubtful,
    }
}

/// Where the ICMPv6 message starts in the packet's payload, and whether it is in a fragment.
pub(super) fn icmpv6_at<T: AsRef<[u8]>>(packet: &Ipv6Packet<T>) -> Option<(usize, bool)> {
    let headers = ExtensionHeaders::walk(packet);
    match headers.upper {
        Upper::Header { protocol: IpProtocol::ICMPV6, offset } => {
            Some((offset - Ipv6Repr::HEADER_LEN, headers.fragment.is_some()))
        }
        _ => None,
    }
}
