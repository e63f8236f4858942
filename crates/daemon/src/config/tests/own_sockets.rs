//! The TCP sockets of the daemon itself.

use super::*;

/// The faults of a configuration with these lines about the daemon, and a port and a forward at TCP addresses.
fn faults(daemon: &str) -> Vec<String> {
    let text = format!(
        "[daemon]\n{daemon}\n[network.lab.port.web]\nstream = {{ listen = \"127.0.0.1:7000\" }}\n\
         [network.lab.port.far]\ndatagram = {{ local = \"127.0.0.1:7001\", remote = \"127.0.0.1:7002\" }}\n\
         [network.lab.port.all]\nstream = {{ listen = \"0.0.0.0:7003\" }}\n"
    );
    let errors = parse(&text, "test", None).err();
    errors.iter().flat_map(|errors| errors.faults()).map(|located| located.error.to_string()).collect()
}

#[test]
fn an_address_is_that_of_one() {
    for (daemon, field, message) in [
        ("metrics = \"127.0.0.1:7000\"", "port.web", "is that of daemon.metrics already"),
        ("ui = \"127.0.0.1:7000\"", "port.web", "is that of daemon.ui already"),
        (
            "metrics = \"0.0.0.0:7000\"",
            "port.web",
            "clashes with TCP address 0.0.0.0:7000, that of daemon.metrics",
        ),
        (
            "metrics = \"[::]:7000\"",
            "port.web",
            "clashes with TCP address 0.0.0.0:7000, that of daemon.metrics",
        ),
        ("ui = \"127.0.0.1:7003\"", "port.all", "clashes with TCP address 127.0.0.1:7003, that of daemon.ui"),
        ("metrics = \"127.0.0.1:1\"\nui = \"127.0.0.1:1\"", "daemon.ui", "is that of daemon.metrics already"),
        ("metrics = \"[::]:1\"\nui = \"127.0.0.1:1\"", "daemon.ui", "clashes with TCP address 0.0.0.0:1"),
    ] {
        let faults = faults(daemon);
        assert!(
            faults.len() == 1 && faults[0].contains(field) && faults[0].contains(message),
            "{daemon}: {faults:?}"
        );
    }
    for good in [
        "metrics = \"127.0.0.1:7001\"",
        "metrics = \"[::1]:7000\"",
        "metrics = \"127.0.0.2:7000\"",
        "metrics = \"127.0.0.1:1\"\nui = \"[::1]:1\"",
    ] {
        assert_eq!(faults(good), [""; 0], "{good}");
    }
}

#[test]
fn an_address_is_one_to_listen_at() {
    for (daemon, message) in [
        ("metrics = \"239.0.0.1:1\"", "is a multicast address"),
        ("metrics = \"[ff02::1]:1\"", "is a multicast address"),
        ("metrics = \"255.255.255.255:1\"", "is the broadcast address"),
        ("metrics = \"[fe80::1]:1\"", "is a link-local address without its interface"),
        ("metrics = \"127.0.0.1:0\"", "is no address for metrics"),
        ("ui = \"127.0.0.1\"", "is no address for the web page"),
        ("ui = \"127.0.0.1:0\"", "is no address for the web page"),
        ("ui = \"localhost:7070\"", "is no address for the web page"),
        ("ui = \"0.0.0.0:7070\"", "can be reached from elsewhere"),
        ("ui = \"192.0.2.1:7070\"", "can be reached from elsewhere"),
    ] {
        let faults = faults(daemon);
        assert!(faults.len() == 1 && faults[0].contains(message), "{daemon}: {faults:?}");
    }
    assert_eq!(faults("metrics = \"[fe80::1%2]:1\""), [""; 0]);
}

#[test]
fn leave_to_write_without_a_page_is_noted() {
    let config = parse("[daemon]\nui_writes = true\n", "test", None).expect("no fault");
    let notes = notes(&config);
    assert!(notes.len() == 1 && notes[0].starts_with("daemon.ui_writes: there is no web page"), "{notes:?}");
}
