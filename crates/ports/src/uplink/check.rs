//! The checks of an uplink's table, and of what ports say of it.

mod addresses;
mod services;

use std::collections::BTreeMap;

use vmlan_api::{EgressConfig, EgressWord, Error, ErrorCode, OneOrMany, UplinkMode};
use vmlan_nat::reach::Egress;

use super::egress::rule;
use super::forward::{ForwardSpec, HostService, HostTarget, Listen, MOST_NUMBERS};
use super::{FlowLimits, Rooms, UplinkSettings, belongings_of};
use crate::check::{Validator, as_usize};
use crate::{Trunk, UPLINK, join, shown, stable};

/// Items of a list.
const MOST: usize = 64;

/// The facts about a network that matter to its uplink.
#[derive(Debug)]
pub struct Surrounding<'a> {
    /// Its name.
    pub network: &'a str,
    /// Its MTU in octets.
    pub mtu: u64,
    /// Its trunk, if there is one without a fault.
    pub trunk: Option<&'a Trunk>,
    /// Its ports.
    pub ports: &'a BTreeMap<String, vmlan_api::PortConfig>,
}

impl Validator {
    /// Checks the table of an uplink at `path`, which is in the network's.
    pub fn uplink(
        &mut self,
        path: &str,
        uplink: &vmlan_api::UplinkConfig,
        of: &Surrounding<'_>,
    ) -> Option<UplinkSettings> {
        let before = self.count();
        if of.trunk.is_some_and(|trunk| trunk.wire) && !uplink.services_on_lan.unwrap_or(false) {
            let message = "the network's trunk joins it to a LAN, which would get a second DHCP server and gateway; \
                           remove one of `trunk` and `uplink`, set `wire = false` in the trunk, or say \
                           `services_on_lan = true`";
            self.fault(ErrorCode::Conflict, path, message);
        }
        let mode = uplink.mode.unwrap_or_default();
        if mode == UplinkMode::Kernel {
            self.kernel(of);
        }
        let subnet = self.subnet(&join(path, "subnet"), of.network, uplink.subnet.as_deref());
        let subnet6 = self.subnet6(path, uplink.ipv6.as_deref(), of);
        let ipv6_only = uplink.ipv6_only.unwrap_or(false);
        if ipv6_only && (mode != UplinkMode::User || subnet6 == Some(None)) {
            let message = "guests without IPv4 get to it by `mode = \"user\"` and IPv6 alone; remove `ipv6_only`, or \
                           what is said of `mode` and `ipv6`";
            self.fault(ErrorCode::Conflict, &join(path, "ipv6_only"), message);
        }
        let mac = match &uplink.mac {
            Some(text) => self.mac(&join(path, "mac"), text),
            None => Some(stable::mac(of.network, UPLINK)),
        };
        let dhcp = self.dhcp(&join(path, "dhcp"), uplink.dhcp.as_ref(), subnet);
        let has_ipv6 = subnet6 != Some(None);
        let dns = self.dns(&join(path, "dns"), uplink.dns.as_ref(), (of.network, has_ipv6));
        let egress = self.egress(&join(path, "egress"), uplink.egress.as_ref());
        if mode == UplinkMode::Kernel {
            self.without_names(&join(path, "egress"), egress.as_ref());
        }
        let host = self.host_services(&join(path, "host"), uplink.host.as_ref());
        let forwards = self.forwards(&join(path, "forward"), uplink.forward.as_ref(), of);
        let limits = self.flow_limits(&join(path, "limits"), uplink.limits.as_ref());
        if mode == UplinkMode::Kernel && limits.rate > 0 {
            let message = "mode `kernel` has no rate; remove it and limit the uplink's device by `tc`, or write \
                           `mode = \"user\"`";
            self.fault(ErrorCode::Conflict, &join(path, "limits.rate"), message);
        }
        let integrate = uplink.integrate.unwrap_or(false);
        if integrate && mode != UplinkMode::Kernel {
            let message = "only mode `kernel` has others' firewalls in its way; remove it, or write `mode = \"kernel\"`";
            self.fault(ErrorCode::Conflict, &join(path, "integrate"), message);
        }
        let rooms = Rooms { mode, subnet: subnet?, subnet6: subnet6?, mac: mac? };
        let settings = UplinkSettings {
            rooms,
            ipv6_only,
            dhcp,
            dns,
            egress: egress?,
            deny: uplink.deny.unwrap_or_default(),
            host,
            forwards,
            limits,
            udp_filter: uplink.udp_filter.unwrap_or_default(),
            integrate,
        };
        (self.count() == before).then_some(settings)
    }

