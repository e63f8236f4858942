//! Uplinks: what their keys mean, and what does not fit together.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use vmlan_nat::reach::Egress;
use vmlan_ports::uplink::UplinkSettings;
use vmlan_ports::uplink::forward::ForwardSpec;
use vmlan_ports::{UPLINK, uplink};

use super::*;
use crate::plan::{Action, plan};

/// Every key, with another value than it has when absent.
const ALL: &str = r#"
[network.lab.uplink]
mode = "none"
subnet = "192.168.70.0/23"
ipv6 = "fd00:1::/64"
dhcp = { pool = "192.168.70.100-192.168.71.20", lease = 600, ntp = "192.0.2.123", boot = { server = "192.0.2.5", file = "a.0", efi = "a.efi", ipxe = "http://192.0.2.5/a" } }
dns = { domain = "Lab.", servers = ["192.0.2.53", "[2001:db8::53]:5353"], search = ["example.org"] }
egress = [{ deny = "192.168.0.0/16" }, { allow = "*.example.org:443" }]
deny = "drop"
host = ["5432", "8000=./x.sock"]
forward = ["127.0.0.1:2222=web:22", "8000-8010=web", "db.sock/s=web:5432"]
limits = { flows = 7, new_per_second = 8, memory = 9, rate = 10 }
vlan = { access = 10 }
services_on_lan = true
udp_filter = "open"
mac = "52:54:00:00:00:fe"
[network.lab.port.web]
stream = { listen = "web.sock" }
mac = "52:54:00:00:00:01"
address = ["192.168.71.10", "::10"]
egress = "none"
"#;

/// A network `lab` with an uplink of these keys, a port `web` with these, and these keys of its own.
fn lab(uplink: &str, web: &str, own: &str) -> String {
    format!(
        "[network.lab]\n{own}\nuplink = {{ {uplink} }}\n[network.lab.port.web]\nstream = {{ listen = \"web.sock\" }}\n{web}\n"
    )
}

fn settings(text: &str) -> UplinkSettings {
    let config = read(text).unwrap_or_else(|errors| panic!("{errors}"));
    let port = config.port("lab", UPLINK).expect("the uplink's port");
    UplinkSettings::clone(port.settings.uplink.as_ref().expect("its settings"))
}

#[test]
fn an_empty_table_is_a_whole_uplink() {
    let of = settings(&lab("", "", ""));
    let [10, 213, n, 0] = of.rooms.subnet.network.octets() else { panic!("{:?}", of.rooms) };
    assert_eq!((of.rooms.mode, of.rooms.subnet.prefix), (vmlan_api::UplinkMode::User, 24));
    let dhcp = of.dhcp.expect("a server");
    assert_eq!(dhcp.pool, (Ipv4Addr::new(10, 213, n, 16), Ipv4Addr::new(10, 213, n, 250)));
    assert_eq!((dhcp.lease, dhcp.pool_size()), (Duration::from_secs(3600), 235));
    let ula = of.rooms.subnet6.expect("IPv6").network;
    assert_eq!((ula.octets()[0], ula.to_bits() << 64), (0xfd, 0));
    let dns = of.dns.expect("a server");
    assert_eq!((&*dns.domain, dns.servers), ("lab.internal", uplink::DnsServers::Host));
    assert_eq!((of.egress, of.limits.flows, of.limits.memory), (Egress::All, 4096, 16 << 20));
    assert!(of.host.is_empty() && of.forwards.is_empty());
}

#[test]
fn addresses_stay_the_same_and_differ_between_networks() {
    let one = settings(&lab("", "", "")).rooms;
    assert_eq!(settings(&lab("", "", "")).rooms, one);
    let other = read("[network.other]\nuplink = {}\n").expect("a configuration");
    let other =
        other.port("other", UPLINK).and_then(|port| port.settings.uplink.clone()).expect("an uplink").rooms;
    assert_ne!((other.mac, other.subnet6), (one.mac, one.subnet6));
    // The first 48 bits are the machine's.
    let site = |rooms: &uplink::Rooms| rooms.subnet6.expect("IPv6").network.to_bits() >> 80;
    assert_eq!(site(&other), site(&one));
}

