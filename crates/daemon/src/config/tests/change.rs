use super::*;

fn with_port(
    config: &ValidConfig,
    network: &str,
    port: &str,
    table: vmlan_api::PortConfig,
) -> Result<ValidConfig, Vec<Error>> {
    let (network, port, table) = (network.to_owned(), port.to_owned(), Box::new(table));
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
