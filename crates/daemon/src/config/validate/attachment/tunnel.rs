//! Tunnels: who is at the other end, and addresses that a host of the network can have.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::{ErrorCode, OneOrMany};
use drivers::tunnel::Interface;
use drivers::tunnel::message::{BadPrefixed, MOST_ADDRESSES, Prefixed};

use crate::config::read::{join, shown};
use crate::config::valid::{Attachment, Mtu, Policy, Tunnel, TunnelAddresses, TunnelSource};
use crate::config::validate::{Validator, as_usize};

impl Validator {
    pub(super) fn tunnel(&mut self, path: &str, tunnel: &api::TunnelConfig) -> Option<Tunnel> {
        let addresses = self.addresses(&join(path, "address"), tunnel.address.as_ref());
        let allowed = self.networks(&join(path, "allow"), tunnel.allow.as_ref());
        let fixed = addresses.as_deref().unwrap_or_default();
        let gateways = self.gateways(&join(path, "gateway"), tunnel.gateway.as_ref(), fixed);
        let mtu = match tunnel.mtu {
            Some(_) => Mtu::new(self.in_range(tunnel.mtu, &join(path, "mtu"), Mtu::RANGE, 1500)),
            None => None,
        };
        let source = match (&tunnel.listen, &tunnel.device) {
            (Some(listen), None) => self.control_socket(path, tunnel, listen, addresses?, allowed?),
            (None, Some(device)) => self.tunnel_device(path, tunnel, device, addresses?),
            (None, None) => {
                let message =
                    "add `listen` with the path of a control socket, or `device` with the name of a device";
                self.refuse(ErrorCode::MissingKey, path, message)
            }
            (Some(_), Some(_)) => {
                self.refuse(ErrorCode::Conflict, path, "`listen` and `device` exclude each other; keep one")
            }
        };
        Some(Tunnel { source: source?, gateways: gateways?, mtu })
    }

    fn control_socket(
        &mut self,
        path: &str,
        tunnel: &api::TunnelConfig,
        listen: &str,
        addresses: Vec<Prefixed>,
        allowed: Vec<Prefixed>,
    ) -> Option<TunnelSource> {
        if tunnel.packet_information.is_some() || tunnel.netns.is_some() {
            let message = "`packet_information` and `netns` are for a `device`; remove them";
            return self.refuse(ErrorCode::Conflict, path, message);
        }
        let mode = self.mode(path, tunnel.mode.as_deref());
        let socket = self.socket_path(&join(path, "listen"), listen);
        let addresses = match (addresses.is_empty(), allowed.is_empty()) {
            (false, true) if tunnel.clients.is_none() => TunnelAddresses::Fixed(addresses),
            (false, true) => {
                let message =
                    "`address` is for one client at a time; remove `clients`, or write `allow` instead";
                return self.refuse(ErrorCode::Conflict, path, message);
            }
            (true, false) => {
                let clients = self.number::<api::TunnelConfig>(path, "clients", tunnel.clients);
                TunnelAddresses::Chosen { allowed, clients: as_usize(clients?) }
            }
            (true, true) => {
                let message =
                    "add `address` for one client, or `allow` with the networks in which clients choose";
                return self.refuse(ErrorCode::MissingKey, path, message);
            }
            (false, false) => {
                let message = "`address` and `allow` exclude each other; keep one";
                return self.refuse(ErrorCode::Conflict, path, message);
            }
        };
        Some(TunnelSource::Listen { path: socket?, mode: mode?, addresses })
    }

    fn tunnel_device(
        &mut self,
        path: &str,
        tunnel: &api::TunnelConfig,
        device: &str,
        addresses: Vec<Prefixed>,
    ) -> Option<TunnelSource> {
        if tunnel.allow.is_some() || tunnel.mode.is_some() || tunnel.clients.is_some() {
            let message = "`allow`, `mode` and `clients` are for a control socket; remove them";
            return self.refuse(ErrorCode::Conflict, path, message);
        }
        if addresses.is_empty() {
            let message =
                "the key `address` is missing: which addresses the device has, as in \"10.0.0.9/24\"";
            return self.refuse(ErrorCode::MissingKey, path, message);
        }
        self.device_name(&join(path, "device"), device)?;
        let netns = match &tunnel.netns {
            Some(text) => Some(self.netns(&join(path, "netns"), text)?),
            None => None,
        };
        let packet_information = tunnel.packet_information.unwrap_or(false);
        Some(TunnelSource::Device { name: device.to_owned(), addresses, packet_information, netns })
    }

    /// Addresses of hosts.
    fn addresses(&mut self, path: &str, texts: Option<&OneOrMany<String>>) -> Option<Vec<Prefixed>> {
        let addresses = self.networks(path, texts)?;
        for (index, Prefixed { address, .. }) in addresses.iter().enumerate() {
            if !is_host(*address) {
                let message = format!("{address} is no address of one host; choose another");
                return self.refuse(ErrorCode::BadAddress, path, message);
            }
            if addresses[..index].iter().any(|other| other.address == *address) {
                return self.refuse(ErrorCode::Conflict, path, format!("{address} is there twice"));
            }
        }
        Some(addresses)
    }

    pub(super) fn networks(
        &mut self,
        path: &str,
        texts: Option<&OneOrMany<String>>,
    ) -> Option<Vec<Prefixed>> {
        self.prefixed(path, texts, str::parse)
    }

