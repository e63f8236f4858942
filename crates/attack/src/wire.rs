//! The frames that attackers and probes send.

use std::net::{Ipv4Addr, Ipv6Addr};

pub(crate) use vmlan_frame::MacAddr;
pub(crate) use vmlan_guest::ethernet;

/// The EtherType of probes' frames (IEEE 802 local experimental 1).
pub(crate) const PROBE: u16 = 0x88b5;
/// The EtherType of attackers' frames (IEEE 802 local experimental 2).
pub(crate) const NOISE: u16 = 0x88b6;
pub(crate) const ARP: u16 = 0x0806;
pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const IPV6: u16 = 0x86dd;
/// A customer's tag, and a service's.
pub(crate) const VLAN: u16 = 0x8100;
pub(crate) const SERVICE: u16 = 0x88a8;

/// Octets of the virtio-net header in front of frames of packet sockets.
pub(crate) const VNET: usize = vmlan_sys::packet::HEADER;

/// An attacker's address.
pub(crate) fn attacker(number: usize) -> MacAddr {
    let [.., high, low] = number.to_be_bytes();
    MacAddr([2, 0xba, 0xd0, 0, high, low])
}

/// A frame without sense, of 60 octets.
pub(crate) fn noise(to: MacAddr, from: MacAddr) -> Vec<u8> {
    ethernet(to, from, NOISE, &[])
}

/// Frames as they stand on a stream: each behind its length.
pub(crate) fn framed(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut octets = Vec::new();
    for frame in frames {
        octets.extend_from_slice(&(frame.len() as u32).to_be_bytes());
        octets.extend_from_slice(frame);
    }
    octets
}

/// An ARP message (RFC 826): 1 asks, 2 answers.
pub(crate) fn arp(operation: u8, sender: (MacAddr, Ipv4Addr), target: (MacAddr, Ipv4Addr)) -> Vec<u8> {
    let mut octets = vec![0, 1, 8, 0, 6, 4, 0, operation];
    for (mac, address) in [sender, target] {
        octets.extend_from_slice(&mac.0);
        octets.extend_from_slice(&address.octets());
    }
    octets
}

/// A neighbour advertisement in IPv6 (RFC 4861 4.4), with its target's link address as an option.
pub(crate) fn advertisement(from: Ipv6Addr, target: Ipv6Addr, mac: MacAddr) -> Vec<u8> {
    let to: Ipv6Addr = "ff02::1".parse().expect("an address");
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend_from_slice(&target.octets());
    message.extend_from_slice(&[2, 1]);
    message.extend_from_slice(&mac.0);
    let length = message.len() as u16;
    let mut pseudo = [from.octets(), to.octets()].concat();
    pseudo.extend_from_slice(&[0, 0]);
    pseudo.extend_from_slice(&length.to_be_bytes());
    pseudo.extend_from_slice(&[0, 0, 0, 58]);
    pseudo.extend_from_slice(&message);
    let sum = !folded(&pseudo);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&[58, 255]);
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(&to.octets());
    packet.extend_from_slice(&message);
    packet
}

/// An IPv4 packet with this protocol and payload.
pub(crate) fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    packet.extend_from_slice(&[0, 1, 0, 0, 64, protocol, 0, 0]);
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(&to.octets());
    let sum = !folded(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

/// A UDP datagram; with `open` the checksum is left to the receiver, else there is none.
pub(crate) fn udp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), data: &[u8], open: bool) -> Vec<u8> {
    let length = 8 + data.len() as u16;
    let sum = if open { pseudo(from.0, to.0, 17, length) } else { 0 };
    let mut datagram: Vec<u8> =
        [from.1, to.1, length, sum].iter().flat_map(|word| word.to_be_bytes()).collect();
    datagram.extend_from_slice(data);
    ipv4(from.0, to.0, 17, &datagram)
}

/// A TCP segment whose checksum is left to the receiver.
pub(crate) fn tcp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), data: &[u8]) -> Vec<u8> {
    let sum = pseudo(from.0, to.0, 6, 20 + data.len() as u16);
    let mut segment: Vec<u8> = [from.1, to.1].iter().flat_map(|port| port.to_be_bytes()).collect();
    segment.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0x03, 0xe8]);
    segment.extend_from_slice(&sum.to_be_bytes());
    segment.extend_from_slice(&[0, 0]);
    segment.extend_from_slice(data);
    ipv4(from.0, to.0, 6, &segment)
}

