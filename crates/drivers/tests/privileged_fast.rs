//! The program of interface ports: what it does not carry itself reaches the carrier as it came.
#![cfg(target_os = "linux")]

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rustix::net::{AddressFamily, SocketType, netdevice, socket};
use testbed::{Netns, require, wait_for};
use vmlan_drivers::host::fast::{Counts, Port, Role, StationKey, Tables, from_guest};
use vmlan_frame::{MacAddr, VlanId};
use vmlan_sys::ebpf::{Hook, Link, load_classifier};
use vmlan_sys::packet::{HEADER, listener};
use vmlan_sys::tap;

const PATIENCE: Duration = Duration::from_secs(20);

const GUEST: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
const OTHER: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 2]);
/// Any index that is not the guest's will do: nothing goes there.
const ELSEWHERE: u32 = 1;

/// A guest at a veth, whose frames are the programs', and the TAP that slow ones come by.
struct Fixture {
    tables: Tables,
    index: u32,
    carrier_index: u32,
    guest: OwnedFd,
    carrier: OwnedFd,
    _link: Link,
    _netns: Netns,
}

impl Fixture {
    fn new() -> Fixture {
        let netns = Netns::new("fast");
        netns.sysctl("net.ipv6.conf.default.disable_ipv6", "1");
        netns.ip(["link", "add", "near", "type", "veth", "peer", "name", "far"]);
        let index = |name: &str| {
            let any = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
            Ok::<u32, io::Error>(netdevice::name_to_index(&any, name)?)
        };
        let within = |work: &(dyn Fn() -> io::Result<OwnedFd> + Sync)| {
            vmlan_sys::netns::within(&netns.path(), work).expect("a descriptor")
        };
        let carrier = within(&|| Ok(tap::open("slow", tap::Options::default())?.0));
        vmlan_drivers::tap::set_offloads(&carrier, true).expect("offloads");
        for interface in ["near", "far", "slow"] {
            netns.ip(["link", "set", interface, "mtu", "2000", "up"]);
        }
        let guest = within(&|| listener(index("far")?, &[(6, 0, 0, 0)]));
        let indices = vmlan_sys::netns::within(&netns.path(), || Ok([index("near")?, index("slow")?]));
        let [near, carrier_index] = indices.expect("interfaces of ours");
        let tables = Tables::new(16, 4).expect("the right to have tables");
        let program = load_classifier("from_guest", &from_guest(&tables)).expect("a program of ours");
        let link = vmlan_sys::netns::within(&netns.path(), || Link::new(program, near, Hook::Ingress));
        let link = link.expect("a hook");
        let fixture =
            Fixture { tables, index: near, carrier_index, guest, carrier, _link: link, _netns: netns };
        fixture.set(1, Role::Transparent, |_| {});
        fixture
    }

    /// Enters the guest's port, and with slot 1 the other one.
    fn set(&self, slot: u32, role: Role, change: impl Fn(&mut Port)) {
        let mut port = Port {
            slot,
            carrier: self.carrier_index,
            role,
            longest: 2014,
            held: false,
            services: false,
            isolated: false,
            peer: false,
            side: None,
        };
        change(&mut port);
        let index = if slot == 0 { self.index } else { ELSEWHERE };
        self.tables.set_port(index, &port).expect("room for a port");
    }

    /// Sends a frame, and waits for what the carrier has.
    fn pass(&self, header: &[u8], octets: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let whole = [header, octets].concat();
        assert_eq!(rustix::io::write(&self.guest, &whole).expect("room for a frame"), whole.len());
        let mut buffer = vec![0; 70_000];
        let len = wait_for("the frame", PATIENCE, || rustix::io::read(&self.carrier, &mut buffer).ok());
        (buffer[..HEADER].to_vec(), buffer[tap::HEADER..len].to_vec())
    }
}

fn vlan(number: u16) -> VlanId {
    VlanId::new(number).expect("a VLAN")
}

