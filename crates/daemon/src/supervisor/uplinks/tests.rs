use std::net::IpAddr;

use tokio::task::JoinHandle;
use vmlan_api::{Flow, Forward, Lease, Outcome};
use vmlan_frame::Mutex;
use vmlan_nat::reach::Egress;
use vmlan_ports::uplink::forward::ForwardSpec;
use vmlan_ports::{Fabric, Later, Ready};

use super::*;
use crate::config::{self, ValidConfig};
use crate::handle::{self, Handle};
use crate::supervisor::Supervisor;

/// An uplink that writes down what it is asked to do, and refuses a change to no egress.
#[derive(Default)]
struct Fake {
    asked: Mutex<Vec<String>>,
}

impl Fake {
    fn note(&self, text: String) {
        self.asked.lock().push(text);
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock())
    }
}

/// The answer of a fake that has none of these.
fn none<T: Send + 'static>() -> Later<'static, Result<T, Error>> {
    Box::pin(std::future::ready(Err(Error::new(ErrorCode::NotFound, "there is none"))))
}

impl UplinkControl for Fake {
    fn farewell(&self) -> Later<'_, ()> {
        self.note("farewell".into());
        Box::pin(std::future::ready(()))
    }

    fn status(&self) -> Later<'_, vmlan_api::Uplink> {
        let report = vmlan_api::Uplink { network: "lab".into(), leases: 3, ..Default::default() };
        Box::pin(std::future::ready(report))
    }

    fn leases(&self) -> Later<'_, Vec<Lease>> {
        Box::pin(std::future::ready(vec![lease("10.0.0.9", Some("web")), lease("fd00::9", None)]))
    }

    fn release(&self, address: IpAddr) -> Later<'_, Result<Lease, Error>> {
        self.note(format!("release {address}"));
        none()
    }

    /// A worker that does not answer.
    fn flows(&self, _port: Option<String>) -> Later<'_, Vec<Flow>> {
        Box::pin(std::future::pending())
    }

    fn close_flow(&self, id: u64) -> Later<'_, Result<Flow, Error>> {
        self.note(format!("close {id}"));
        none()
    }

    fn forwards(&self) -> Vec<Forward> {
        Vec::new()
    }

    fn add_forward(&self, forward: ForwardSpec) -> Later<'_, Result<Forward, Error>> {
        self.note(format!("add {forward}"));
        none()
    }

    fn remove_forward(&self, id: u64) -> Later<'_, Result<Forward, Error>> {
        self.note(format!("remove {id}"));
        none()
    }

    fn change(self: Arc<Self>, settings: Arc<UplinkSettings>, done: Ready) {
        self.note("change".to_owned());
        let refused = settings.egress == Egress::None;
        let _ = done.send(if refused { Err("forward 80=web: taken".to_owned()) } else { Ok(()) });
    }
}

/// A lease of the guest at port `web`.
fn lease(address: &str, name: Option<&str>) -> Lease {
    Lease {
        network: "lab".into(),
        address: address.into(),
        mac: "52:54:00:00:00:01".into(),
        port: Some("web".into()),
        name: name.map(str::to_owned),
        until: None,
        source: vmlan_api::LeaseSource::Set,
    }
}

struct Daemon {
    handle: Handle,
    fabric: Arc<Fabric>,
    task: JoinHandle<()>,
    directory: tempfile::TempDir,
}

fn config(directory: &std::path::Path, uplink: &str, web: &str) -> ValidConfig {
    let text = format!(
        "[network.lab]\nuplink = {{ {uplink} }}\n[network.lab.port.web]\nstream = {{ listen = \"web.sock\" }}\n\
         mac = \"52:54:00:00:00:01\"\n{web}\n[network.bare]\n"
    );
    config::parse(&text, "test", Some(directory)).unwrap_or_else(|errors| panic!("{errors}"))
}

