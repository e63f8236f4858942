//! Whatever guests, the host and the wire send, in shared-MAC mode: only the host's address goes out to the wire, no
//! frame changes its length or comes back, every buffer does, what is known of addresses is bounded, and no guest
//! speaks in ARP or neighbour discovery for another's hardware address.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use vmlan_frame::wire::{ArpPacket, EtherType, IpProtocol, Ipv6Packet, NdpMessage};
use vmlan_frame::{Batch, Context, Counters, Frame, Instant, MacAddr, Pool, PoolSizes, Sides, VlanTag};
use vmlan_lan::{
    Diversion, Egress, FdbConfig, Forwarder, Network, NetworkConfig, PortConfig, PortId, TrunkConfig,
    TrunkPolicy,
};

const HOST: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xaa]);
const WIRE: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xbb]);
const GUESTS: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])];

/// Per frame: who sends it, how its header is made, the rest.
type Input = Vec<(u8, u8, Vec<u8>)>;

fuzz_target!(|input: Input| {
    let mut bench = Bench::new();
    for (second, (from, header, octets)) in input.iter().enumerate() {
        bench.send(second as u64 / 4, *from, *header, octets);
    }
});

struct Bench {
    network: Arc<Network>,
    forwarder: Forwarder,
    egress: Egress,
    pool: Pool,
    guests: [PortId; 2],
    trunk: PortId,
}

impl Bench {
    fn new() -> Bench {
        let fdb = FdbConfig { size: 16, ..FdbConfig::new([1, 2]) };
        let network =
            Network::new(NetworkConfig { name: "lab".into(), mtu: 1500, fdb, pass_reserved: false });
        let policy = TrunkPolicy {
            macs: vec![HOST],
            diversion: Diversion::Everything,
            shared_mac: true,
            ..TrunkPolicy::default()
        };
        let counters = || Arc::new(Counters::new(1));
        let name = "trunk".to_owned();
        let trunk = TrunkConfig { name, policy, notify: Arc::new(|_| {}), account: counters().into() };
        let trunk = network.add_trunk(trunk).expect("the first");
        let guests = GUESTS.map(|mac| {
            let config = PortConfig { macs: vec![mac], ..PortConfig::new("guest", counters()) };
            network.add_port(config).expect("another address")
        });
        for port in [trunk, guests[0], guests[1]] {
            network.set_active(port, true).expect("just added");
        }
        network.add_host_address(Ipv4Addr::new(10, 0, 0, 200).into());
        network.add_host_address(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 200).into());
        let forwarder = Forwarder::new(Arc::clone(&network));
        let pool = Pool::new(PoolSizes { small: 8, large: 2, bulk: 0 });
        Bench { network, forwarder, egress: Egress::new(8), pool, guests, trunk }
    }

    fn send(&mut self, second: u64, from: u8, header: u8, rest: &[u8]) {
        let (ingress, sides, source) = match from % 4 {
            0 => (self.trunk, Sides::WIRE, WIRE),
            1 => (self.trunk, Sides::HOST, HOST),
            n => (self.guests[usize::from(n - 2)], Sides::NONE, GUESTS[usize::from(n - 2)]),
        };
        let octets = made(header, source, rest);
        let Some(mut frame) = self.pool.copy(&octets) else { return };
        frame.meta.sides = sides;
        if from & 0x10 != 0 {
            let start = u16::from(from) << 2;
            frame.meta.offload =
                vmlan_frame::Offload { flags: 1, checksum_start: start, ..Default::default() };
        }
        frame.meta.tag = (from & 0x20 != 0).then_some(VlanTag { tci: u16::from(from) >> 6 });
        let mut batch = Batch::from_iter([frame]);
        let cx = Context { worker: 0, now: Instant::from_secs(second), pool: &self.pool };
        assert!(self.forwarder.forward(&cx, ingress, &mut batch, &mut self.egress));

        let is_guest = sides.is_empty();
        self.egress.drain(|port, batch| {
            for frame in batch.drain() {
                assert_eq!(frame.len(), octets.len());
                assert!(port != ingress || (!is_guest && !frame.meta.sides.contains(sides)), "never back");
                assert!(!is_guest || speaks_for_itself(&frame), "{frame:?}");
                if frame.meta.sides == Sides::WIRE && is_guest {
                    assert_eq!(frame.source(), Some(HOST));
                } else {
                    assert_eq!(frame.source(), Some(source));
                }
            }
        });
        assert_eq!(self.pool.out(), 0);
        let known = self.network.shared_addresses();
        let host = self.network.host_addresses();
        let is_hosts = |address| host.iter().any(|host| host.address == address);
        assert!(known.iter().all(|shared| !is_hosts(shared.address) && shared.port != self.trunk));
        for guest in self.guests {
            let of = |v4: fn(&IpAddr) -> bool| {
                known.iter().filter(|shared| shared.port == guest && v4(&shared.address)).count()
            };
            assert!(of(IpAddr::is_ipv4) <= 32 && of(IpAddr::is_ipv6) <= 32);
        }
    }
}

/// True if the hardware addresses that a frame names as its sender's are its source, as far as it is plain.
fn speaks_for_itself(frame: &Frame) -> bool {
    let (octets, source) = (frame.octets(), frame.source().expect("a header"));
    match frame.ethertype().map(EtherType) {
        Some(EtherType::ARP) => {
            ArpPacket::new_checked(&octets[14..]).is_ok_and(|packet| packet.sender_hardware() == source)
        }
        Some(EtherType::IPV6) => {
            let Ok(packet) = Ipv6Packet::new_checked(&octets[14..]) else { return false };
            if (packet.next_header(), packet.hop_limit()) != (IpProtocol::ICMPV6, 255) {
                return true;
            }
            let Ok(message) = NdpMessage::new_checked(packet.payload()) else { return true };
            let named = message.options().map_while(Result::ok).filter(|option| matches!(option.kind, 1 | 2));
            // An option out of order, or of the wrong kind, is edited by nobody and believed by nobody.
            let is_whole = message.options().all(|option| option.is_ok());
            !is_whole
                || frame.meta.sides == Sides::WIRE
                || named.into_iter().all(|option| option.link_layer_address() == Some(source))
        }
        _ => true,
    }
}

/// A frame with a header by choice, so that more than one in a thousand is for anybody.
fn made(choice: u8, source: MacAddr, rest: &[u8]) -> Vec<u8> {
    let destination = match choice % 8 {
        0 | 1 => HOST,
        2 => GUESTS[0],
        3 => GUESTS[1],
        4 => WIRE,
        5 => MacAddr([0x33, 0x33, 0, 0, 0, 1]),
        _ => MacAddr::BROADCAST,
    };
    let ethertype: u16 = match choice >> 3 & 3 {
        0 => 0x0806,
        1 => 0x0800,
        2 => 0x86dd,
        _ => u16::from(choice) << 8,
    };
    let between: &[u8] = match choice >> 5 {
        5 => &[0x81, 0, 0, 0],
        6 => &[0x88, 0xa8, 0, 0],
        7 => &[0, 36, 0xaa, 0xaa, 3, 0, 0, 0],
        _ => &[],
    };
    let mut octets = [&destination.0[..], &source.0, between, &ethertype.to_be_bytes(), rest].concat();
    octets.truncate(1514);
    octets
}