fn trunk() -> Role {
    let mut allowed = [0; 64];
    allowed[0] = 1 << 10 | 1 << 20;
    Role::Trunk { allowed: Box::new(allowed), native: Some(vlan(1)) }
}

/// A frame: everything up to the EtherType, what an IP header says first, the rest.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let destination =
        select(&[OTHER, OTHER, OTHER, MacAddr::BROADCAST, MacAddr([0x52, 0x54, 0, 0, 0, 9])][..]);
    let tag = (select(&[0x8100_u16, 0x8100, 0x88a8][..]), any::<u16>(), select(&[10_u16, 20, 0, 30][..]));
    let payload = prop_oneof![
        3 => Just(vec![8, 0, 0x45, 0]),
        1 => (0x40..0x50_u8).prop_map(|first| vec![8, 0, first, 0]),
        2 => select(&[6_u8, 17, 58][..]).prop_map(|next| vec![0x86, 0xdd, 0x60, 0, 0, 0, 0, 16, next, 64]),
        2 => vec(any::<u8>(), 2..20),
    ];
    let rest = prop_oneof![vec(any::<u8>(), 0..64), vec(any::<u8>(), 60..1900)];
    (destination, vec(tag, 0..3), payload, rest).prop_map(|(destination, tags, payload, rest)| {
        let mut octets = [&destination.0[..], &GUEST.0].concat();
        for (protocol, tci, vid) in &tags {
            octets.extend([protocol.to_be_bytes(), (tci & 0xf000 | vid).to_be_bytes()].concat());
        }
        octets.extend([payload, rest].concat());
        // The kernel drops a tag without anything behind it.
        octets.resize(octets.len().max(18 + 4 * tags.len()), 0);
        octets
    })
}

#[test]
fn what_goes_slow_reaches_the_carrier_octet_for_octet() {
    // The interfaces' own hooks.
    require!(namespaces(), linux(6, 6));
    let fixture = Fixture::new();
    let tables = &fixture.tables;
    for (mac, index) in [(GUEST, fixture.index), (OTHER, ELSEWHERE)] {
        assert!(tables.put_station(StationKey { mac, vlan: None }, index, true).expect("room for a station"));
    }
    // Each stops the program at another place.
    type Setup = fn(&Fixture);
    let setups: [Setup; 6] = [
        |fixture| fixture.set(0, Role::Transparent, |port| port.held = true),
        |fixture| {
            fixture.set(0, Role::Transparent, |port| port.isolated = true);
            fixture.set(1, Role::Transparent, |port| port.isolated = true);
        },
        |fixture| {
            fixture.set(0, Role::Transparent, |_| {});
            fixture.set(1, Role::Transparent, |port| port.longest = 13);
        },
        |fixture| {
            fixture.set(0, trunk(), |_| {});
            fixture.set(1, Role::Access(vlan(30)), |_| {});
        },
        |fixture| {
            fixture.set(0, Role::Access(vlan(10)), |_| {});
            fixture.set(1, Role::Access(vlan(20)), |_| {});
        },
        |fixture| {
            fixture.set(0, trunk(), |_| {});
            fixture.tables.remove_port(ELSEWHERE).expect("a table");
        },
    ];
    for setup in setups {
        setup(&fixture);
        let config = Config { cases: 50, failure_persistence: None, ..Config::default() };
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let result = TestRunner::new_with_rng(config, rng).run(&frame(), |octets| {
            let (header, carried) = fixture.pass(&[0; HEADER], &octets);
            prop_assert_eq!((header, carried), (vec![0; HEADER], octets));
            Ok(())
        });
        result.unwrap_or_else(|fault| panic!("{fault}"));
        // Segments that nobody has cut, with and without a tag.
        for tag in [&[][..], &[0x81, 0, 0xa0, 10]] {
            let (header, octets) = large(tag);
            let (carried_header, carried) = fixture.pass(&header, &octets);
            assert_eq!(carried, octets);
            // Without the length of the headers, which is a hint.
            assert_eq!([&carried_header[..2], &carried_header[4..]], [&header[..2], &header[4..]]);
        }
    }
    let counts = [0, 1].map(|slot| tables.counts(slot).expect("a slot"));
    assert_eq!(counts, [Counts::default(); 2], "nothing went fast");
}

