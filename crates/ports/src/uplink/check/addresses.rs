//! The subnets of an uplink, and the addresses of guests in them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use vmlan_api::{ErrorCode, OneOrMany};
use vmlan_nat::envelope::{Subnet4, Subnet6};

use super::super::Rooms;
use super::super::egress::masked;
use super::{Surrounding, item};
use crate::check::{Validator, is_host};
use crate::{join, shown, stable};

/// Bits of a subnet's prefix: at least five guests' addresses, and no more than a private range has.
const PREFIX: RangeInclusive<u8> = 8..=29;
/// Addresses set on one port.
const MOST_ADDRESSES: usize = 16;
/// Octets of an IPv6 packet that every link has to take (RFC 8200 5).
const LEAST_IPV6: u64 = 1280;

impl Validator {
    pub(super) fn subnet(&mut self, path: &str, network: &str, text: Option<&str>) -> Option<Subnet4> {
        let Some(text) = text else {
            let number = stable::number(&[network.as_bytes()]) as u8;
            return Some(Subnet4 { network: Ipv4Addr::new(10, 213, number, 0), prefix: 24 });
        };
        let parts = text.split_once('/').and_then(|(address, bits)| {
            let bits = bits.parse::<u8>().ok().filter(|bits| PREFIX.contains(bits))?;
            Some((address.parse::<Ipv4Addr>().ok()?, bits))
        });
        let Some((address, prefix)) = parts else {
            let message = format!(
                "`{}` is no subnet for guests; write an IPv4 address and {} to {} bits, as in 10.213.5.0/24",
                shown(text),
                PREFIX.start(),
                PREFIX.end()
            );
            return self.refuse(ErrorCode::BadAddress, path, message);
        };
        let IpAddr::V4(network) = masked(address.into(), prefix) else { unreachable!("it is of its family") };
        if network != address {
            let message = format!("{address} has bits behind the first {prefix}; write {network}/{prefix}");
            return self.refuse(ErrorCode::BadAddress, path, message);
        }
        let first = network.octets()[0];
        if first == 0 || first == 127 || first >= 224 || network.is_link_local() {
            let message = format!("{network}/{prefix} has no addresses for hosts; choose a private range");
            return self.refuse(ErrorCode::BadAddress, path, message);
        }
        Some(Subnet4 { network, prefix })
    }

    /// The outer `None` is a fault.
    #[expect(clippy::option_option, reason = "the outer one is a fault")]
    pub(super) fn subnet6(
        &mut self,
        path: &str,
        text: Option<&str>,
        of: &Surrounding<'_>,
    ) -> Option<Option<Subnet6>> {
        let at = join(path, "ipv6");
        let subnet = match text.unwrap_or("ula") {
            "off" => return Some(None),
            "ula" => ula(of.network),
            "host" => {
                let message =
                    "`host` is not there yet; write \"ula\", a prefix as in \"fd00:1::/64\", or \"off\"";
                return self.refuse(ErrorCode::OutOfRange, &at, message);
            }
            text => {
                let prefix = text.strip_suffix("/64").and_then(|text| text.parse::<Ipv6Addr>().ok());
                let good = prefix.filter(|prefix| {
                    prefix.to_bits() << 64 == 0
                        && is_host((*prefix).into())
                        && !prefix.is_unicast_link_local()
                });
                let Some(network) = good else {
                    let message = format!(
                        "`{}` is not possible here; write \"ula\", \"off\", or a prefix of 64 bits as in \
                         \"fd00:1::/64\"",
                        shown(text)
                    );
                    return self.refuse(ErrorCode::BadAddress, &at, message);
                };
                Subnet6 { network }
            }
        };
        if of.mtu < LEAST_IPV6 {
            let message = format!(
                "the network's MTU of {} octets is too small for IPv6; use {LEAST_IPV6} or more, or `ipv6 = \"off\"`",
                of.mtu
            );
            return self.refuse(ErrorCode::OutOfRange, &at, message);
        }
        Some(Some(subnet))
    }