    /// Checks what guests may reach.
    pub fn egress(&mut self, path: &str, egress: Option<&EgressConfig>) -> Option<Egress> {
        let rules = match egress {
            None | Some(EgressConfig::Word(EgressWord::All)) => return Some(Egress::All),
            Some(EgressConfig::Word(EgressWord::Internet)) => return Some(Egress::Internet),
            Some(EgressConfig::Word(EgressWord::None)) => return Some(Egress::None),
            Some(EgressConfig::Rules(rules)) => rules,
        };
        if rules.len() > 4 * MOST {
            let message = format!("{} rules are too many; use at most {}", rules.len(), 4 * MOST);
            return self.refuse(ErrorCode::OutOfRange, path, message);
        }
        let mut checked = Vec::with_capacity(rules.len());
        for (index, one) in rules.iter().enumerate() {
            let at = format!("{path}[{index}]");
            let (allow, text) = match (&one.allow, &one.deny) {
                (Some(text), None) => (true, text),
                (None, Some(text)) => (false, text),
                (None, None) => {
                    let message = "the rule says nothing; write { allow = \"…\" } or { deny = \"…\" }";
                    self.fault(ErrorCode::MissingKey, &at, message);
                    continue;
                }
                (Some(_), Some(_)) => {
                    let message = "`allow` and `deny` exclude each other; write two rules";
                    self.fault(ErrorCode::Conflict, &at, message);
                    continue;
                }
            };
            match rule(allow, text) {
                Ok(rule) => checked.push(rule),
                Err(error) => {
                    let key = if allow { "allow" } else { "deny" };
                    let message = format!("`{}`: {error}", shown(text));
                    self.fault(ErrorCode::BadAddress, &join(&at, key), message);
                }
            }
        }
        (checked.len() == rules.len()).then_some(Egress::Rules(checked))
    }

    /// Checks that mode `kernel` can be.
    fn kernel(&mut self, of: &Surrounding<'_>) {
        for (name, port) in of.ports {
            let at = join(&join(&join("network", of.network), "port"), name);
            // Faults of the list itself are told where the port is checked.
            let mut own = Validator::default();
            let egress = own.egress(&join(&at, "egress"), port.egress.as_ref());
            self.without_names(&join(&at, "egress"), egress.as_ref());
        }
    }

    /// Refuses names in a list of mode `kernel`: the kernel knows addresses only, and a connection has to last longer
    /// than its name's time to live.
    fn without_names(&mut self, path: &str, egress: Option<&Egress>) {
        if let Some(name) = egress.and_then(|egress| egress.names().next()) {
            let message = format!(
                "mode `kernel` knows no names, as `{}`; write addresses, or `mode = \"user\"` in the uplink",
                shown(name)
            );
            self.fault(ErrorCode::Conflict, path, message);
        }
    }

    fn host_services(&mut self, path: &str, texts: Option<&OneOrMany<String>>) -> Vec<HostService> {
        let services = self
            .each(path, texts, |text| HostService::parse(text).map_err(|error| error.to_string()))
            .unwrap_or_default();
        for (index, service) in services.iter().enumerate() {
            let at = item(path, texts, index);
            let key = |service: &HostService| (service.number, service.transport);
            if services[..index].iter().any(|other| key(other) == key(service)) {
                let message = format!("{}/{} is there twice", service.number, service.transport.as_str());
                self.fault(ErrorCode::Conflict, &at, message);
            }
            if let HostTarget::Unix(socket) = &service.target {
                self.absolute(&at, socket);
            }
        }
        services
    }

    fn forwards(
        &mut self,
        path: &str,
        texts: Option<&OneOrMany<String>>,
        of: &Surrounding<'_>,
    ) -> Vec<ForwardSpec> {
        let forwards = self
            .each(path, texts, |text| ForwardSpec::parse(text).map_err(|error| error.to_string()))
            .unwrap_or_default();
        let numbers: usize = forwards.iter().map(|forward| forward.sockets().count()).sum();
        if numbers > 2 * MOST_NUMBERS {
            let message =
                format!("the forwards listen at {numbers} addresses; use at most {}", 2 * MOST_NUMBERS);
            self.fault(ErrorCode::OutOfRange, path, message);
            return forwards;
        }
        for (index, forward) in forwards.iter().enumerate() {
            let at = item(path, texts, index);
            if let Err(message) = leads_to(&forward.port, of.ports) {
                self.fault(ErrorCode::UnknownPort, &at, message);
            }
            if let Listen::Unix(socket) = &forward.listen {
                self.absolute(&at, socket);
            }
            if let Some(other) = forwards[..index].iter().find(|other| forward.overlaps(other)) {
                let message =
                    format!("{forward} listens where {other} does; choose another address or number");
                self.fault(ErrorCode::DuplicateAttachment, &at, message);
                continue;
            }
            let holder = join(&join("network", of.network), "uplink");
            for belonging in belongings_of(forward) {
                if let Err(error) = self.holders.take_at(&at, &holder, belonging) {
                    self.faults.push(error);
                    break;
                }
            }
        }
        forwards
    }

