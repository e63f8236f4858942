//! DHCP of both families and router solicitations: whatever guests send, answers are whole and fit, no port has more
//! records than it may, no address has two clients, and leases are read as they were written.
#![no_main]

use core::time::Duration;

use libfuzzer_sys::fuzz_target;
use vmlan_frame::{Instant, MacAddr};
use vmlan_nat::envelope::{Subnet4, Subnet6};
use vmlan_nat::reach::Egress;
use vmlan_services::leases::{MOST_EACH, State};
use vmlan_services::packet::{ALL_NODES, Packet, icmpv6_frame};
use vmlan_services::settings::{Boot, Dhcp, Dns};
use vmlan_services::{Client, Leases, Name, Port, Ports, Settings, dhcp4, dhcp6};

const GUEST: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);

fn settings() -> Settings {
    Settings {
        mac: MacAddr([0x52, 0x54, 0, 0xff, 0, 1]),
        mtu: 1500,
        subnet: Subnet4 { network: [10, 213, 5, 0].into(), prefix: 24 },
        subnet6: Some(Subnet6 { network: "fd00:1:2:5::".parse().unwrap() }),
        router: true,
        ipv6_only: true,
        identity: [7; 16],
        dhcp: Some(Dhcp {
            pool: [10, 213, 5, 16].into()..=[10, 213, 5, 31].into(),
            lease: 60,
            ntp: vec![[10, 0, 0, 1].into(), "fd00::1".parse().unwrap()],
            routes: vec![([10, 0, 0, 0].into(), 8)],
            boot: Boot {
                server: Some("boot".into()),
                file: Some("file".into()),
                vendor: vec![1; 300],
                ..Boot::default()
            },
        }),
        dns: Some(Dns {
            domain: Name::parse("lab.internal").unwrap(),
            search: vec![],
            host: true,
            filter_aaaa: false,
        }),
        egress: Egress::All,
    }
}

fn ports() -> Ports {
    let mut ports = Ports::default();
    let port = |ingress, addresses: &[&str]| Port {
        ingress,
        name: format!("p{ingress}"),
        mac: (ingress == 1).then_some(GUEST),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        egress: None,
        up: true,
    };
    ports.replace([port(1, &["10.213.5.20", "fd00:1:2:5::20"]), port(2, &[])]);
    ports
}

/// A message with the fixed part of a client's, so that options are reached.
fn message(kind: u8, mac: MacAddr, octets: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 240];
    message[..3].copy_from_slice(&[1, 1, 6]);
    message[28..34].copy_from_slice(&mac.0);
    message[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    let (address, options) = octets.split_at(octets.len().min(4));
    message[12..12 + address.len()].copy_from_slice(address);
    message.extend([53, 1, kind]);
    message.extend(options);
    message
}

fuzz_target!(|steps: Vec<(u8, u8, Vec<u8>)>| {
    let (settings, mut ports, mut leases) = (settings(), ports(), Leases::default());
    let (mut v4, mut v6) = (dhcp4::Server::default(), dhcp6::Server::default());
    let (mut now, mut wall) = (Instant::from_secs(1), 1_000_000);
    for (what, which, octets) in steps.iter().take(256) {
        let mac = MacAddr([0x52, 0x54, 0, 0, 0, which & 7]);
        let client = Client { ingress: u16::from(which >> 6), mac };
        let _ = Packet::parse(octets);
        let solicitation = [&[133, 0, 0, 0, 0, 0, 0, 0], &octets[..octets.len().min(1000)]].concat();
        let parsed = Packet::parse(&icmpv6_frame(mac, mac, ALL_NODES, &solicitation)).is_some();
        assert!(!parsed || octets.len().min(1000).is_multiple_of(8));
        match what & 7 {
            0..4 => {
                let made = message(what >> 3 & 7, mac, octets);
                let octets = if what & 7 == 0 { octets } else { &made };
                let parts = (&settings, &ports, &mut leases);
                let Ok(outcome) = v4.handle(parts, client, octets, now, wall) else { continue };
                if let Some(reply) = outcome.reply {
                    assert!((300..=1472).contains(&reply.message.len()));
                    let frame = reply.frame(&settings).expect("both are IPv4");
                    assert!(matches!(Packet::parse(&frame), Some(Packet::Udp { from: 67, to: 68, .. })));
                }
            }
            4 => {
                if let Ok(outcome) = v6.handle(&settings, &ports, client, octets, now) {
                    assert_eq!(outcome.message[1..4], octets[1..4]);
                }
            }
            5 => {
                now = now + Duration::from_secs((*which).into());
                wall += u64::from(*which);
                leases.expire(wall);
                assert!(leases.next_expiry().is_none_or(|at| at > wall));
            }
            6 => leases.heard_mut().note([10, 213, 5, *which].into(), client, now),
            _ => ports.down(client.ingress),
        }
        for port in ["p1", "p2", "#0", "#1", "#2", "#3"] {
            assert!(leases.count(port) <= MOST_EACH);
        }
    }
    let read = Leases::from_json(&leases.to_json()).expect("it was written so");
    let kept = leases.iter().filter(|lease| lease.state != State::Offered);
    assert!(kept.map(|lease| (lease.address, &lease.client, lease.until)).eq(read.iter().map(|lease| (
        lease.address,
        &lease.client,
        lease.until
    ))));
});
