//! From an uplink's settings to those of its parts.

use std::collections::BTreeMap;

use vmlan_frame::wire::IpProtocol;
use vmlan_lan::{PortId, ServiceGuard};
use vmlan_nat::Keyed;
use vmlan_nat::envelope::GATEWAY_LINK_LOCAL;
use vmlan_nat::guests::Limits;
use vmlan_nat::reach::{Egress, Plan, Service, Target};
use vmlan_services::settings::{Boot, Dhcp, Dns};
use vmlan_services::{Name, Port, Settings};

use super::forward::{HostService, HostTarget, Transport};
use super::services::{Config, Servers};
use super::{DnsServers, UplinkSettings};
use crate::{UplinkPort, stable};
use vmlan_api::{DenyAnswer, UdpFilter, UplinkMode};

/// Octets that are kept for all guests of an uplink together.
const MEMORY: usize = 128 << 20;

/// Flows of datagrams of all guests of an uplink together.
const DATAGRAM_FLOWS: usize = 16_384;

/// The architectures of option 93 that boot by UEFI (IANA, Processor Architecture Types).
const UEFI: [u16; 6] = [6, 7, 9, 11, 15, 16];

/// The settings of the engine.
pub(super) fn engine(settings: &UplinkSettings, mtu: usize, key: [u64; 2]) -> vmlan_nat::Settings {
    let rooms = &settings.rooms;
    vmlan_nat::Settings {
        mac: rooms.mac,
        mtu,
        plan: Plan {
            subnet4: Some(rooms.subnet),
            subnet6: rooms.subnet6,
            egress: egress(settings),
            services: host_services(settings),
            deny_silently: deny_silently(settings),
        },
        limits: limits(settings),
        memory: MEMORY,
        rate: settings.limits.rate,
        datagram_flows: DATAGRAM_FLOWS,
        open_filter: open_filter(settings),
        key: Keyed(key),
    }
}

/// The part of the world that guests may reach: nothing where there is no way out.
pub(super) fn egress(settings: &UplinkSettings) -> Egress {
    match settings.rooms.mode {
        UplinkMode::None => Egress::None,
        UplinkMode::User | UplinkMode::Kernel => settings.egress.clone(),
    }
}

/// True if guests are not told that a destination is not open.
pub(super) fn deny_silently(settings: &UplinkSettings) -> bool {
    settings.deny == DenyAnswer::Drop
}

pub(super) fn limits(settings: &UplinkSettings) -> Limits {
    let limits = &settings.limits;
    Limits {
        flows: limits.flows,
        new_per_second: limits.new_per_second,
        memory: limits.memory,
        ..Limits::default()
    }
}

/// True if datagrams of strangers reach guests.
pub(super) fn open_filter(settings: &UplinkSettings) -> bool {
    settings.udp_filter == UdpFilter::Open
}

fn protocol(transport: Transport) -> IpProtocol {
    match transport {
        Transport::Tcp => IpProtocol::TCP,
        Transport::Udp => IpProtocol::UDP,
    }
}

pub(super) fn host_services(settings: &UplinkSettings) -> Vec<Service> {
    let service = |service: &HostService| Service {
        protocol: protocol(service.transport),
        port: service.number,
        target: match &service.target {
            HostTarget::Loopback(number) => Target::Loopback(*number),
            HostTarget::Unix(path) => Target::Path(path.clone()),
        },
    };
    settings.host.iter().map(service).collect()
}

/// The settings of the services.
pub(super) fn services_config(settings: &UplinkSettings, mtu: usize, network: &str) -> Config {
    let rooms = &settings.rooms;
    // Checked when the configuration was.
    let name = |text: &str| Name::parse(text).ok();
    let dns = settings.dns.as_ref().and_then(|dns| {
        Some(Dns {
            domain: name(&dns.domain)?,
            search: dns.search.iter().filter_map(|domain| name(domain)).collect(),
            host: !settings.host.is_empty(),
            filter_aaaa: dns.filter_aaaa,
        })
    });
    let servers = match settings.dns.as_ref().map(|dns| &dns.servers) {
        Some(DnsServers::Listed(servers)) => Servers::Fixed(servers.clone()),
        Some(DnsServers::Host) | None => Servers::Host,
    };
    let dhcp = settings.dhcp.as_ref().map(|dhcp| Dhcp {
        pool: dhcp.pool.0..=dhcp.pool.1,
        lease: u32::try_from(dhcp.lease.as_secs()).unwrap_or(u32::MAX),
        ntp: dhcp.ntp.clone(),
        routes: Vec::new(),
        boot: Boot {
            server: dhcp.boot.server.clone(),
            file: dhcp.boot.file.clone(),
            architectures: dhcp
                .boot
                .efi
                .iter()
                .flat_map(|file| UEFI.map(|architecture| (architecture, file.clone())))
                .collect(),
            ipxe: dhcp.boot.ipxe.clone(),
            ..Boot::default()
        },
    });
    let settings = Settings {
        mac: rooms.mac,
        mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
        subnet: rooms.subnet,
        subnet6: rooms.subnet6,
        router: rooms.mode != UplinkMode::None,
        ipv6_only: settings.ipv6_only,
        identity: identity(network),
        dhcp,
        dns,
        egress: egress(settings),
    };
    Config { settings, servers }
}

/// Everything that only the uplink, which is that port of its network, may say.
pub(super) fn service_guard(settings: &UplinkSettings, port: PortId) -> ServiceGuard {
    let rooms = &settings.rooms;
    let link_local = rooms.subnet6.map(|_| GATEWAY_LINK_LOCAL.into());
    let addresses = rooms.hosts(1).chain(rooms.hosts(2)).chain(link_local).collect();
    ServiceGuard { port, addresses, dhcp: settings.dhcp.is_some() }
}

/// A number of machine and network that stays the same.
fn identity(network: &str) -> [u8; 16] {
    let half = |which: &[u8]| stable::number(&[&stable::machine(), network.as_bytes(), which]).to_be_bytes();
    let [one, two] = [half(b"one"), half(b"two")];
    std::array::from_fn(|at| if at < 8 { one[at] } else { two[at - 8] })
}

/// The ports of a network, as its services see them.
pub(super) fn services_ports(ports: &[UplinkPort]) -> Vec<Port> {
    let port = |port: &UplinkPort| Port {
        ingress: port.ingress,
        name: port.name.clone(),
        mac: port.macs.first().copied(),
        addresses: port.addresses.clone(),
        egress: port.egress.clone(),
        up: port.up,
    };
    ports.iter().map(port).collect()
}

/// The names of ports by their numbers.
pub(super) fn names(ports: &[UplinkPort]) -> BTreeMap<u16, String> {
    ports.iter().map(|port| (port.ingress, port.name.clone())).collect()
}
