//! Guests whose way out is the host's kernel: `mode = "kernel"`.

#![cfg(target_os = "linux")]

mod support;

use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket, sockopt};
use support::{Daemon, PATIENCE, assert_balanced, directory};
use testbed::{Interface, Netns, require, wait_for, wait_until};
use vmlan_sys::netns::within;

const HOST: &str = "198.51.100.1";
const HOST6: &str = "2001:db8:100::1";
const SERVER: &str = "198.51.100.7";
const SERVER6: &str = "2001:db8:100::7";
const FAR6: &str = "2001:db8:200::7";
const GUEST: &str = "10.213.5.10";
const GUEST6: &str = "fd00:1::10";
const MAC: &str = "52:54:00:00:00:10";

/// A host with a way to the internet, and a guest.
struct World {
    host: Netns,
    internet: Netns,
    guest: Netns,
}

impl World {
    fn new() -> World {
        let [host, internet, guest] = ["host", "net", "guest"].map(Netns::new);
        guest.sysctl("net.ipv6.conf.default.accept_ra", "0");
        host.veth("wan", &internet, "wan");
        let of = |v4, v6| Interface::new().address(&format!("{v4}/24")).address(&format!("{v6}/64"));
        host.configure("wan", &of(HOST, HOST6));
        internet.configure("wan", &of(SERVER, SERVER6));
        host.ip(["route", "add", "default", "via", SERVER]);
        host.ip(["-6", "route", "add", "default", "via", SERVER6]);
        // It is a router's, and forwards nothing yet.
        for variable in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
            host.sysctl(variable, "0");
        }
        World { host, internet, guest }
    }

    fn config(&self, uplink: &str, port: &str) -> String {
        format!(
            "[network.lab.uplink]\nmode = \"kernel\"\nsubnet = \"10.213.5.0/24\"\nipv6 = \"fd00:1::/64\"\n{uplink}\n\
             [network.lab.port.web]\nmac = \"{MAC}\"\naddress = [\"{GUEST}\", \"::10\"]\n{port}\n\
             tap = {{ name = \"t0\", netns = \"{}\" }}\n",
            self.guest.path().display()
        )
    }

    #[track_caller]
    fn start(&self, uplink: &str) -> Daemon {
        let daemon = Daemon::start_within(&self.host, directory(), &self.config(uplink, ""));
        daemon.wait_up(&["uplink", "web"]);
        daemon
    }

    /// Gives the guest its addresses and routes.
    fn settle(&self) {
        let address = |text: &str, bits| format!("{text}/{bits}");
        let interface = Interface::new().mac(MAC).address(&address(GUEST, 24)).address(&address(GUEST6, 64));
        self.guest.configure("t0", &interface);
        self.guest.ip(["route", "add", "default", "via", "10.213.5.1"]);
        self.guest.ip(["-6", "route", "add", "default", "via", "fd00:1::1"]);
    }

    fn tables(&self) -> String {
        self.host.exec("nft", ["list", "tables"]).expect_success().stdout
    }

    fn variable(&self, name: &str) -> String {
        self.host.exec("cat", [format!("/proc/sys/{name}")]).expect_success().stdout.trim().to_owned()
    }

    fn forwards(&self) -> [String; 2] {
        ["net/ipv4/conf/wan/forwarding", "net/ipv6/conf/all/forwarding"].map(|name| self.variable(name))
    }
}

/// Tells each caller of an address its own; goes on for as long as the test.
#[track_caller]
fn serve(netns: &Netns, address: &str) {
    let listener = within(&netns.path(), || TcpListener::bind(address)).expect(address);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || tell(stream));
        }
    });
}

fn tell(mut stream: TcpStream) -> io::Result<()> {
    let peer = stream.peer_addr()?;
    let mut octet = [0];
    while stream.read(&mut octet)? > 0 {
        stream.write_all(format!("{}\n", peer.ip()).as_bytes())?;
    }
    Ok(())
}

