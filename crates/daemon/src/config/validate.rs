//! From the unchecked to the checked configuration: what the values mean, and whether they fit together.
//!
//! A fault costs only its own member; checking goes on, so that all faults are told at once. The result exists only
//! without any fault.

mod filter;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut, RangeInclusive};
use std::time::Duration;

use vmlan_api::{Error, ErrorCode, OneOrMany};
use vmlan_frame::MacAddr;
use vmlan_lan::{Limits, PortPolicy};
use vmlan_nat::reach::Egress;

use vmlan_ports::uplink::{Surrounding, Uplink, UplinkSettings};
use vmlan_ports::{
    Attachment, Mtu, PortSettings, Surroundings, TRUNK, UPLINK, UserLimits, Validator, Vlan, as_usize, join,
    shown,
};

use super::valid::{Network, NetworkSettings, Port, ValidConfig, WebPage};

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
/// Characters of a name.
const LONGEST_NAME: usize = 32;

/// Checks a whole configuration.
///
/// Socket paths must be absolute here; those of a file were resolved before.
///
/// # Errors
/// Every fault found, each with the dotted path of its member as `field`.
pub fn validate(config: vmlan_api::Config) -> Result<ValidConfig, Vec<Error>> {
    let mut checker = Checker::default();
    let workers = checker.in_range(config.workers, "workers", WORKERS, 1);
    let limits = checker.limits(config.limits.as_ref().and_then(|limits| limits.user.as_ref()));
    let no_settings = vmlan_api::DaemonConfig::default();
    let daemon = config.daemon.as_ref().unwrap_or(&no_settings);
    let metrics = daemon.metrics.as_deref().and_then(|address| checker.metrics(address));
    let ui = checker.ui(daemon);
    let networks: BTreeMap<_, _> = config
        .network
        .iter()
        .filter_map(|(name, network)| {
            let path = join("network", name);
            checker.name(&path, "network", name);
            Some((name.clone(), checker.network(&path, name, network)?))
        })
        .collect();
    if checker.count() > 0 {
        return Err(checker.0.faults());
    }
    let workers = NonZeroUsize::new(as_usize(workers)).unwrap_or(NonZeroUsize::MIN);
    let poll = config.poll.unwrap_or_default();
    let notes = checker.0.notes();
    Ok(ValidConfig { source: config, workers, poll, limits, metrics, ui, networks, notes })
}

/// Checks what is neither a kind's nor a trunk's, and has the rest checked by theirs.
#[derive(Default)]
struct Checker(Validator);

impl Deref for Checker {
    type Target = Validator;

    fn deref(&self) -> &Validator {
        &self.0
    }
}

impl DerefMut for Checker {
    fn deref_mut(&mut self) -> &mut Validator {
        &mut self.0
    }
}

