use proptest::prelude::*;
use vmlan_api::ErrorCode::{self, *};

use super::*;
use vmlan_drivers::unix::{Access, PRIVATE, mode};
use vmlan_ports::{Address, Allow};
use vmlan_ports::{Stream, Tap, TapSource, Vde, VhostUser, VhostUserSource};

mod access;
mod change;
mod faults;
mod filter;
mod notes;
mod own_sockets;
mod trunk;
mod tunnel;
mod uplink;

/// The example of the configuration reference.
const EXAMPLE: &str = r#"
workers = 2
[network.lab]
mtu = 1500
fdb = { size = 1024, ageing = 60, static = [{ mac = "52:54:00:00:00:99", port = "db", vlan = 10 }] }
[network.lab.port.web]
tap = { name = "vm-web", owner = 1000, netns = "blue" }
mac = "52:54:00:00:00:01"
[network.lab.port.db]
stream = { listen = "db.sock" }
vlan = { access = 10 }
[network.lab.port.up]
stream = { connect = "127.0.0.1:7000" }
vlan = { tagged = [10, 20], native = 1 }
[network.lab.port.cache]
datagram = { local = "/run/vmlan/a.sock", remote = "/run/vmlan/b.sock" }
mac = ["52:54:00:00:00:02", "52-54-00-00-00-03"]
guard = "off"
promiscuous = "allow"
queue = 64
quota = 8
roles = ["dhcp"]
[network.lab.port.guests]
vde = { directory = "/run/vmlan/lab.vde", mode = "0660" }
"#;

fn read(text: &str) -> Result<ValidConfig, ConfigErrors> {
    parse(text, "vmlan.toml", Some(Path::new("/etc/vmlan")))
}

/// A configuration of one port `web` whose table has these lines.
fn web(lines: &str) -> String {
    format!("[network.lab.port.web]\n{lines}\n")
}

fn faults(text: &str) -> Vec<(ErrorCode, String)> {
    let errors = read(text).expect_err(text);
    errors.faults().iter().map(|f| (f.error.code, f.error.field.clone().unwrap_or_default())).collect()
}

#[test]
fn defaults_of_keys_are_those_of_the_network() {
    use vmlan_api::keys::{Keyed, range};
    let default = |key| range(vmlan_api::PortConfig::KEYS, key).1;
    assert_eq!(default("storm"), Some(vmlan_lan::Limits::DEFAULT_STORM));
    assert_eq!(default("copies"), Some(vmlan_lan::Limits::DEFAULT_COPIES));
    assert_eq!(default("quota"), Some(vmlan_lan::PortPolicy::DEFAULT_QUOTA as u64));
    let (backlog, sizes) =
        (range(vmlan_api::UserLimitsConfig::KEYS, "backlog").1, UserLimits::DEFAULT_BACKLOG >> 20);
    assert_eq!(backlog, Some(sizes as u64));
}

#[test]
fn allow_names_networks_and_single_addresses() {
    let listen =
        "stream = { listen = \"[::]:7000\", allow = [\"10.0.0.0/8\", \"192.0.2.1\", \"fd00::/64\"] }";
    let config = read(&web(listen)).expect("a configuration");
    let port = config.port("lab", "web").expect("the port");
    let Some(Stream::Listen(_, allow, _)) = port.attachment.downcast() else { panic!("{port:?}") };
    for (address, admitted) in [
        ("10.255.0.1", true),
        ("::ffff:10.0.0.1", true),
        ("11.0.0.1", false),
        ("192.0.2.1", true),
        ("192.0.2.2", false),
        ("fd00::1", true),
        ("::1", false),
    ] {
        assert_eq!(allow.admits(address.parse().expect("an address")), admitted, "{address}");
    }
    assert!(Allow::default().admits("192.0.2.2".parse().expect("an address")));
}