/// A connection from a namespace.
fn connect(netns: &Netns, address: &str) -> io::Result<TcpStream> {
    let to: SocketAddr = address.parse().expect("an address and a port");
    let stream = within(&netns.path(), || TcpStream::connect_timeout(&to, Duration::from_secs(3)))?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    Ok(stream)
}

/// Asks a server for the address that it sees.
fn ask(stream: &mut TcpStream) -> io::Result<String> {
    stream.write_all(b"?")?;
    let mut answer = [0; 64];
    let len = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..len]).trim().to_owned())
}

#[track_caller]
fn seen(netns: &Netns, address: &str) -> String {
    let mut stream = connect(netns, address).unwrap_or_else(|error| panic!("{address}: {error}"));
    ask(&mut stream).unwrap_or_else(|error| panic!("{address}: {error}"))
}

#[test]
fn guests_get_out_in_both_families_and_the_host_reaches_them() {
    require!(namespaces(), tool("nft"));
    let world = World::new();
    let daemon = world.start("");
    world.settle();
    serve(&world.internet, "0.0.0.0:80");
    serve(&world.internet, "[::]:81");
    assert_eq!(seen(&world.guest, &format!("{SERVER}:80")), HOST);
    assert_eq!(seen(&world.guest, &format!("[{SERVER6}]:81")), HOST6);
    assert!(world.guest.reaches(ip(SERVER), PATIENCE) && world.guest.reaches(ip(SERVER6), PATIENCE));

    // The gateway, its names by UDP and TCP, and the host, which is closed.
    assert!(
        world.guest.reaches(ip("10.213.5.1"), PATIENCE) && world.guest.reaches(ip("fd00:1::1"), PATIENCE)
    );
    for way in ["+notcp", "+tcp"] {
        let dig = ["@10.213.5.1", "web.lab.internal", "+short", "+tries=1", way];
        assert_eq!(world.guest.exec("dig", dig).stdout.trim(), GUEST, "{way}");
    }
    serve(&world.host, "0.0.0.0:8888");
    let error = connect(&world.guest, &format!("{HOST}:8888")).expect_err("the host is closed");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(connect(&world.guest, "10.213.5.1:8888").is_err(), "and so is the gateway");

    // The host reaches its guests; others do not.
    serve(&world.guest, "0.0.0.0:22");
    assert_eq!(seen(&world.host, &format!("{GUEST}:22")), "10.213.5.1");
    assert!(world.host.reaches(ip(GUEST), PATIENCE) && world.host.reaches(ip(GUEST6), PATIENCE));
    world.internet.ip(["route", "add", "10.213.5.0/24", "via", HOST]);
    assert!(connect(&world.internet, &format!("{GUEST}:22")).is_err(), "strangers reach no guest");

    assert_balanced(&daemon);
    let report = daemon.cli(&["uplink"]).expect_success().stdout;
    assert!(report.contains("kernel") && !report.contains("blocked"), "{report}");
    // Its own device is no network of the host's that guests do not reach.
    assert!(!report.contains("overlaps") && !daemon.log().contains("overlaps"), "{report}\n{}", daemon.log());
    daemon.stop();
    assert_eq!(world.tables(), "");
    assert!(!world.host.has_interface("vmu-lab"));
    assert_eq!(world.forwards(), ["0", "0"]);
}

#[test]
fn a_guest_gets_its_address_by_dhcp() {
    require!(namespaces(), tool("nft"), tool("busybox"));
    let world = World::new();
    let daemon = world.start("");
    world.guest.configure("t0", &Interface::new().mac(MAC));
    let script = daemon.path("udhcpc.sh");
    let text = "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\nip addr add \"$ip/$mask\" dev \"$interface\"\n\
                ip route add default via \"$router\"\n";
    std::fs::write(&script, text).expect("a file of ours");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("a file of ours");
    let script = script.display().to_string();
    world.guest.exec("busybox", ["udhcpc", "-i", "t0", "-n", "-q", "-s", &script]).expect_success();
    serve(&world.internet, "0.0.0.0:80");
    assert_eq!(seen(&world.guest, &format!("{SERVER}:80")), HOST);
    daemon.stop();
}

