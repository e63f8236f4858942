//! DHCP and DHCPv6, with the clients that guests have.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use testbed::{Netns, Output, Process, require};
use vmlan_api::{EventKind, Lease};

use crate::lab::*;
use crate::networkd::{Networkd, value};
use crate::support::{Daemon, assert_balanced, directory};
use crate::tcp::run_within;

/// The hook of each client: it writes its environment down, and takes the address.
const HOOK: &str = "#!/bin/sh
case ${reason:-$1} in
BOUND|REBOOT|RENEW|REBIND|bound|renew|BOUND6) env >OUT ;;
*) [ -z \"$new_dhcp6_name_servers\" ] || env >OUT ;;
esac
address=${new_ip_address:-$ip}
case ${reason:-$1} in
BOUND|REBOOT|bound)
    ip address replace \"$address/24\" dev t0
    ip route replace default via \"${new_routers:-$router}\" ;;
esac
exit 0
";

/// A client's own directory: its hook, and what that wrote.
pub struct Client {
    directory: TempDir,
}

impl Client {
    pub fn new() -> Client {
        let client = Client { directory: directory() };
        let out = client.path("out").display().to_string();
        script(&client.path("hook"), &HOOK.replace("OUT", &out));
        client
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// The environment of the hook.
    pub fn seen(&self) -> BTreeMap<String, String> {
        let text = fs::read_to_string(self.path("out")).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.split_once('='));
        lines.map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned())).collect()
    }

    pub fn udhcpc(&self, guest: &Netns) -> Output {
        self.udhcpc_called(guest, "laptop")
    }

    /// The same for a guest that says that this is its name.
    fn udhcpc_called(&self, guest: &Netns, name: &str) -> Output {
        let name = format!("hostname:{name}");
        self.udhcpc_with(guest, &["-O", "mtu", "-O", "search", "-O", "staticroutes", "-x", &name])
    }

    /// The same with these arguments.
    pub fn udhcpc_with(&self, guest: &Netns, arguments: &[&str]) -> Output {
        let hook = self.text("hook");
        let common = ["udhcpc", "-i", "t0", "-n", "-q", "-t", "4", "-T", "2", "-s", &hook];
        run_within(guest, "busybox", &[&common[..], arguments].concat())
    }

    /// The same beside the test: it keeps its lease, and asks for it anew at SIGUSR1.
    pub fn udhcpc_beside(&self, guest: &Netns) -> Process {
        guest.spawn("busybox", ["udhcpc", "-i", "t0", "-f", "-t", "4", "-T", "2", "-s", &self.text("hook")])
    }

    /// ISC dhclient, which ends once it is bound.
    pub fn dhclient(&self, guest: &Netns, family: &[&str]) -> Output {
        let (hook, leases, pid) = (self.text("hook"), self.text("leases"), self.text("pid"));
        let config = self.text("config");
        fs::write(
            &config,
            "timeout 12;\nrequest subnet-mask, routers, domain-name, domain-name-servers, \
            domain-search, interface-mtu, dhcp6.name-servers, dhcp6.domain-search;\n",
        )
        .expect("our own file");
        let common = ["-1", "-v", "-cf", &config, "-sf", &hook, "-lf", &leases, "-pf", &pid, "t0"];
        let output = run_within(guest, "dhclient", &[family, &common].concat());
        self.end();
        output
    }

    /// Ends a client that went into the background. It may not have written its id down yet, but it is named like the
    /// one that it came from, and nobody else has its directory.
    fn end(&self) {
        let entries = fs::read_dir("/proc").expect("the processes").flatten();
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        for id in ids {
            let line = fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
            let is_ours = line.split('\0').any(|word| word == self.text("pid"));
            if let Some(id) = rustix::process::Pid::from_raw(id).filter(|_| is_ours) {
                // It may have ended.
                let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
            }
        }
    }

    fn dhcpcd(&self, guest: &Netns) -> Output {
        let config = self.text("config");
        let text =
            "option domain_name_servers, routers, domain_search, domain_name, interface_mtu, host_name\n";
        fs::write(&config, text).expect("our own file");
        // Its places are its own, and gone with it.
        let start = "mount -t tmpfs none /run && mkdir -p /var/lib/dhcpcd && mount -t tmpfs none /var/lib/dhcpcd \
            && exec dhcpcd -4 -1 -B -A -t 12 -f \"$1\" -c \"$2\" t0";
        run_within(guest, "sh", &["-c", start, "sh", &config, &self.text("hook")])
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.end();
    }
}

