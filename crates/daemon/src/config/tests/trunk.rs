use super::*;

/// A configuration of one trunk whose table has these lines.
fn trunk(lines: &str) -> String {
    format!("[network.lab.trunk]\n{lines}\n")
}

#[test]
fn a_trunk_has_defaults_and_every_key_reaches_the_checked_form() {
    let of = |lines: &str| {
        let config = read(&trunk(lines)).expect("a valid configuration");
        config.network("lab").and_then(|network| network.trunk.clone()).expect("a trunk")
    };
    let plain = of("interface = \"eth0\"");
    assert_eq!(plain.interface, TrunkInterface::Interface("eth0".into()));
    assert_eq!((plain.mode, plain.shared_mac), (vmlan_api::TrunkMode::Auto, vmlan_api::SharedMac::Auto));
    assert_eq!((plain.host, plain.wire, plain.wait, plain.promiscuous), (None, true, false, false));
    assert_eq!(plain.vlan, Vlan::None);

    let full = of(
        "interface = \"wlan0\"\nmode = \"filter\"\nhooks = \"clsact\"\nhost = false\nwire = true\nshared_mac = \"on\"\n\
                   wait = true\npromiscuous = \"allow\"\nvlan = { tagged = [10] }",
    );
    assert_eq!((full.mode, full.shared_mac), (vmlan_api::TrunkMode::Filter, vmlan_api::SharedMac::On));
    assert_eq!((plain.hooks, full.hooks), (vmlan_api::TrunkHooks::Auto, vmlan_api::TrunkHooks::Clsact));
    assert_eq!((full.host, full.wire, full.wait, full.promiscuous), (Some(false), true, true, true));
    assert!(matches!(full.vlan, Vlan::Trunk { .. }));
    assert_eq!(of("bridge = \"br0\"").interface, TrunkInterface::Bridge("br0".into()));
}

#[test]
fn a_promiscuous_port_sees_the_trunk_when_both_allow_it() {
    for (network, port, sees) in
        [("allow", "allow", true), ("deny", "allow", false), ("allow", "deny", false)]
    {
        let text = format!(
            "{}{}",
            trunk(&format!("interface = \"eth0\"\npromiscuous = \"{network}\"")),
            web(&format!("tap = {{ name = \"t0\" }}\npromiscuous = \"{port}\""))
        );
        let config = read(&text).expect("a valid configuration");
        let settings = &config.port("lab", "web").expect("the port").settings;
        assert_eq!(settings.sees_trunk, sees, "{network} {port}");
    }
}

#[test]
fn trunks_that_cannot_be_are_told() {
    use ErrorCode::*;
    let at = |key: &str| format!("network.lab.trunk{key}");
    for (lines, code, key) in [
        ("", MissingKey, ""),
        ("interface = \"eth0\"\nbridge = \"br0\"", Conflict, ""),
        ("interface = \"a/b\"", BadDeviceName, ".interface"),
        ("interface = \"eth%d\"", BadDeviceName, ".interface"),
        ("interface = \"eth0\"\nmode = \"bridge\"", Conflict, ".mode"),
        ("bridge = \"br0\"\nmode = \"packet\"", Conflict, ".mode"),
        ("bridge = \"br0\"\nshared_mac = \"on\"", Conflict, ".shared_mac"),
        ("interface = \"eth0\"\nmode = \"packet\"\nhost = true", Conflict, ".host"),
        ("interface = \"eth0\"\nmode = \"macvtap\"\nwire = false", Conflict, ".wire"),
        ("interface = \"eth0\"\nmode = \"xdp\"\nhost = true", Conflict, ".host"),
        ("bridge = \"br0\"\nmode = \"xdp\"", Conflict, ".mode"),
        ("interface = \"eth0\"\nhost = false\nwire = false", Conflict, ".wire"),
        ("interface = \"eth0\"\nmode = \"packet\"\nhooks = \"tcx\"", Conflict, ".hooks"),
        ("bridge = \"br0\"\nhooks = \"clsact\"", Conflict, ".hooks"),
        ("interface = \"eth0\"\nhooks = \"xdp\"", OutOfRange, ".hooks"),
        ("interface = \"eth0\"\nshared_mac = \"maybe\"", OutOfRange, ".shared_mac"),
        ("interface = \"eth0\"\nspeed = 1", UnknownKey, ".speed"),
    ] {
        assert_eq!(faults(&trunk(lines)), [(code, at(key))], "{lines}");
    }
    let twice =
        format!("{}{}", trunk("interface = \"eth0\""), trunk("interface = \"eth0\"").replace("lab", "two"));
    assert_eq!(faults(&twice), [(DuplicateAttachment, "network.two.trunk".to_owned())]);
    let named =
        format!("{}[network.lab.port.trunk]\ntap = {{ name = \"t0\" }}\n", trunk("interface = \"eth0\""));
    assert_eq!(faults(&named), [(Conflict, "network.lab.port.trunk".to_owned())]);
}
