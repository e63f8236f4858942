//! Frames of guests for the services, and the frames of answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vmlan_frame::checksum::Addresses;
use vmlan_frame::wire::{
    EtherType, EthernetFrame, Icmpv6Packet, Icmpv6Type, IpProtocol, Ipv4Packet, Ipv6Packet, NdpOption,
    UdpDatagram, UdpRepr, Upper,
};
use vmlan_frame::{ETHERNET_HEADER, MacAddr};
use vmlan_nat::Envelope;
use vmlan_nat::envelope::GATEWAY_LINK_LOCAL;

/// The port of DHCP servers.
pub const DHCP_SERVER: u16 = 67;
/// The port of DHCP clients.
pub const DHCP_CLIENT: u16 = 68;
/// The port of DHCPv6 servers.
pub const DHCP6_SERVER: u16 = 547;
/// The port of DHCPv6 clients.
pub const DHCP6_CLIENT: u16 = 546;
/// The port of DNS servers.
pub const DNS: u16 = 53;

/// All nodes of a link (RFC 4291 section 2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A packet of a guest that a service may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A UDP datagram.
    Udp {
        /// The frame's source address.
        mac: MacAddr,
        /// Sender and receiver.
        addresses: Addresses,
        /// The sender's port.
        from: u16,
        /// The receiver's port.
        to: u16,
        /// The octets behind the header.
        payload: &'a [u8],
    },
    /// A router solicitation that is to be believed (RFC 4861 section 6.1.1).
    RouterSolicitation {
        /// The frame's source address.
        mac: MacAddr,
        /// The sender; may be unspecified.
        from: Ipv6Addr,
    },
}