/// The addresses of the network's guests.
pub fn leases(daemon: &Daemon) -> Vec<Lease> {
    daemon.get("/v1/networks/lab/leases")
}

fn bare(world: &World) -> String {
    (0..world.guests.len()).map(|number| world.port(number, "")).collect()
}

#[test]
fn case_42_clients_get_addresses() {
    require!(namespaces(), tool("busybox"), tool("dhclient"), tool("dhcpcd"), tool("dig"));
    let world = World::new(4);
    let set = world.fixed(3, "");
    let rest: String = (0..3).map(|number| world.port(number, "")).collect();
    let daemon = world.start(&(world.uplink("") + &rest + &set));
    world.plug();
    let clients = [Client::new(), Client::new(), Client::new(), Client::new()];
    let outputs = [
        clients[0].udhcpc(&world.guests[0]),
        clients[1].dhclient(&world.guests[1], &["-4"]),
        clients[2].dhcpcd(&world.guests[2]),
        clients[3].udhcpc_called(&world.guests[3], "g1"),
    ];

    // The names of the address, the mask, the router, the DNS server, the domain and the MTU.
    let udhcpc = ["ip", "subnet", "router", "dns", "domain", "mtu"];
    let others = ["address", "subnet_mask", "routers", "domain_name_servers", "domain_name", "interface_mtu"];
    let mut addresses = Vec::new();
    for (number, (client, output)) in clients.iter().zip(outputs).enumerate() {
        let seen = client.seen();
        let names = match number {
            0 | 3 => udhcpc.map(str::to_owned),
            _ => others.map(|name| format!("new_{}{name}", if name == "address" { "ip_" } else { "" })),
        };
        let values = names.map(|name| seen.get(&name).cloned().unwrap_or_default());
        let [address, ..] = &values;
        let rest = ["255.255.255.0", GATEWAY, GATEWAY, "lab.internal", "1500"];
        assert_eq!(values[1..], rest, "client {number}: {seen:#?}\n{}\n{}", output.stdout, output.stderr);
        addresses.push(address.clone());
    }
    assert_eq!(addresses[3], v4(3));
    let rows = leases(&daemon);
    for (number, address) in addresses.iter().enumerate() {
        let row = rows.iter().find(|row| row.address == *address).expect("a lease");
        assert_eq!(row.port, Some(format!("g{number}")), "{row:?}");
        assert_eq!(row.mac, mac(number), "{row:?}");
        let guest = &world.guests[number];
        assert!(testbed::ping(guest, at(SERVER, 0).ip(), 1).all(), "guest {number}");
    }
    case_56_a_ports_name_is_the_ports(&world, &addresses);
    assert_balanced(&daemon);
    daemon.stop();
}

/// The first guest called itself `laptop`, the last one `g1`, which is another port.
fn case_56_a_ports_name_is_the_ports(world: &World, addresses: &[String]) {
    let ask = |name: &str| {
        let server = format!("@{GATEWAY}");
        world.guests[1].exec("dig", ["+short", "+time=8", "+tries=1", &server, name, "A"]).stdout
    };
    assert_eq!(ask("laptop.lab.internal").trim(), addresses[0]);
    assert_eq!(ask("g3.lab.internal").trim(), v4(3));
    assert_eq!(ask("g1.lab.internal").trim(), addresses[1]);
    assert_eq!(ask("g0.lab.internal").trim(), addresses[0]);
}

#[test]
fn addresses_are_refused_and_run_out() {
    require!(namespaces(), tool("busybox"), tool("dhclient"));
    let world = World::new(3);
    let pool = "dhcp = { pool = \"10.213.5.16-10.213.5.17\" }";
    let daemon = world.start(&(world.uplink(pool) + &bare(&world)));
    world.plug();
    case_46_another_networks_address_is_refused(&world);
    case_45_a_pool_runs_out(&world, &daemon);
    assert_balanced(&daemon);
    daemon.stop();
}

/// A lease of dhclient's own, which it asks for again as it starts.
fn remembered(address: &str) -> String {
    format!(
        "lease {{\n  interface \"t0\";\n  fixed-address {address};\n  option subnet-mask 255.255.255.0;\n  \
         option dhcp-lease-time 360000;\n  option dhcp-server-identifier 192.168.1.1;\n  \
         renew never;\n  rebind never;\n  expire never;\n}}\n"
    )
}