/// A datagram, or another packet, of IPv4 or IPv6: with these headers in front of the payload's first octets.
fn packet(v6: bool, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u16;
    let mut octets = [&OTHER.0[..], &GUEST.0].concat();
    if v6 {
        let [a, b] = len.to_be_bytes();
        octets.extend([0x86, 0xdd, 0x60, 0, 0, 0, a, b, protocol, 64]);
        octets.extend([0xfd; 32]);
    } else {
        let [a, b] = (20 + len).to_be_bytes();
        octets.extend([8, 0, 0x45, 0, a, b, 0, 1, 0, 0, 64, protocol, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2]);
    }
    octets.extend(payload);
    octets
}

#[test]
fn what_may_be_a_dhcp_servers_goes_slow_where_another_port_serves() {
    require!(namespaces(), linux(6, 6));
    let fixture = Fixture::new();
    let tables = &fixture.tables;
    for (mac, index) in [(GUEST, fixture.index), (OTHER, ELSEWHERE)] {
        assert!(tables.put_station(StationKey { mac, vlan: None }, index, true).expect("room for a station"));
    }
    let ports = |source: u16, destination: u16| {
        [source.to_be_bytes(), destination.to_be_bytes(), [0, 8], [0, 0]].concat()
    };
    fixture.set(0, Role::Transparent, |port| port.services = true);
    fixture.set(1, Role::Transparent, |_| {});
    let received = || tables.counts(0).expect("a slot").received.frames;
    for octets in [
        packet(false, 17, &ports(67, 5000)),
        packet(false, 17, &ports(5000, 68)),
        packet(true, 17, &ports(547, 5000)),
        packet(true, 17, &ports(5000, 546)),
        packet(true, 60, &[17, 0, 1, 4, 0, 0, 0, 0, 2, 35, 2, 34, 0, 8, 0, 0]),
    ] {
        assert_eq!(fixture.pass(&[0; HEADER], &octets).1, octets);
    }
    assert_eq!(received(), 0);
    let others = [
        packet(false, 17, &ports(68, 67)),
        packet(true, 17, &ports(546, 547)),
        packet(false, 6, &ports(67, 68)),
        packet(true, 6, &ports(547, 546)),
    ];
    for (octets, count) in others.iter().zip(1..) {
        let whole = [&[0; HEADER][..], octets].concat();
        rustix::io::write(&fixture.guest, &whole).expect("room for a frame");
        wait_for("the frame", PATIENCE, || (received() == count).then_some(()));
    }
    fixture.set(0, Role::Transparent, |_| {});
    let whole = [&[0; HEADER][..], &packet(false, 17, &ports(67, 68))].concat();
    rustix::io::write(&fixture.guest, &whole).expect("room for a frame");
    wait_for("the frame", PATIENCE, || (received() == 5).then_some(()));
}

/// A packet of TCP with 5000 octets, to be cut every 1000, with its checksum open.
fn large(tag: &[u8]) -> ([u8; HEADER], Vec<u8>) {
    let total = 5040_u16.to_be_bytes();
    let ip = [8, 0, 0x45, 0, total[0], total[1], 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2];
    let tcp = [0x10, 1, 0x20, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 1, 0, 0, 0, 0, 0];
    let mut octets = [&OTHER.0[..], &GUEST.0, tag, &ip, &tcp].concat();
    let headers = octets.len() as u16;
    octets.extend((0..5000_u16).map(|at| at as u8));
    let mut header = [0; HEADER];
    header[..2].copy_from_slice(&[1, 1]);
    header[2..].copy_from_slice(&[headers, 1000, headers - 20, 16].map(u16::to_le_bytes).concat());
    (header, octets)
}
