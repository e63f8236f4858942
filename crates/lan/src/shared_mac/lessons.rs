//! The lessons about the owners of IP addresses in frames from a side of the trunk. The statements of guests are judged
//! in [`claims`](crate::guard::claims).

use vmlan_frame::ip::is_station;
use vmlan_frame::wire::{ArpPacket, EtherType, EthernetFrame, Icmpv6Type, Ipv4Packet, Ipv6Packet};

use super::dhcp::Dhcp;
use crate::discovery::{Discovery, discovery};
use crate::guard::claims::Lesson;

/// Returns the lesson of a frame from the wire.
pub(crate) fn lesson_of_wire(octets: &[u8]) -> Option<Lesson> {
    let frame = EthernetFrame::new_checked(octets).ok()?;
    match frame.ethertype() {
        EtherType::ARP => {
            let sender = ArpPacket::new_checked(frame.payload()).ok()?.sender_protocol().into();
            is_station(sender).then_some(Lesson::Forget(sender))
        }
        EtherType::IPV4 => lease(&frame),
        EtherType::IPV6 => {
            let packet = Ipv6Packet::new_checked(frame.payload()).ok()?;
            let Discovery::Message { message, .. } = discovery(&packet) else { return None };
            let is_probe = packet.source().is_unspecified()
                && message.message_type() == Icmpv6Type::NEIGHBOR_SOLICITATION;
            let target = message.target().filter(|_| is_probe)?;
            Some(Lesson::Forget(target.into()))
        }
        _ => None,
    }
}

/// Returns the lesson of a frame from the host: a lease of a DHCP server there.
pub(crate) fn lesson_of_host(octets: &[u8]) -> Option<Lesson> {
    let frame = EthernetFrame::new_checked(octets).ok()?;
    if frame.ethertype() == EtherType::IPV4 { lease(&frame) } else { None }
}

fn lease(frame: &EthernetFrame<&[u8]>) -> Option<Lesson> {
    Dhcp::parse(&Ipv4Packet::new_checked(frame.payload()).ok()?)?.lease()
}