/// A daemon with an uplink, and an end of the test's own behind its port.
async fn start() -> Daemon {
    let directory = tempfile::tempdir().expect("a directory");
    let (handle, requests) = handle::channel();
    let config = config(
        directory.path(),
        "subnet = \"10.0.0.0/24\"",
        "address = [\"10.0.0.9\"]\negress = \"internet\"",
    );
    let mut supervisor =
        Supervisor::start(requests, config.workers(), None, vmlan_ports::StateDirectory::None)
            .expect("a supervisor");
    supervisor.apply(config, false).await;
    let fabric = supervisor.fabric.clone();
    let task = tokio::spawn(supervisor.run());
    Daemon { handle, fabric, task, directory }
}

impl Daemon {
    async fn end(self) {
        self.handle.shutdown().await.expect("a daemon");
        self.task.await.expect("no panic");
    }
}

#[tokio::test]
async fn an_uplink_is_listed_and_networks_without_one_say_so() {
    let daemon = start().await;
    let uplinks = daemon.handle.uplinks(None).await.expect("a listing");
    assert_eq!((uplinks.len(), &*uplinks[0].gateway[0]), (1, "10.0.0.1/24"));
    let code = |error: Error| error.code;
    let lab = Some("lab".to_owned());
    assert_eq!(daemon.handle.leases(lab).await, daemon.handle.leases(None).await);
    let bare = Some("bare".to_owned());
    assert_eq!(daemon.handle.leases(bare).await.map_err(code), Err(ErrorCode::NotFound));
    assert_eq!(daemon.handle.uplink("bare".into()).await.map_err(code), Err(ErrorCode::NotFound));
    assert_eq!(daemon.handle.uplink("none".into()).await.map_err(code), Err(ErrorCode::UnknownNetwork));
    daemon.end().await;
}

#[tokio::test]
async fn an_uplink_says_farewell_before_it_or_the_daemon_goes() {
    let daemon = start().await;
    let (replaced, last) = (Arc::new(Fake::default()), Arc::new(Fake::default()));
    let place = daemon.fabric.uplinks.register("lab", replaced.clone());
    let other = config(daemon.directory.path(), "subnet = \"10.0.1.0/24\"", "");
    daemon.handle.apply(other, false).await.expect("an account");
    assert_eq!(replaced.asked(), ["farewell"]);
    drop(place);

    let place = daemon.fabric.uplinks.register("lab", last.clone());
    daemon.end().await;
    assert_eq!(last.asked(), ["farewell"]);
    drop(place);
}

#[tokio::test]
async fn changes_reach_an_uplink_that_runs() {
    let daemon = start().await;
    let fake = Arc::new(Fake::default());
    let running = daemon.fabric.uplinks.register("lab", fake.clone());
    assert_eq!(daemon.handle.uplink("lab".into()).await.map(|uplink| uplink.leases), Ok(3));

    let (handle, lab) = (&daemon.handle, || "lab".to_owned());
    let code = |error: Error| error.code;
    assert!(handle.release(lab(), "10.0.0.7".parse().expect("an address")).await.is_err());
    assert!(handle.close_flow(lab(), 7).await.is_err() && handle.remove_forward(lab(), 8).await.is_err());
    assert!(handle.add_forward(lab(), "80=web".into()).await.is_err());
    assert_eq!(fake.asked(), ["release 10.0.0.7", "close 7", "remove 8", "add 80=web"]);
    for (forward, expected) in [
        ("80", ErrorCode::BadAddress),
        ("80=wbe", ErrorCode::UnknownPort),
        ("./x.sock=web:1", ErrorCode::BadPath),
    ] {
        assert_eq!(handle.add_forward(lab(), forward.into()).await.map_err(code), Err(expected), "{forward}");
    }
    let port = Some("nobody".to_owned());
    assert_eq!(handle.flows(Some(lab()), port).await.map_err(code), Err(ErrorCode::UnknownPort));
    assert_eq!(fake.asked(), [""; 0]);
    drop(running);
    assert!(daemon.fabric.uplinks.get("lab").is_none());
    daemon.end().await;
}