    fn absolute(&mut self, path: &str, socket: &std::path::Path) {
        if !socket.is_absolute() {
            let message = format!("`{}` is no absolute path", shown(&socket.to_string_lossy()));
            self.fault(ErrorCode::BadPath, path, message);
        }
    }

    fn flow_limits(&mut self, path: &str, limits: Option<&vmlan_api::UplinkLimitsConfig>) -> FlowLimits {
        let usual = vmlan_api::UplinkLimitsConfig::default();
        let table = limits.unwrap_or(&usual);
        let mut number =
            |key, given| self.number::<vmlan_api::UplinkLimitsConfig>(path, key, given).unwrap_or(1);
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        FlowLimits {
            flows: small(number("flows", table.flows)),
            new_per_second: small(number("new_per_second", table.new_per_second)),
            memory: as_usize(number("memory", table.memory)) << 20,
            // A million bits.
            rate: number("rate", table.rate) * 125_000,
        }
    }

    /// Reads every item of a list; `None` when there are too many, or one is at fault.
    fn each<T>(
        &mut self,
        path: &str,
        texts: Option<&OneOrMany<String>>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let list = texts.map_or(&[][..], OneOrMany::as_slice);
        if list.len() > MOST {
            let message = format!("{} are too many; use at most {MOST}", list.len());
            return self.refuse(ErrorCode::OutOfRange, path, message);
        }
        let mut items = Vec::with_capacity(list.len());
        for (index, text) in list.iter().enumerate() {
            match read(text) {
                Ok(item) => items.push(item),
                Err(why) => {
                    let message = format!("`{}`: {why}", shown(text));
                    self.fault(ErrorCode::BadAddress, &item(path, texts, index), message);
                }
            }
        }
        (items.len() == list.len()).then_some(items)
    }
}

/// The path of an item of a list that may be written as one item.
fn item(path: &str, texts: Option<&OneOrMany<String>>, index: usize) -> String {
    match texts {
        Some(OneOrMany::Many(_)) => format!("{path}[{index}]"),
        _ => path.to_owned(),
    }
}

/// Checks a forward that is to be added to a running network with these ports.
///
/// # Errors
/// [`ErrorCode::BadAddress`], [`ErrorCode::BadPath`] or [`ErrorCode::UnknownPort`], of the member `forward`.
pub fn checked_forward(
    text: &str,
    ports: &BTreeMap<String, vmlan_api::PortConfig>,
) -> Result<ForwardSpec, Error> {
    let fault = |code, message: String| Err(Error::at(code, "forward", message));
    let forward = match ForwardSpec::parse(text) {
        Ok(forward) => forward,
        Err(error) => return fault(ErrorCode::BadAddress, format!("`{}`: {error}", shown(text))),
    };
    if let Listen::Unix(path) = &forward.listen
        && !path.is_absolute()
    {
        return fault(
            ErrorCode::BadPath,
            format!("`{}` is no absolute path", shown(&path.to_string_lossy())),
        );
    }
    match leads_to(&forward.port, ports) {
        Ok(()) => Ok(forward),
        Err(message) => fault(ErrorCode::UnknownPort, message),
    }
}

/// Checks that a forward leads to a port of the network, or to a client of one.
fn leads_to(port: &str, ports: &BTreeMap<String, vmlan_api::PortConfig>) -> Result<(), String> {
    let parent = port.rsplit_once('.').filter(|(_, number)| number.bytes().all(|c| c.is_ascii_digit()));
    let is_client = parent.is_some_and(|(parent, _)| {
        ports.get(parent).is_some_and(|port| port.vde.is_some() || port.tunnel.is_some())
    });
    if ports.contains_key(port) || is_client {
        return Ok(());
    }
    let near = vmlan_api::nearest(port, ports.keys().map(String::as_str));
    let meant = near.map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
    Err(format!("there is no port `{}` in this network{meant}", shown(port)))
}
