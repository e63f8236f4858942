use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::config::{Change, parse, validate};

/// A model of the running configuration, as the actions leave it.
#[derive(Debug, PartialEq, Eq)]
struct Model {
    workers: NonZeroUsize,
    poll: vmlan_api::Poll,
    limits: UserLimits,
    metrics: Option<SocketAddr>,
    ui: Option<WebPage>,
    networks: BTreeMap<String, Network>,
}

impl Model {
    fn of(config: &ValidConfig) -> Self {
        Self {
            workers: config.workers(),
            poll: config.poll(),
            limits: config.limits().clone(),
            metrics: config.metrics(),
            ui: config.ui(),
            networks: config.networks().clone(),
        }
    }

    fn network(&mut self, name: &str) -> &mut Network {
        self.networks.get_mut(name).expect("an action names a network that is there")
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::RemovePort { network, name } => {
                self.network(&network).ports.remove(&name).expect("the port to remove");
            }
            Action::RemoveNetwork { network } => {
                let removed = self.networks.remove(&network).expect("the network to remove");
                assert!(removed.ports.is_empty(), "{network} had ports");
            }
            Action::ChangeNetwork { network, settings } => self.network(&network).settings = settings,
            Action::AddNetwork { network, settings } => {
                let before =
                    self.networks.insert(network, Network { settings, trunk: None, ports: BTreeMap::new() });
                assert_eq!(before, None);
            }
            Action::ReplacePort { network, name, port, .. } => {
                self.network(&network).ports.insert(name, port).expect("the port to replace");
            }
            Action::ChangePort { network, name, settings } => {
                self.network(&network).ports.get_mut(&name).expect("the port to change").settings = settings;
            }
            Action::AddPort { network, name, port } => {
                let before = self.network(&network).ports.insert(name, port);
                assert_eq!(before, None);
            }
            Action::RemoveTrunk { network } => {
                self.network(&network).trunk.take().expect("the trunk to remove");
            }
            Action::ReplaceTrunk { network, trunk } => {
                self.network(&network).trunk.replace(trunk).expect("the trunk to replace");
            }
            Action::AddTrunk { network, trunk } => {
                let before = self.network(&network).trunk.replace(trunk);
                assert_eq!(before, None);
            }
            Action::SetWorkers { workers } => self.workers = workers,
            Action::SetPoll { poll } => self.poll = poll,
            Action::SetLimits { limits } => self.limits = limits,
            Action::SetMetrics { address } => self.metrics = address,
            Action::SetUi { page } => self.ui = page,
        }
        self.check_belongings();
    }

    fn check_belongings(&self) {
        let mut taken = BTreeSet::new();
        for (name, port) in self.networks.values().flat_map(|network| &network.ports) {
            for belonging in belongings(port) {
                assert!(
                    taken.insert(belonging.clone()),
                    "port {name} takes {belonging}, which another port has"
                );
            }
        }
        let mut interfaces = BTreeSet::new();
        for trunk in self.networks.values().filter_map(|network| network.trunk.as_ref()) {
            assert!(interfaces.insert(trunk.interface.name()), "two trunks on {:?}", trunk.interface);
        }
    }
}

/// Few names and addresses, so that two configurations have much in common and much in each other's way.
fn port() -> impl Strategy<Value = vmlan_api::PortConfig> {
    let tap = (0..4).prop_map(|n| vmlan_api::PortConfig {
        tap: Some(vmlan_api::TapConfig { name: Some(format!("tap{n}")), ..Default::default() }),
        ..Default::default()
    });
    let stream = (0..4).prop_map(|n| vmlan_api::PortConfig {
        stream: Some(vmlan_api::StreamConfig {
            listen: Some(format!("/run/{n}.sock")),
            ..Default::default()
        }),
        ..Default::default()
    });
    let fd = (3..6_u64).prop_map(|fd| vmlan_api::PortConfig {
        datagram: Some(vmlan_api::DatagramConfig { fd: Some(fd), ..Default::default() }),
        ..Default::default()
    });
    let vlan = proptest::option::of(1..3_u64);
    (prop_oneof![tap, stream, fd], vlan, proptest::option::of(0..3_u8)).prop_map(|(port, vlan, mac)| {
        vmlan_api::PortConfig {
            vlan: vlan.map(|access| vmlan_api::VlanConfig { access: Some(access), ..Default::default() }),
            mac: mac.map(|octet| vmlan_api::OneOrMany::One(format!("52:54:00:00:00:{octet:02x}"))),
            ..port
        }
    })
}