#[test]
fn every_key_of_vhost_user_reaches_the_checked_form() {
    let table = |keys: &str| {
        let config = read(&web(&format!("vhost_user = {{ {keys} }}"))).unwrap_or_else(|e| panic!("{e}"));
        config.port("lab", "web").expect("the port").attachment.clone()
    };
    let plain = VhostUser {
        source: VhostUserSource::Listen("/etc/vmlan/web.sock".into(), PRIVATE),
        queues: 8,
        packed: true,
        offloads: true,
        config: vmlan_api::ConfigSpace::Auto,
        memory: 1 << 40,
        sealed: false,
    };
    assert_eq!(table("listen = \"web.sock\""), Attachment::new(plain.clone()));
    let source = VhostUserSource::Listen("/a".into(), Access { group: Some(7), ..Access::of(mode(0o660)) });
    assert_eq!(
        table(
            "listen = \"/a\", mode = \"0660\", group = 7, queues = 63, packed = false, offloads = false, \
             config = \"on\", memory = \"3GiB\", sealed = true"
        ),
        Attachment::new(VhostUser {
            source,
            queues: 63,
            packed: false,
            offloads: false,
            config: vmlan_api::ConfigSpace::On,
            memory: 3 << 30,
            sealed: true,
        })
    );
    let source = VhostUserSource::Connect("/a".into());
    assert_eq!(table("connect = \"/a\""), Attachment::new(VhostUser { source, ..plain.clone() }));
    assert_eq!(table("fd = 5"), Attachment::new(VhostUser { source: VhostUserSource::Fd(5), ..plain }));
}

#[test]
fn every_documented_key_reaches_the_checked_form() {
    let config = read(EXAMPLE).expect("a valid configuration");

    assert_eq!(config.workers().get(), 2);
    let settings = &config.network("lab").expect("the network").settings;
    assert_eq!((settings.mtu.octets(), settings.fdb_size, settings.ageing.as_secs()), (1500, 1024, 60));
    let port = |name| config.port("lab", name).expect("the port");
    assert_eq!(
        port("web").attachment,
        Attachment::new(Tap {
            source: TapSource::Named {
                name: Some("vm-web".into()),
                owner: Some(1000),
                persistent: false,
                netns: Some("/run/netns/blue".into()),
                addresses: vec![],
                up: true,
            },
            setup: None,
            offloads: true,
            terminate: None,
        })
    );
    assert_eq!(
        port("db").attachment,
        Attachment::new(Stream::Listen(
            Address::Unix("/etc/vmlan/db.sock".into()),
            Allow::default(),
            PRIVATE
        ))
    );
    assert_eq!(port("db").settings.static_entries.len(), 1);
    let Vlan::Trunk { allowed, native } = &port("up").settings.vlan else { panic!("a trunk") };
    assert_eq!((allowed.len(), native.map(vmlan_frame::VlanId::get)), (2, Some(1)));
    let cache = &port("cache").settings;
    assert_eq!(
        (cache.mac.len(), cache.guard, cache.promiscuous, cache.queue, cache.quota),
        (2, false, true, 64, 8)
    );
    assert_eq!(Vec::from_iter(&cache.roles), [&vmlan_api::Role::Dhcp]);
    assert_eq!(
        port("guests").attachment,
        Attachment::new(Vde { directory: "/run/vmlan/lab.vde".into(), access: Access::of(mode(0o660)) })
    );
}

