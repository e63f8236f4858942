use super::*;

/// Notes on a network `lab` whose ports are datagram sockets with these lines each, and on a trunk with these.
fn notes_on(ports: &[(&str, &str)], trunk: Option<&str>) -> Vec<String> {
    let port = |(name, lines): &(&str, &str)| {
        format!("[network.lab.port.{name}]\ndatagram = {{ listen = \"{name}.sock\" }}\n{lines}\n")
    };
    let trunk = trunk.map(|lines| format!("[network.lab.trunk]\ninterface = \"none-such\"\n{lines}\n"));
    let text = format!("{}{}", ports.iter().map(port).collect::<String>(), trunk.unwrap_or_default());
    notes(&read(&text).expect("a valid configuration"))
}

#[test]
fn a_port_that_is_alone_in_its_vlans_is_noted() {
    let ten = "vlan = { access = 10 }";
    for (ports, trunk, alone) in [
        (&[("a", ten), ("b", ten), ("c", "")][..], None, &["c"][..]),
        (&[("a", ten), ("b", "vlan = { tagged = [10, 20] }")], None, &[]),
        (&[("a", ten), ("b", "vlan = { tagged = [20], native = 10 }")], None, &[]),
        (&[("a", ten), ("b", "vlan = { tagged = [20, 30] }")], None, &["a", "b"]),
        (&[("a", "vlan = { access = 1 }"), ("b", "")], None, &[]),
        (&[("a", ""), ("b", "")], None, &[]),
        // The only port of a network is alone in any case.
        (&[("a", ten)], None, &[]),
        // The trunk counts for others, and is never noted itself.
        (&[("a", ten)], Some(""), &["a"]),
        (&[("a", ten)], Some("vlan = { access = 10 }"), &[]),
        (&[("a", "")], Some("vlan = { tagged = [10] }"), &["a"]),
    ] {
        let notes = notes_on(ports, trunk);
        let expected = alone.iter().map(|name| format!("network lab: port {name} is alone in its VLAN"));
        let starts: Vec<_> = notes.iter().map(|note| note.split("LAN").next().unwrap_or_default()).collect();
        assert_eq!(starts, expected.map(|text| text.replace("VLAN", "V")).collect::<Vec<_>>(), "{ports:?}");
    }
}

#[test]
fn a_note_names_the_vlans_and_the_cure() {
    let notes = notes_on(&[("a", ""), ("b", "vlan = { tagged = [20, 30] }")], None);
    assert_eq!(
        notes,
        [
            "network lab: port a is alone in its VLAN, 1, where ports are that name none, and reaches no other port; \
             change its `vlan` or that of another port",
            "network lab: port b is alone in its VLANs, 20, 30, and reaches no other port; change its `vlan` or that \
             of another port",
        ]
    );
}

#[test]
fn clients_of_one_port_are_never_alone() {
    let text = "[network.lab.port.a]\nvde = { directory = \"/run/a.vde\" }\nvlan = { access = 10 }\n\
                [network.lab.port.b]\ndatagram = { listen = \"b.sock\" }\n";
    let notes = notes(&read(text).expect("a valid configuration"));
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("port b is alone"), "{notes:?}");
}
