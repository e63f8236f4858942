//! The options of answers.

use std::net::{IpAddr, Ipv4Addr};

use super::message::{Fields, Request, Writer, kind, option};
use crate::name::compressed;
use crate::settings::{Boot, Dhcp};
use crate::{Name, Port, Settings};

/// Octets of a datagram that every client takes (RFC 2131 section 2).
const LEAST_SIZE: usize = 576;
/// Octets of the largest datagram that is sent, whatever the MTU.
const MOST_SIZE: usize = 1500;
/// Octets of the IP and UDP headers, which option 57 counts.
const HEADERS: usize = 28;
/// Seconds that a client does without IPv4 before it asks again, if it asks for option 108 (RFC 8925 section 3.2).
const V6_ONLY_WAIT: u32 = 1800;
/// Parts of a lease after which it is renewed, and rebound (RFC 2131 section 4.4.5), in eighths.
const RENEWAL: u64 = 4;
const REBINDING: u64 = 7;

/// An answer to be written.
pub(super) struct Answer<'a> {
    pub request: &'a Request,
    pub kind: u8,
    pub address: Ipv4Addr,
    /// Seconds of the lease; `None` for an answer without one.
    pub lease: Option<u32>,
    pub port: Option<&'a Port>,
}

pub(super) fn write(settings: &Settings, dhcp: &Dhcp, answer: &Answer<'_>) -> Vec<u8> {
    let request = answer.request;
    let is_nak = answer.kind == kind::NAK;
    let boot = Program::of(&dhcp.boot, request);
    let fields = Fields {
        yiaddr: answer.address,
        siaddr: if is_nak { Ipv4Addr::UNSPECIFIED } else { boot.address },
        server_name: if is_nak { "" } else { boot.server },
        file: if is_nak { "" } else { boot.file },
    };
    let ciaddr = if is_nak { Ipv4Addr::UNSPECIFIED } else { request.ciaddr };
    let most = request.number(option::MAX_SIZE).map_or(0, usize::from);
    let room = usize::from(settings.mtu).clamp(LEAST_SIZE, MOST_SIZE);
    let most = most.max(LEAST_SIZE).min(room) - HEADERS;
    let mut writer = Writer::new(request, ciaddr, &fields, most);
    let gateway = settings.gateway();

    writer.push(option::MESSAGE_TYPE, &[answer.kind]);
    writer.push(option::SERVER, &gateway.octets());
    if let Some(identifier) = request.option(option::CLIENT) {
        // RFC 6842 section 3: echoed as it is, also in a NAK.
        writer.push(option::CLIENT, identifier);
    }
    if is_nak {
        writer.push(option::MESSAGE, b"the address is not yours here");
        return writer.finish();
    }
    if let Some(lease) = answer.lease {
        let part = |eighths| ((u64::from(lease) * eighths / 8) as u32).to_be_bytes();
        writer.push(option::LEASE_TIME, &lease.to_be_bytes());
        writer.push(option::RENEWAL, &part(RENEWAL));
        writer.push(option::REBINDING, &part(REBINDING));
    }
    let mut sent = Vec::new();
    let always = [option::SUBNET_MASK, option::ROUTER, option::DNS];
    // RFC 2132 section 3.3: the mask stands before the router.
    let asked = request.option(option::PARAMETERS).unwrap_or_default();
    for number in always.into_iter().chain(asked.iter().copied()) {
        if !sent.contains(&number)
            && let Some(value) = value(settings, dhcp, answer, &boot, number)
        {
            writer.push(number, &value);
        }
        sent.push(number);
    }
    if boot.is_http {
        // UEFI 2.10 section 24.7: an answer without it is no offer of a boot file to it.
        writer.push(option::CLASS, b"HTTPClient");
    }
    if answer.kind == kind::ACK && request.kind == kind::DISCOVER {
        writer.push(option::RAPID_COMMIT, &[]);
    }
    writer.finish()
}