fn case_46_another_networks_address_is_refused(world: &World) {
    let client = Client::new();
    fs::write(client.path("leases"), remembered("192.168.1.7")).expect("our own file");
    let output = client.dhclient(&world.guests[0], &["-4"]);
    assert!(output.stderr.contains("DHCPNAK from 10.213.5.1"), "{}", output.stderr);
    let address = client.seen().get("new_ip_address").cloned().unwrap_or_default();
    assert!(address.starts_with("10.213.5."), "{address}: {}", output.stderr);
}

fn case_45_a_pool_runs_out(world: &World, daemon: &Daemon) {
    // The first guest has one of the two.
    Client::new().udhcpc(&world.guests[1]).expect_success();
    let mut events = daemon.events();
    assert!(!Client::new().udhcpc(&world.guests[2]).success());
    events.expect(
        "an empty pool",
        |event| matches!(event, EventKind::PoolExhausted { port, .. } if port == "g2"),
    );
    let rows = leases(daemon);
    let row = rows.iter().find(|row| row.port.as_deref() == Some("g1")).expect("a lease");
    // What uses the address has to be gone, or it is not offered.
    world.guests[1].ip(["address", "flush", "dev", "t0"]);
    daemon.cli(&["leases", "release", "lab", &row.address]).expect_success();
    let third = Client::new();
    third.udhcpc(&world.guests[2]).expect_success();
    assert_eq!(third.seen().get("ip"), Some(&row.address));
}

#[test]
fn case_42_networkd_gets_an_address() {
    require!(namespaces(), file("/usr/lib/systemd/systemd-networkd"));
    let world = World::new(1);
    let daemon = world.start(&(world.uplink("") + &world.port(0, "")));
    let guest = &world.guests[0];
    guest.ip(["link", "set", "t0", "address", &mac(0)]);
    let sections = "[Network]\nDHCP=ipv4\nIPv6AcceptRA=no\n[DHCPv4]\nUseDomains=yes\nUseMTU=yes\n";
    let lease = Networkd::start(guest, sections).wait_for("leases", &["ADDRESS=", "CLIENTID="]);
    let names = ["NETMASK", "ROUTER", "DNS", "DOMAINNAME", "MTU", "SERVER_ADDRESS"];
    let values = names.map(|name| value(&lease, name));
    assert_eq!(values, ["255.255.255.0", GATEWAY, GATEWAY, "lab.internal", "1500", GATEWAY], "{lease}");
    let address = value(&lease, "ADDRESS");
    assert!(leases(&daemon).iter().any(|lease| lease.address == address), "{lease}");
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn set_addresses_are_their_ports_own() {
    require!(namespaces(), tool("dhclient"));
    let world = World::new(2);
    let daemon = world.start(&(world.uplink("") + &world.fixed(0, "") + &world.port(1, "")));
    world.plug();
    case_50_anothers_set_address_is_refused(&world);
    case_54_dhcpv6(&world);
    assert_balanced(&daemon);
    daemon.stop();
}

fn case_50_anothers_set_address_is_refused(world: &World) {
    let client = Client::new();
    fs::write(client.path("leases"), remembered(&v4(0))).expect("our own file");
    let output = client.dhclient(&world.guests[1], &["-4"]);
    assert!(output.stderr.contains("DHCPNAK from 10.213.5.1"), "{}", output.stderr);
    let address = client.seen().get("new_ip_address").cloned().unwrap_or_default();
    assert!(address.starts_with("10.213.5.") && address != v4(0), "{address}: {}", output.stderr);
}

fn case_54_dhcpv6(world: &World) {
    let information = Client::new();
    information.dhclient(&world.guests[1], &["-6", "-S"]);
    let set = Client::new();
    set.dhclient(&world.guests[0], &["-6", "-N"]);
    let values = set.seen();
    assert_eq!(values.get("new_ip6_address"), Some(&v6(0)), "{values:#?}");
    for client in [&information, &set] {
        let seen = client.seen();
        assert_eq!(seen.get("new_dhcp6_name_servers").map(String::as_str), Some("fd00:1::1"), "{seen:#?}");
        let search = seen.get("new_dhcp6_domain_search").map(|domain| domain.trim_end_matches('.'));
        assert_eq!(search, Some("lab.internal"), "{seen:#?}");
    }
    let other = Client::new();
    let output = other.dhclient(&world.guests[1], &["-6", "-N"]);
    assert!(output.stderr.contains("no addrs, IA_NA discarded"), "{}", output.stderr);
    assert!(!other.seen().contains_key("new_ip6_address"));
}

/// True if the file is there and holds this.
pub fn holds(path: &Path, text: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|all| all.contains(text))
}
