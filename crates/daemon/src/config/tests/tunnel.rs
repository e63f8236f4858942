use super::*;
use vmlan_ports::{Tunnel, TunnelAddresses, TunnelSource};

/// A port `vpn` whose tunnel has these keys.
fn tunnel(keys: &str) -> String {
    format!("[network.lab.port.vpn]\ntunnel = {{ {keys} }}\n")
}

#[track_caller]
fn checked(text: &str) -> Tunnel {
    let config = read(text).unwrap_or_else(|errors| panic!("{errors}"));
    let port = config.port("lab", "vpn").expect("the port");
    port.attachment.downcast::<Tunnel>().unwrap_or_else(|| panic!("{port:?}")).clone()
}

fn list(texts: &[&str]) -> Vec<vmlan_drivers::tunnel::message::Prefixed> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

#[test]
fn each_form_reaches_the_checked_form() {
    let socket = "listen = \"/run/vpn.sock\", address = [\"10.0.0.9/24\", \"fd00::9/64\"], \
                  gateway = [\"10.0.0.1\", \"fe80::1\"], mtu = 1400, mode = \"0660\"";
    let expected = Tunnel {
        source: TunnelSource::Listen {
            path: "/run/vpn.sock".into(),
            access: Access::of(mode(0o660)),
            addresses: TunnelAddresses::Fixed(list(&["10.0.0.9/24", "fd00::9/64"])),
        },
        gateways: vec!["10.0.0.1".parse().expect("an address"), "fe80::1".parse().expect("an address")],
        mtu: Mtu::new(1400),
    };
    assert_eq!(checked(&tunnel(socket)), expected);

    let pool = checked(&tunnel("listen = \"/run/vpn.sock\", allow = \"10.0.0.128/25\", clients = 3"));
    let addresses = TunnelAddresses::Chosen { allowed: list(&["10.0.0.128/25"]), clients: 3 };
    let source = TunnelSource::Listen { path: "/run/vpn.sock".into(), access: PRIVATE, addresses };
    assert_eq!(pool, Tunnel { source, gateways: vec![], mtu: None });

    let device = checked(&tunnel(
        "device = \"tun0\", address = \"10.0.0.3/24\", packet_information = true, netns = \"blue\"",
    ));
    let source = TunnelSource::Device {
        name: "tun0".into(),
        addresses: list(&["10.0.0.3/24"]),
        packet_information: true,
        netns: Some("/run/netns/blue".into()),
    };
    assert_eq!(device, Tunnel { source, gateways: vec![], mtu: None });
}

#[test]
fn each_fault_of_a_tunnel_has_its_code_and_field() {
    let own = "listen = \"/a\", address = \"10.0.0.9/24\"";
    for (keys, code, field) in [
        ("address = \"10.0.0.9/24\"".to_owned(), MissingKey, "tunnel"),
        (format!("{own}, device = \"tun0\""), Conflict, "tunnel"),
        ("listen = \"/a\"".into(), MissingKey, "tunnel"),
        (format!("{own}, allow = \"10.0.0.0/24\""), Conflict, "tunnel"),
        (format!("{own}, clients = 2"), Conflict, "tunnel"),
        (format!("{own}, netns = \"blue\""), Conflict, "tunnel"),
        (format!("{own}, mode = \"999\""), OutOfRange, "tunnel.mode"),
        (format!("{own}, mtu = 67"), OutOfRange, "tunnel.mtu"),
        (format!("{own}, mtu = 1501"), OutOfRange, "tunnel.mtu"),
        (format!("{own}, gateway = \"10.0.1.1\""), BadAddress, "tunnel.gateway"),
        (format!("{own}, gateway = \"10.0.0.1/24\""), BadAddress, "tunnel.gateway"),
        (format!("{own}, gateway = [\"10.0.0.1\", \"10.0.0.2\"]"), Conflict, "tunnel.gateway"),
        (format!("{own}, adress = \"\""), UnknownKey, "tunnel.adress"),
        ("listen = \"/a\", address = \"10.0.0.9\"".into(), BadAddress, "tunnel.address"),
        ("listen = \"/a\", address = \"224.0.0.9/24\"".into(), BadAddress, "tunnel.address"),
        ("listen = \"/a\", address = [\"10.0.0.9/24\", \"10.0.0.9/8\"]".into(), Conflict, "tunnel.address"),
        ("listen = \"/a\", address = \"fd00::9/64\", mtu = 1279".into(), OutOfRange, "tunnel.mtu"),
        ("listen = \"/a\", allow = \"10.0.0.0/24\", clients = 0".into(), OutOfRange, "tunnel.clients"),
        ("device = \"tun0\"".into(), MissingKey, "tunnel"),
        ("device = \"tun/0\", address = \"10.0.0.9/24\"".into(), BadDeviceName, "tunnel.device"),
        ("device = \"tun0\", address = \"10.0.0.9/24\", mode = \"0600\"".into(), Conflict, "tunnel"),
    ] {
        let expected = (code, format!("network.lab.port.vpn.{field}"));
        assert_eq!(faults(&tunnel(&keys)), [expected], "{keys}");
    }
}

#[test]
fn a_tunnel_has_one_link_address_or_each_client_its_own() {
    let fixed = tunnel("listen = \"/a\", address = \"10.0.0.9/24\"");
    let two = "mac = [\"52:54:00:00:00:01\", \"52:54:00:00:00:02\"]\n";
    assert!(read(&format!("{fixed}mac = \"52:54:00:00:00:01\"\n")).is_ok());
    let conflict = [(Conflict, "network.lab.port.vpn.mac".to_owned())];
    assert_eq!(faults(&format!("{fixed}{two}")), conflict);
    let chosen = tunnel("listen = \"/a\", allow = \"10.0.0.0/24\"");
    assert_eq!(faults(&format!("{chosen}mac = \"52:54:00:00:00:01\"\n")), conflict);
}

#[test]
fn an_address_of_a_tunnel_belongs_to_one_port_of_a_network() {
    let other = |network| {
        format!("[network.{network}.port.too]\ntunnel = {{ device = \"tun9\", address = \"10.0.0.9/8\" }}\n")
    };
    let first = tunnel("listen = \"/a\", address = \"10.0.0.9/24\"");
    assert!(read(&format!("{first}{}", other("another"))).is_ok());
    let found = faults(&format!("{first}{}", other("lab")));
    assert_eq!(found, [(DuplicateAttachment, "network.lab.port.vpn.tunnel.address".to_owned())]);
}

#[test]
fn sockets_and_devices_of_tunnels_are_claimed() {
    let too = "[network.lab.port.web]\nstream = { listen = \"/a\" }\n";
    let found = faults(&format!("{}{too}", tunnel("listen = \"/a\", address = \"10.0.0.9/24\"")));
    assert_eq!(found[0].0, DuplicateAttachment);
    let tap = "[network.lab.port.web]\ntap = { name = \"tun0\" }\n";
    let found = faults(&format!("{}{tap}", tunnel("device = \"tun0\", address = \"10.0.0.9/24\"")));
    assert_eq!(found[0].0, DuplicateAttachment);
}