#[test]
fn callers_from_outside_keep_their_addresses() {
    require!(namespaces(), tool("nft"));
    let world = World::new();
    let daemon = world.start(
        "forward = [\"0.0.0.0:8080=web:80\", \"[::]:8081=web:80\", \"127.0.0.1:2222=web:80\"]\nhost = [\"5432=8888\"]",
    );
    world.settle();
    serve(&world.guest, "[::]:80");
    let outside = |text: &str| text.trim_start_matches("::ffff:").to_owned();
    // The forward finds its guest when that is heard of.
    wait_until("the forward", PATIENCE, || {
        connect(&world.internet, &format!("{HOST}:8080")).and_then(|mut stream| ask(&mut stream)).is_ok()
    });
    assert_eq!(outside(&seen(&world.internet, &format!("{HOST}:8080"))), SERVER);
    assert_eq!(outside(&seen(&world.internet, &format!("[{HOST6}]:8081"))), SERVER6);
    // Callers on the host itself have a socket.
    assert_eq!(outside(&seen(&world.host, "127.0.0.1:2222")), "10.213.5.1");
    assert!(outside(&seen(&world.host, "127.0.0.1:8080")).starts_with("10.213.5.1"));

    // One that is added leads there at once, and one that is removed leads nowhere.
    let added =
        daemon.cli(&["forward", "add", "lab", "0.0.0.0:8082=web:80", "--json"]).expect_success().stdout;
    let added: serde_json::Value = serde_json::from_str(&added).expect("JSON");
    assert_eq!(outside(&seen(&world.internet, &format!("{HOST}:8082"))), SERVER);
    daemon.cli(&["forward", "remove", "lab", &added["id"].to_string()]).expect_success();
    let error = connect(&world.internet, &format!("{HOST}:8082")).expect_err("the forward is gone");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);

    daemon.write_config(&world.config("egress = \"none\"\nforward = [\"0.0.0.0:8080=web:80\"]", ""));
    daemon.cli(&["apply"]).expect_success();
    // Without a way out for the guest the driver's socket takes the call.
    wait_until("the forward", PATIENCE, || {
        connect(&world.internet, &format!("{HOST}:8080")).and_then(|mut stream| ask(&mut stream)).is_ok()
    });
    daemon.stop();
}

#[test]
fn a_network_that_is_closed_ends_its_connections() {
    require!(namespaces(), tool("nft"));
    let world = World::new();
    let daemon = world.start("");
    world.settle();
    serve(&world.internet, "0.0.0.0:80");
    let mut stream = connect(&world.guest, &format!("{SERVER}:80")).expect("a way out");
    assert_eq!(ask(&mut stream).expect("an answer"), HOST);
    daemon.write_config(&world.config("egress = \"none\"", ""));
    daemon.cli(&["apply"]).expect_success();
    assert!(ask(&mut stream).is_err(), "the connection goes no further");
    let error = connect(&world.guest, &format!("{SERVER}:80")).expect_err("no way out");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);

    daemon.write_config(&world.config("egress = \"none\"\ndeny = \"drop\"", ""));
    daemon.cli(&["apply"]).expect_success();
    let error = connect(&world.guest, &format!("{SERVER}:80")).expect_err("no way out");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);

    let rules =
        format!("egress = [{{ deny = \"{SERVER}:80\" }}, {{ allow = \"198.51.100.0/24:81-82/tcp\" }}]");
    daemon.write_config(&world.config(&rules, ""));
    daemon.cli(&["apply"]).expect_success();
    serve(&world.internet, "0.0.0.0:82");
    assert_eq!(seen(&world.guest, &format!("{SERVER}:82")), HOST);
    assert!(connect(&world.guest, &format!("{SERVER}:80")).is_err());

    // A port may only be stricter.
    daemon.write_config(&world.config("", "egress = \"none\""));
    daemon.cli(&["apply"]).expect_success();
    assert!(connect(&world.guest, &format!("{SERVER}:82")).is_err());
    daemon.stop();
}