impl<'a> Packet<'a> {
    /// Reads a frame, whose checksums must be complete. `None` if it is nothing for a service, or contradicts itself.
    pub fn parse(frame: &'a [u8]) -> Option<Packet<'a>> {
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        let mac = ethernet.source();
        if !mac.is_station() {
            return None;
        }
        let octets = &frame[ETHERNET_HEADER..];
        match ethernet.ethertype() {
            EtherType::IPV4 => {
                let packet = Ipv4Packet::new_checked(octets).ok().filter(Ipv4Packet::verify_checksum)?;
                let end = usize::from(packet.total_length());
                let upper = octets.get(packet.header_len()..end)?;
                let is_datagram = packet.protocol() == IpProtocol::UDP && packet.fragment().is_none();
                is_datagram.then(|| Packet::udp(mac, packet.addresses(), upper)).flatten()
            }
            EtherType::IPV6 => {
                let packet = Ipv6Packet::new_checked(octets).ok()?;
                let headers = packet.extension_headers();
                let Upper::Header { protocol, offset } = headers.upper else { return None };
                let upper = octets.get(offset..packet.total_len())?;
                match protocol {
                    _ if headers.fragment.is_some() => None,
                    IpProtocol::UDP => Packet::udp(mac, packet.addresses(), upper),
                    IpProtocol::ICMPV6 if packet.hop_limit() == 255 => {
                        Packet::solicitation(mac, &packet.addresses(), packet.source(), upper)
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn udp(mac: MacAddr, addresses: Addresses, upper: &'a [u8]) -> Option<Packet<'a>> {
        let datagram = UdpDatagram::new_checked(upper).ok()?;
        let end = usize::from(datagram.length());
        datagram.verify_checksum(&addresses).then(|| Packet::Udp {
            mac,
            addresses,
            from: datagram.source_port(),
            to: datagram.destination_port(),
            payload: &upper[UdpRepr::HEADER_LEN..end],
        })
    }

    fn solicitation(
        mac: MacAddr,
        addresses: &Addresses,
        from: Ipv6Addr,
        upper: &'a [u8],
    ) -> Option<Packet<'a>> {
        let message = Icmpv6Packet::new_checked(upper).ok()?;
        if message.message_type() != Icmpv6Type::ROUTER_SOLICITATION
            || message.code() != 0
            || !message.verify_checksum(addresses)
        {
            return None;
        }
        let mut tells_address = false;
        for option in message.ndp().ok()?.options() {
            tells_address |= option.ok()?.kind == NdpOption::SOURCE_LINK_LAYER;
        }
        let invalid = from.is_multicast() || (from.is_unspecified() && tells_address);
        (!invalid).then_some(Packet::RouterSolicitation { mac, from })
    }
}

/// Makes the frame of a UDP datagram from the gateway, whose link address is `from`. `None` if the addresses are of
/// two families, or the payload is longer than a datagram's can be.
pub fn udp_frame(
    from: MacAddr,
    to: MacAddr,
    addresses: (IpAddr, IpAddr),
    ports: (u16, u16),
    payload: &[u8],
) -> Option<Vec<u8>> {
    let envelope = Envelope::new(to, from, addresses, IpProtocol::UDP)?;
    let len = UdpRepr::HEADER_LEN + payload.len();
    // The longest that both families' length fields can tell.
    if len > usize::from(u16::MAX) - 60 {
        return None;
    }
    let headers = envelope.header_len();
    let mut frame = vec![0; headers + len];
    envelope.emit(&mut frame, len);
    frame[headers + UdpRepr::HEADER_LEN..].copy_from_slice(payload);
    let repr = UdpRepr { source_port: ports.0, destination_port: ports.1 };
    repr.emit(&mut frame[headers..], &envelope.addresses);
    Some(frame)
}

/// Makes the frame of an ICMPv6 message of the gateway's, from its link-local address with hop limit 255. The
/// message's checksum is filled in.
///
/// # Panics
/// If the message is shorter than its header or longer than a packet's payload.
pub fn icmpv6_frame(from: MacAddr, to: MacAddr, destination: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let addresses = (IpAddr::V6(GATEWAY_LINK_LOCAL), IpAddr::V6(destination));
    let envelope = Envelope::new(to, from, addresses, IpProtocol::ICMPV6).expect("both are of one family");
    let envelope = Envelope { hop_limit: 255, ..envelope };
    let headers = envelope.header_len();
    let mut frame = vec![0; headers + message.len()];
    envelope.emit(&mut frame, message.len());
    frame[headers..].copy_from_slice(message);
    Icmpv6Packet::new_checked(&mut frame[headers..])
        .expect("the message has its header")
        .fill_checksum(&envelope.addresses);
    frame
}

/// Returns the link address of an IPv6 multicast group (RFC 2464 section 7).
pub fn group_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

/// The address of an IPv4 packet to all hosts of the link.
pub const TO_ALL: Ipv4Addr = Ipv4Addr::BROADCAST;

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
    const GATEWAY: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 0xfe]);

    #[test]
    fn a_datagram_comes_back_as_it_was_made() {
        for (source, destination) in [("10.213.5.1", "10.213.5.16"), ("fd00::1", "fd00::10")] {
            let addresses = (source.parse().unwrap(), destination.parse().unwrap());
            let frame = udp_frame(GATEWAY, GUEST, addresses, (53, 4000), b"octets").unwrap();
            let Some(Packet::Udp { mac, addresses: found, from: 53, to: 4000, payload: b"octets" }) =
                Packet::parse(&frame)
            else {
                panic!("{:?}", Packet::parse(&frame));
            };
            assert_eq!((mac, (found.source(), found.destination())), (GATEWAY, addresses));
            let mut wrong = frame.clone();
            *wrong.last_mut().unwrap() ^= 1;
            assert_eq!(Packet::parse(&wrong), None, "its checksum is wrong");
            for len in 0..frame.len() {
                assert_eq!(Packet::parse(&frame[..len]), None, "{len}");
            }
        }
    }

    #[test]
    fn solicitations_that_are_believed() {
        let make = |message: &[u8]| icmpv6_frame(GUEST, group_mac(ALL_NODES), ALL_NODES, message);
        let good = make(&[133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0x52, 0x54, 0, 0, 0, 1]);
        let expected = Packet::RouterSolicitation { mac: GUEST, from: GATEWAY_LINK_LOCAL };
        assert_eq!(Packet::parse(&good), Some(expected));

        let mut far = good.clone();
        far[ETHERNET_HEADER + 7] = 64;
        let code = make(&[133, 1, 0, 0, 0, 0, 0, 0]);
        let option = make(&[133, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        let other = make(&[134, 0, 0, 0, 0, 0, 0, 0]);
        for frame in [far, code, option, other] {
            assert_eq!(Packet::parse(&frame), None);
        }
    }

    #[test]
    fn groups() {
        assert_eq!(group_mac(ALL_NODES).to_string(), "33:33:00:00:00:01");
    }
}
