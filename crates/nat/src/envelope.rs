//! The headers below the upper layer of a frame for a guest.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vmlan_frame::checksum::Addresses;
use vmlan_frame::wire::{EtherType, EthernetRepr, IpProtocol, Ipv4Repr, Ipv6Repr};
use vmlan_frame::{ETHERNET_HEADER, Frame, MacAddr, Pool, Size};

/// The way of a packet to a guest: link addresses, and the fields of the IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// The guest's link address.
    pub to: MacAddr,
    /// The gateway's link address.
    pub from: MacAddr,
    /// Sender and receiver.
    pub addresses: Addresses,
    /// The protocol of the payload.
    pub protocol: IpProtocol,
    /// Hops left.
    pub hop_limit: u8,
    /// Differentiated services code point and ECN.
    pub class: u8,
    /// IPv4: true if the packet must not be fragmented. Such a packet has no identification (RFC 6864).
    pub dont_fragment: bool,
    /// IPv4: the number that fragments of the packet would share.
    pub identification: u16,
}

impl Envelope {
    /// The hop limit of what the gateway says itself, and of what it carries without knowing better.
    pub const HOP_LIMIT: u8 = 64;

    /// An envelope with the usual fields; `None` when the addresses are of two families.
    pub fn new(
        to: MacAddr,
        from: MacAddr,
        (source, destination): (IpAddr, IpAddr),
        protocol: IpProtocol,
    ) -> Option<Envelope> {
        Some(Envelope {
            to,
            from,
            addresses: addresses(source, destination)?,
            protocol,
            hop_limit: Envelope::HOP_LIMIT,
            class: 0,
            dont_fragment: true,
            identification: 0,
        })
    }

    /// Octets of the Ethernet and IP headers.
    #[inline]
    pub fn header_len(&self) -> usize {
        ETHERNET_HEADER
            + match self.addresses {
                Addresses::V4 { .. } => Ipv4Repr::MIN_HEADER_LEN,
                Addresses::V6 { .. } => Ipv6Repr::HEADER_LEN,
            }
    }

    /// Writes the Ethernet and IP headers to the front of `octets`, for a payload of `payload_len` octets.
    ///
    /// # Panics
    /// If `octets` is shorter than the headers, or the payload longer than a packet's may be.
    pub fn emit(&self, octets: &mut [u8], payload_len: usize) {
        let (ethernet, ip) = octets.split_at_mut(ETHERNET_HEADER);
        let ethertype = match self.addresses {
            Addresses::V4 { source, destination } => {
                Ipv4Repr {
                    traffic_class: self.class,
                    identification: self.identification,
                    dont_fragment: self.dont_fragment,
                    more_fragments: false,
                    fragment_offset: 0,
                    ttl: self.hop_limit,
                    protocol: self.protocol,
                    source,
                    destination,
                    options: &[],
                    payload_len,
                }
                .emit(ip);
                EtherType::IPV4
            }
            Addresses::V6 { source, destination } => {
                let payload_len = u16::try_from(payload_len).expect("an IPv6 packet has 16-bit length");
                let header = Ipv6Repr {
                    traffic_class: self.class,
                    flow_label: 0,
                    payload_len,
                    next_header: self.protocol,
                    hop_limit: self.hop_limit,
                    source,
                    destination,
                };
                header.emit(ip);
                EtherType::IPV6
            }
        };
        EthernetRepr { destination: self.to, source: self.from, ethertype }.emit(ethernet);
    }

    /// Makes a frame of `len` octets of payload, which `write` writes; it is given zeroes or whatever was in the
    /// buffer. `None` when no buffer is free, or none is large enough.
    pub fn frame(&self, pool: &Pool, len: usize, write: impl FnOnce(&mut [u8], &Addresses)) -> Option<Frame> {
        let headers = self.header_len();
        let mut buffer = pool.take(Size::for_octets(headers + len)?)?;
        self.emit(&mut buffer, len);
        write(&mut buffer[headers..headers + len], &self.addresses);
        Some(buffer.into_frame(0..headers + len))
    }
}

/// A pair of addresses of one family.
pub fn addresses(source: IpAddr, destination: IpAddr) -> Option<Addresses> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => Some(Addresses::V4 { source, destination }),
        (IpAddr::V6(source), IpAddr::V6(destination)) => Some(Addresses::V6 { source, destination }),
        _ => None,
    }
}

/// The link-local address of the gateway (RFC 4291 section 2.5.6), which routers must have.
pub const GATEWAY_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// A subnet of guests' IPv4 addresses, in which host numbers 1 and 2 are the uplink's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet4 {
    /// The network's address.
    pub network: Ipv4Addr,
    /// Bits of the prefix, 8 to 29.
    pub prefix: u8,
}

impl fmt::Display for Subnet4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl Subnet4 {
    /// The address with this host number.
    pub fn host(&self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() | number)
    }

    /// True if the address is in the subnet.
    #[inline]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        (address.to_bits() ^ self.network.to_bits()).leading_zeros() >= u32::from(self.prefix)
    }

    /// The address to all hosts of the subnet.
    pub fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() | u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0))
    }
}

/// A /64 of guests' IPv6 addresses, in which interface identifiers 1 and 2 are the uplink's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet6 {
    /// The network's address: the lower 64 bits are 0.
    pub network: Ipv6Addr,
}

impl fmt::Display for Subnet6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/64", self.network)
    }
}

impl Subnet6 {
    /// The address with this interface identifier.
    pub fn host(&self, identifier: u64) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.network.to_bits() | u128::from(identifier))
    }

    /// True if the address is in the subnet.
    #[inline]
    pub fn contains(&self, address: Ipv6Addr) -> bool {
        (address.to_bits() ^ self.network.to_bits()) >> 64 == 0
    }
}
