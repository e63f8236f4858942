//! The services of an uplink: DHCP and DNS.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use vmlan_api::{ErrorCode, OneOrMany, Switch};
use vmlan_nat::envelope::Subnet4;

use super::super::egress::is_name;
use super::super::{Boot, Dhcp, Dns, DnsServers};
use super::addresses::unfit;
use crate::check::{Validator, is_host};
use crate::{join, shown};

/// Addresses of a pool.
const LARGEST_POOL: u32 = 1 << 16;
/// Octets of a domain: the longest port's name and two dots have to fit beside it.
const LONGEST_DOMAIN: usize = 200;

impl Validator {
    /// `None` is no server, or a fault.
    pub(super) fn dhcp(
        &mut self,
        path: &str,
        dhcp: Option<&Switch<vmlan_api::DhcpConfig>>,
        subnet: Option<Subnet4>,
    ) -> Option<Dhcp> {
        if dhcp.is_some_and(|dhcp| !dhcp.is_on()) {
            return None;
        }
        let usual = vmlan_api::DhcpConfig::default();
        let table = dhcp.and_then(Switch::table).unwrap_or(&usual);
        let lease = self.number::<vmlan_api::DhcpConfig>(path, "lease", table.lease);
        let ntp = self.each(&join(path, "ntp"), table.ntp.as_ref(), |text| {
            let server = text.parse::<IpAddr>().ok().filter(|address| is_host(*address));
            server.ok_or_else(|| "it is no address of a time server; write as in 192.0.2.1".to_owned())
        });
        let boot = table.boot.clone().unwrap_or_default();
        let at = join(path, "boot");
        for (key, text) in
            [("server", &boot.server), ("file", &boot.file), ("efi", &boot.efi), ("ipxe", &boot.ipxe)]
        {
            // An option of DHCP has a length of 8 bits.
            let bad = text.as_ref().is_some_and(|text| {
                text.is_empty() || text.len() > 255 || text.chars().any(char::is_control)
            });
            if bad {
                let message = "it must be 1 to 255 octets of plain text";
                self.fault(ErrorCode::OutOfRange, &join(&at, key), message);
            }
        }
        let vmlan_api::BootConfig { server, file, efi, ipxe } = boot;
        if server.is_some() && file.is_none() && efi.is_none() && ipxe.is_none() {
            let message = "a server alone boots nothing; add `file`, `efi` or `ipxe`";
            self.fault(ErrorCode::MissingKey, &at, message);
        }
        let pool = self.pool(&join(path, "pool"), table.pool.as_deref(), subnet?)?;
        let boot = Boot { server, file, efi, ipxe };
        Some(Dhcp { pool, lease: Duration::from_secs(lease?), ntp: ntp?, boot })
    }

    fn pool(&mut self, path: &str, text: Option<&str>, subnet: Subnet4) -> Option<(Ipv4Addr, Ipv4Addr)> {
        let size = 1_u32 << (32 - subnet.prefix);
        let Some(text) = text else {
            // From 16 to 250 of 256.
            let (first, last) = if size >= 64 { (16, size - 6) } else { (3, size - 2) };
            let last = last.min(first + LARGEST_POOL - 1);
            return Some((subnet.host(first), subnet.host(last)));
        };
        let parts = text.split_once('-').and_then(|(first, last)| {
            Some((first.trim().parse::<Ipv4Addr>().ok()?, last.trim().parse::<Ipv4Addr>().ok()?))
        });
        let Some((first, last)) = parts.filter(|(first, last)| first <= last) else {
            let message = format!(
                "`{}` is no range of addresses; write the first and the last, as in {}-{}",
                shown(text),
                subnet.host(3),
                subnet.host(size - 2)
            );
            return self.refuse(ErrorCode::BadAddress, path, message);
        };
        for end in [first, last] {
            if let Some(why) = unfit(subnet, end) {
                return self.refuse(ErrorCode::BadAddress, path, format!("{end} {why}"));
            }
        }
        if last.to_bits() - first.to_bits() >= LARGEST_POOL {
            let message = format!("the pool has more than {LARGEST_POOL} addresses");
            return self.refuse(ErrorCode::OutOfRange, path, message);
        }
        Some((first, last))
    }

    /// `None` is no server, or a fault.
    pub(super) fn dns(
        &mut self,
        path: &str,
        dns: Option<&Switch<vmlan_api::DnsConfig>>,
        (network, has_ipv6): (&str, bool),
    ) -> Option<Dns> {
        if dns.is_some_and(|dns| !dns.is_on()) {
            return None;
        }
        let usual = vmlan_api::DnsConfig::default();
        let table = dns.and_then(Switch::table).unwrap_or(&usual);
        let domain = match &table.domain {
            Some(text) => self.domain(&join(path, "domain"), text),
            // A label has no `_`, and does not end with a hyphen.
            None => {
                let label = network.to_ascii_lowercase().replace('_', "-");
                Some(format!("{}.internal", label.trim_end_matches('-')))
            }
        };
        let search = self.each(&join(path, "search"), table.search.as_ref(), domain_of);
        let at = join(path, "servers");
        let servers = match table.servers.as_ref().map(OneOrMany::as_slice) {
            None => Some(DnsServers::Host),
            Some([word]) if word == "host" => Some(DnsServers::Host),
            Some([]) => {
                let message = "no server is in an empty list; name some, or write \"host\"";
                self.refuse(ErrorCode::OutOfRange, &at, message)
            }
            Some(_) => self.each(&at, table.servers.as_ref(), server).map(DnsServers::Listed),
        };
        let filter_aaaa = table.filter_aaaa.unwrap_or(false);
        if filter_aaaa && has_ipv6 {
            let message = "guests have IPv6; add `ipv6 = \"off\"` to the uplink, or remove `filter_aaaa`";
            self.fault(ErrorCode::Conflict, &join(path, "filter_aaaa"), message);
        }
        Some(Dns { domain: domain?, servers: servers?, search: search?, filter_aaaa })
    }

    fn domain(&mut self, path: &str, text: &str) -> Option<String> {
        match domain_of(text) {
            Ok(domain) => Some(domain),
            Err(message) => self.refuse(ErrorCode::BadName, path, format!("`{}`: {message}", shown(text))),
        }
    }
}

/// A domain in lower case without a final dot.
fn domain_of(text: &str) -> Result<String, String> {
    let domain = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if domain == "local" || domain.ends_with(".local") {
        Err("names in .local are those of multicast DNS; choose another domain, as lab.internal".to_owned())
    } else if domain.len() <= LONGEST_DOMAIN && is_name(&domain) {
        Ok(domain)
    } else {
        Err(format!(
            "it is no domain; write up to {LONGEST_DOMAIN} letters, digits, - and dots, as lab.internal"
        ))
    }
}

/// The address of a DNS server, with or without a port.
fn server(text: &str) -> Result<SocketAddr, String> {
    let alone = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
    let address = alone.or_else(|_| text.parse::<SocketAddr>());
    let usable = |address: &SocketAddr| {
        let of = address.ip();
        address.port() > 0 && !of.is_unspecified() && !of.is_multicast()
    };
    address.ok().filter(usable).ok_or_else(|| {
        "it is no address of a DNS server; write \"host\", or as in 192.0.2.53 or [2001:db8::53]:5353"
            .to_owned()
    })
}
