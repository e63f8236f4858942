//! Guests that live in the process behind the uplink of a daemon in the process: leases, names, and the way to services
//! of this host and back. And a real machine that boots over the network.

mod support;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use support::Daemon;
use tempfile::TempDir;
use testbed::{Interface, Netns, Nic, Vm, require};
use vmlan_daemon::StateDirectory;
use vmlan_daemon::config;
use vmlan_daemon::embedded::Embedded;
use vmlan_frame::MacAddr;
use vmlan_guest::{Amount, Attachment, Error, Guest, GuestConfig, Lease, Ping};

/// The most that any wait may take.
const PATIENCE: Duration = Duration::from_secs(20);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const HOST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// A network with an uplink, which opens `service`, and its directory. Guests end before it does.
struct Lab {
    daemon: Embedded,
    directory: TempDir,
}

impl Lab {
    fn start(service: u16, state: StateDirectory) -> Lab {
        let directory = tempfile::tempdir().expect("a directory");
        let text = format!(
            "[network.lab.uplink]\nsubnet = \"10.77.0.0/24\"\nipv6 = \"off\"\nhost = [\"{service}\"]\n\
             [network.lab.port.web]\nstream = {{ listen = \"web.sock\" }}\n\
             mac = \"52:54:00:00:00:01\"\naddress = \"10.77.0.9\"\n\
             [network.lab.port.db]\nstream = {{ listen = \"db.sock\" }}\n"
        );
        let config = config::parse(&text, "test", Some(directory.path())).expect("a good configuration");
        let (daemon, report) = Embedded::start(config, state).expect("a daemon");
        assert_eq!(report.failed(), 0, "{report:?}");
        Lab { daemon, directory }
    }

    fn guest(&self, name: &str, number: u8) -> Guest {
        let path = self.directory.path().join(format!("{name}.sock"));
        let mac = MacAddr([0x52, 0x54, 0, 0, 0, number]);
        let config = GuestConfig::new(name, mac, Attachment::Stream { path }).dhcp();
        Guest::spawn(GuestConfig { timeout: PATIENCE, ..config }).expect("a guest")
    }
}

/// A service of this host that answers one request of `len` octets with `answer`.
fn service(len: usize, answer: Vec<u8>) -> (u16, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let number = listener.local_addr().expect("an address").port();
    let serve = move || {
        let (mut stream, _) = listener.accept().expect("a caller");
        let mut request = vec![0; len];
        stream.read_exact(&mut request).expect("a request");
        // The guest may have enough before it has everything.
        let _ = stream.write_all(&answer);
        request
    };
    (number, std::thread::spawn(serve))
}

#[test]
fn a_guest_gets_address_router_servers_and_domain() {
    let lab = Lab::start(9, StateDirectory::None);
    let (web, db) = (lab.guest("web", 1), lab.guest("db", 2));

    let set = web.lease(PATIENCE).expect("a lease");
    let dynamic = db.lease(PATIENCE).expect("a lease");

    let expected = Lease {
        address: Ipv4Addr::new(10, 77, 0, 9),
        prefix: 24,
        router: Some(GATEWAY),
        servers: vec![GATEWAY],
        domain: Some("lab.internal".to_owned()),
    };
    assert_eq!(set, expected);
    assert_eq!(dynamic, Lease { address: dynamic.address, ..expected });
    assert_eq!(db.ipv4(), Some(dynamic.address));
    let listed = lab.daemon.leases(Some("lab")).expect("leases");
    assert!(listed.iter().any(|lease| lease.address == dynamic.address.to_string()), "{listed:?}");
    let report = db.ping(set.address.into(), Ping::default()).expect("a ping");
    assert!(report.is_complete(), "{report:?}");
    let report = db.ping(GATEWAY.into(), Ping::default()).expect("a ping");
    assert!(report.is_complete(), "{report:?}");
}

#[test]
fn a_guest_resolves_names_of_the_network() {
    let lab = Lab::start(9, StateDirectory::None);
    let (web, db) = (lab.guest("web", 1), lab.guest("db", 2));
    let early = db.resolve("web.lab.internal", PATIENCE);
    web.lease(PATIENCE).expect("a lease");
    db.lease(PATIENCE).expect("a lease");

    let found = |name| db.resolve(name, PATIENCE);

    if let Err(early) = early {
        assert!(matches!(early, Error::Unresolved { .. }), "{early}");
    }
    assert_eq!(found("web.lab.internal").expect("an address"), [IpAddr::from([10, 77, 0, 9])]);
    assert_eq!(found("WEB.lab.internal.").expect("an address"), [IpAddr::from([10, 77, 0, 9])]);
    assert_eq!(found("host.lab.internal").expect("an address"), [IpAddr::V4(HOST)]);
    for name in ["nobody.lab.internal", "", "a..b", &"a".repeat(300)] {
        let error = found(name).expect_err("no address");
        assert!(matches!(error, Error::Unresolved { .. }), "{name}: {error}");
    }
}

