//! From the unchecked to the checked configuration: what the values mean, and whether they fit together.
//!
//! A fault costs only its own member; checking goes on, so that all faults are told at once. The result exists only
//! without any fault.

mod attachment;
mod filter;
mod trunk;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::time::Duration;

use api::keys::{self, Keyed};
use api::{Error, ErrorCode, OneOrMany};
use frame::{MacAddr, VlanId};
use lan::{Limits, PortPolicy};

use super::claims::Claims;
use super::read::{join, shown};
use super::valid::{Mtu, Network, NetworkSettings, Policy, Port, UserLimits, ValidConfig, Vlan};

/// Worker threads.
const WORKERS: RangeInclusive<u64> = 1..=64;
/// Addresses in a forwarding database, and how many without `fdb.size`.
const FDB_SIZE: RangeInclusive<u64> = 16..=1_048_576;
const DEFAULT_FDB_SIZE: u64 = 8192;
/// Seconds of ageing (IEEE 802.1Q-2022 table 8-6 has 10 as the least; tests of guests want less).
const AGEING: RangeInclusive<u64> = 1..=1_000_000;
const DEFAULT_AGEING: u64 = 300;
/// Addresses set on a port.
const MOST_MACS: usize = 256;
/// What a network's trunk is called among its ports.
pub(crate) const TRUNK: &str = "trunk";
/// Characters of a name.
const LONGEST_NAME: usize = 32;

/// Checks a whole configuration.
///
/// Socket paths must be absolute here; those of a file were resolved before.
///
/// # Errors
/// Every fault found, each with the dotted path of its member as `field`.
pub fn validate(config: api::Config) -> Result<ValidConfig, Vec<Error>> {
    let mut validator = Validator::default();
    let workers = validator.in_range(config.workers, "workers", WORKERS, 1);
    let limits = validator.limits(config.limits.as_ref().and_then(|limits| limits.user.as_ref()));
    let networks: BTreeMap<_, _> = config
        .network
        .iter()
        .filter_map(|(name, network)| {
            let path = join("network", name);
            validator.name(&path, "network", name);
            Some((name.clone(), validator.network(&path, name, network)?))
        })
        .collect();
    if !validator.faults.is_empty() {
        return Err(validator.faults);
    }
    let workers = NonZeroUsize::new(as_usize(workers)).unwrap_or(NonZeroUsize::MIN);
    let poll = config.poll.unwrap_or_default();
    Ok(ValidConfig { source: config, workers, poll, limits, networks })
}

/// Collects faults and what ports claim for themselves.
#[derive(Debug, Default)]
struct Validator {
    faults: Vec<Error>,
    claims: Claims,
}

impl Validator {
    fn fault(&mut self, code: ErrorCode, field: &str, message: impl Into<String>) {
        self.faults.push(Error::at(code, field, message));
    }

    fn limits(&mut self, user: Option<&api::UserLimitsConfig>) -> UserLimits {
        let Some(user) = user else { return UserLimits::default() };
        let mut number =
            |number, key| self.number::<api::UserLimitsConfig>("limits.user", key, number).map(as_usize);
        let backlog = number(user.backlog, "backlog").map(|mebioctets| mebioctets << 20);
        UserLimits {
            ports: number(user.ports, "ports"),
            connections: number(user.connections, "connections"),
            events: number(user.events, "events"),
            captures: number(user.captures, "captures"),
            addresses: number(user.addresses, "addresses"),
            backlog: backlog.unwrap_or(UserLimits::DEFAULT_BACKLOG),
        }
    }

    fn name(&mut self, path: &str, what: &str, name: &str) {
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let good = name.len() <= LONGEST_NAME
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(legal);
        if !good {
            let message = format!(
                "`{}` is no name for a {what}; use 1 to {LONGEST_NAME} of a-z, A-Z, 0-9, - and _, beginning with a \
                 letter or digit",
                shown(name)
            );
            self.fault(ErrorCode::BadName, path, message);
        }
    }

