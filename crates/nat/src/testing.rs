//! Guests of tests: their frames, and the gateway's addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use vmlan_frame::checksum::Addresses;
use vmlan_frame::wire::{EchoRepr, IpProtocol, UdpRepr};
use vmlan_frame::{Frame, MacAddr, Pool, PoolSizes};

use crate::Envelope;
use crate::envelope::{Subnet4, Subnet6};

pub(crate) const GUEST_MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
pub(crate) const GATEWAY_MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 0xfe]);
pub(crate) const GATEWAY4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 213, 5, 1));
pub(crate) const GATEWAY6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 2, 3, 0, 0, 0, 1));
pub(crate) const SUBNET4: Subnet4 = Subnet4 { network: Ipv4Addr::new(10, 213, 5, 0), prefix: 24 };
pub(crate) const SUBNET6: Subnet6 = Subnet6 { network: Ipv6Addr::new(0xfd00, 1, 2, 3, 0, 0, 0, 0) };
/// The number of the guest's port.
pub(crate) const INGRESS: u16 = 3;

pub(crate) fn pool() -> Pool {
    Pool::new(PoolSizes { small: 512, large: 16, bulk: 0 })
}

/// A guest with one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Guest {
    pub address: IpAddr,
    pub mac: MacAddr,
    pub ingress: u16,
    pub hop_limit: u8,
    pub dont_fragment: bool,
}

impl Guest {
    pub const V4: Guest = Guest {
        address: IpAddr::V4(Ipv4Addr::new(10, 213, 5, 16)),
        mac: GUEST_MAC,
        ingress: INGRESS,
        hop_limit: 64,
        dont_fragment: false,
    };
    pub const V6: Guest = Guest {
        address: IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 2, 3, 0, 0, 0, 0x16)),
        dont_fragment: true,
        ..Guest::V4
    };

    pub fn socket(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address, port)
    }

    fn frame(
        &self,
        pool: &Pool,
        protocol: IpProtocol,
        to: IpAddr,
        len: usize,
        write: impl FnOnce(&mut [u8], &Addresses),
    ) -> Frame {
        let envelope = Envelope {
            hop_limit: self.hop_limit,
            dont_fragment: self.dont_fragment,
            ..Envelope::new(GATEWAY_MAC, self.mac, (self.address, to), protocol).expect("one family")
        };
        let mut frame = envelope.frame(pool, len, write).expect("a buffer");
        frame.meta.ingress = self.ingress;
        frame
    }

    pub fn packet(&self, pool: &Pool, protocol: IpProtocol, to: &str, upper: &[u8]) -> Frame {
        let to = to.parse().expect("an address");
        self.frame(pool, protocol, to, upper.len(), |octets, _| octets.copy_from_slice(upper))
    }

    pub fn udp(&self, pool: &Pool, port: u16, to: &str, payload: &[u8]) -> Frame {
        let to: SocketAddr = to.parse().expect("an address and a port");
        self.frame(
            pool,
            IpProtocol::UDP,
            to.ip(),
            UdpRepr::HEADER_LEN + payload.len(),
            |octets, addresses| {
                octets[UdpRepr::HEADER_LEN..].copy_from_slice(payload);
                UdpRepr { source_port: port, destination_port: to.port() }.emit(octets, addresses);
            },
        )
    }

    pub fn echo(&self, pool: &Pool, identifier: u16, sequence: u16, to: &str, data: &[u8]) -> Frame {
        let to: IpAddr = to.parse().expect("an address");
        let echo = EchoRepr { reply: false, identifier, sequence };
        let protocol = if to.is_ipv4() { IpProtocol::ICMP } else { IpProtocol::ICMPV6 };
        self.frame(pool, protocol, to, EchoRepr::HEADER_LEN + data.len(), |octets, addresses| {
            octets[EchoRepr::HEADER_LEN..].copy_from_slice(data);
            match addresses {
                Addresses::V4 { .. } => echo.emit_v4(octets),
                Addresses::V6 { .. } => echo.emit_v6(octets, addresses),
            }
        })
    }
}