#[test]
fn a_guest_fetches_from_a_service_of_this_host() {
    let answer: Vec<u8> = (0..300_000_u32).map(|at| at as u8).collect();
    let (number, served) = service(5, answer.clone());
    let lab = Lab::start(number, StateDirectory::None);
    let db = lab.guest("db", 2);
    db.lease(PATIENCE).expect("a lease");

    let got = db.fetch((HOST, number).into(), b"hello", 1 << 20, PATIENCE).expect("an answer");

    assert!(got == answer, "{} of {} octets", got.len(), answer.len());
    assert_eq!(served.join().expect("a service"), b"hello");
    let closed = db.fetch((HOST, number).into(), b"hello", 1, PATIENCE).expect_err("nobody listens");
    assert!(matches!(closed, Error::Reset { acknowledged: 0, .. }), "{closed}");
}

#[test]
fn a_guest_takes_no_more_of_an_answer_than_it_wants() {
    let (number, served) = service(1, vec![7; 8 << 20]);
    let lab = Lab::start(number, StateDirectory::None);
    let db = lab.guest("db", 2);
    db.lease(PATIENCE).expect("a lease");

    let got = db.fetch((HOST, number).into(), b"x", 1000, PATIENCE).expect("an answer");

    assert!(got == [7; 1000], "{} octets", got.len());
    served.join().expect("a service that does not wait for ever");
}

#[test]
fn a_guest_asks_its_router_for_what_is_not_on_its_network() {
    let lab = Lab::start(9, StateDirectory::None);
    let db = lab.guest("db", 2);
    db.lease(PATIENCE).expect("a lease");

    // The uplink opens it to nobody, and says so.
    let denied = db.fetch(([169, 254, 169, 254], 80).into(), b"x", 1, PATIENCE).expect_err("no way there");

    assert!(matches!(denied, Error::Reset { acknowledged: 0, .. }), "{denied}");
}

#[test]
fn this_host_reaches_a_guest_by_a_forward() {
    let lab = Lab::start(9, StateDirectory::None);
    let db = lab.guest("db", 2);
    db.lease(PATIENCE).expect("a lease");
    let server = db.tcp_serve(5001).expect("a server");
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let free: SocketAddr = free.expect("an address");
    lab.daemon.add_forward("lab", &format!("{free}=db:5001")).expect("a forward");

    let mut stream = TcpStream::connect(free).expect("a connection");
    let mut octets = vec![0; 100_000];
    vmlan_guest::pattern::fill(0, &mut octets);
    stream.write_all(&octets).expect("a connection");
    drop(stream);

    let report = server.wait(PATIENCE, |report| report.finished == 1);
    assert_eq!((report.octets, report.corrupt), (100_000, 0));
}

#[test]
fn leases_are_kept_where_they_were_told_to_be_or_not_at_all() {
    let state = tempfile::tempdir().expect("a directory");
    let kept = |lab: &Lab| {
        let db = lab.guest("db", 2);
        db.lease(PATIENCE).expect("a lease").address
    };
    let file = |state: &Path| state.join("leases/lab.json");

    let lab = Lab::start(9, StateDirectory::None);
    kept(&lab);
    lab.daemon.stop();
    assert_eq!(state.path().read_dir().expect("a directory").count(), 0);

    let lab = Lab::start(9, StateDirectory::At(state.path().to_owned()));
    let address = kept(&lab);
    lab.daemon.stop();
    let text = std::fs::read_to_string(file(state.path())).expect("a file of leases");
    assert!(text.contains(&address.to_string()), "{text}");
}