#[test]
fn floating_addresses_stand_alone_or_have_a_prefix() {
    let floating = |value: &str| {
        let text = web(&format!("tap = {{ name = \"t0\" }}\nfloating = {value}"));
        let config = read(&text).expect("a valid configuration");
        let floating = &config.port("lab", "web").expect("the port").settings.floating;
        floating.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(floating("\"192.0.2.10\""), ["192.0.2.10/32"]);
    assert_eq!(floating("[\"2001:db8::1\", \"10.0.0.0/8\"]"), ["2001:db8::1/128", "10.0.0.0/8"]);
}

#[test]
fn a_port_with_nothing_but_an_attachment_is_safe_by_default() {
    let config = read(&web("tap = { name = \"t0\" }")).expect("a valid configuration");
    let settings = &config.port("lab", "web").expect("the port").settings;
    assert!(settings.guard && !settings.promiscuous && settings.mac.is_empty() && settings.roles.is_empty());
    assert_eq!(settings.vlan, Vlan::None);
    assert_eq!((settings.storm, settings.copies, settings.rate), (20_000, 200_000, None));
    assert_eq!(*config.limits(), UserLimits::default());
}

#[test]
fn each_fault_has_its_code_and_field() {
    let tap = "tap = { name = \"t0\" }\n";
    let cases: &[(&str, ErrorCode, &str)] = &[
        ("tapp = { name = \"t0\" }", UnknownKey, "tapp"),
        ("tap = { nmae = \"t0\" }", UnknownKey, "tap.nmae"),
        ("tap = \"t0\"", WrongType, "tap"),
        ("tap = { name = 5 }", WrongType, "tap.name"),
        ("tap = { name = \"\" }", BadDeviceName, "tap.name"),
        ("tap = { name = \"sixteencharacter\" }", BadDeviceName, "tap.name"),
        ("tap = { name = \"a/b\" }", BadDeviceName, "tap.name"),
        ("tap = { name = \"..\" }", BadDeviceName, "tap.name"),
        ("tap = { name = \"t%s\" }", BadDeviceName, "tap.name"),
        ("tap = { name = \"t%d%d\" }", BadDeviceName, "tap.name"),
        ("tap = { name = \"vmlw7\" }", BadDeviceName, "tap.name"),
        ("tap = {}", MissingKey, "tap"),
        ("tap = { fd = 3, name = \"t0\" }", Conflict, "tap"),
        ("tap = { fd = 2 }", OutOfRange, "tap.fd"),
        ("tap = { fd = -1 }", OutOfRange, "tap.fd"),
        ("tap = { name = \"t0\", owner = \"nobody-of-this-name\" }", UnknownUser, "tap.owner"),
        ("tap = { name = \"t0\", setup = \"/no/such/program\" }", MissingProgram, "tap.setup"),
        ("tap = { name = \"t0\", terminate = \"/\" }", MissingProgram, "tap.terminate"),
        ("tap = { name = \"t0\", setup = \"sh\" }", MissingProgram, "tap.setup"),
        ("tap = { name = \"t0\", netns = \"a/b\" }", BadPath, "tap.netns"),
        ("tap = { name = \"t0\", address = \"10.0.0.1\" }", BadAddress, "tap.address"),
        ("tap = { fd = 3, address = \"10.0.0.1/24\" }", Conflict, "tap"),
        ("tap = { fd = 3, up = false }", Conflict, "tap"),
        ("vhost_user = {}", MissingKey, "vhost_user"),
        ("vhost_user = { listen = \"/a\", connect = \"/b\" }", Conflict, "vhost_user"),
        ("vhost_user = { listen = \"127.0.0.1:1\" }", BadAddress, "vhost_user.listen"),
        ("vhost_user = { connect = \"[::1]:1\" }", BadAddress, "vhost_user.connect"),
        ("vhost_user = { connect = \"\" }", BadPath, "vhost_user.connect"),
        ("vhost_user = { listen = \"@abstract\" }", BadPath, "vhost_user.listen"),
        ("vhost_user = { fd = 2 }", OutOfRange, "vhost_user.fd"),
        ("vhost_user = { listen = \"/a\", mode = \"1777\" }", OutOfRange, "vhost_user.mode"),
        ("vhost_user = { listen = \"/a\", queues = 0 }", OutOfRange, "vhost_user.queues"),
        ("vhost_user = { listen = \"/a\", queues = 64 }", OutOfRange, "vhost_user.queues"),
        ("vhost_user = { listen = \"/a\", config = \"yes\" }", OutOfRange, "vhost_user.config"),
        ("vhost_user = { listen = \"/a\", memory = 5 }", WrongType, "vhost_user.memory"),
        ("vhost_user = { listen = \"/a\", memory = \"64G\" }", OutOfRange, "vhost_user.memory"),
        ("vhost_user = { listen = \"/a\", memory = \"1023KiB\" }", OutOfRange, "vhost_user.memory"),
        ("vhost_user = { listen = \"/a\", memory = \"17TiB\" }", OutOfRange, "vhost_user.memory"),
        ("vhost_user = { listen = \"/a\", allow = \"10.0.0.0/8\" }", UnknownKey, "vhost_user.allow"),
        ("stream = {}", MissingKey, "stream"),
        ("stream = { listen = \"/a\", connect = \"/b\" }", Conflict, "stream"),
        ("stream = { listen = \"host:7000\" }", BadAddress, "stream.listen"),
        ("stream = { listen = \"\" }", BadPath, "stream.listen"),
        ("stream = { connect = \"0.0.0.0:7000\" }", BadAddress, "stream.connect"),
        ("stream = { connect = \"127.0.0.1:0\" }", BadAddress, "stream.connect"),
        ("stream = { listen = \"/a\\u0000b\" }", BadPath, "stream.listen"),
        ("stream = { listen = \"/a\", allow = \"10.0.0.0/8\" }", Conflict, "stream.allow"),
        ("stream = { connect = \"127.0.0.1:1\", allow = \"10.0.0.0/8\" }", Conflict, "stream"),
        ("datagram = { fd = 3, allow = \"10.0.0.0/8\" }", Conflict, "datagram"),
        ("datagram = { listen = \"127.0.0.1:1\", allow = [] }", OutOfRange, "datagram.allow"),
        ("stream = { listen = \"127.0.0.1:1\", allow = [\"10.0.0.0/33\"] }", BadAddress, "stream.allow"),
        ("datagram = { local = \"/a\" }", MissingKey, "datagram"),
        ("datagram = { local = \"/a\", remote = \"127.0.0.1:1\" }", Conflict, "datagram"),
        ("datagram = { local = \"/a\", remote = \"/a\" }", Conflict, "datagram"),
        ("datagram = { listen = \"/a\", fd = 4 }", Conflict, "datagram"),
        ("vde = {}", MissingKey, "vde"),
        ("vde = { directory = \"/a\", mode = \"999\" }", OutOfRange, "vde.mode"),
        ("vde = { directory = \"/a\", mode = \"+60\" }", OutOfRange, "vde.mode"),
        ("queue = 5", NoAttachment, ""),
        ("tap = { name = \"t0\" }\nvde = { directory = \"/a\" }", SeveralAttachments, ""),
    ];
    for (lines, code, field) in cases {
        let path = format!("network.lab.port.web{}{field}", if field.is_empty() { "" } else { "." });
        assert_eq!(faults(&web(lines)), [(*code, path)], "{lines}");
    }
    let policies: &[(&str, ErrorCode, &str)] = &[
        ("mac = \"52:54:00:00:00\"", BadMac, "mac"),
        ("mac = \"01:00:5e:00:00:01\"", BadMac, "mac"),
        ("mac = [\"52:54:00:00:00:01\", \"00:00:00:00:00:00\"]", BadMac, "mac[1]"),
        ("mac = [\"52:54:00:00:00:01\", \"52:54:00:00:00:01\"]", DuplicateMac, "mac[1]"),
        ("mac = 5", WrongType, "mac"),
        ("vlan = {}", MissingKey, "vlan"),
        ("vlan = { access = 0 }", OutOfRange, "vlan.access"),
        ("vlan = { access = 4095 }", OutOfRange, "vlan.access"),
        ("vlan = { access = 70000 }", OutOfRange, "vlan.access"),
        ("vlan = { access = 1, tagged = [2] }", Conflict, "vlan"),
        ("vlan = { tagged = [1], trunk = [2] }", Conflict, "vlan.trunk"),
        ("vlan = { native = 1 }", MissingKey, "vlan"),
        ("vlan = { tagged = [] }", OutOfRange, "vlan.tagged"),
        ("vlan = { trunk = [1, 4095] }", OutOfRange, "vlan.tagged[1]"),
        ("guard = \"onn\"", OutOfRange, "guard"),
        ("guard = true", WrongType, "guard"),
        ("queue = 0", OutOfRange, "queue"),
        ("queue = 1.5", WrongType, "queue"),
        ("queue = 99999999999999999999999999999999999999999999", WrongType, "queue"),
        ("quota = 100000", OutOfRange, "quota"),
        ("storm = 1000000001", OutOfRange, "storm"),
        ("copies = 1000000001", OutOfRange, "copies"),
        ("rate = 0", OutOfRange, "rate"),
        ("roles = \"dhcp\"", WrongType, "roles"),
        ("floating = \"10.0.0.0/33\"", BadAddress, "floating"),
        ("floating = [\"10.0.0.300\"]", BadAddress, "floating"),
        ("roles = [\"dchp\"]", OutOfRange, "roles[0]"),
    ];
    for (lines, code, field) in policies {
        let path = format!("network.lab.port.web.{field}");
        assert_eq!(faults(&web(&format!("{tap}{lines}"))), [(*code, path)], "{lines}");
    }
}

#[test]
fn what_a_user_may_hold() {
    let text = "[limits.user]\nports = 64\nconnections = 16\nevents = 8\ncaptures = 4\naddresses = 4096\nbacklog = 2\n";
    let config = read(text).expect("a valid configuration");
    let expected = UserLimits {
        ports: Some(64),
        connections: Some(16),
        events: Some(8),
        captures: Some(4),
        addresses: Some(4096),
        backlog: 2 << 20,
    };
    assert_eq!(*config.limits(), expected);
}

#[test]
fn faults_of_networks_and_of_the_whole() {
    for (text, code, field) in [
        ("workers = 0", OutOfRange, "workers"),
        ("wrokers = 1", UnknownKey, "wrokers"),
        ("limits = 5", WrongType, "limits"),
        ("limits = { usr = {} }", UnknownKey, "limits.usr"),
        ("[limits.user]\nports = 0", OutOfRange, "limits.user.ports"),
        ("[limits.user]\nconnections = 1025", OutOfRange, "limits.user.connections"),
        ("[limits.user]\nevents = \"8\"", WrongType, "limits.user.events"),
        ("[limits.user]\ncapture = 1", UnknownKey, "limits.user.capture"),
        ("[limits.user]\naddresses = 0", OutOfRange, "limits.user.addresses"),
        ("[limits.user]\nbacklog = 4097", OutOfRange, "limits.user.backlog"),
        ("network = 1", WrongType, "network"),
        ("[network.lab]\nmtu = 67", OutOfRange, "network.lab.mtu"),
        ("[network.lab]\nmtu = 65536", OutOfRange, "network.lab.mtu"),
        ("[network.-lab]", BadName, "network.-lab"),
        ("[network.\"\"]", BadName, "network."),
        ("[network.a23456789012345678901234567890123]", BadName, "network.a23456789012345678901234567890123"),
        ("[network.lab]\nfdb = { ageing = 0 }", OutOfRange, "network.lab.fdb.ageing"),
        (
            "[network.lab]\nfdb = { static = [{ mac = \"52:54:00:00:00:01\" }] }",
            MissingKey,
            "network.lab.fdb.static[0]",
        ),
        (
            "[network.lab]\nfdb = { static = [{ mac = \"52:54:00:00:00:01\", port = \"web\" }] }",
            UnknownPort,
            "network.lab.fdb.static[0].port",
        ),
    ] {
        assert_eq!(faults(text), [(code, field.to_owned())], "{text}");
    }
}

#[test]
fn an_address_in_the_notation_of_another_program_is_named_and_not_taken_for_a_path() {
    for (text, said) in [
        ("unix:/run/x.sock", "URL"),
        ("unix:///run/x.sock", "URL"),
        ("tcp://127.0.0.1:7000", "127.0.0.1:7000"),
        ("~/x.sock", "whole path"),
        ("$XDG_RUNTIME_DIR/x.sock", "variables"),
        ("/run/user/${UID}/x.sock", "variables"),
        ("@vmlan", "abstract"),
        ("\\u0000vmlan", "NUL"),
        ("7000", "number"),
        ("[fe80::1%eth0]:7000", "number of the interface"),
    ] {
        let errors = read(&web(&format!("stream = {{ listen = \"{text}\" }}"))).expect_err(text);
        let message = &errors.faults()[0].error.message;
        assert!(message.contains(said) && !message.contains("octets"), "{text}: {message}");
    }
    let vde = "vde = { directory = \"vde:///run/vde.ctl\" }";
    assert_eq!(faults(&web(vde)), [(BadPath, "network.lab.port.web.vde.directory".to_owned())]);
    for (text, path) in [
        ("./~x", "/etc/vmlan/./~x"),
        ("./@x", "/etc/vmlan/./@x"),
        ("./7000", "/etc/vmlan/./7000"),
        ("/run/vmlan@lab/a$", "/run/vmlan@lab/a$"),
        ("./unix:/x", "/etc/vmlan/./unix:/x"),
    ] {
        let config = read(&web(&format!("stream = {{ listen = \"{text}\" }}"))).expect(text);
        let attachment = &config.port("lab", "web").expect("the port").attachment;
        let address = Address::Unix(path.into());
        assert_eq!(*attachment, Attachment::new(Stream::Listen(address, Allow::default(), PRIVATE)));
    }
    let zone = read(&web("stream = { listen = \"[fe80::1%2]:7000\" }"));
    assert!(zone.is_ok(), "a numeric zone");
}

#[test]
fn what_can_never_be_set_up_is_told_by_a_check() {
    for (text, code, field) in [
        ("[network.lab]\nmtu = 65522\n[network.lab.port.web]\ntap = { name = \"t0\" }", OutOfRange, "tap"),
        ("[network.lab.port.web]\ntap = { name = \"all\" }", BadDeviceName, "tap.name"),
        ("[network.lab.port.web]\ntap = { name = \"default\" }", BadDeviceName, "tap.name"),
        (
            "[network.lab.port.web]\ntunnel = { device = \"default\", address = \"10.0.0.1/24\" }",
            BadDeviceName,
            "tunnel.device",
        ),
    ] {
        let found = hindrances(&read(text).expect("valid"));
        let found: Vec<_> = found.into_iter().map(|error| (error.code, error.field)).collect();
        assert_eq!(found, [(code, Some(format!("network.lab.port.web.{field}")))], "{text}");
    }
    let good = "[network.lab]\nmtu = 65521\n[network.lab.port.web]\ntap = { name = \"t0\" }\n\
                [network.other]\nmtu = 65535\n[network.other.port.web]\ntap = { fd = 3 }\n";
    assert_eq!(hindrances(&read(good).expect("valid")), []);
}

#[test]
fn a_trunk_takes_an_alternative_name_as_long_as_the_kernel_does() {
    let trunk = |name: &str| format!("[network.lab.trunk]\ninterface = \"{name}\"\n");
    assert!(read(&trunk(&"a".repeat(127))).is_ok());
    let fault = (BadDeviceName, "network.lab.trunk.interface".to_owned());
    assert_eq!(faults(&trunk(&"a".repeat(128))), [fault]);
}

#[test]
fn what_only_one_port_can_have_is_given_once() {
    for (one, other, field) in [
        ("tap = { name = \"t0\" }", "tap = { name = \"t0\", owner = 0 }", "tap.name"),
        ("stream = { listen = \"/a/s\" }", "datagram = { listen = \"/a//./s\" }", "datagram.listen"),
        ("stream = { listen = \"127.0.0.1:1\" }", "stream = { listen = \"127.0.0.1:1\" }", "stream.listen"),
        ("stream = { fd = 3 }", "tap = { fd = 3 }", "tap.fd"),
        ("stream = { fd = 3 }", "vhost_user = { fd = 3 }", "vhost_user.fd"),
        ("stream = { listen = \"/a/s\" }", "vhost_user = { listen = \"/a/s\" }", "vhost_user.listen"),
        ("stream = { listen = \"/a/ctl\" }", "vde = { directory = \"/a\" }", "vde.directory"),
    ] {
        let text = format!("[network.a.port.one]\n{one}\n[network.b.port.two]\n{other}\n");
        assert_eq!(faults(&text), [(DuplicateAttachment, format!("network.b.port.two.{field}"))], "{text}");
    }
}

#[test]
fn what_several_ports_may_have_is_no_fault() {
    for (one, other) in [
        ("tap = { name = \"t0\" }", "tap = { name = \"t0\", netns = \"blue\" }"),
        ("tap = { name = \"t%d\" }", "tap = { name = \"t%d\" }"),
        ("stream = { listen = \"127.0.0.1:1\" }", "datagram = { listen = \"127.0.0.1:1\" }"),
        ("stream = { listen = \"/a/s\" }", "stream = { connect = \"/a/s\" }"),
        ("vhost_user = { connect = \"/a/s\" }", "vhost_user = { connect = \"/a/s\" }"),
    ] {
        let text = format!("[network.a.port.one]\n{one}\n[network.b.port.two]\n{other}\n");
        assert!(read(&text).is_ok(), "{text}");
    }
}

#[test]
fn an_address_belongs_to_one_port_of_a_network() {
    let port = |network: &str, name: &str| {
        format!(
            "[network.{network}.port.{name}]\ntap = {{ name = \"{network}{name}\" }}\nmac = \"52:54:00:00:00:01\"\n"
        )
    };
    assert!(read(&(port("a", "one") + &port("b", "two"))).is_ok());
    assert_eq!(
        faults(&(port("a", "one") + &port("a", "two"))),
        [(DuplicateMac, "network.a.port.two.mac".to_owned())]
    );
    let entry = "[network.a]\nfdb = { static = [{ mac = \"52:54:00:00:00:01\", port = \"two\" }] }\n";
    let two = "[network.a.port.two]\ntap = { name = \"two\" }\n";
    assert_eq!(
        faults(&(entry.to_owned() + &port("a", "one") + two)),
        [(DuplicateMac, "network.a.fdb.static[0].mac".to_owned())]
    );
}

#[test]
fn a_socket_path_must_fit_a_socket_address() {
    let stream = |length: usize| web(&format!("stream = {{ listen = \"/{}\" }}", "x".repeat(length - 1)));
    assert!(read(&stream(100)).is_ok());
    assert_eq!(faults(&stream(108)), [(BadPath, "network.lab.port.web.stream.listen".to_owned())]);
}

#[test]
fn requests_must_name_absolute_paths() {
    let config =
        serde_json::json!({"network": {"lab": {"port": {"web": {"stream": {"listen": "web.sock"}}}}}});
    let errors = from_json(config).expect_err("a relative path");
    assert_eq!(errors[0].code, BadPath);
    assert_eq!(errors[0].field.as_deref(), Some("network.lab.port.web.stream.listen"));
}

#[test]
fn null_members_of_a_request_are_as_if_absent() {
    let config = serde_json::json!({"workers": null, "network": {"lab": {"mtu": null}}});
    assert!(from_json(config).is_ok());
}

#[test]
fn a_file_is_read_with_paths_relative_to_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("vmlan.toml");
    std::fs::write(&file, web("vde = { directory = \"lab.vde\" }")).expect("a file");

    let config = load(&file).expect("a valid configuration");
    let port = config.as_api().network["lab"].port["web"].vde.clone().expect("the table");
    assert_eq!(port.directory, directory.path().join("lab.vde").to_str().map(str::to_owned));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let missing = load(&directory.path().join("none.toml")).expect_err("no file");
    assert!(missing.to_string().contains("none.toml"), "{missing}");

    let binary = directory.path().join("binary.toml");
    std::fs::write(&binary, b"x = \"\xff\"").expect("a file");
    let fault = load(&binary).expect_err("no text").faults()[0].error.clone();
    assert_eq!(fault.code, UnreadableFile);
}