impl Checker {
    fn limits(&mut self, user: Option<&vmlan_api::UserLimitsConfig>) -> UserLimits {
        let Some(user) = user else { return UserLimits::default() };
        let mut number = |number, key| {
            self.number::<vmlan_api::UserLimitsConfig>("limits.user", key, number).map(as_usize)
        };
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

    /// The address for metrics. Whoever reaches it may read them.
    fn metrics(&mut self, text: &str) -> Option<SocketAddr> {
        let path = "daemon.metrics";
        let address = self.own_address(path, "metrics", text, 9477)?;
        if !address.ip().to_canonical().is_loopback() {
            let note = format!(
                "everybody who reaches this host can read the names of networks and ports and their traffic at \
                 {address}; write 127.0.0.1:{}, or guard the port",
                address.port()
            );
            self.note(path, &note);
        }
        self.listen_at(path, address)
    }

    /// The web page, which is for this host alone.
    fn ui(&mut self, daemon: &vmlan_api::DaemonConfig) -> Option<WebPage> {
        let path = "daemon.ui";
        let Some(text) = daemon.ui.as_deref() else {
            if daemon.ui_writes.is_some() {
                let note =
                    "there is no web page that it could be about; write `ui = \"127.0.0.1:7070\"` as well";
                self.note("daemon.ui_writes", note);
            }
            return None;
        };
        let address = self.own_address(path, "the web page", text, 7070)?;
        if !address.ip().is_loopback() {
            let message = format!(
                "{address} can be reached from elsewhere, and the page is for this host alone; write 127.0.0.1:{0}, \
                 and look from another host by `ssh -L {0}:127.0.0.1:{0} HOST`",
                address.port()
            );
            return self.refuse(ErrorCode::BadAddress, path, message);
        }
        let address = self.listen_at(path, address)?;
        Some(WebPage { address, writes: daemon.ui_writes.unwrap_or(false) })
    }

    /// An address at which the daemon itself listens. `usual` is the port of the advice.
    fn own_address(&mut self, path: &str, what: &str, text: &str, usual: u16) -> Option<SocketAddr> {
        let Some(address) = text.parse::<SocketAddr>().ok().filter(|address| address.port() > 0) else {
            let message = format!(
                "`{}` is no address for {what}; write a numeric address with a port, as in 127.0.0.1:{usual} or \
                 [::1]:{usual}",
                shown(text)
            );
            return self.refuse(ErrorCode::BadAddress, path, message);
        };
        let is_local = |ip: Ipv6Addr| ip.is_unicast_link_local();
        let unfit = match address {
            _ if address.ip().to_canonical().is_multicast() => "a multicast address",
            SocketAddr::V4(address) if address.ip().is_broadcast() => "the broadcast address",
            SocketAddr::V6(address) if is_local(*address.ip()) && address.scope_id() == 0 => {
                "a link-local address without its interface, as in [fe80::1%2]:9477"
            }
            _ => return Some(address),
        };
        let message = format!(
            "{address} is {unfit}, at which no server can listen; write an address of this host, as 127.0.0.1:{usual}"
        );
        self.refuse(ErrorCode::BadAddress, path, message)
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

    fn network(&mut self, path: &str, name: &str, network: &vmlan_api::NetworkConfig) -> Option<Network> {
        let before = self.count();
        let no_settings = vmlan_api::FdbConfig::default();
        let fdb = network.fdb.as_ref().unwrap_or(&no_settings);
        let mtu = self.in_range(network.mtu, &join(path, "mtu"), Mtu::RANGE, 1500);
        let fdb_size = self.in_range(fdb.size, &join(path, "fdb.size"), FDB_SIZE, DEFAULT_FDB_SIZE);
        let ageing = self.in_range(fdb.ageing, &join(path, "fdb.ageing"), AGEING, DEFAULT_AGEING);

        let trunk = network.trunk.as_ref().map(|trunk| self.trunk(&join(path, "trunk"), name, trunk));
        let uplink = network.uplink.as_ref().map(|uplink| {
            let trunk = trunk.as_ref().and_then(Option::as_ref);
            let of = Surrounding { network: name, mtu, trunk, ports: &network.port };
            self.uplink(&join(path, "uplink"), uplink, &of)
        });
        let sees_trunk = matches!(&trunk, Some(Some(trunk)) if trunk.promiscuous);
        let mut owners = BTreeMap::new();
        if let Some(Some(uplink)) = &uplink {
            owners.insert(uplink.rooms.mac, UPLINK.to_owned());
        }
        let mut addresses = BTreeMap::new();
        let mut surroundings = Surroundings { mtu, hosts: BTreeMap::new() };
        let mut ports: BTreeMap<String, Port> = BTreeMap::new();
        for (name, port) in &network.port {
            let path = join(path, &format!("port.{name}"));
            self.name(&path, "port", name);
            if network.trunk.is_some() && name == TRUNK {
                let message = "the network's trunk is listed by this name; choose another for the port";
                self.fault(ErrorCode::Conflict, &path, message);
            }
            if network.uplink.is_some() && name == UPLINK {
                let message = "the network's uplink is listed by this name; choose another for the port";
                self.fault(ErrorCode::Conflict, &path, message);
            }
            let settings = self.settings(&path, name, port, fdb_size, &mut owners);
            let by_uplink = self.by_uplink(&path, (name, port), &uplink, &mut addresses);
            if let (Some(attachment), Some(mut settings)) = (self.attachment(&path, port), settings) {
                settings.fast = port.fast.or(network.fast).unwrap_or_default() == vmlan_api::Fast::Auto;
                settings.sees_trunk = sees_trunk && settings.promiscuous;
                (settings.addresses, settings.egress) = by_uplink;
                attachment.fits(&mut self.0, &path, &settings, &mut surroundings);
                ports.insert(name.clone(), Port { attachment, settings });
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
        if let Some(uplink) = uplink.flatten() {
            let at = join(path, "uplink.vlan.access");
            let number = network.uplink.as_ref().and_then(|uplink| uplink.vlan.as_ref()?.access);
            let vlan = number.and_then(|number| self.vlan_id(&at, number)).map_or(Vlan::None, Vlan::Access);
            let (attachment, settings) = Uplink::new(uplink, vlan);
            ports.insert(UPLINK.to_owned(), Port { attachment: Attachment::new(attachment), settings });
        }
        (self.count() == before).then_some(Network { settings, trunk: trunk.flatten(), ports })
    }

    /// `owners` is who in the network has which address set.
    fn settings(
        &mut self,
        path: &str,
        name: &str,
        port: &vmlan_api::PortConfig,
        fdb_size: u64,
        owners: &mut BTreeMap<MacAddr, String>,
    ) -> Option<PortSettings> {
        let vlan = port.vlan.as_ref().map_or(Some(Vlan::None), |vlan| self.vlan(&join(path, "vlan"), vlan));
        let mut number = |key, given| self.number::<vmlan_api::PortConfig>(path, key, given);
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
        Some(PortSettings {
            mac: macs,
            vlan: vlan?,
            enabled: port.enabled.unwrap_or(true),
            guard: port.guard.unwrap_or_default() == vmlan_api::Guard::On,
            promiscuous: port.promiscuous.unwrap_or_default() == vmlan_api::Promiscuous::Allow,
            sees_trunk: false,
            isolated: port.isolation.unwrap_or_default() == vmlan_api::Isolation::Isolated,
            queue: as_usize(queue),
            quota: as_usize(quota),
            storm,
            copies,
            rate,
            roles: port.roles.iter().flatten().copied().collect(),
            floating: floating?,
            filters: filters?,
            fast: true,
            static_entries: BTreeSet::new(),
            addresses: Vec::new(),
            egress: None,
            uplink: None,
        })
    }

    /// Returns the addresses that the uplink gives to a port's guest, and how far it lets the guest out. The outer
    /// `None` of `uplink` is a network without one, the inner one an uplink at fault.
    fn by_uplink(
        &mut self,
        path: &str,
        (name, port): (&str, &vmlan_api::PortConfig),
        uplink: &Option<Option<UplinkSettings>>,
        owners: &mut BTreeMap<IpAddr, String>,
    ) -> (Vec<IpAddr>, Option<Egress>) {
        if uplink.is_none() {
            for (key, given) in [("address", port.address.is_some()), ("egress", port.egress.is_some())] {
                if given {
                    let message = format!(
                        "`{key}` is a matter of the network's uplink, and there is none; add `uplink = {{}}` to the \
                         network, or remove it"
                    );
                    self.fault(ErrorCode::Conflict, &join(path, key), message);
                }
            }
            return (Vec::new(), None);
        }
        let egress = port.egress.as_ref().and_then(|egress| self.egress(&join(path, "egress"), Some(egress)));
        let Some(Some(settings)) = uplink else { return (Vec::new(), egress) };
        let wanted = (name, port.address.as_ref(), port.mac.is_some());
        (self.uplink_addresses(path, wanted, &settings.rooms, owners), egress)
    }

    fn static_entry(
        &mut self,
        path: &str,
        entry: &vmlan_api::StaticEntry,
        network: &vmlan_api::NetworkConfig,
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
            port.settings.static_entries.insert((mac, vlan));
        }
    }
}