#[test]
fn what_no_uplink_gives_is_told() {
    let (socket, peer) = std::os::unix::net::UnixStream::pair().expect("a pair");
    let mac = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
    let config = GuestConfig::new("alone", mac, Attachment::StreamFd(socket.into())).dhcp();
    let alone = Guest::spawn(config).expect("a guest");

    let none = alone.lease(Duration::from_millis(50)).expect_err("nobody answers");
    let unresolved = alone.resolve("web.lab.internal", PATIENCE).expect_err("no server");
    let unreachable = alone.tcp_send((HOST, 80).into(), Amount::Octets(1)).expect_err("no address");
    drop(peer);
    let ended = alone.lease(PATIENCE).expect_err("the attachment ended");

    assert!(matches!(none, Error::Timeout { .. }), "{none}");
    assert!(matches!(unresolved, Error::Unresolved { .. }), "{unresolved}");
    assert!(matches!(unreachable, Error::Unreachable { .. }), "{unreachable}");
    assert!(matches!(ended, Error::Disconnected { .. }), "{ended}");
}

/// A web server of the internet that has these files, and tells what it was asked for.
fn web_server(netns: &Netns, address: &str, files: Vec<(&'static str, Vec<u8>)>) -> Arc<Mutex<Vec<String>>> {
    let listener = netns.inside(|| TcpListener::bind(address)).expect(address);
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let seen = asked.clone();
    // It ends with the test.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // The caller may have gone.
            let _ = answer(stream, &files, &seen);
        }
    });
    asked
}

fn answer(mut stream: TcpStream, files: &[(&str, Vec<u8>)], seen: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            match line.trim_end() {
                "" => break,
                line => head.push(line.to_owned()),
            }
        }
        let request = head.first().cloned().unwrap_or_default();
        let path = request.split(' ').nth(1).unwrap_or_default();
        let file = files.iter().find(|(name, _)| *name == path);
        let (status, content) = file.map_or(("404 Not Found", &[][..]), |(_, content)| ("200 OK", content));
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", content.len());
        seen.lock().expect("no panic").push(request.clone());
        stream.write_all(answer.as_bytes())?;
        if request.starts_with("GET ") {
            stream.write_all(content)?;
        }
    }
}

#[test]
fn case_64_a_machine_boots_over_the_network() {
    const SERVER: &str = "198.51.100.7";
    require!(namespaces(), qemu(), file("/usr/lib/ipxe/qemu/efi-virtio.rom"));
    let [host, internet] = ["host", "net"].map(Netns::new);
    host.veth("wan", &internet, "wan");
    host.configure("wan", &Interface::new().address("198.51.100.1/24"));
    internet.configure("wan", &Interface::new().address(&format!("{SERVER}/24")));
    let config = format!(
        "[network.lab.uplink]\nsubnet = \"10.77.0.0/24\"\n\
         dhcp = {{ boot = {{ file = \"none.kpxe\", ipxe = \"http://{SERVER}/boot.ipxe\" }} }}\n\
         [network.lab.port.web]\nstream = {{ listen = \"web.sock\" }}\n\
         mac = \"52:54:00:00:00:01\"\naddress = \"10.77.0.9\"\n"
    );
    let daemon = Daemon::start_within(&host, support::directory(), &config);
    daemon.wait_up(&["uplink"]);
    let machine = Vm::builder("web")
        .nic(Nic::stream(&daemon.path("web.sock"), "52:54:00:00:00:01"))
        .boot_from_network();
    let files = machine.boot_files();
    let script = format!(
        "#!ipxe\nkernel http://{SERVER}/vmlinuz {} guest.by=${{net0/ip}}\ninitrd http://{SERVER}/initrd\nboot\n",
        files.command_line
    );
    let asked = web_server(
        &internet,
        &format!("{SERVER}:80"),
        vec![
            ("/boot.ipxe", script.into_bytes()),
            ("/vmlinuz", files.kernel),
            ("/initrd", files.initrd),
            ("/hello", b"from there".to_vec()),
        ],
    );

    let mut machine = machine.start();
    let asked_for = |name: &str| asked.lock().expect("no panic").iter().any(|line| line.contains(name));
    testbed::wait_until("the script", Duration::from_secs(60), || asked_for("GET /boot.ipxe "));
    testbed::wait_until("the kernel", Duration::from_secs(60), || asked_for("GET /vmlinuz "));
    machine.wait_ready();

    // iPXE had the address that the port has, and the system that it has booted gets the same.
    let by = machine.run("cat /proc/cmdline").output;
    assert!(by.contains("guest.by=10.77.0.9"), "{by}");
    assert_eq!(machine.lease().status, 0);
    let hello = machine.run(&format!("wget -q -O - http://{SERVER}/hello"));
    assert!(hello.output.contains("from there"), "{}", hello.output);
    support::assert_balanced(&daemon);
    drop(machine);
    daemon.stop();
}
