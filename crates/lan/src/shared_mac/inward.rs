//! From the wire to the host's address: for whom a frame is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vmlan_frame::MacAddr;
use vmlan_frame::wire::{ArpOperation, ArpPacket, EtherType, EthernetFrame, Ipv4Packet, Ipv6Packet};

/// For whom a frame is that the wire sent to the host's address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Inward {
    /// For a group: it was wrapped into unicast, and this is its address.
    Group(MacAddr),
    /// For whoever has this address.
    Address(IpAddr),
    /// Nothing says that it is for anybody but the host.
    Host,
}

/// Looks for whom a frame is. What is malformed is the host's to judge.
pub(crate) fn inward(octets: &[u8]) -> Inward {
    let Ok(frame) = EthernetFrame::new_checked(octets) else { return Inward::Host };
    match frame.ethertype() {
        EtherType::ARP => ArpPacket::new_checked(frame.payload()).map_or(Inward::Host, |packet| arp(&packet)),
        EtherType::IPV4 => {
            Ipv4Packet::new_checked(frame.payload()).map_or(Inward::Host, |packet| ipv4(packet.destination()))
        }
        EtherType::IPV6 => {
            Ipv6Packet::new_checked(frame.payload()).map_or(Inward::Host, |packet| ipv6(packet.destination()))
        }
        _ => Inward::Host,
    }
}

fn arp(packet: &ArpPacket<&[u8]>) -> Inward {
    match packet.operation() {
        ArpOperation::REQUEST => Inward::Group(MacAddr::BROADCAST),
        ArpOperation::REPLY => Inward::Address(packet.target_protocol().into()),
        _ => Inward::Host,
    }
}

fn ipv4(destination: Ipv4Addr) -> Inward {
    let [_, b, c, d] = destination.octets();
    if destination.is_broadcast() {
        Inward::Group(MacAddr::BROADCAST)
    } else if destination.is_multicast() {
        // RFC 1112 section 6.4: the low 23 bits.
        Inward::Group(MacAddr([0x01, 0x00, 0x5e, b & 0x7f, c, d]))
    } else {
        Inward::Address(destination.into())
    }
}

fn ipv6(destination: Ipv6Addr) -> Inward {
    if destination.is_multicast() {
        // RFC 2464 section 7: the low 32 bits.
        let [.., a, b, c, d] = destination.octets();
        Inward::Group(MacAddr([0x33, 0x33, a, b, c, d]))
    } else {
        Inward::Address(destination.into())
    }
}

/// Gives a frame the destination `mac`; in an ARP reply to the host, the target's hardware address too.
pub(crate) fn readdress(octets: &mut [u8], mac: MacAddr) {
    let Ok(mut frame) = EthernetFrame::new_checked(octets) else { return };
    let former = frame.destination();
    frame.set_destination(mac);
    if frame.ethertype() == EtherType::ARP
        && let Ok(mut packet) = ArpPacket::new_checked(frame.payload_mut())
        && packet.operation() == ArpOperation::REPLY
        && packet.target_hardware() == former
    {
        packet.set_target_hardware(mac);
    }
}
