mod books;
mod echo;
mod errors;
mod flows;
mod forward;
mod udp;

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use vmlan_frame::checksum::Addresses;
use vmlan_frame::wire::{EchoRepr, Icmpv4Packet, Icmpv6Packet, IpProtocol, UdpDatagram};
use vmlan_frame::{Batch, Frame, Offload, offload};

use super::fake::{World, settings};
use super::*;
use crate::Envelope;
use crate::reach::{Service, Target};
use crate::testing::{GATEWAY_MAC, GATEWAY4, GATEWAY6, GUEST_MAC, Guest};

const SERVER: &str = "203.0.113.7:7000";
const SERVER6: &str = "[2001:db8::7]:7000";

fn world() -> World {
    World::new(settings())
}

/// A guest's frame as (from, to, payload), finished and checked.
fn udp(frame: &Frame, world: &World) -> (String, String, Vec<u8>) {
    let mut octets = frame.octets().to_vec();
    offload::finish_checksum(&mut octets, &frame.meta.offload);
    let frame = world.pool.copy(&octets).expect("a buffer");
    let packet = Packet::parse(&frame).expect("a good packet");
    let datagram = UdpDatagram::new_checked(packet.upper).expect("a good datagram");
    assert!(datagram.verify_checksum(&packet.addresses));
    let side = |address: IpAddr, port| SocketAddr::new(address, port).to_string();
    (
        side(packet.source(), datagram.source_port()),
        side(packet.destination(), datagram.destination_port()),
        datagram.payload().to_vec(),
    )
}

/// The sender, type and code of an error, and the packet that it quotes.
fn told(frame: &Frame) -> (IpAddr, u8, u8, Vec<u8>) {
    let packet = Packet::parse(frame).expect("a good packet");
    match packet.addresses {
        Addresses::V4 { .. } => assert!(Icmpv4Packet::new_checked(packet.upper).unwrap().verify_checksum()),
        addresses @ Addresses::V6 { .. } => {
            assert!(Icmpv6Packet::new_checked(packet.upper).unwrap().verify_checksum(&addresses));
        }
    }
    (packet.source(), packet.upper[0], packet.upper[1], packet.upper[8..].to_vec())
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn queued(origin: Origin, offender: &str, destination: &str) -> QueuedError {
    QueuedError {
        origin,
        offender: Some(ip(offender)),
        destination: destination.parse().expect("an address and a port"),
        len: 0,
    }
}
