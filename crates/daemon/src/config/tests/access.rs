use super::*;
use vmlan_ports::Datagram;

fn attachment(lines: &str) -> Attachment {
    let config = read(&web(lines)).unwrap_or_else(|errors| panic!("{errors}"));
    config.port("lab", "web").expect("the port").attachment.clone()
}

/// The notes on a port with these lines, without the path of its table.
fn notes_on(lines: &str) -> Vec<String> {
    let config = read(&web(lines)).unwrap_or_else(|errors| panic!("{errors}"));
    let cut = |note: &String| note.strip_prefix("network.lab.port.web.").expect("its port's path").to_owned();
    notes(&config).iter().map(cut).collect()
}

#[test]
fn every_socket_of_ours_takes_permissions_an_owner_and_a_group() {
    let keys = "mode = \"0660\", owner = \"root\", group = 7";
    let access = Access { mode: mode(0o660), owner: Some(0), group: Some(7) };
    let unix = |path: &str| Address::Unix(path.into());
    assert_eq!(
        attachment(&format!("stream = {{ listen = \"/a\", {keys} }}")),
        Attachment::new(Stream::Listen(unix("/a"), Allow::default(), access))
    );
    assert_eq!(
        attachment(&format!("datagram = {{ listen = \"/a\", {keys} }}")),
        Attachment::new(Datagram::Listen(unix("/a"), Allow::default(), access))
    );
    assert_eq!(
        attachment(&format!("datagram = {{ local = \"/a\", remote = \"/b\", {keys} }}")),
        Attachment::new(Datagram::Pair { local: unix("/a"), remote: unix("/b"), access })
    );
    assert_eq!(
        attachment(&format!("vde = {{ directory = \"/a\", {keys} }}")),
        Attachment::new(Vde { directory: "/a".into(), access })
    );
    let vhost_user = attachment(&format!("vhost_user = {{ listen = \"/a\", {keys} }}"));
    let Some(vmlan_ports::VhostUser { source, .. }) = vhost_user.downcast() else { panic!("{vhost_user:?}") };
    assert_eq!(*source, vmlan_ports::VhostUserSource::Listen("/a".into(), access));
    let tunnel = attachment(&format!("tunnel = {{ listen = \"/a\", address = \"10.0.0.9/24\", {keys} }}"));
    let Some(vmlan_ports::Tunnel { source, .. }) = tunnel.downcast() else { panic!("{tunnel:?}") };
    assert!(matches!(source, vmlan_ports::TunnelSource::Listen { access: found, .. } if *found == access));
}

#[test]
fn users_and_groups_that_do_not_exist_are_faults() {
    for (keys, code, field) in [
        ("owner = \"nobody-of-this-name\"", UnknownUser, "owner"),
        ("owner = 4294967295", UnknownUser, "owner"),
        ("group = \"nobody-of-this-name\"", UnknownUser, "group"),
        ("mode = \"rw\"", OutOfRange, "mode"),
    ] {
        for kind in [
            "stream = { listen = \"/a\"",
            "datagram = { listen = \"/a\"",
            "vde = { directory = \"/a\"",
            "tunnel = { listen = \"/a\", address = \"10.0.0.9/24\"",
            "vhost_user = { listen = \"/a\"",
        ] {
            let table = kind.split(' ').next().expect("a word");
            let path = format!("network.lab.port.web.{table}.{field}");
            assert_eq!(faults(&web(&format!("{kind}, {keys} }}"))), [(code, path)], "{kind} {keys}");
        }
    }
    let device = "tunnel = { device = \"tun0\", address = \"10.0.0.9/24\", group = 7 }";
    assert_eq!(faults(&web(device)), [(Conflict, "network.lab.port.web.tunnel".to_owned())]);
}

#[test]
fn keys_without_effect_are_noted() {
    for (lines, begin, rest) in [
        ("stream = { connect = \"/a\", mode = \"0660\" }", "stream: `mode` has no effect", "the guest's"),
        ("stream = { fd = 5, owner = 0, group = 7 }", "stream: `owner`, `group` have no effect", "inherited"),
        (
            "vhost_user = { connect = \"/a\", group = 7 }",
            "vhost_user: `group` has no effect",
            "machine monitor's",
        ),
        ("vhost_user = { fd = 5, mode = \"0660\" }", "vhost_user: `mode` has no effect", "inherited"),
        ("datagram = { fd = 5, mode = \"0600\" }", "datagram: `mode` has no effect", "inherited"),
        (
            "datagram = { local = \"127.0.0.1:1\", remote = \"127.0.0.1:2\", mode = \"0600\" }",
            "datagram: `mode` has no effect",
            "TCP or UDP",
        ),
        (
            "stream = { listen = \"/a\", group = 7 }",
            "stream: `group` has no effect with mode 0600",
            "\"0660\"",
        ),
        ("vde = { directory = \"/a\", group = 7, mode = \"0640\" }", "vde: `group` has no effect", "write"),
    ] {
        let [note] = &notes_on(lines)[..] else { panic!("{lines}: {:?}", notes_on(lines)) };
        assert!(note.starts_with(begin) && note.contains(rest), "{note}");
    }
    assert_eq!(notes_on("stream = { listen = \"/a\", group = 7, mode = \"0660\" }"), [""; 0]);
}

#[test]
fn who_reaches_an_address_is_noted() {
    for (keys, wanted) in [
        ("\"127.0.0.1:1\"", Some("every local user")),
        ("\"[::1]:1\"", Some("every local user")),
        ("\"127.0.0.1:1\", allow = \"127.0.0.1\"", Some("every local user")),
        ("\"0.0.0.0:1\"", Some("everybody who reaches this host")),
        ("\"192.0.2.1:1\"", Some("name the guests' addresses with `allow`")),
        ("\"192.0.2.1:1\", allow = \"192.0.2.0/24\"", None),
        ("\"/a\"", None),
    ] {
        for kind in ["stream", "datagram"] {
            let notes = notes_on(&format!("{kind} = {{ listen = {keys} }}"));
            assert_eq!(notes.len(), usize::from(wanted.is_some()), "{keys}: {notes:?}");
            assert!(wanted.is_none_or(|wanted| notes[0].contains(wanted)), "{notes:?}");
        }
    }
}

#[test]
fn an_address_of_a_tap_is_one_ports_and_fits_the_network() {
    let tap =
        |name: &str| format!("tap = {{ name = \"{name}\", address = [\"10.0.0.1/24\", \"fd00::1/64\"] }}\n");
    let one = web(&tap("t0"));
    assert!(read(&one).is_ok());
    let two = format!("{one}[network.lab.port.x]\n{}", tap("t1"));
    let fault = (DuplicateAttachment, "network.lab.port.x.tap.address".to_owned());
    assert_eq!(faults(&two), [fault.clone(), fault]);
    let small = one.replace("[network.lab.port.web]", "[network.lab]\nmtu = 1000\n[network.lab.port.web]");
    assert_eq!(faults(&small), [(OutOfRange, "network.lab.port.web.tap.address".to_owned())]);
}
