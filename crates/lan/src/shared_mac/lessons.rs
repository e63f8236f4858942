//! What a frame teaches about who has which IP address.

use std::net::{IpAddr, Ipv4Addr};

use frame::MacAddr;
use frame::wire::{
    ArpOperation, ArpPacket, EtherType, EthernetFrame, Icmpv6Type, Ipv4Packet, Ipv6Packet, NdpMessage,
};

use super::dhcp::Dhcp;
use super::discovery::{Discovery, discovery};

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
    /// The guest with that address gets `yours` and no longer has `client`.
    Leases { hardware: MacAddr, client: IpAddr, yours: IpAddr },
}

/// No frame teaches more.
pub(crate) type Lessons = [Option<Lesson>; 2];

const NOTHING: Lessons = [None; 2];

/// What a frame from a port teaches; `packets` whether packets other than ARP and neighbour discovery are looked at.
pub(crate) fn lessons_of_port(octets: &[u8], packets: bool) -> Lessons {
    let Ok(frame) = EthernetFrame::new_checked(octets) else { return NOTHING };
    match frame.ethertype() {
        EtherType::ARP => arp_of_port(&frame),
        EtherType::IPV4 if packets => ipv4_of_port(frame.payload()),
        EtherType::IPV6 => ipv6_of_port(frame.payload(), packets),
        _ => NOTHING,
    }
}

/// What a frame from the wire teaches.
pub(crate) fn lessons_of_wire(octets: &[u8]) -> Lessons {
    let Ok(frame) = EthernetFrame::new_checked(octets) else { return NOTHING };
    let lesson = match frame.ethertype() {
        EtherType::ARP => {
            let packet = ArpPacket::new_checked(frame.payload()).ok();
            packet
                .map(|packet| packet.sender_protocol())
                .filter(is_station)
                .map(|sender| Lesson::Forget(sender.into()))
        }
        EtherType::IPV4 => {
            Ipv4Packet::new_checked(frame.payload()).ok().and_then(|packet| lease(&Dhcp::parse(&packet)?))
        }
        EtherType::IPV6 => Ipv6Packet::new_checked(frame.payload()).ok().and_then(|packet| {
            let is_probe = |message: &NdpMessage<&[u8]>| {
                packet.source().is_unspecified()
                    && message.message_type() == Icmpv6Type::NEIGHBOR_SOLICITATION
            };
            let target = discovery(&packet).believed().filter(is_probe)?.target()?;
            Some(Lesson::Forget(target.into()))
        }),
        _ => None,
    };
    [lesson, None]
}

/// The address of the host that a guest's frame claims in ARP or neighbour discovery, given what the host has.
pub(crate) fn is_hosts(octets: &[u8], is_host: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let frame = EthernetFrame::new_checked(octets).ok()?;
    let claimed = match frame.ethertype() {
        EtherType::ARP => {
            [Some(ArpPacket::new_checked(frame.payload()).ok()?.sender_protocol().into()), None]
        }
        EtherType::IPV6 => {
            let packet = Ipv6Packet::new_checked(frame.payload()).ok()?;
            let message = discovery(&packet).believed()?;
            let advertised = message.message_type() == Icmpv6Type::NEIGHBOR_ADVERTISEMENT;
            let target = message.target().filter(|_| advertised).map(IpAddr::from);
            [Some(packet.source().into()), target]
        }
        _ => return None,
    };
    claimed.into_iter().flatten().find(|address| is_host(*address))
}

fn arp_of_port(frame: &EthernetFrame<&[u8]>) -> Lessons {
    let Ok(packet) = ArpPacket::new_checked(frame.payload()) else { return NOTHING };
    let (sender, target) = (packet.sender_protocol(), packet.target_protocol());
    if packet.sender_hardware() != frame.source() || !is_station(&sender) {
        return NOTHING;
    }
    // An announcement has its own address as the target too.
    let lacks = packet.operation() == ArpOperation::REPLY && target != sender;
    [Some(Lesson::Says(sender.into())), lacks.then(|| Lesson::Lacks(target.into()))]
}

fn ipv4_of_port(octets: &[u8]) -> Lessons {
    let Ok(packet) = Ipv4Packet::new_checked(octets) else { return NOTHING };
    let source = Some(packet.source()).filter(|source| is_station(source) && packet.verify_checksum());
    let uses = source.map(|source| Lesson::Uses(source.into()));
    match Dhcp::parse(&packet) {
        Some(dhcp) if dhcp.kind == Dhcp::RELEASE && dhcp.to_server => {
            [dhcp.client, dhcp.yours].map(|address| Some(Lesson::Lacks(address.into())))
        }
        Some(dhcp) => [uses, lease(&dhcp)],
        None => [uses, None],
    }
}

fn lease(dhcp: &Dhcp) -> Option<Lesson> {
    let is_lease = dhcp.kind == Dhcp::ACK && !dhcp.to_server && is_station(&dhcp.yours);
    let (client, yours) = (dhcp.client.into(), dhcp.yours.into());
    is_lease.then_some(Lesson::Leases { hardware: dhcp.hardware, client, yours })
}

fn ipv6_of_port(octets: &[u8], packets: bool) -> Lessons {
    let Ok(packet) = Ipv6Packet::new_checked(octets) else { return NOTHING };
    let source = packet.source();
    if source.is_unspecified() || source.is_loopback() || source.is_multicast() {
        return NOTHING;
    }
    let lesson = match discovery(&packet) {
        Discovery::None => packets.then(|| Lesson::Uses(source.into())),
        Discovery::Doubtful => None,
        Discovery::Message(_) => Some(Lesson::Says(source.into())),
    };
    [lesson, None]
}

/// Whether one station can have the address (RFC 1122 section 3.2.1.3, RFC 1112 section 4).
fn is_station(address: &Ipv4Addr) -> bool {
    !(address.octets()[0] == 0 || address.is_loopback() || address.is_multicast() || address.is_broadcast())
}
