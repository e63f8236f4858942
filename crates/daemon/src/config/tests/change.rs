use super::*;

fn with_port(
    config: &ValidConfig,
    network: &str,
    port: &str,
    table: vmlan_api::PortConfig,
) -> Result<ValidConfig, Vec<Error>> {
    let (network, port) = (network.to_owned(), port.to_owned());
    let table = serde_json::to_value(table).expect("plain data");
    Change::AddPort { network, port, table }.apply(config)
}

fn without_port(config: &ValidConfig, network: &str, port: &str) -> Result<ValidConfig, Vec<Error>> {
    Change::RemovePort { network: network.to_owned(), port: port.to_owned() }.apply(config)
}

#[test]
fn ports_come_and_go_within_a_valid_configuration() {
    let config = read(EXAMPLE).expect("a valid configuration");
    let port = vmlan_api::PortConfig {
        stream: Some(vmlan_api::StreamConfig { fd: Some(7), ..Default::default() }),
        ..Default::default()
    };

    let more = with_port(&config, "lab", "new", port.clone()).expect("a port more");
    assert!(more.port("lab", "new").is_some());
    assert_eq!(without_port(&more, "lab", "new"), Ok(config.clone()));

    let code = |result: Result<ValidConfig, Vec<Error>>| result.expect_err("a fault")[0].code;
    assert_eq!(code(with_port(&config, "none", "new", port.clone())), UnknownNetwork);
    assert_eq!(code(with_port(&config, "lab", "web", port.clone())), PortExists);
    assert_eq!(code(with_port(&config, "lab", "a.b", port)), BadName);
    assert_eq!(code(without_port(&config, "lab", "none")), UnknownPort);
    assert_eq!(code(without_port(&config, "none", "web")), UnknownNetwork);
}

#[test]
fn static_entries_of_a_port_go_with_it() {
    let config = read(EXAMPLE).expect("a valid configuration");
    let without = without_port(&config, "lab", "db").expect("no port db");
    assert!(without.as_api().network["lab"].fdb.as_ref().is_some_and(|fdb| fdb.static_entries.is_empty()));
}

#[test]
fn networks_come_and_go() {
    let config = read(EXAMPLE).expect("a valid configuration");
    let add = |network: &str, table| Change::AddNetwork { network: network.to_owned(), table }.apply(&config);
    let more = add("lan", serde_json::json!({"mtu": 9000})).expect("a network more");
    assert_eq!(more.network("lan").map(|network| network.settings.mtu.octets()), Some(9000));
    let remove =
        |from: &ValidConfig, network: &str| Change::RemoveNetwork { network: network.to_owned() }.apply(from);
    assert_eq!(remove(&more, "lan"), Ok(config.clone()));
    assert!(remove(&config, "lab").is_ok_and(|empty| empty.networks().is_empty()));

    for (result, code, complaint) in [
        (add("lab", serde_json::json!({})), NetworkExists, "network lab exists"),
        (add("lan", serde_json::json!({"mut": 1})), UnknownKey, "network.lan.mut: unknown key"),
        (add("lan", serde_json::json!([])), WrongType, "network.lan: lan must be a table"),
        (remove(&config, "la"), UnknownNetwork, "there is no network la; there is: lab"),
    ] {
        let fault = &result.expect_err(complaint)[0];
        assert_eq!(fault.code, code);
        assert!(fault.to_string().contains(complaint), "{fault}");
    }
}

#[test]
fn faults_of_a_part_have_their_path_in_the_configuration() {
    let config = read(EXAMPLE).expect("a valid configuration");
    let (network, port) = ("lab".to_owned(), "new".to_owned());
    for (table, field) in [
        (serde_json::json!({"tapp": {}}), "network.lab.port.new.tapp"),
        (serde_json::json!({"tap": {"name": 1}}), "network.lab.port.new.tap.name"),
        (serde_json::json!({"stream": {}}), "network.lab.port.new.stream"),
    ] {
        let add = Change::AddPort { network: network.clone(), port: port.clone(), table };
        let fault = add.apply(&config).expect_err(field).remove(0);
        assert_eq!(fault.field.as_deref(), Some(field), "{fault}");
    }
    let keys = serde_json::json!({"enabeld": false});
    let change = Change::ChangePort { network: network.clone(), port: "web".to_owned(), keys };
    let fault = change.apply(&config).expect_err("a fault").remove(0);
    assert_eq!(fault.field.as_deref(), Some("network.lab.port.web.enabeld"));
    let unknown = Change::RemovePort { network, port }.apply(&config).expect_err("no such port").remove(0);
    assert!(unknown.message.ends_with("there are: cache, db, guests, up, web"), "{unknown}");
}

#[test]
fn a_configuration_can_be_written_and_read_again() {
    let config = read(EXAMPLE).expect("a valid configuration");
    let text = to_toml(config.as_api()).expect("a file");
    assert_eq!(read(&text), Ok(config), "{text}");
}

#[test]
fn a_change_by_a_former_name_replaces_what_the_name_says() {
    let config = read(EXAMPLE).expect("a valid configuration");
    let change = |keys| {
        let (network, port) = ("lab".to_owned(), "up".to_owned());
        Change::ChangePort { network, port, keys }.apply(&config)
    };
    let tagged = |config: ValidConfig| config.as_api().network["lab"].port["up"].vlan.clone()?.tagged;
    for name in ["tagged", "trunk"] {
        let changed = change(serde_json::json!({"vlan": {name: [30]}})).expect("another role");
        assert_eq!(tagged(changed), Some(vec![30]), "{name}");
    }
    let access = change(serde_json::json!({"vlan": {"trunk": null, "native": null, "access": 5}}));
    assert_eq!(tagged(access.expect("another role")), None);

    let both = change(serde_json::json!({"vlan": {"trunk": [30], "tagged": [30]}})).expect_err("both");
    assert_eq!((both[0].code, both[0].field.as_deref()), (Conflict, Some("network.lab.port.up.vlan.trunk")));
}