    fn network(&mut self, path: &str, name: &str, network: &api::NetworkConfig) -> Option<Network> {
        let before = self.faults.len();
        let no_settings = api::FdbConfig::default();
        let fdb = network.fdb.as_ref().unwrap_or(&no_settings);
        let mtu = self.in_range(network.mtu, &join(path, "mtu"), Mtu::RANGE, 1500);
        let fdb_size = self.in_range(fdb.size, &join(path, "fdb.size"), FDB_SIZE, DEFAULT_FDB_SIZE);
        let ageing = self.in_range(fdb.ageing, &join(path, "fdb.ageing"), AGEING, DEFAULT_AGEING);

        let trunk = network.trunk.as_ref().map(|trunk| self.trunk(&join(path, "trunk"), name, trunk));
        let sees_trunk = matches!(&trunk, Some(Some(trunk)) if trunk.promiscuous);
        let (mut owners, mut hosts) = (BTreeMap::new(), BTreeMap::new());
        let mut ports: BTreeMap<String, Port> = BTreeMap::new();
        for (name, port) in &network.port {
            let path = join(path, &format!("port.{name}"));
            self.name(&path, "port", name);
            if network.trunk.is_some() && name == TRUNK {
                let message = "the network's trunk is listed by this name; choose another for the port";
                self.fault(ErrorCode::Conflict, &path, message);
            }
            let policy = self.policy(&path, name, port, fdb_size, &mut owners);
            if let (Some(attachment), Some(mut policy)) = (self.attachment(&path, port), policy) {
                policy.sees_trunk = sees_trunk && policy.promiscuous;
                self.tunnel_fits(&path, (&attachment, &policy), mtu, &mut hosts);
                ports.insert(name.clone(), Port { attachment, policy });
            }
        }
        for (index, entry) in fdb.static_entries.iter().enumerate() {
            let path = join(path, &format!("fdb.static[{index}]"));
            self.static_entry(&path, entry, network, &mut owners, &mut ports);
        }
        let settings = NetworkSettings {
            mtu: Mtu::new(mtu)?,
            fdb_size: as_usize(fdb_size),
            ageing: Duration::from_secs(ageing),
            pass_reserved: network.pass_reserved.unwrap_or(false),
        };
        (self.faults.len() == before).then_some(Network { settings, trunk: trunk.flatten(), ports })
    }

