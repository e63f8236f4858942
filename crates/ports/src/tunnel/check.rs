//! Tunnels: who is at the other end, and addresses that a host of the network can have.

use std::net::IpAddr;

use vmlan_api::{ErrorCode, OneOrMany};
use vmlan_drivers::tunnel::message::Prefixed;

use super::{Tunnel, TunnelAddresses, TunnelSource};
use crate::check::{AccessKeys, Validator, as_usize, is_host};
use crate::kind::Surroundings;
use crate::{Mtu, PortSettings, join, shown};

fn keys_of(tunnel: &vmlan_api::TunnelConfig) -> AccessKeys<'_> {
    AccessKeys { mode: &tunnel.mode, owner: &tunnel.owner, group: &tunnel.group }
}

impl Validator {
    pub(super) fn tunnel(&mut self, path: &str, tunnel: &vmlan_api::TunnelConfig) -> Option<Tunnel> {
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
        tunnel: &vmlan_api::TunnelConfig,
        listen: &str,
        addresses: Vec<Prefixed>,
        allowed: Vec<Prefixed>,
    ) -> Option<TunnelSource> {
        if tunnel.packet_information.is_some() || tunnel.netns.is_some() {
            let message = "`packet_information` and `netns` are for a `device`; remove them";
            return self.refuse(ErrorCode::Conflict, path, message);
        }
        let access = self.access(path, keys_of(tunnel));
        let socket = self.socket_path(&join(path, "listen"), listen);
        let addresses = match (addresses.is_empty(), allowed.is_empty()) {
            (false, true) if tunnel.clients.is_none() => TunnelAddresses::Fixed(addresses),
            (false, true) => {
                let message =
                    "`address` is for one client at a time; remove `clients`, or write `allow` instead";
                return self.refuse(ErrorCode::Conflict, path, message);
            }
            (true, false) => {
                let clients = self.number::<vmlan_api::TunnelConfig>(path, "clients", tunnel.clients);
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
        Some(TunnelSource::Listen { path: socket?, access: access?, addresses })
    }

    fn tunnel_device(
        &mut self,
        path: &str,
        tunnel: &vmlan_api::TunnelConfig,
        device: &str,
        addresses: Vec<Prefixed>,
    ) -> Option<TunnelSource> {
        if tunnel.allow.is_some() || tunnel.clients.is_some() || !keys_of(tunnel).named().is_empty() {
            let message =
                "`allow`, `clients`, `mode`, `owner` and `group` are for a control socket; remove them";
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

    /// Checks a tunnel against its network and its port's settings.
    pub(super) fn tunnel_fits(
        &mut self,
        path: &str,
        (tunnel, settings): (&Tunnel, &PortSettings),
        network: &mut Surroundings,
    ) {
        let network_mtu = network.mtu;
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
        self.fits_ipv6(&at("mtu"), mtu, addresses);
        if settings.mac.len() > most_macs {
            let message = match most_macs {
                0 => "each client of the tunnel has a link address of its own; remove `mac`",
                _ => "a tunnel has one link address; keep one",
            };
            self.fault(ErrorCode::Conflict, &join(path, "mac"), message);
        }
        if most_macs > 0 {
            self.hosts(&at("address"), path, addresses, network);
        }
    }
}
