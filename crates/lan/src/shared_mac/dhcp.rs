use std::net::Ipv4Addr;

use vmlan_frame::MacAddr;
use vmlan_frame::ip::is_station;
use vmlan_frame::wire::{IpProtocol, Ipv4Packet, UdpDatagram};

use crate::guard::claims::Lesson;

/// The content of a DHCP message about addresses (RFC 2131 section 2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Dhcp {
    /// Of the message type option.
    pub(super) kind: u8,
    /// True if the message goes from a client's port to a server's.
    pub(super) to_server: bool,
    /// The address that the client has.
    pub(crate) client: Ipv4Addr,
    /// The address that it gets.
    pub(crate) yours: Ipv4Addr,
    pub(super) hardware: MacAddr,
}

impl Dhcp {
    pub(super) const DISCOVER: u8 = 1;
    pub(super) const REQUEST: u8 = 3;
    const ACK: u8 = 5;
    const RELEASE: u8 = 7;

    /// Where the flags are in the message (RFC 2131 figure 1).
    pub(super) const FLAGS: usize = 10;

    /// Reads the DHCP message in a whole IPv4 packet; nothing when there is none, or it is not in order.
    pub(crate) fn parse<T: AsRef<[u8]>>(packet: &Ipv4Packet<T>) -> Option<Dhcp> {
        if packet.protocol() != IpProtocol::UDP || packet.fragment().is_some() {
            return None;
        }
        let datagram = UdpDatagram::new_checked(packet.payload()).ok()?;
        let to_server = match (datagram.source_port(), datagram.destination_port()) {
            (CLIENT, SERVER) => true,
            (SERVER, CLIENT | SERVER) => false,
            _ => return None,
        };
        let message = datagram.payload();
        let (fixed, options) = message.split_at_checked(OPTIONS)?;
        if fixed[HARDWARE_TYPE..=HARDWARE_LEN] != [ETHERNET, 6] || fixed[COOKIE..] != MAGIC {
            return None;
        }
        let address =
            |at: usize| Ipv4Addr::from(*fixed[at..].first_chunk::<4>().expect("within the fixed part"));
        Some(Dhcp {
            kind: message_type(options)?,
            to_server,
            client: address(CLIENT_ADDRESS),
            yours: address(YOUR_ADDRESS),
            hardware: MacAddr::from_slice(&fixed[CLIENT_HARDWARE..]),
        })
    }

    /// True if a client gives its address back.
    pub(crate) fn is_release(&self) -> bool {
        self.kind == Dhcp::RELEASE && self.to_server
    }

    /// The lease that a server confirms.
    pub(crate) fn lease(&self) -> Option<Lesson> {
        let is_lease = self.kind == Dhcp::ACK && !self.to_server && is_station(self.yours.into());
        let (client, yours) = (self.client.into(), self.yours.into());
        is_lease.then_some(Lesson::Leases { hardware: self.hardware, client, yours })
    }
}

const CLIENT: u16 = 68;
const SERVER: u16 = 67;

const HARDWARE_TYPE: usize = 1;
const HARDWARE_LEN: usize = 2;
const CLIENT_ADDRESS: usize = 12;
const YOUR_ADDRESS: usize = 16;
const CLIENT_HARDWARE: usize = 28;
const COOKIE: usize = 236;
const OPTIONS: usize = 240;

const ETHERNET: u8 = 1;
const MAGIC: [u8; 4] = [0x63, 0x82, 0x53, 0x63];

/// The value of the message type option (RFC 2132 section 9.6).
fn message_type(mut options: &[u8]) -> Option<u8> {
    const PAD: u8 = 0;
    const END: u8 = 255;
    const MESSAGE_TYPE: u8 = 53;
    loop {
        match *options {
            [PAD, ref rest @ ..] => options = rest,
            [] | [END, ..] => return None,
            [MESSAGE_TYPE, 1, kind, ..] => return Some(kind),
            [_, len, ref rest @ ..] => options = rest.get(usize::from(len)..)?,
            [_] => return None,
        }
    }
}