#[test]
fn the_checked_form_reads_again_from_its_own_json() {
    let config = read(EXAMPLE).expect("a valid configuration");
    let json = serde_json::to_value(config.as_api()).expect("plain data");
    assert_eq!(from_json(json.clone()), Ok(config.clone()));
    assert_eq!(serde_json::from_value::<vmlan_api::Config>(json).ok().as_ref(), Some(config.as_api()));
}

/// The blocks of the reference in TOML: whole configurations, or lines for a port's table.
fn documented() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let text = std::fs::read_to_string(path).expect("the reference");
    text.split("```toml\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0.to_owned())).collect()
}

#[test]
fn the_examples_of_the_reference_are_valid() {
    let (whole, lines): (Vec<_>, Vec<_>) =
        documented().into_iter().partition(|block| block.lines().any(|line| line.starts_with('[')));
    assert!(whole.len() >= 3 && lines.len() >= 3, "{} {}", whole.len(), lines.len());
    // Programs and users of the examples are not on every machine, nor is what compiles expressions.
    let is_local = |error: &Error| {
        [MissingProgram, UnknownUser].contains(&error.code) || error.message.contains("tcpdump, which makes")
    };
    let ports = lines.iter().flat_map(|block| block.lines()).map(web);
    for text in whole.iter().cloned().chain(ports) {
        let errors = read(&text).err();
        let faults = errors.iter().flat_map(|errors| errors.faults());
        let others: Vec<_> = faults.filter(|fault| !is_local(&fault.error)).collect();
        assert!(others.is_empty(), "{text}: {others:?}");
    }
}

proptest! {
    #[test]
    fn no_text_breaks_the_reader(text in "\\PC{0,200}") {
        let _ = read(&text);
    }

    /// Faults in a text that is almost right are found and shown without a panic.
    #[test]
    fn a_damaged_configuration_never_breaks_the_reader(
        at in 0..EXAMPLE.len(), length in 0..12_usize, patch in "[\\[\\]{}=\"a-z0-9.,\\\\\n é]{0,6}"
    ) {
        let end = (at + length).min(EXAMPLE.len());
        let text = format!("{}{patch}{}", &EXAMPLE[..at], &EXAMPLE[end..]);
        if let Err(errors) = read(&text) {
            prop_assert!(!errors.faults().is_empty());
            prop_assert!(errors.to_string().starts_with("error: "));
        }
    }
}
