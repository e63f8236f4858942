//! The one judge of what a guest's frame says about addresses.
//!
//! Theory of operation. Where claims are examined, every frame of a guest that may speak of addresses is judged here,
//! once, before it goes anywhere. The judge finds what a receiver would: behind tags that receivers take off, behind
//! extension headers, inside 802.2 LLC. It answers with what the frame teaches ([`Lesson`]), or that it teaches
//! nothing, or that it is *unclear*: it speaks of addresses, and stations may differ in what they believe of it. An
//! unclear frame goes nowhere, since a guest may speak for itself only.
//!
//! Clear is ARP with Ethernet and IPv4 addresses, a request or reply, whose hardware address is the frame's source; and
//! neighbour discovery with code 0, in no fragment, whose link-layer address options are all the frame's source. A
//! clear claim is for the address book to grant. Neighbour discovery with another hop limit than 255 is none: it came
//! through a router, and receivers have to ignore it (RFC 4861 section 7.1). That is read first, so most packets cost
//! no more.
//!
//! Frames behind tags in another network's VLAN are not judged; what speaks of addresses behind a tag that only some
//! receivers see is unclear (see `tags`).

use std::net::{IpAddr, Ipv6Addr};

use vmlan_frame::ip::is_station;
use vmlan_frame::wire::{
    ArpOperation, ArpPacket, EtherType, Icmpv6Type, Ipv4Packet, Ipv6Packet, Ipv6Repr, NdpMessage, NdpOption,
};
use vmlan_frame::{Frame, MacAddr};

use super::tags::{Behind, behind_tags, is_elsewhere};
use crate::discovery::{Discovery, discovery};
use crate::shared_mac::Dhcp;
use crate::vlan::TPIDS;

/// One thing to learn or forget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lesson {
    /// The sender has the address, as its ARP or neighbour discovery says.
    Says(IpAddr),
    /// The sender has the address, as the source of its packet says.
    Uses(IpAddr),
    /// The sender does not have the address, if it was thought to.
    Lacks(IpAddr),
    /// No guest has the address.
    Forget(IpAddr),
    /// The guest with that hardware address gets `yours` and no longer has `client`, as a DHCP server says.
    Leases { hardware: MacAddr, client: IpAddr, yours: IpAddr },
}

/// No frame teaches more.
pub(crate) type Lessons = [Option<Lesson>; 2];

/// The statement of a frame about addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Said {
    Nothing,
    /// Something that receivers may read differently.
    Unclear,
    Clearly(Lessons),
}

impl Said {
    fn one(lesson: Lesson) -> Said {
        Said::Clearly([Some(lesson), None])
    }
}

/// True if a frame whose octets have this type after the addresses may speak of addresses. With `packets`, the sources
/// of packets count too.
#[inline]
pub(crate) fn may_speak(ethertype: u16, packets: bool) -> bool {
    match EtherType(ethertype) {
        EtherType::ARP | EtherType::IPV6 => true,
        EtherType::IPV4 => packets,
        ethertype => ethertype.is_length() || TPIDS.contains(&ethertype.0),
    }
}

/// Judges a guest's frame. With `packets`, the sources of packets count beside ARP and neighbour discovery.
pub(crate) fn judge(frame: &Frame, packets: bool) -> Said {
    let Some(source) = frame.source() else { return Said::Nothing };
    let (ethertype, payload, tags) = match behind_tags(frame.octets()) {
        Behind::Nothing => return Said::Nothing,
        Behind::TooDeep => return Said::Unclear,
        Behind::Packet { ethertype, payload, tags } => (ethertype, payload, tags),
    };
    let said = judge_payload(ethertype, payload, source, packets);
    if tags == 0 {
        return said;
    }
    if is_elsewhere(frame) || said == Said::Nothing { Said::Nothing } else { Said::Unclear }
}

fn judge_payload(ethertype: EtherType, payload: &[u8], source: MacAddr, packets: bool) -> Said {
    match ethertype {
        EtherType::ARP => arp(payload, source),
        EtherType::IPV6 => ipv6(payload, source, packets),
        EtherType::IPV4 if packets => ipv4(payload),
        ethertype if ethertype.is_length() => llc(payload),
        _ => Said::Nothing,
    }
}