    /// The same, where an address without a prefix stands for itself.
    pub(in crate::config) fn addresses_or_networks(
        &mut self,
        path: &str,
        texts: Option<&OneOrMany<String>>,
    ) -> Option<Vec<Prefixed>> {
        let alone = |address: IpAddr| Prefixed { address, prefix: if address.is_ipv4() { 32 } else { 128 } };
        self.prefixed(path, texts, |text| text.parse().map(alone).or_else(|_| text.parse()))
    }

    fn prefixed(
        &mut self,
        path: &str,
        texts: Option<&OneOrMany<String>>,
        parse: impl Fn(&str) -> Result<Prefixed, BadPrefixed>,
    ) -> Option<Vec<Prefixed>> {
        let texts = texts.map_or(&[][..], OneOrMany::as_slice);
        if texts.len() > MOST_ADDRESSES {
            let message = format!("{} are too many; use at most {MOST_ADDRESSES}", texts.len());
            return self.refuse(ErrorCode::OutOfRange, path, message);
        }
        let mut list = Vec::with_capacity(texts.len());
        for text in texts {
            match parse(text) {
                Ok(prefixed) => list.push(prefixed),
                Err(error) => {
                    let message = format!("`{}` is no such address: {error}", shown(text));
                    return self.refuse(ErrorCode::BadAddress, path, message);
                }
            }
        }
        Some(list)
    }

    fn gateways(
        &mut self,
        path: &str,
        texts: Option<&OneOrMany<String>>,
        addresses: &[Prefixed],
    ) -> Option<Vec<IpAddr>> {
        let mut gateways: Vec<IpAddr> = Vec::new();
        for text in texts.map_or(&[][..], OneOrMany::as_slice) {
            let Some(gateway) = text.parse().ok().filter(|gateway| is_host(*gateway)) else {
                let message = format!("`{}` is no address of a host; write it without a prefix", shown(text));
                return self.refuse(ErrorCode::BadAddress, path, message);
            };
            if gateways.iter().any(|other| other.is_ipv4() == gateway.is_ipv4()) {
                return self.refuse(ErrorCode::Conflict, path, "there are two of one family; keep one");
            }
            let link_local = matches!(gateway, IpAddr::V6(gateway) if gateway.is_unicast_link_local());
            if !addresses.is_empty() && !link_local && !addresses.iter().any(|own| own.contains(gateway)) {
                let message =
                    format!("{gateway} is in none of the networks of `address`, so it cannot be reached");
                return self.refuse(ErrorCode::BadAddress, path, message);
            }
            gateways.push(gateway);
        }
        Some(gateways)
    }

    /// What a tunnel has to do with its network and with its port's policy. `hosts` is which port has which address.
    pub(in crate::config::validate) fn tunnel_fits(
        &mut self,
        path: &str,
        (attachment, policy): (&Attachment, &Policy),
        network_mtu: u64,
        hosts: &mut BTreeMap<IpAddr, String>,
    ) {
        let Attachment::Tunnel(tunnel) = attachment else { return };
        let at = |key| join(path, &format!("tunnel.{key}"));
        let mtu = tunnel.mtu.map_or(network_mtu, |mtu| mtu.octets() as u64);
        if mtu > network_mtu {
            let message = format!("{mtu} is more than the network's {network_mtu}; use at most that");
            self.fault(ErrorCode::OutOfRange, &at("mtu"), message);
        }
        let (addresses, most_macs) = match &tunnel.source {
            TunnelSource::Device { addresses, .. } => (addresses, 1),
            TunnelSource::Listen { addresses: TunnelAddresses::Fixed(addresses), .. } => (addresses, 1),
            TunnelSource::Listen { addresses: TunnelAddresses::Chosen { allowed, .. }, .. } => (allowed, 0),
        };
        if mtu < u64::from(Interface::MIN_MTU_IPV6) && addresses.iter().any(|own| own.address.is_ipv6()) {
            let message =
                format!("an MTU of {mtu} octets is too small for IPv6; use 1280 or more, or IPv4 only");
            self.fault(ErrorCode::OutOfRange, &at("mtu"), message);
        }
        if policy.mac.len() > most_macs {
            let message = match most_macs {
                0 => "each client of the tunnel has a link address of its own; remove `mac`",
                _ => "a tunnel has one link address; keep one",
            };
            self.fault(ErrorCode::Conflict, &join(path, "mac"), message);
        }
        for Prefixed { address, .. } in addresses.iter().filter(|_| most_macs > 0) {
            if let Some(owner) = hosts.insert(*address, path.to_owned()) {
                let message = format!("{address} is that of {owner} already; choose another");
                self.fault(ErrorCode::DuplicateAttachment, &at("address"), message);
            }
        }
    }

    /// Permissions in octal; 0600 when nothing is said.
    pub(super) fn mode(&mut self, path: &str, text: Option<&str>) -> Option<u32> {
        let mode = text.unwrap_or("0600");
        let octal =
            mode.bytes().all(|c| c.is_ascii_digit()).then(|| u32::from_str_radix(mode, 8).ok()).flatten();
        octal.filter(|mode| mode & !0o777 == 0).or_else(|| {
            let message = format!("`{}` are no permissions; write them in octal: \"0660\"", shown(mode));
            self.refuse(ErrorCode::OutOfRange, &join(path, "mode"), message)
        })
    }
}

fn is_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !(broadcast || address.is_unspecified() || address.is_multicast() || address.is_loopback())
}