#[test]
fn every_key_of_an_uplink_reaches_the_checked_form() {
    let config = read(ALL).unwrap_or_else(|errors| panic!("{errors}"));
    let port = config.port("lab", UPLINK).expect("the uplink's port");
    assert_eq!(port.settings.vlan, Vlan::Access(vmlan_frame::VlanId::new(10).expect("a number")));
    let of = settings(ALL);
    assert_eq!((of.rooms.mode, of.udp_filter), (vmlan_api::UplinkMode::None, vmlan_api::UdpFilter::Open));
    assert_eq!((of.rooms.subnet.network, of.rooms.subnet.prefix), (Ipv4Addr::new(192, 168, 70, 0), 23));
    assert_eq!(of.rooms.mac.to_string(), "52:54:00:00:00:fe");
    let dhcp = of.dhcp.expect("a server");
    assert_eq!((dhcp.pool_size(), dhcp.lease.as_secs(), dhcp.ntp.len()), (177, 600, 1));
    assert_eq!(dhcp.boot.efi.as_deref(), Some("a.efi"));
    let dns = of.dns.expect("a server");
    let servers = ["192.0.2.53:53", "[2001:db8::53]:5353"].map(|text| text.parse().expect("an address"));
    assert_eq!((&*dns.domain, dns.servers), ("lab", uplink::DnsServers::Listed(servers.into())));
    assert_eq!(uplink::in_words(&of.egress), ["deny 192.168.0.0/16", "allow *.example.org:443"]);
    assert_eq!(of.deny, vmlan_api::DenyAnswer::Drop);
    let host: Vec<_> = of.host.iter().map(ToString::to_string).collect();
    assert_eq!(host, ["5432", "8000=/etc/vmlan/./x.sock"]);
    let forwards: Vec<_> = of.forwards.iter().map(ForwardSpec::to_string).collect();
    assert_eq!(forwards, ["127.0.0.1:2222=web:22", "8000-8010=web", "/etc/vmlan/db.sock/s=web:5432"]);
    assert_eq!((of.limits.flows, of.limits.new_per_second, of.limits.memory), (7, 8, 9 << 20));
    assert_eq!((of.limits.memory, of.limits.rate), (9 << 20, 1_250_000));
    let web = &config.port("lab", "web").expect("the port").settings;
    let addresses = ["192.168.71.10", "fd00:1::10"].map(|text| text.parse::<IpAddr>().expect("an address"));
    assert_eq!((&web.addresses[..], &web.egress), (&addresses[..], &Some(Egress::None)));
    let again = from_json(serde_json::to_value(config.as_api()).expect("plain data"));
    assert_eq!(again, Ok(config));
}

#[test]
fn parts_are_switched_off() {
    let of = settings(&lab("dhcp = false, dns = false, ipv6 = \"off\"", "", ""));
    assert_eq!((of.dhcp, of.dns, of.rooms.subnet6), (None, None, None));
    let of = settings(&lab("dhcp = true, dns = true", "", ""));
    assert!(of.dhcp.is_some() && of.dns.is_some());
}

#[test]
fn a_pool_is_what_fits_a_subnet() {
    for (subnet, first, last) in [
        ("10.0.0.0/24", "10.0.0.16", "10.0.0.250"),
        ("10.0.0.0/26", "10.0.0.16", "10.0.0.58"),
        ("10.0.0.8/29", "10.0.0.11", "10.0.0.14"),
        ("10.0.0.0/8", "10.0.0.16", "10.1.0.15"),
    ] {
        let dhcp = settings(&lab(&format!("subnet = \"{subnet}\""), "", "")).dhcp.expect("a server");
        assert_eq!(dhcp.pool, (first.parse().expect("one"), last.parse().expect("one")), "{subnet}");
    }
}

#[test]
fn case_62_a_trunk_with_a_wire_and_an_uplink_is_an_error_at_its_place() {
    let with =
        |trunk: &str, uplink: &str| lab(uplink, "", &format!("trunk = {{ interface = \"eth0\"{trunk} }}"));
    let errors = read(&with("", "")).expect_err("a fault");
    assert_eq!(errors.faults()[0].error.field.as_deref(), Some("network.lab.uplink"));
    assert_eq!(errors.faults()[0].place.as_ref().map(|place| place.line), Some(3), "{errors}");
    assert!(read(&with("", "services_on_lan = true")).is_ok());
    assert!(read(&with(", wire = false", "")).is_ok());
}

#[test]
#[cfg(target_os = "linux")]
fn the_kernel_knows_no_names() {
    let of = |egress: &str, port: &str| {
        let uplink = format!("[network.lab.uplink]\nmode = \"kernel\"\negress = {egress}\n");
        let port = format!("[network.lab.port.web]\nstream = {{ listen = \"/x/w\" }}\negress = {port}\n");
        faults(&(uplink + &port))
    };
    let name = "[{ allow = \"*.example.org\" }]";
    assert_eq!(of(name, "\"all\""), [(Conflict, "network.lab.uplink.egress".to_owned())]);
    assert_eq!(of("\"all\"", name), [(Conflict, "network.lab.port.web.egress".to_owned())]);
}