/// The first segment of a TCP connection (RFC 9293 3.1).
pub(crate) fn syn(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), sequence: u32) -> Vec<u8> {
    let mut segment: Vec<u8> = [from.1, to.1].iter().flat_map(|port| port.to_be_bytes()).collect();
    segment.extend_from_slice(&sequence.to_be_bytes());
    segment.extend_from_slice(&[0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    let open = pseudo(from.0, to.0, 6, segment.len() as u16).to_be_bytes();
    let sum = !folded(&[&open[..], &segment].concat());
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    ipv4(from.0, to.0, 6, &segment)
}

/// The first fragment of an IPv4 packet of which no more comes; its payload is a multiple of 8 octets.
pub(crate) fn first_fragment(from: Ipv4Addr, to: Ipv4Addr, id: u16, protocol: u8, payload: &[u8]) -> Vec<u8> {
    /// More fragments (RFC 791 3.1).
    const MORE: u8 = 0x20;
    let mut packet = ipv4(from, to, protocol, payload);
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[6] = MORE;
    packet[10..12].copy_from_slice(&[0, 0]);
    let sum = !folded(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// A question for an address of a name that nobody has (RFC 1035 4.1).
pub(crate) fn question(number: u16) -> Vec<u8> {
    let mut message = number.to_be_bytes().to_vec();
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let name = format!("{number:05}");
    message.push(name.len() as u8);
    message.extend_from_slice(name.as_bytes());
    message.extend_from_slice(b"\x07example\x00\x00\x01\x00\x01");
    message
}

/// A DHCP client's first message (RFC 2131).
pub(crate) fn dhcp_discover(hardware: MacAddr) -> Vec<u8> {
    let mut message = vec![0; 240];
    message[..4].copy_from_slice(&[1, 1, 6, 0]);
    message[4..8].copy_from_slice(&hardware.0[2..]);
    message[28..34].copy_from_slice(&hardware.0);
    message[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    message.extend_from_slice(&[53, 1, 1, 255]);
    udp((Ipv4Addr::UNSPECIFIED, 68), (Ipv4Addr::BROADCAST, 67), &message, false)
}

/// A virtio-net header that wants `frame` cut to segments of this many octets (virtio 1.3 5.1.6): 1 for TCP, 5 for UDP.
pub(crate) fn segmented(kind: u8, headers: u16, size: u16, checksum_at: u16, frame: &[u8]) -> Vec<u8> {
    let mut octets = vec![1, kind];
    for word in [headers, size, 34, checksum_at] {
        octets.extend_from_slice(&word.to_le_bytes());
    }
    octets.extend_from_slice(frame);
    octets
}

/// A DHCP acknowledgement (RFC 2131) that says that `hardware` has `yours`.
pub(crate) fn dhcp_ack(server: Ipv4Addr, hardware: MacAddr, client: Ipv4Addr, yours: Ipv4Addr) -> Vec<u8> {
    let mut message = vec![0; 240];
    message[..4].copy_from_slice(&[2, 1, 6, 0]);
    message[12..16].copy_from_slice(&client.octets());
    message[16..20].copy_from_slice(&yours.octets());
    message[28..34].copy_from_slice(&hardware.0);
    message[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    message.extend_from_slice(&[53, 1, 5, 255]);
    udp((server, 67), (Ipv4Addr::BROADCAST, 68), &message, false)
}

fn pseudo(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, length: u16) -> u16 {
    let mut octets = [from.octets(), to.octets()].concat();
    octets.extend_from_slice(&[0, protocol]);
    octets.extend_from_slice(&length.to_be_bytes());
    folded(&octets)
}

/// The sum of RFC 1071, not complemented.
fn folded(octets: &[u8]) -> u16 {
    let words = octets.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmlan_frame::wire::{Icmpv6Packet, Ipv4Packet, Ipv6Packet};

    #[test]
    fn packets_are_well_formed() {
        let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        for packet in [
            tcp((a, 1), (b, 2), &[0; 99]),
            udp((a, 1), (b, 2), &[0; 9], true),
            syn((a, 1), (b, 2), 3),
            first_fragment(a, b, 7, 17, &[0; 64]),
        ] {
            assert!(Ipv4Packet::new_checked(&packet[..]).expect("a packet").verify_checksum());
        }
        let segment = syn((a, 1), (b, 2), 0x01020304);
        assert_eq!(folded(&[&pseudo(a, b, 6, 20).to_be_bytes()[..], &segment[20..]].concat()), 0xffff);
        let (from, target) = ("fe80::1".parse().expect("an address"), "fe80::2".parse().expect("an address"));
        let packet = advertisement(from, target, attacker(1));
        let packet = Ipv6Packet::new_checked(&packet[..]).expect("a packet");
        assert!(Icmpv6Packet::new_checked(packet.payload()).is_ok());
    }

    #[test]
    fn frames_stand_behind_their_lengths() {
        let octets = framed(&[vec![7; 3], vec![]]);

        assert_eq!(octets, [0, 0, 0, 3, 7, 7, 7, 0, 0, 0, 0]);
    }
}
