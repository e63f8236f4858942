use super::{
    EtherType, Fragment, IpProtocol, Ipv4Packet, Ipv6Packet, Malformed, TcpSegment, Undecidable, Upper,
    VlanTags,
};
use crate::ETHERNET_HEADER;

/// The kind of a frame's network layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Network {
    /// An ARP packet, not looked into.
    Arp,
    /// An IPv4 packet whose header is in order.
    Ipv4,
    /// An IPv6 packet whose fixed header is in order.
    Ipv6,
    /// Another protocol, or an LLC frame.
    Other,
    /// The Ethernet, VLAN, IPv4 or IPv6 header is not in order.
    Malformed(Malformed),
}

/// Where the headers of an Ethernet frame are: found once, in one walk. All offsets count octets from the frame's
/// start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// The tags among the octets; none if they are malformed.
    pub tags: VlanTags,
    /// The kind of the network layer.
    pub network: Network,
    /// Where the IP packet ends and the frame's padding begins; of anything else the frame's end.
    pub network_end: usize,
    /// Where an IP fragment belongs, or nothing for a whole packet.
    pub fragment: Option<Fragment>,
    /// The content of an IP packet. A header found here is complete: TCP with its options, UDP and ICMP's 8 octets,
    /// ICMPv6's 4.
    pub upper: Upper,
}

impl Headers {
    /// Looks at the headers of an Ethernet frame; never fails, since what is wrong is part of the answer.
    pub fn parse(frame: &[u8]) -> Self {
        let mut headers = Headers {
            tags: VlanTags::none(EtherType(0)),
            network: Network::Other,
            network_end: frame.len(),
            fragment: None,
            upper: Upper::Absent,
        };
        match VlanTags::parse(frame) {
            Ok(tags) => headers.tags = tags,
            Err(malformed) => {
                headers.network = Network::Malformed(malformed);
                return headers;
            }
        }
        // The tags lie within the frame, so their end does.
        let packet = &frame[headers.network_offset()..];
        let parsed = match headers.ethertype() {
            EtherType::ARP => Ok(Network::Arp),
            EtherType::IPV4 => headers.parse_ipv4(packet),
            EtherType::IPV6 => headers.parse_ipv6(packet),
            _ => Ok(Network::Other),
        };
        headers.network = parsed.unwrap_or_else(Network::Malformed);
        headers.upper = headers.complete(frame);
        headers
    }

    /// The type after the tags; 0 if they are malformed.
    #[inline]
    pub fn ethertype(&self) -> EtherType {
        self.tags.ethertype()
    }

    /// Where the network layer starts; 14, beyond the end of shorter frames, if the tags are malformed.
    #[inline]
    pub fn network_offset(&self) -> usize {
        self.tags.network_offset()
    }

    fn parse_ipv4(&mut self, packet: &[u8]) -> Result<Network, Malformed> {
        let packet = Ipv4Packet::new_checked(packet)?;
        self.network_end = self.network_offset() + usize::from(packet.total_length());
        self.fragment = packet.fragment();
        self.upper = packet.upper();
        Ok(Network::Ipv4)
    }

    fn parse_ipv6(&mut self, packet: &[u8]) -> Result<Network, Malformed> {
        let packet = Ipv6Packet::new_checked(packet)?;
        let extensions = packet.extension_headers();
        self.network_end = self.network_offset() + packet.total_len();
        self.fragment = extensions.fragment;
        self.upper = extensions.upper;
        Ok(Network::Ipv6)
    }

    /// The upper layer with its offset in the frame, and undecidable unless its header is there whole: a first
    /// fragment may be cut within it to get past a guard (RFC 1858, RFC 7112).
    fn complete(&self, frame: &[u8]) -> Upper {
        let base = self.network_offset();
        match self.upper {
            Upper::Header { protocol, offset } => {
                let octets = &frame[base + offset..self.network_end];
                let whole = match protocol {
                    IpProtocol::TCP => TcpSegment::new_checked(octets).is_ok(),
                    IpProtocol::UDP | IpProtocol::ICMP => octets.len() >= 8,
                    IpProtocol::ICMPV6 => octets.len() >= 4,
                    _ => true,
                };
                if whole {
                    Upper::Header { protocol, offset: base + offset }
                } else {
                    Upper::Undecidable(Undecidable::Truncated)
                }
            }
            Upper::LaterFragment { protocol, offset } => {
                Upper::LaterFragment { protocol, offset: base + offset }
            }
            upper @ (Upper::Absent | Upper::Undecidable(_)) => upper,
        }
    }
}

const _: () = assert!(ETHERNET_HEADER == 14, "the documentation names the number");

#[cfg(test)]
mod tests;