#[test]
fn case_60_nothing_is_left_of_a_killed_daemon() {
    require!(namespaces(), tool("nft"));
    let world = World::new();
    let daemon = world.start("");
    world.settle();
    serve(&world.internet, "0.0.0.0:80");
    assert!(world.tables().contains("vmlan_lab"));
    assert_eq!(world.variable("net/ipv4/conf/wan/forwarding"), "1");

    // Others' rules go, ours stay.
    world.host.exec("nft", ["flush", "ruleset"]).expect_success();
    assert!(world.tables().contains("vmlan_lab"));
    assert_eq!(seen(&world.guest, &format!("{SERVER}:80")), HOST);

    let directory = daemon.kill();
    wait_until("the table to go", PATIENCE, || world.tables().is_empty());
    assert!(!world.host.has_interface("vmu-lab"));
    assert_eq!(world.variable("net/ipv4/conf/wan/forwarding"), "1", "nobody was left to put it back");

    let daemon = Daemon::start_within(&world.host, directory, &world.config("", ""));
    daemon.wait_up(&["uplink", "web"]);
    daemon.stop();
    assert_eq!(world.forwards(), ["0", "0"], "known to the next one");
}

#[test]
fn a_table_that_goes_is_made_again() {
    require!(namespaces(), tool("nft"));
    let world = World::new();
    let daemon = world.start("");
    world.settle();
    serve(&world.internet, "0.0.0.0:80");
    assert_eq!(seen(&world.guest, &format!("{SERVER}:80")), HOST);
    let children = format!("/proc/{0}/task/{0}/children", daemon.pid());
    let children = std::fs::read_to_string(children).expect("a process of ours");
    let is_nft = |pid: &&str| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "nft")
    };
    let owner = children.split_whitespace().find(is_nft).expect("the owner of the table").to_owned();
    world.host.exec("kill", ["-KILL", &owner]).expect_success();
    wait_until("the way out to come back", PATIENCE, || {
        let answer = connect(&world.guest, &format!("{SERVER}:80")).and_then(|mut stream| ask(&mut stream));
        answer.is_ok_and(|seen| seen == HOST) && world.tables().contains("vmlan_lab")
    });
    daemon.wait_up(&["uplink"]);
    daemon.stop();
    assert_eq!(world.forwards(), ["0", "0"]);
}

#[test]
fn case_60_a_firewall_in_the_way_is_told_with_the_cure() {
    require!(namespaces(), tool("nft"));
    let world = World::new();
    let rules = "table ip filter { chain DOCKER-USER { }; chain FORWARD { type filter hook forward priority filter; \
                 policy drop; jump DOCKER-USER; }; }";
    world.host.exec("nft", [rules]).expect_success();
    let daemon = world.start("");
    world.settle();
    let report = wait_for("the note", PATIENCE, || {
        let report = daemon.cli(&["uplink"]).expect_success().stdout;
        report.contains("blocked by docker").then_some(report)
    });
    assert!(report.contains("iptables -I DOCKER-USER -i vmu-lab -j ACCEPT"), "{report}");
    daemon.wait_for_log("blocked by docker");
    serve(&world.internet, "0.0.0.0:80");
    assert!(connect(&world.guest, &format!("{SERVER}:80")).is_err(), "it is so");
    for way in ["iifname", "oifname"] {
        let rule = ["insert", "rule", "ip", "filter", "DOCKER-USER", way, "vmu-lab", "accept"];
        world.host.exec("nft", rule).expect_success();
    }
    assert_eq!(seen(&world.guest, &format!("{SERVER}:80")), HOST, "the cure is one");
    daemon.stop();
}

