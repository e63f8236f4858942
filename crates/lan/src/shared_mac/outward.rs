//! From a port to the wire: the host's address in place of the guest's.

use vmlan_frame::checksum;
use vmlan_frame::wire::{
    ArpPacket, EtherType, EthernetFrame, Icmpv6Type, Ipv4Packet, Ipv6Packet, NdpMessage, NdpOption,
    UdpDatagram,
};
use vmlan_frame::{ETHERNET_HEADER, MacAddr};

use super::dhcp::Dhcp;
use crate::discovery::{Discovery, discovery};

/// Edits a frame of the guest `own`. `unfinished` is where a checksum stands that is filled in later, from the frame's
/// start: it covers no payload yet and is left alone.
pub(crate) fn outward(octets: &mut [u8], own: MacAddr, host: MacAddr, unfinished: Option<usize>) {
    let Ok(mut frame) = EthernetFrame::new_checked(octets) else { return };
    frame.set_source(host);
    let unfinished = unfinished.and_then(|at| at.checked_sub(ETHERNET_HEADER));
    match frame.ethertype() {
        EtherType::ARP => arp(frame.payload_mut(), own, host),
        EtherType::IPV4 => dhcp(frame.payload_mut(), unfinished),
        EtherType::IPV6 => neighbour(frame.payload_mut(), own, host, unfinished),
        _ => {}
    }
}

fn arp(octets: &mut [u8], own: MacAddr, host: MacAddr) {
    let Ok(mut packet) = ArpPacket::new_checked(octets) else { return };
    if packet.sender_hardware() == own {
        packet.set_sender_hardware(host);
    }
    if packet.target_hardware() == own {
        packet.set_target_hardware(host);
    }
}

/// The broadcast flag: the server would otherwise answer to the hardware address in the message, which the wire does
/// not deliver.
fn dhcp(octets: &mut [u8], unfinished: Option<usize>) {
    const BROADCAST: u8 = 0x80;
    let Ok(mut packet) = Ipv4Packet::new_checked(octets) else { return };
    let asks = |dhcp: &Dhcp| dhcp.to_server && matches!(dhcp.kind, Dhcp::DISCOVER | Dhcp::REQUEST);
    if !Dhcp::parse(&packet).is_some_and(|dhcp| asks(&dhcp)) {
        return;
    }
    let checksum_at = packet.header_len() + UDP_CHECKSUM;
    let Ok(mut datagram) = UdpDatagram::new_checked(packet.payload_mut()) else { return };
    let Some(flags) = datagram.payload_mut().get_mut(Dhcp::FLAGS..Dhcp::FLAGS + 2) else { return };
    let old = u16::from_be_bytes([flags[0], flags[1]]);
    flags[0] |= BROADCAST;
    let new = u16::from_be_bytes([flags[0], flags[1]]);
    if datagram.checksum() != 0 && unfinished != Some(checksum_at) {
        let sum = checksum::update(datagram.checksum(), old, new);
        datagram.set_checksum(if sum == 0 { 0xffff } else { sum });
    }
}

/// Where the checksum is in a UDP header and in an ICMPv6 message.
const UDP_CHECKSUM: usize = 6;
const ICMPV6_CHECKSUM: usize = 2;

/// Octets of an option that holds a MAC address.
const OPTION: usize = 8;

fn neighbour(octets: &mut [u8], own: MacAddr, host: MacAddr, unfinished: Option<usize>) {
    let Ok(packet) = Ipv6Packet::new_checked(&*octets) else { return };
    let Discovery::Message { message, offset } = discovery(&packet) else { return };
    let Some(first) = first_option(&message) else { return };
    let end = packet.total_len();
    let start = packet.total_len() - packet.payload().len() + offset;
    let kind = match message.message_type() {
        Icmpv6Type::NEIGHBOR_ADVERTISEMENT => NdpOption::TARGET_LINK_LAYER,
        Icmpv6Type::REDIRECT => return,
        _ => NdpOption::SOURCE_LINK_LAYER,
    };
    let finished = unfinished != Some(start + ICMPV6_CHECKSUM);
    let message = &mut octets[start..end];
    // Every option has a length that is not 0 and lies within the message, as `first_option` has seen.
    let mut at = first;
    while let Some([option, units, rest @ ..]) = message.get(at..) {
        let len = OPTION * usize::from(*units);
        if *option == kind && len == OPTION && rest[..6] == own.0 {
            message[at + 2..at + OPTION].copy_from_slice(&host.0);
            if finished {
                let sum = u16::from_be_bytes([message[ICMPV6_CHECKSUM], message[ICMPV6_CHECKSUM + 1]]);
                let sum = checksum::update_octets(sum, &own.0, &host.0);
                message[ICMPV6_CHECKSUM..ICMPV6_CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
            }
        }
        at += len;
    }
}

/// Where the first option starts in a message all of whose options are in order; nothing when one is not, or there is
/// none.
fn first_option(message: &NdpMessage<&[u8]>) -> Option<usize> {
    let first = message.options().next()?.ok()?.offset - 2;
    message.options().all(|option| option.is_ok()).then_some(first)
}