#[test]
#[cfg(target_os = "linux")]
fn integration_is_for_mode_kernel() {
    let of = |mode: &str, wanted: bool| lab(&format!("mode = \"{mode}\", integrate = {wanted}"), "", "");
    for mode in ["user", "none"] {
        assert_eq!(faults(&of(mode, true)), [(Conflict, "network.lab.uplink.integrate".to_owned())]);
        assert!(!settings(&of(mode, false)).integrate);
    }
    assert!(settings(&of("kernel", true)).integrate && !settings(&of("kernel", false)).integrate);
    let plan = plan(&read(&of("kernel", false)).expect("one"), &read(&of("kernel", true)).expect("another"));
    let kinds: Vec<_> = plan.actions().iter().map(Action::kind).collect();
    assert_eq!(kinds, [vmlan_api::ActionKind::ChangePort]);
}

#[test]
#[cfg(target_os = "linux")]
fn mode_kernel_has_no_rate() {
    let of = |mode: &str, rate: u32| lab(&format!("mode = \"{mode}\", limits = {{ rate = {rate} }}"), "", "");
    assert_eq!(faults(&of("kernel", 50)), [(Conflict, "network.lab.uplink.limits.rate".to_owned())]);
    for (mode, rate) in [("kernel", 0), ("user", 50), ("none", 50)] {
        assert!(read(&of(mode, rate)).is_ok(), "{mode} {rate}");
    }
}

#[test]
fn what_does_not_fit_together_is_told_at_its_place() {
    let own = "mac = \"52:54:00:00:00:01\"\n";
    let address = |text: &str| format!("{own}address = {text}");
    for (uplink, web, network, code, field) in [
        ("mode = \"router\"", "", "", OutOfRange, "uplink.mode"),
        ("ipv6 = \"host\"", "", "", OutOfRange, "uplink.ipv6"),
        ("ipv6 = \"fd00::/48\"", "", "", BadAddress, "uplink.ipv6"),
        ("ipv6 = \"fd00::1/64\"", "", "", BadAddress, "uplink.ipv6"),
        ("ipv6 = \"ff02::/64\"", "", "", BadAddress, "uplink.ipv6"),
        ("", "", "mtu = 1279", OutOfRange, "uplink.ipv6"),
        ("ipv6 = \"off\", ipv6_only = true", "", "", Conflict, "uplink.ipv6_only"),
        ("mode = \"none\", ipv6_only = true", "", "", Conflict, "uplink.ipv6_only"),
        ("subnet = \"10.0.0.1/24\"", "", "", BadAddress, "uplink.subnet"),
        ("subnet = \"10.0.0.0/30\"", "", "", BadAddress, "uplink.subnet"),
        ("subnet = \"127.0.0.0/24\"", "", "", BadAddress, "uplink.subnet"),
        ("mac = \"01:00:5e:00:00:01\"", "", "", BadMac, "uplink.mac"),
        ("mac = \"52:54:00:00:00:01\"", own, "", DuplicateMac, "port.web.mac"),
        ("dhcp = 1", "", "", WrongType, "uplink.dhcp"),
        ("dhcp = { poll = \"\" }", "", "", UnknownKey, "uplink.dhcp.poll"),
        ("dhcp = { pool = \"10.0.0.9\" }", "", "", BadAddress, "uplink.dhcp.pool"),
        ("dhcp = { pool = \"10.0.0.9-10.0.0.20\" }", "", "", BadAddress, "uplink.dhcp.pool"),
        (
            "subnet = \"10.0.0.0/24\", dhcp = { pool = \"10.0.0.2-10.0.0.20\" }",
            "",
            "",
            BadAddress,
            "uplink.dhcp.pool",
        ),
        ("dhcp = { lease = 1 }", "", "", OutOfRange, "uplink.dhcp.lease"),
        ("dhcp = { ntp = [\"time\"] }", "", "", BadAddress, "uplink.dhcp.ntp[0]"),
        ("dhcp = { boot = { server = \"192.0.2.1\" } }", "", "", MissingKey, "uplink.dhcp.boot"),
        ("dns = { domain = \"lab.local\" }", "", "", BadName, "uplink.dns.domain"),
        ("dns = { domain = \"a b\" }", "", "", BadName, "uplink.dns.domain"),
        ("dns = { servers = [\"hots\"] }", "", "", BadAddress, "uplink.dns.servers[0]"),
        ("dns = { servers = [] }", "", "", OutOfRange, "uplink.dns.servers"),
        ("dns = { filter_aaaa = true }", "", "", Conflict, "uplink.dns.filter_aaaa"),
        ("egress = \"some\"", "", "", OutOfRange, "uplink.egress"),
        ("egress = [{}]", "", "", MissingKey, "uplink.egress[0]"),
        ("egress = [{ allow = \"*\", deny = \"*\" }]", "", "", Conflict, "uplink.egress[0]"),
        ("egress = [{ deny = \"10.0.0.1/8\" }]", "", "", BadAddress, "uplink.egress[0].deny"),
        ("deny = \"reject\"", "", "", OutOfRange, "uplink.deny"),
        ("host = [\"0\"]", "", "", BadAddress, "uplink.host[0]"),
        ("host = [\"80\", \"80=81\"]", "", "", Conflict, "uplink.host[1]"),
        ("forward = \"80\"", "", "", BadAddress, "uplink.forward"),
        ("forward = [\"80=wbe\"]", "", "", UnknownPort, "uplink.forward[0]"),
        ("forward = [\"80=web\", \"0.0.0.0:80=web\"]", "", "", DuplicateAttachment, "uplink.forward[1]"),
        ("limits = { flows = 0 }", "", "", OutOfRange, "uplink.limits.flows"),
        ("limits = { rate = 1000001 }", "", "", OutOfRange, "uplink.limits.rate"),
        ("vlan = { access = 4095 }", "", "", OutOfRange, "uplink.vlan.access"),
        ("", "address = \"::10\"", "", Conflict, "port.web.address"),
        ("", "egress = [{ allow = \"a b\" }]", "", BadAddress, "port.web.egress[0].allow"),
        ("", &address("\"192.0.2.1\""), "", BadAddress, "port.web.address"),
        ("", &address("\"::1\""), "", BadAddress, "port.web.address"),
        ("", &address("\"fd00:7::10\""), "", BadAddress, "port.web.address"),
        ("ipv6 = \"off\"", &address("\"::10\""), "", BadAddress, "port.web.address"),
        ("subnet = \"10.0.0.0/24\"", &address("[\"10.0.0.2\"]"), "", BadAddress, "port.web.address[0]"),
        ("subnet = \"10.0.0.0/24\"", &address("[\"10.0.0.255\"]"), "", BadAddress, "port.web.address[0]"),
        ("", &address("[\"::10\", \"::10\"]"), "", Conflict, "port.web.address[1]"),
    ] {
        let wanted = (code, format!("network.lab.{field}"));
        assert_eq!(faults(&lab(uplink, web, network)), [wanted], "{uplink} {web} {network}");
    }
}