#[test]
fn case_61_a_host_keeps_the_route_that_it_was_told() {
    require!(namespaces(), tool("nft"));
    let world = World::new();
    let (host, internet) = (&world.host, &world.internet);
    // Beyond the router, which is what it is by its own word alone.
    internet.ip(["address", "add", &format!("{FAR6}/128"), "dev", "lo"]);
    internet.sysctl("net.ipv6.conf.all.forwarding", "1");
    host.ip(["-6", "route", "del", "default"]);
    host.sysctl("net.ipv6.conf.wan.accept_ra", "1");
    let route = || host.ip(["-6", "route", "show", "default"]).stdout;
    wait_until("the told route", PATIENCE, || {
        advertise(internet, 1800);
        route().contains("proto ra")
    });

    let daemon = world.start("");
    world.settle();
    let is_forced = host.exec("test", ["-e", "/proc/sys/net/ipv6/conf/wan/force_forwarding"]).success();
    // A kernel that lets single interfaces forward takes the router's word there as before.
    let wanted = if is_forced { "1" } else { "2" };
    assert_eq!(world.variable("net/ipv6/conf/wan/accept_ra"), wanted);
    assert!(route().contains("proto ra"), "{}", route());
    serve(internet, "[::]:81");
    assert_eq!(seen(&world.guest, &format!("[{FAR6}]:81")), HOST6);
    // The router is still listened to: its route is to end sooner now.
    wait_until("the route's new end", PATIENCE, || {
        advertise(internet, 600);
        expires(&route()).is_some_and(|seconds| seconds <= 600)
    });

    daemon.stop();
    assert_eq!(world.variable("net/ipv6/conf/wan/accept_ra"), "1");
    assert_eq!(world.forwards(), ["0", "0"]);
    assert!(route().contains("proto ra"), "{}", route());
}

/// Tells a namespace's neighbours that it is a router for so many seconds (RFC 4861 section 4.2).
fn advertise(router: &Netns, seconds: u16) {
    let link = router.ip(["-o", "link", "show", "dev", "wan"]).stdout;
    let index = link.split(':').next().and_then(|index| index.parse().ok()).expect("an index");
    let all = SocketAddrV6::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), 0, 0, index);
    let mut message = vec![134, 0, 0, 0, 64, 0];
    message.extend(seconds.to_be_bytes());
    message.extend([0; 8]);
    let sent = within(&router.path(), || {
        // The kernel adds the checksum and its link-local address.
        let socket = socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6))?;
        sockopt::set_ipv6_multicast_hops(&socket, 255)?;
        Ok(sendto(&socket, &message, SendFlags::empty(), &all)?)
    });
    assert_eq!(sent.expect("an advertisement"), message.len());
}

/// The seconds until a route ends, as `ip` shows them.
fn expires(route: &str) -> Option<u32> {
    let rest = route.split("expires ").nth(1)?;
    rest.split("sec").next()?.parse().ok()
}

/// Chains for forwarded packets as Docker makes them when it starts, which drop what is not Docker's.
fn start_docker(host: &Netns) {
    for program in ["iptables", "ip6tables"] {
        for rule in [&["-P", "FORWARD", "DROP"][..], &["-F", "FORWARD"]] {
            host.exec(program, rule).expect_success();
        }
        let made = host.exec(program, ["-N", "DOCKER-USER"]).success();
        if !made {
            host.exec(program, ["-F", "DOCKER-USER"]).expect_success();
        }
        host.exec(program, ["-A", "DOCKER-USER", "-j", "RETURN"]).expect_success();
        host.exec(program, ["-I", "FORWARD", "-j", "DOCKER-USER"]).expect_success();
    }
}

/// Rules of the uplink's device in Docker's chains.
fn ours(host: &Netns) -> usize {
    let listings =
        ["iptables", "ip6tables"].map(|program| host.exec(program, ["-S"]).expect_success().stdout);
    listings.iter().flat_map(|listing| listing.lines()).filter(|line| line.contains("vmu-lab")).count()
}