    /// `owners` is who in the network has which address set.
    fn policy(
        &mut self,
        path: &str,
        name: &str,
        port: &api::PortConfig,
        fdb_size: u64,
        owners: &mut BTreeMap<MacAddr, String>,
    ) -> Option<Policy> {
        let vlan = port.vlan.as_ref().map_or(Some(Vlan::None), |vlan| self.vlan(&join(path, "vlan"), vlan));
        let mut number = |key, given| self.number::<api::PortConfig>(path, key, given);
        let queue = number("queue", port.queue).unwrap_or(1);
        let storm = number("storm", port.storm).unwrap_or(Limits::DEFAULT_STORM);
        let copies = number("copies", port.copies).unwrap_or(Limits::DEFAULT_COPIES);
        let rate = number("rate", port.rate);
        let default_quota = (PortPolicy::DEFAULT_QUOTA as u64).min(fdb_size);
        let quota = self.in_range(port.quota, &join(path, "quota"), 1..=fdb_size, default_quota);

        let floating = self.addresses_or_networks(&join(path, "floating"), port.floating.as_ref());
        let filters = self.filters(&join(path, "filter"), port.filter.as_deref().unwrap_or_default());
        let mac_path = join(path, "mac");
        let texts = port.mac.as_ref().map_or(&[][..], OneOrMany::as_slice);
        if texts.len() > MOST_MACS {
            let message = format!("{} addresses are too many; a port takes {MOST_MACS}", texts.len());
            self.fault(ErrorCode::OutOfRange, &mac_path, message);
            return None;
        }
        let mut macs = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let path = match port.mac {
                Some(OneOrMany::Many(_)) => format!("{mac_path}[{index}]"),
                _ => mac_path.clone(),
            };
            let Some(mac) = self.mac(&path, text) else { continue };
            if let Some(owner) = owners.insert(mac, name.to_owned()) {
                let message = format!("{mac} is set on port {owner} already; each address has one port");
                self.fault(ErrorCode::DuplicateMac, &path, message);
            }
            macs.push(mac);
        }
        Some(Policy {
            mac: macs,
            vlan: vlan?,
            enabled: port.enabled.unwrap_or(true),
            guard: port.guard.unwrap_or_default() == api::Guard::On,
            promiscuous: port.promiscuous.unwrap_or_default() == api::Promiscuous::Allow,
            sees_trunk: false,
            isolated: port.isolation.unwrap_or_default() == api::Isolation::Isolated,
            queue: as_usize(queue),
            quota: as_usize(quota),
            storm,
            copies,
            rate,
            roles: port.roles.iter().flatten().copied().collect(),
            floating: floating?,
            filters: filters?,
            static_entries: BTreeSet::new(),
        })
    }

    fn static_entry(
        &mut self,
        path: &str,
        entry: &api::StaticEntry,
        network: &api::NetworkConfig,
        owners: &mut BTreeMap<MacAddr, String>,
        ports: &mut BTreeMap<String, Port>,
    ) {
        let mac = self.mac(&join(path, "mac"), &entry.mac);
        let vlan = entry.vlan.map(|number| self.vlan_id(&join(path, "vlan"), number));
        if !network.port.contains_key(&entry.port) {
            let message = format!("there is no port {} in this network", shown(&entry.port));
            self.fault(ErrorCode::UnknownPort, &join(path, "port"), message);
            return;
        }
        let (Some(mac), Some(vlan)) = (mac, vlan.map_or(Some(None), |vlan| vlan.map(Some))) else { return };
        let owner = owners.entry(mac).or_insert_with(|| entry.port.clone());
        if *owner != entry.port {
            let message = format!("{mac} belongs to port {owner} already; each address has one port");
            self.fault(ErrorCode::DuplicateMac, &join(path, "mac"), message);
        }
        // A port with a fault of its own is not in the list.
        if let Some(port) = ports.get_mut(&entry.port) {
            port.policy.static_entries.insert((mac, vlan));
        }
    }

    fn mac(&mut self, path: &str, text: &str) -> Option<MacAddr> {
        let Ok(mac) = text.parse::<MacAddr>() else {
            let message = format!(
                "`{}` is no MAC address; write six pairs of hexadecimal digits as in 52:54:00:12:34:56",
                shown(text)
            );
            self.fault(ErrorCode::BadMac, path, message);
            return None;
        };
        if !mac.is_station() {
            let kind =
                if mac.is_multicast() { "a group address (the first octet is odd)" } else { "no address" };
            self.fault(
                ErrorCode::BadMac,
                path,
                format!("{mac} is {kind}; a guest needs an address of its own"),
            );
            return None;
        }
        Some(mac)
    }

    fn vlan(&mut self, path: &str, vlan: &api::VlanConfig) -> Option<Vlan> {
        match (vlan.access, &vlan.trunk, vlan.native) {
            (Some(access), None, None) => self.vlan_id(&join(path, "access"), access).map(Vlan::Access),
            (None, Some(trunk), native) => {
                let trunk_path = join(path, "trunk");
                if trunk.is_empty() {
                    self.fault(
                        ErrorCode::OutOfRange,
                        &trunk_path,
                        "the list of VLANs is empty; name at least one",
                    );
                }
                let each = trunk.iter().enumerate();
                let allowed: BTreeSet<_> = each
                    .filter_map(|(index, number)| self.vlan_id(&format!("{trunk_path}[{index}]"), *number))
                    .collect();
                let native = native.and_then(|number| self.vlan_id(&join(path, "native"), number));
                Some(Vlan::Trunk { allowed, native })
            }
            (None, None, Some(_)) => {
                self.fault(
                    ErrorCode::MissingKey,
                    path,
                    "`native` is for trunks; add `trunk`, or write `access`",
                );
                None
            }
            (None, None, None) => {
                self.fault(
                    ErrorCode::MissingKey,
                    path,
                    "write { access = N } or { trunk = [N, …], native = N }",
                );
                None
            }
            (Some(_), _, _) => {
                self.fault(
                    ErrorCode::Conflict,
                    path,
                    "`access` excludes `trunk` and `native`; keep one of them",
                );
                None
            }
        }
    }

    fn vlan_id(&mut self, path: &str, number: u64) -> Option<VlanId> {
        let id = u16::try_from(number).ok().and_then(|number| VlanId::new(number).ok());
        if id.is_none() {
            self.fault(ErrorCode::OutOfRange, path, format!("{number} is no VLAN; use 1 to 4094"));
        }
        id
    }

    /// The number, or `default` without one or with one out of range, which is a fault.
    /// What is given for a key of `T` that takes a number, or its default; a number that is out of the key's range is a
    /// fault, and becomes the least.
    fn number<T: Keyed>(&mut self, path: &str, key: &str, given: Option<u64>) -> Option<u64> {
        let (range, default) = keys::range(T::KEYS, key);
        let least = *range.start();
        given.map(|given| self.in_range(Some(given), &join(path, key), range, least)).or(default)
    }

    fn in_range(&mut self, number: Option<u64>, path: &str, range: RangeInclusive<u64>, default: u64) -> u64 {
        match number {
            Some(number) if range.contains(&number) => number,
            Some(number) => {
                let message = format!("{number} is out of range; use {} to {}", range.start(), range.end());
                self.fault(ErrorCode::OutOfRange, path, message);
                default
            }
            None => default,
        }
    }
}

/// A number whose range was checked.
fn as_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