fn poll() -> impl Strategy<Value = Option<vmlan_api::Poll>> {
    proptest::option::of(proptest::sample::select(
        &[vmlan_api::Poll::Adaptive, vmlan_api::Poll::Busy, vmlan_api::Poll::Sleep][..],
    ))
}

fn trunk_config((interface, wait): (u8, bool)) -> vmlan_api::TrunkConfig {
    vmlan_api::TrunkConfig {
        interface: Some(format!("eth{interface}")),
        wait: Some(wait),
        ..Default::default()
    }
}

fn config() -> impl Strategy<Value = ValidConfig> {
    let ports = proptest::collection::btree_map("[a-d]", port(), 0..5);
    let trunk = proptest::option::of((0..3_u8, any::<bool>()));
    let network = (ports, proptest::option::of(1500..1502_u64), trunk);
    let small = || proptest::option::of(1..3_u64);
    (proptest::collection::btree_map("[x-z]", network, 0..4), small(), small(), poll(), small()).prop_map(
        |(networks, workers, backlog, poll, metrics)| {
            let mut taken = BTreeSet::new();
            let empty = networks.iter().map(|(name, (_, mtu, trunk))| {
                let trunk = trunk.filter(|(interface, _)| taken.insert(*interface)).map(trunk_config);
                (name.clone(), vmlan_api::NetworkConfig { mtu: *mtu, trunk, ..Default::default() })
            });
            let user = backlog.map(|_| vmlan_api::UserLimitsConfig { backlog, ..Default::default() });
            let limits = Some(vmlan_api::LimitsConfig { user });
            let metrics = metrics.map(|number| format!("127.0.0.1:947{number}"));
            let page = [None, Some(false), Some(true)][(networks.len() + backlog.unwrap_or(0) as usize) % 3];
            let ui = page.map(|_| "127.0.0.1:7070".to_owned());
            let daemon = Some(vmlan_api::DaemonConfig { metrics, ui, ui_writes: page });
            let empty = vmlan_api::Config { workers, poll, daemon, limits, network: empty.collect() };
            let start = validate(empty).expect("networks without ports");
            let ports = networks.into_iter().flat_map(|(network, (ports, ..))| {
                ports.into_iter().map(move |(name, port)| (network.clone(), name, port))
            });
            // A port that is in the way of another is left out.
            ports.fold(start, |config, (network, name, port)| {
                let add = Change::AddPort {
                    network,
                    port: name,
                    table: serde_json::to_value(port).expect("plain data"),
                };
                add.apply(&config).unwrap_or(config)
            })
        },
    )
}

proptest! {
    #[test]
    fn nothing_is_to_do_when_nothing_changes(config in config()) {
        prop_assert!(plan(&config, &config).is_empty());
    }

    #[test]
    fn the_actions_lead_to_what_is_wanted_and_never_share_an_attachment(running in config(), wanted in config()) {
        let mut model = Model::of(&running);
        for action in plan(&running, &wanted) {
            model.carry_out(action);
        }
        prop_assert_eq!(model, Model::of(&wanted));
    }

    #[test]
    fn unchanged_ports_and_networks_are_in_no_action(running in config(), wanted in config()) {
        for action in plan(&running, &wanted) {
            let (network, port) = (action.network().unwrap_or_default(), action.port());
            match port {
                Some(port) => prop_assert_ne!(running.port(network, port), wanted.port(network, port)),
                None => {
                    let settings = |config: &ValidConfig| {
                        config.network(network).map(|n| (n.settings.clone(), n.trunk.clone()))
                    };
                    let same = settings(&running) == settings(&wanted);
                    let of_all = {
                        use vmlan_api::ActionKind::*;
                        [SetWorkers, SetPoll, SetLimits, SetMetrics, SetUi]
                    };
                    prop_assert!(!same || of_all.contains(&action.kind()));
                }
            }
        }
    }
}

fn kinds(running: &str, wanted: &str) -> Vec<vmlan_api::ActionKind> {
    let read = |text: &str| parse(text, "test", None).expect("a valid configuration");
    plan(&read(running), &read(wanted)).actions().iter().map(Action::kind).collect()
}