fn value(
    settings: &Settings,
    dhcp: &Dhcp,
    answer: &Answer<'_>,
    boot: &Program<'_>,
    number: u8,
) -> Option<Vec<u8>> {
    let gateway = settings.gateway();
    let mask = u32::MAX.checked_shl(32 - u32::from(settings.subnet.prefix)).unwrap_or(0);
    let text = |text: &str| (!text.is_empty()).then(|| text.as_bytes().to_vec());
    match number {
        option::SUBNET_MASK => Some(mask.to_be_bytes().to_vec()),
        option::ROUTER => settings.router.then(|| gateway.octets().to_vec()),
        option::DNS => settings.dns.as_ref().map(|_| gateway.octets().to_vec()),
        option::HOST_NAME => {
            let name = &answer.port?.name;
            crate::names::is_label(name).then(|| name.as_bytes().to_vec())
        }
        option::BOOT_SIZE => dhcp.boot.blocks.map(|blocks| blocks.to_be_bytes().to_vec()),
        option::DOMAIN => settings.dns.as_ref().map(|dns| dns.domain.to_string().into_bytes()),
        option::MTU => Some(settings.mtu.to_be_bytes().to_vec()),
        option::BROADCAST => Some(settings.subnet.broadcast().octets().to_vec()),
        option::NTP => {
            let servers = dhcp.ntp.iter().filter_map(|server| match server {
                IpAddr::V4(server) => Some(server.octets()),
                IpAddr::V6(_) => None,
            });
            Some(servers.collect::<Vec<_>>().concat()).filter(|servers| !servers.is_empty())
        }
        option::VENDOR => Some(dhcp.boot.vendor.clone()).filter(|octets| !octets.is_empty()),
        option::BOOT_SERVER => text(boot.server),
        option::BOOT_FILE => text(boot.file),
        option::V6_ONLY => settings.ipv6_only.then(|| V6_ONLY_WAIT.to_be_bytes().to_vec()),
        option::SEARCH => {
            let list = Vec::<&Name>::from_iter(settings.search());
            (!list.is_empty()).then(|| compressed(list))
        }
        option::ROUTES => settings.router.then(|| routes(&dhcp.routes, gateway)),
        option::IPXE => Some(dhcp.boot.ipxe_options.clone()).filter(|octets| !octets.is_empty()),
        _ => None,
    }
}

/// Routes by the gateway, the default one again: who takes this option ignores option 3 (RFC 3442).
pub(super) fn routes(routes: &[(Ipv4Addr, u8)], gateway: Ipv4Addr) -> Vec<u8> {
    let mut octets = Vec::new();
    for (network, prefix) in routes.iter().chain([&(Ipv4Addr::UNSPECIFIED, 0)]) {
        octets.push(*prefix);
        octets.extend(&network.octets()[..usize::from(prefix.div_ceil(8)).min(4)]);
        octets.extend(gateway.octets());
    }
    octets
}

/// The program that a client is to boot.
struct Program<'a> {
    address: Ipv4Addr,
    server: &'a str,
    file: &'a str,
    is_http: bool,
}

impl<'a> Program<'a> {
    fn of(boot: &'a Boot, request: &Request) -> Program<'a> {
        // Of user classes, iPXE writes the text alone, without the length that RFC 3004 wants.
        let is_ipxe = request.option(option::USER_CLASS).is_some_and(|class| class.ends_with(b"iPXE"));
        let architecture = request.number(option::ARCHITECTURE);
        let by_architecture =
            boot.architectures.iter().find(|(number, _)| Some(*number) == architecture).map(|(_, file)| file);
        let own = boot.ipxe.as_ref().filter(|_| is_ipxe);
        let file = own.or(by_architecture).or(boot.file.as_ref()).map_or("", String::as_str);
        let server = boot.server.as_deref().unwrap_or_default();
        let class = request.option(option::CLASS).unwrap_or_default();
        Program {
            address: server.parse().unwrap_or(Ipv4Addr::UNSPECIFIED),
            server,
            file,
            is_http: !file.is_empty() && class.starts_with(b"HTTPClient"),
        }
    }
}
