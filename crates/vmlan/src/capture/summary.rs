//! A frame in a line of text.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use vmlan_frame::MacAddr;
use vmlan_frame::wire::{
    ArpOperation, ArpPacket, EchoRepr, EtherType, Headers, Icmpv4Packet, Icmpv6Packet, IpProtocol,
    Ipv4Packet, Ipv6Packet, Network, TcpFlags, TcpSegment, UdpDatagram, Upper,
};

/// Octets of a frame that are looked at, those that were cut off included.
const LONGEST: usize = 262_144;

/// The letters of TCP's flags, as tcpdump writes them.
const FLAGS: [(TcpFlags, char); 8] = [
    (TcpFlags::FIN, 'F'),
    (TcpFlags::SYN, 'S'),
    (TcpFlags::RST, 'R'),
    (TcpFlags::PSH, 'P'),
    (TcpFlags::ACK, '.'),
    (TcpFlags::URG, 'U'),
    (TcpFlags::ECE, 'E'),
    (TcpFlags::CWR, 'W'),
];

/// Addresses, tags, and what the frame carries. `captured` are the first octets of the frame, which had `length`.
pub fn summary(captured: &[u8], length: usize) -> String {
    let Some((addresses, _)) = captured.split_at_checked(vmlan_frame::ETHERNET_HEADER) else {
        return "cut off within the Ethernet header".to_owned();
    };
    // Lengths in the headers reach to the frame's end; what was cut off is never shown.
    let mut whole = captured.to_vec();
    whole.resize(length.clamp(captured.len(), LONGEST.max(captured.len())), 0);
    let headers = Headers::parse(&whole);
    let (destination, source) =
        (MacAddr::from_slice(&addresses[..6]), MacAddr::from_slice(&addresses[6..12]));
    let mut text = format!("{source} > {destination}  ");
    for tag in headers.tags.as_slice() {
        let _ = write!(text, "vlan {} ", tag.tag.vid());
    }
    let seen = Seen { whole: &whole, captured: captured.len(), headers };
    text.push_str(&seen.network().unwrap_or_else(|| format!("type {}, cut off", headers.ethertype())));
    text
}

/// A frame that may have been cut.
struct Seen<'a> {
    whole: &'a [u8],
    captured: usize,
    headers: Headers,
}

impl Seen<'_> {
    /// The octets of a layer from `offset` on; `None` when its header's `needed` octets were cut off.
    fn layer(&self, offset: usize, needed: usize) -> Option<&[u8]> {
        let is_cut = self.captured < self.whole.len() && offset + needed > self.captured;
        (!is_cut).then(|| self.whole.get(offset..self.headers.network_end.max(offset))).flatten()
    }

    fn network(&self) -> Option<String> {
        let offset = self.headers.network_offset();
        match self.headers.network {
            Network::Arp => Some(match ArpPacket::new_checked(self.layer(offset, 28)?) {
                Ok(arp) => arp_text(&arp),
                Err(_) => "ARP, malformed".to_owned(),
            }),
            Network::Ipv4 => {
                let packet = Ipv4Packet::new_checked(self.layer(offset, 20)?).ok()?;
                Some(self.ip(packet.source().into(), packet.destination().into()))
            }
            Network::Ipv6 => {
                let packet = Ipv6Packet::new_checked(self.layer(offset, 40)?).ok()?;
                Some(self.ip(packet.source().into(), packet.destination().into()))
            }
            Network::Other if self.headers.ethertype().is_length() => Some("LLC".to_owned()),
            Network::Other => Some(format!("type {}", self.headers.ethertype())),
            Network::Malformed(malformed) => {
                let name = match self.headers.ethertype() {
                    EtherType::IPV4 => "IPv4",
                    EtherType::IPV6 => "IPv6",
                    _ => "headers",
                };
                // Within the longest fixed header it may be the cut that is to blame.
                self.layer(offset, 60).map(|_| format!("{name}, malformed: {malformed}"))
            }
        }
    }

    fn ip(&self, source: IpAddr, destination: IpAddr) -> String {
        let plain = |what: String| format!("{source} > {destination} {what}");
        let ports = |from: u16, to: u16, what: String| {
            format!("{} > {} {what}", SocketAddr::new(source, from), SocketAddr::new(destination, to))
        };
        let (protocol, offset) = match self.headers.upper {
            Upper::Header { protocol, offset } => (protocol, offset),
            Upper::LaterFragment { protocol, .. } => {
                return plain(format!("fragment of protocol {}", protocol.0));
            }
            Upper::Absent => return plain("no upper layer".to_owned()),
            Upper::Undecidable(_) if self.captured < self.whole.len() => return plain("cut off".to_owned()),
            Upper::Undecidable(why) => return plain(why.to_string()),
        };
        let shown = match protocol {
            IpProtocol::TCP => self
                .layer(offset, 20)
                .and_then(|octets| TcpSegment::new_checked(octets).ok())
                .map(|segment| {
                    let flags = flags(segment.flags());
                    ports(segment.source_port(), segment.destination_port(), format!("TCP [{flags}]"))
                }),
            IpProtocol::UDP => self
                .layer(offset, 8)
                .and_then(|octets| UdpDatagram::new_checked(octets).ok())
                .map(|datagram| ports(datagram.source_port(), datagram.destination_port(), "UDP".to_owned())),
            IpProtocol::ICMP => {
                self.layer(offset, 8).and_then(|octets| Icmpv4Packet::new_checked(octets).ok()).map(
                    |packet| plain(icmp_text("ICMP", packet.echo(), packet.message_type().0, packet.code())),
                )
            }
            IpProtocol::ICMPV6 => self
                .layer(offset, 8)
                .and_then(|octets| Icmpv6Packet::new_checked(octets).ok())
                .map(|packet| {
                    plain(icmp_text("ICMPv6", packet.echo(), packet.message_type().0, packet.code()))
                }),
            other => Some(plain(format!("protocol {}", other.0))),
        };
        shown.unwrap_or_else(|| plain(format!("protocol {}, cut off or malformed", protocol.0)))
    }
}

fn arp_text(arp: &ArpPacket<&[u8]>) -> String {
    match arp.operation() {
        ArpOperation::REQUEST => {
            format!("ARP who has {}? tell {}", arp.target_protocol(), arp.sender_protocol())
        }
        ArpOperation::REPLY => format!("ARP {} is at {}", arp.sender_protocol(), arp.sender_hardware()),
        ArpOperation(other) => format!("ARP operation {other}"),
    }
}

fn icmp_text(name: &str, echo: Option<EchoRepr>, message_type: u8, code: u8) -> String {
    match echo {
        Some(echo) => {
            let what = if echo.reply { "reply" } else { "request" };
            format!("{name} echo {what} {}/{}", echo.identifier, echo.sequence)
        }
        None => format!("{name} type {message_type} code {code}"),
    }
}

fn flags(flags: TcpFlags) -> String {
    FLAGS.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, letter)| letter).collect()
}

#[cfg(test)]
#[path = "summary_tests.rs"]
mod tests;