/// Judges what follows a length: nobody speaks of addresses so on Ethernet, but a bridge to Wi-Fi makes the usual form
/// of it (RFC 1042, IEEE 802.1H).
fn llc(payload: &[u8]) -> Said {
    match *payload {
        [0xaa, 0xaa, 0x03, 0, 0, 0 | 0xf8, a, b, ..] => match EtherType(u16::from_be_bytes([a, b])) {
            EtherType::ARP | EtherType::IPV6 => Said::Unclear,
            ethertype if TPIDS.contains(&ethertype.0) => Said::Unclear,
            _ => Said::Nothing,
        },
        _ => Said::Nothing,
    }
}

fn arp(payload: &[u8], source: MacAddr) -> Said {
    // Linux takes packets of hardware type 6 too.
    let Ok(packet) = ArpPacket::new_checked(payload) else { return Said::Unclear };
    let is_reply = match packet.operation() {
        ArpOperation::REQUEST => false,
        ArpOperation::REPLY => true,
        // BSD learns from packets whatever they ask.
        _ => return Said::Unclear,
    };
    if packet.sender_hardware() != source {
        return Said::Unclear;
    }
    let (sender, target) = (packet.sender_protocol(), packet.target_protocol());
    if !is_station(sender.into()) {
        // A probe.
        return Said::Nothing;
    }
    // An announcement has its own address as the target too.
    let lacks = is_reply && target != sender;
    Said::Clearly([Some(Lesson::Says(sender.into())), lacks.then(|| Lesson::Lacks(target.into()))])
}

fn ipv4(payload: &[u8]) -> Said {
    let Ok(packet) = Ipv4Packet::new_checked(payload) else { return Said::Nothing };
    let source = Some(IpAddr::from(packet.source()));
    let uses = source.filter(|source| is_station(*source) && packet.verify_checksum()).map(Lesson::Uses);
    match Dhcp::parse(&packet) {
        Some(dhcp) if dhcp.is_release() => {
            Said::Clearly([dhcp.client, dhcp.yours].map(|address| Some(Lesson::Lacks(address.into()))))
        }
        Some(dhcp) => Said::Clearly([uses, dhcp.lease()]),
        None => uses.map_or(Said::Nothing, Said::one),
    }
}

fn ipv6(payload: &[u8], source: MacAddr, packets: bool) -> Said {
    let Ok(packet) = Ipv6Packet::new_checked(payload) else { return Said::Unclear };
    if packet.hop_limit() != Ipv6Repr::NDP_HOP_LIMIT && !packets {
        return Said::Nothing;
    }
    match discovery(&packet) {
        Discovery::None if packets => {
            one_station(packet.source()).map_or(Said::Nothing, |address| Said::one(Lesson::Uses(address)))
        }
        Discovery::None | Discovery::Ignored => Said::Nothing,
        Discovery::Doubtful => Said::Unclear,
        Discovery::Message { message, .. } => discovered(packet.source(), &message, source),
    }
}

fn discovered(sender: Ipv6Addr, message: &NdpMessage<&[u8]>, source: MacAddr) -> Said {
    let mut is_own = true;
    let mut names_target = message.message_type() == Icmpv6Type::NEIGHBOR_ADVERTISEMENT;
    // A message with an option that is out of order is discarded by its receivers (RFC 4861 sections 6.1 and 7.1).
    for option in message.options().map_while(Result::ok) {
        if let SOURCE_LINK_LAYER | TARGET_LINK_LAYER = option.kind {
            is_own &= option.link_layer_address() == Some(source);
            names_target |= message.message_type() == Icmpv6Type::REDIRECT;
        }
    }
    if !is_own {
        return Said::Unclear;
    }
    let target = message.target().filter(|target| names_target && *target != sender);
    match [one_station(sender), target.and_then(one_station)] {
        [None, None] => Said::Nothing,
        addresses => Said::Clearly(addresses.map(|address| address.map(Lesson::Says))),
    }
}

const SOURCE_LINK_LAYER: u8 = NdpOption::SOURCE_LINK_LAYER;
const TARGET_LINK_LAYER: u8 = NdpOption::TARGET_LINK_LAYER;

/// The address, when one station can have it.
fn one_station(address: Ipv6Addr) -> Option<IpAddr> {
    Some(address.into()).filter(|address| is_station(*address))
}

#[cfg(test)]
mod tests;