#[test]
fn case_60_docker_lets_guests_through_where_that_is_wanted() {
    require!(namespaces(), tool("nft"), tool("iptables"));
    let world = World::new();
    start_docker(&world.host);
    let daemon = world.start("");
    world.settle();
    serve(&world.internet, "[::]:80");
    let targets = [format!("{SERVER}:80"), format!("[{SERVER6}]:80")];
    let is_through = |target: &String| connect(&world.guest, target).is_ok();
    daemon.wait_for_log("blocked by docker");
    assert!(!targets.iter().any(is_through) && ours(&world.host) == 0, "not unless it is wanted");

    daemon.write_config(&world.config("integrate = true", ""));
    daemon.cli(&["apply"]).expect_success();
    wait_until("the rules", PATIENCE, || ours(&world.host) == 4);
    assert!(targets.iter().all(is_through));
    wait_until("the note to go", PATIENCE, || {
        !daemon.cli(&["uplink"]).expect_success().stdout.contains("blocked by")
    });

    start_docker(&world.host);
    assert_eq!(ours(&world.host), 0);
    wait_until("the rules again", PATIENCE, || ours(&world.host) == 4);
    assert!(targets.iter().all(is_through));

    // Nobody is left to remove them, so the next one does, whether it wants some or not.
    let directory = daemon.kill();
    assert_eq!(ours(&world.host), 4);
    let daemon = Daemon::start_within(&world.host, directory, &world.config("", ""));
    daemon.wait_up(&["uplink", "web"]);
    assert_eq!(ours(&world.host), 0);
    daemon.write_config(&world.config("integrate = true", ""));
    daemon.cli(&["apply"]).expect_success();
    wait_until("the rules", PATIENCE, || ours(&world.host) == 4);
    daemon.stop();
    assert_eq!(ours(&world.host), 0);
}

/// Stands for firewalld's program: a zone is a chain.
const FIREWALL_CMD: &str = "#!/bin/sh
device=${2#*=}
[ \"$1\" = --zone=trusted ] || exit 1
case $2 in
--query-interface=*) nft list chain inet firewalld trusted | grep -qF \"\\\"$device\\\"\" ;;
--add-interface=*) nft add rule inet firewalld trusted iifname \"$device\" accept ;;
--remove-interface=*) nft flush chain inet firewalld trusted ;;
esac
";

#[test]
fn case_60_firewalld_lets_guests_through_where_that_is_wanted() {
    require!(namespaces(), tool("nft"));
    let world = World::new();
    let rules = "table inet firewalld { chain trusted { }; chain filter_FORWARD { type filter hook forward priority 10; \
                 ct state established,related accept; jump trusted; reject with icmpx admin-prohibited; }; }";
    world.host.exec("nft", [rules]).expect_success();
    let trusted =
        || world.host.exec("nft", ["list", "chain", "inet", "firewalld", "trusted"]).expect_success().stdout;
    let directory = directory();
    let program = directory.path().join("firewall-cmd");
    std::fs::write(&program, FIREWALL_CMD).expect("a file of ours");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("a file of ours");
    let path = format!("PATH={}:{}", directory.path().display(), std::env::var("PATH").unwrap_or_default());
    let within = ["ip", "netns", "exec", world.host.name(), "env", &path];
    let daemon = Daemon::start_by(directory, &world.config("integrate = true", ""), &within);
    daemon.wait_up(&["uplink", "web"]);
    world.settle();
    serve(&world.internet, "0.0.0.0:80");
    let is_there = || trusted().contains("vmu-lab");
    wait_until("the rule", PATIENCE, is_there);
    assert_eq!(seen(&world.guest, &format!("{SERVER}:80")), HOST);

    // It forgets what it was told at run time when it is loaded anew.
    world.host.exec("nft", ["flush", "chain", "inet", "firewalld", "trusted"]).expect_success();
    wait_until("the rule again", PATIENCE, is_there);
    assert_eq!(seen(&world.guest, &format!("{SERVER}:80")), HOST);
    daemon.write_config(&world.config("", ""));
    daemon.cli(&["apply"]).expect_success();
    assert!(!is_there(), "{}", trusted());
    daemon.stop();
}

fn ip(text: &str) -> std::net::IpAddr {
    text.parse().expect("an address")
}