#[test]
fn each_change_has_its_action() {
    use vmlan_api::ActionKind::*;
    let web = "[network.lab.port.web]\ntap = { name = \"t0\" }\n";
    let trunk = "[network.lab.trunk]\ninterface = \"eth0\"\n";
    let both = format!("{web}[network.lab.port.db]\ntap = {{ name = \"t1\" }}\n");
    for (running, wanted, expected) in [
        (String::new(), web.to_owned(), vec![AddNetwork, AddPort]),
        (web.to_owned(), String::new(), vec![RemovePort, RemoveNetwork]),
        (web.to_owned(), format!("{web}queue = 7\n"), vec![ChangePort]),
        (web.to_owned(), web.replace("t0", "t1"), vec![ReplacePort]),
        (web.to_owned(), format!("[network.lab]\nmtu = 9000\n{web}"), vec![ChangeNetwork]),
        (web.to_owned(), format!("workers = 2\n{web}"), vec![SetWorkers]),
        (web.to_owned(), format!("poll = \"busy\"\n{web}"), vec![SetPoll]),
        (web.to_owned(), format!("daemon = {{ metrics = \"127.0.0.1:9477\" }}\n{web}"), vec![SetMetrics]),
        (web.to_owned(), format!("daemon = {{ ui = \"127.0.0.1:7070\" }}\n{web}"), vec![SetUi]),
        (
            format!("daemon = {{ ui = \"127.0.0.1:7070\" }}\n{web}"),
            format!("daemon = {{ ui = \"127.0.0.1:7070\", ui_writes = true }}\n{web}"),
            vec![SetUi],
        ),
        (web.to_owned(), format!("limits = {{ user = {{ ports = 5 }} }}\n{web}"), vec![SetLimits]),
        (web.to_owned(), format!("{web}{trunk}"), vec![AddTrunk]),
        (format!("{web}{trunk}"), web.to_owned(), vec![RemoveTrunk]),
        (format!("{web}{trunk}"), format!("{web}{trunk}wait = true\n"), vec![ReplaceTrunk]),
        (
            format!("{web}{trunk}"),
            format!("{web}{}", trunk.replace("eth0", "eth1")),
            vec![RemoveTrunk, AddTrunk],
        ),
        (
            both.clone(),
            both.replace("t0", "t").replace("t1", "t0").replace("\"t\"", "\"t1\""),
            vec![RemovePort, RemovePort, AddPort, AddPort],
        ),
        (both.clone(), web.replace("t0", "t1"), vec![RemovePort, ReplacePort]),
    ] {
        assert_eq!(kinds(&running, &wanted), expected, "from\n{running}to\n{wanted}");
    }
}

#[test]
fn a_dry_run_lists_the_actions_as_planned() {
    let wanted = parse("[network.lab]\n", "test", None).expect("a valid configuration");
    let report = plan(&ValidConfig::empty(), &wanted).preview();
    assert!(report.dry_run);
    assert_eq!(report.actions.len(), 1);
    assert_eq!(report.actions[0].outcome, vmlan_api::Outcome::Planned);
    assert_eq!(report.actions[0].network.as_deref(), Some("lab"));
}

#[test]
fn a_dry_run_says_what_a_guest_notices_when_its_port_is_replaced() {
    for (from, to, notice) in [
        ("stream = { listen = \"/a\" }", "stream = { listen = \"/b\" }", "its guest has to connect again"),
        ("tap = { name = \"t0\" }", "tap = { name = \"t1\" }", "its device is made anew"),
        ("tap = { name = \"t0\", persistent = true }", "tap = { name = \"t1\" }", "its device stays"),
        ("stream = { fd = 3 }", "stream = { fd = 4 }", "it was started with ends"),
    ] {
        let read = |line| parse(&format!("[network.lab.port.web]\n{line}\n"), "test", None).expect("a port");
        let report = plan(&read(from), &read(to)).preview();
        let [action] = &report.actions[..] else { panic!("{report:?}") };
        assert_eq!(action.action, vmlan_api::ActionKind::ReplacePort);
        assert!(action.reason.as_ref().is_some_and(|reason| reason.contains(notice)), "{action:?}");
    }
}