#[tokio::test]
async fn case_21_other_settings_are_handed_over_and_what_does_not_work_is_in_the_report() {
    let daemon = start().await;
    let fake = Arc::new(Fake::default());
    let _running = daemon.fabric.uplinks.register("lab", fake.clone());
    let directory = daemon.directory.path();
    let with = |uplink: &str| {
        config(
            directory,
            &format!("subnet = \"10.0.0.0/24\"{uplink}"),
            "address = [\"10.0.0.9\"]\negress = \"internet\"",
        )
    };
    let report = daemon.handle.apply(with(", forward = \"80=web\""), false).await.expect("a daemon");
    assert_eq!((report.failed(), fake.asked()), (0, vec!["change".to_owned()]));
    let report = daemon.handle.apply(with(", egress = \"none\""), false).await.expect("a daemon");
    let failed = report.actions.iter().find(|action| action.outcome == Outcome::Failed).expect("a failure");
    assert_eq!(failed.reason.as_deref(), Some("forward 80=web: taken"));
    assert_eq!(report.actions.len(), 1, "{report:?}");
    daemon.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_does_not_answer_keeps_nobody_waiting() {
    let daemon = start().await;
    let _running = daemon.fabric.uplinks.register("lab", Arc::new(Fake::default()));
    let flows = daemon.handle.flows(Some("lab".into()), None).await;
    assert_eq!(flows.map_err(|error| error.code), Err(ErrorCode::Unavailable));
    daemon.end().await;
}

#[tokio::test]
async fn a_keeper_hears_of_the_ports_of_its_network() {
    let daemon = start().await;
    let directory = &daemon.fabric.directory;
    let ports = directory.ports_of("lab");
    let [web] = &ports[..] else { panic!("{ports:?}") };
    assert_eq!((&*web.name, web.up, &web.egress), ("web", false, &Some(Egress::Internet)));
    assert_eq!(web.addresses, ["10.0.0.9".parse::<IpAddr>().expect("an address")]);
    assert!(web.ingress > 0 && web.macs.len() == 1 && directory.ports_of("bare").is_empty());

    let mut changes = directory.watch();
    let other = config(daemon.directory.path(), "subnet = \"10.0.0.0/24\"", "address = [\"10.0.0.10\"]");
    daemon.handle.apply(other, false).await.expect("a daemon");
    assert!(changes.has_changed().expect("a directory"));
    changes.mark_unchanged();
    let ports = directory.ports_of("lab");
    assert_eq!((ports[0].addresses[0].to_string(), &ports[0].egress), ("10.0.0.10".to_owned(), &None));
    daemon.end().await;
}

#[tokio::test]
async fn listings_have_the_addresses_and_names_of_guests_that_the_uplink_knows() {
    let daemon = start().await;
    let expected = || (vec!["10.0.0.9".to_owned(), "fd00::9".to_owned()], Some("web".to_owned()));
    // The real one, which the port's keeper put there, knows nothing yet.
    let _place = daemon.fabric.uplinks.register("lab", Arc::new(Fake::default()));
    for network in [None, Some("lab".to_owned())] {
        for port in daemon.handle.ports(network).await.expect("ports") {
            let guest = if port.port == "web" { expected() } else { Default::default() };
            assert_eq!((port.addresses, port.name), guest, "{}", port.port);
        }
    }
    let stations = daemon.handle.fdb("lab".into()).await.expect("stations");
    let web = stations.into_iter().find(|station| station.port == "web").expect("its set address");
    assert_eq!((web.addresses, web.name), expected());
    assert_eq!(daemon.handle.ports(Some("bare".into())).await.expect("ports"), []);
    assert!(daemon.handle.fdb("none".into()).await.is_err());
    daemon.end().await;
}

#[test]
fn a_station_has_what_is_known_of_it_at_its_port() {
    let station = |mac: &str, port: &str| vmlan_api::FdbEntry {
        mac: mac.into(),
        vlan: None,
        port: port.into(),
        is_static: false,
        age_seconds: None,
        fast: false,
        addresses: Vec::new(),
        name: None,
    };
    let mut stations = [
        station("52:54:00:00:00:01", "web"),
        station("52:54:00:00:00:01", "db"),
        station("52:54:00:00:00:02", "web"),
    ];
    let leases = [lease("10.0.0.9", None), Lease { port: None, ..lease("10.0.0.8", Some("old")) }];
    name_stations(&mut stations, &leases);
    let known = stations.map(|station| (station.addresses.len(), station.name.is_some()));
    assert_eq!(known, [(2, true), (1, true), (0, false)]);
}