#[test]
fn an_uplink_takes_its_name_from_ports_and_its_keys_need_it() {
    let text = "[network.lab]\nuplink = {}\n[network.lab.port.uplink]\nstream = { listen = \"u.sock\" }\n";
    assert_eq!(faults(text), [(Conflict, "network.lab.port.uplink".to_owned())]);
    let text = web(
        "stream = { listen = \"s\" }\nmac = \"52:54:00:00:00:01\"\naddress = \"10.0.0.5\"\negress = \"none\"",
    );
    let wanted = ["address", "egress"].map(|key| (Conflict, format!("network.lab.port.web.{key}")));
    assert_eq!(faults(&text), wanted);
}

#[test]
fn a_forward_takes_no_address_of_another_port_or_network() {
    let text = lab("forward = \"127.0.0.1:7000=web\"", "", "")
        + "[network.b]\nuplink = { forward = \"7000=x\" }\n[network.b.port.x]\nstream = { listen = \"127.0.0.1:7001\" }\n";
    assert_eq!(faults(&text), [(DuplicateAttachment, "network.lab.uplink.forward".to_owned())]);
    let text = lab("forward = \"127.0.0.1:7001=web\"", "", "")
        + "[network.lab.port.x]\nstream = { listen = \"127.0.0.1:7001\" }\n";
    assert_eq!(faults(&text), [(DuplicateAttachment, "network.lab.port.x.stream.listen".to_owned())]);
}

#[test]
fn case_26_only_other_rooms_replace_an_uplink() {
    let kinds = |before: &str, after: &str| {
        let plan =
            plan(&read(&lab(before, "", "")).expect("one"), &read(&lab(after, "", "")).expect("another"));
        plan.actions().iter().map(Action::kind).collect::<Vec<_>>()
    };
    use vmlan_api::ActionKind::{ChangePort, ReplacePort};
    for (after, kind) in [
        ("egress = \"none\"", ChangePort),
        ("deny = \"drop\"", ChangePort),
        ("forward = \"80=web\"", ChangePort),
        ("dns = false", ChangePort),
        ("limits = { memory = 1, rate = 50 }", ChangePort),
        ("subnet = \"10.0.0.0/24\"", ReplacePort),
        ("ipv6 = \"off\"", ReplacePort),
        ("mode = \"none\"", ReplacePort),
    ] {
        assert_eq!(kinds("", after), [kind], "{after}");
    }
    assert!(kinds("host = \"80\"", "host = [\"80\"]").is_empty());
}
