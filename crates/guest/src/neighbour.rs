//! Solicitations of the guest's own, ahead of those of its stack.
//!
//! The stack asks for one neighbour in a while only, whoever it is: too slow for a guest that talks to many at once,
//! and the first round-trip time would show it. So each operation first asks by itself, which teaches the stack too: it
//! takes answers to questions it did not ask.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpHardware, ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv6Packet, Ipv6Repr, NdiscRepr,
};
use vmlan_frame::{ETHERNET_HEADER, MacAddr};

/// Neighbours asked for since the guest began, and whether they answered.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    answered: HashMap<IpAddr, bool>,
}

impl Neighbours {
    /// Begins to look for answers of `address`; true when there was one already.
    pub(crate) fn expect(&mut self, address: IpAddr) -> bool {
        *self.answered.entry(address).or_insert(false)
    }

    /// Looks at a received frame.
    pub(crate) fn observe(&mut self, frame: &[u8]) {
        if let Some(address) = advertised(frame)
            && let Some(answered) = self.answered.get_mut(&address)
        {
            *answered = true;
        }
    }
}

/// The ARP request (RFC 826) or neighbour solicitation (RFC 4861 4.3) for `target`; none when the families differ.
pub(crate) fn solicitation(mac: MacAddr, source: IpAddr, target: IpAddr) -> Option<Vec<u8>> {
    match (source, target) {
        (IpAddr::V4(source), IpAddr::V4(target)) => Some(arp_request(mac, source, target)),
        (IpAddr::V6(source), IpAddr::V6(target)) => Some(neighbour_solicitation(mac, source, target)),
        _ => None,
    }
}

/// An empty frame with its header, and the payload to write.
fn ethernet(
    mac: MacAddr,
    destination: EthernetAddress,
    ethertype: EthernetProtocol,
    payload: usize,
) -> Vec<u8> {
    let mut octets = vec![0; ETHERNET_HEADER + payload];
    let header = EthernetRepr { src_addr: EthernetAddress(mac.0), dst_addr: destination, ethertype };
    header.emit(&mut EthernetFrame::new_unchecked(&mut octets[..]));
    octets
}

fn arp_request(mac: MacAddr, source: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let request = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: EthernetAddress(mac.0),
        source_protocol_addr: source,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: target,
    };
    let mut octets = ethernet(mac, EthernetAddress::BROADCAST, EthernetProtocol::Arp, request.buffer_len());
    request.emit(&mut ArpPacket::new_unchecked(&mut octets[ETHERNET_HEADER..]));
    octets
}

fn neighbour_solicitation(mac: MacAddr, source: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let solicit = Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit {
        target_addr: target,
        lladdr: Some(EthernetAddress(mac.0).into()),
    });
    let [.., a, b, c] = target.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    let header = Ipv6Repr {
        src_addr: source,
        dst_addr: group,
        next_header: IpProtocol::Icmpv6,
        payload_len: solicit.buffer_len(),
        hop_limit: 255,
    };
    let length = header.buffer_len() + solicit.buffer_len();
    let group_mac = EthernetAddress([0x33, 0x33, 0xff, a, b, c]);
    let mut octets = ethernet(mac, group_mac, EthernetProtocol::Ipv6, length);
    let (ip, icmp) = octets[ETHERNET_HEADER..].split_at_mut(header.buffer_len());
    header.emit(&mut Ipv6Packet::new_unchecked(ip));
    let checksums = ChecksumCapabilities::default();
    solicit.emit(&source, &group, &mut Icmpv6Packet::new_unchecked(icmp), &checksums);
    octets
}

/// The address whose owner speaks in an ARP reply or a neighbour advertisement.
fn advertised(frame: &[u8]) -> Option<IpAddr> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    match frame.ethertype() {
        EthernetProtocol::Arp => {
            let packet = ArpPacket::new_checked(frame.payload()).ok()?;
            let is_reply =
                packet.hardware_type() == ArpHardware::Ethernet && packet.operation() == ArpOperation::Reply;
            match ArpRepr::parse(&packet).ok()? {
                ArpRepr::EthernetIpv4 { source_protocol_addr, .. } if is_reply => {
                    Some(source_protocol_addr.into())
                }
                _ => None,
            }
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(frame.payload()).ok()?;
            if packet.next_header() != IpProtocol::Icmpv6 {
                return None;
            }
            let icmp = Icmpv6Packet::new_checked(packet.payload()).ok()?;
            let checksums = ChecksumCapabilities::default();
            match Icmpv6Repr::parse(&packet.src_addr(), &packet.dst_addr(), &icmp, &checksums).ok()? {
                Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert { target_addr, .. }) => Some(target_addr.into()),
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);

    #[test]
    fn a_solicitation_is_no_answer_and_is_as_long_as_the_standards_say() {
        let v4 = solicitation(MAC, "10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()).unwrap();
        let v6 = solicitation(MAC, "fd00::1".parse().unwrap(), "fd00::2".parse().unwrap()).unwrap();

        assert_eq!((v4.len(), v6.len()), (14 + 28, 14 + 40 + 32));
        assert_eq!(v6[..6], [0x33, 0x33, 0xff, 0, 0, 2]);
        assert_eq!((advertised(&v4), advertised(&v6)), (None, None));
        assert_eq!(solicitation(MAC, "10.0.0.1".parse().unwrap(), "fd00::2".parse().unwrap()), None);
    }

    #[test]
    fn only_an_answer_that_was_expected_is_kept() {
        let mut reply = arp_request(MAC, Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 1));
        reply[ETHERNET_HEADER + 7] = 2;
        let mut neighbours = Neighbours::default();

        neighbours.observe(&reply);
        assert!(!neighbours.expect(Ipv4Addr::new(10, 0, 0, 2).into()));
        neighbours.observe(&reply);
        assert!(neighbours.expect(Ipv4Addr::new(10, 0, 0, 2).into()));
        assert_eq!(neighbours.answered.len(), 1);
    }

    #[test]
    fn cut_frames_are_no_answers() {
        let frame = arp_request(MAC, Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 1));
        assert!((0..frame.len()).all(|length| advertised(&frame[..length]).is_none()));
    }
}