    /// Checks the addresses that a port's table at `path` sets, of a network with this uplink. `owners` are the ports
    /// that have addresses.
    pub fn uplink_addresses(
        &mut self,
        path: &str,
        (name, texts, has_mac): (&str, Option<&OneOrMany<String>>, bool),
        rooms: &Rooms,
        owners: &mut BTreeMap<IpAddr, String>,
    ) -> Vec<IpAddr> {
        let path = join(path, "address");
        let count = texts.map_or(0, |texts| texts.as_slice().len());
        if count == 0 {
            return Vec::new();
        }
        if !has_mac {
            let message = "an address is set for a guest that is known by its MAC address; add `mac`";
            self.fault(ErrorCode::Conflict, &path, message);
        }
        if count > MOST_ADDRESSES {
            let message = format!("{count} addresses are too many; a port takes {MOST_ADDRESSES}");
            self.fault(ErrorCode::OutOfRange, &path, message);
            return Vec::new();
        }
        let mut addresses = Vec::with_capacity(count);
        for (index, text) in texts.map_or(&[][..], OneOrMany::as_slice).iter().enumerate() {
            let at = item(&path, texts, index);
            let address = match guests_address(text, rooms) {
                Ok(address) => address,
                Err(why) => {
                    self.fault(ErrorCode::BadAddress, &at, format!("`{}` {why}", shown(text)));
                    continue;
                }
            };
            if let Some(owner) = owners.insert(address, name.to_owned()) {
                let message = format!("{address} is set on port {owner} already; each address has one port");
                self.fault(ErrorCode::Conflict, &at, message);
            }
            addresses.push(address);
        }
        addresses
    }
}

/// The subnet of unique local addresses (RFC 4193) that follows from machine and network.
fn ula(network: &str) -> Subnet6 {
    let machine = stable::number(&[&stable::machine(), b"ula"]) >> 24;
    let subnet = stable::number(&[network.as_bytes()]) as u16;
    let bits = 0xfd << 56 | machine << 16 | u64::from(subnet);
    Subnet6 { network: Ipv6Addr::from_bits(u128::from(bits) << 64) }
}

/// Why no guest can have this address of the subnet, where that is so.
pub(super) fn unfit(subnet: Subnet4, address: Ipv4Addr) -> Option<String> {
    let number = address.to_bits() ^ subnet.network.to_bits();
    if !subnet.contains(address) {
        Some(format!("is not in the uplink's subnet, {subnet}"))
    } else if address == subnet.broadcast() || number == 0 {
        Some("is no address of one host".to_owned())
    } else if number <= 2 {
        Some("is the uplink's own, as all that end with .1 and .2 of the subnet".to_owned())
    } else {
        None
    }
}

/// An address for a guest; one of IPv6 whose first half is 0 is the end of an address of the uplink's subnet.
fn guests_address(text: &str, rooms: &Rooms) -> Result<IpAddr, String> {
    let address = text.parse::<IpAddr>().map_err(|_| {
        format!("is no IP address; write it without a prefix, as in {} or ::10", rooms.subnet.host(10))
    })?;
    let address = match address {
        IpAddr::V4(address) => {
            return unfit(rooms.subnet, address).map_or(Ok(address.into()), Err);
        }
        IpAddr::V6(address) => address,
    };
    let Some(subnet) = rooms.subnet6 else {
        return Err("is of IPv6, which is off in this uplink".to_owned());
    };
    let end = address.to_bits() as u64;
    let full = subnet.host(end);
    if address != full && address.to_bits() >> 64 != 0 {
        return Err(format!(
            "is not in the uplink's subnet, {}/64; write its end alone, as ::10",
            subnet.network
        ));
    }
    match end {
        0..=2 => Err("is the uplink's own, as all that end with ::0, ::1 and ::2".to_owned()),
        _ => Ok(full.into()),
    }
}
