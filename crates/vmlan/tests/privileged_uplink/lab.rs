//! The world that the tests share.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};
use tempfile::TempDir;
use testbed::{Interface, Netns, wait_for, wait_until};
use vmlan_api::{EventKind, Flow};

use crate::support::{Daemon, Events, PATIENCE, directory};

/// The gateway of the guests.
pub const GATEWAY: &str = "10.213.5.1";
/// The address of the host's services.
pub const SERVICES: &str = "10.213.5.2";
/// The host's own addresses.
pub const HOST: &str = "198.51.100.1";
pub const HOST6: &str = "2001:db8:100::1";
/// The router that the host's default route leads to.
pub const ROUTER: &str = "198.51.100.2";
pub const ROUTER6: &str = "2001:db8:100::2";
/// A server behind that router.
pub const SERVER: &str = "203.0.113.7";
pub const SERVER6: &str = "2001:db8:113::7";
/// The same server by a way that takes packets of 1,400 octets.
pub const NARROW: &str = "192.0.2.7";
pub const NARROW6: &str = "2001:db8:2::7";
/// Addresses that the host has no route to.
pub const NOWHERE: &str = "198.18.0.1";
pub const NOWHERE6: &str = "2001:db8:ffff::1";

/// Host, router, internet and guests, without a daemon.
pub struct World {
    pub host: Netns,
    pub router: Netns,
    pub internet: Netns,
    pub guests: Vec<Netns>,
    /// The host's `/etc`.
    pub etc: TempDir,
}

impl World {
    /// A host with a way to the internet, and this many guests.
    pub fn new(guests: usize) -> World {
        let [host, router, internet] = ["host", "router", "net"].map(Netns::new);
        for variable in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
            router.sysctl(variable, "1");
        }
        host.veth("wan", &router, "lan");
        router.veth("wide", &internet, "wide");
        router.veth("narrow", &internet, "narrow");
        let of =
            |v4: &str, v6: &str| Interface::new().address(&format!("{v4}/24")).address(&format!("{v6}/64"));
        host.configure("wan", &of(HOST, HOST6));
        router.configure("lan", &of(ROUTER, ROUTER6));
        router.configure("wide", &of("203.0.113.1", "2001:db8:113::1"));
        internet.configure("wide", &of(SERVER, SERVER6));
        router.configure("narrow", &of("192.0.2.1", "2001:db8:2::1").mtu(1400));
        internet.configure("narrow", &of(NARROW, NARROW6).mtu(1400));
        default_routes(&host, ROUTER, ROUTER6);
        default_routes(&internet, "203.0.113.1", "2001:db8:113::1");
        host.ip(["route", "add", "throw", "198.18.0.0/15"]);
        host.ip(["route", "add", "unreachable", "2001:db8:ffff::/48"]);
        let guests: Vec<Netns> = (0..guests).map(|number| Netns::new(&format!("g{number}"))).collect();
        for guest in &guests {
            // They have what the tests set, unless a test is about that.
            guest.sysctl("net.ipv6.conf.default.accept_ra", "0");
        }
        let etc = directory();
        std::fs::write(etc.path().join("resolv.conf"), format!("nameserver {SERVER}\n")).expect("a file");
        World { host, router, internet, guests, etc }
    }

    /// The head of a configuration: a network with an uplink that has these keys.
    pub fn uplink(&self, keys: &str) -> String {
        format!(
            "[network.lab]\n[network.lab.uplink]\nsubnet = \"10.213.5.0/24\"\nipv6 = \"fd00:1::/64\"\n{keys}\n"
        )
    }

    /// The table of a guest's port, with these keys.
    pub fn port(&self, number: usize, keys: &str) -> String {
        let path = self.guests[number].path();
        format!(
            "[network.lab.port.g{number}]\ntap = {{ name = \"t0\", netns = \"{}\" }}\n{keys}\n",
            path.display()
        )
    }

    /// The same with the guest's MAC and IP addresses set.
    pub fn fixed(&self, number: usize, keys: &str) -> String {
        let set =
            format!("mac = \"{}\"\naddress = [\"{}\", \"::1{number}\"]\n{keys}", mac(number), v4(number));
        self.port(number, &set)
    }

    /// A whole configuration whose guests have set addresses.
    pub fn config(&self, uplink: &str) -> String {
        let ports = (0..self.guests.len()).map(|number| self.fixed(number, ""));
        self.uplink(uplink) + &ports.collect::<String>()
    }

    /// A daemon on the host.
    #[track_caller]
    pub fn start(&self, config: &str) -> Daemon {
        self.start_in(directory(), config, "true")
    }

    /// The same in a directory of an earlier one, after this command of the shell.
    #[track_caller]
    pub fn start_in(&self, directory: TempDir, config: &str, first: &str) -> Daemon {
        let script = format!("mount --bind \"$1\" /etc && {first} && shift && exec \"$@\"");
        let etc = self.etc.path().display().to_string();
        let program = ["ip", "netns", "exec", self.host.name(), "sh", "-c", &script, "sh", &etc];
        let daemon = Daemon::start_by(directory, config, &program);
        daemon.wait_up(&["uplink"]);
        daemon
    }

    /// Starts a daemon, and gives the guests their addresses.
    #[track_caller]
    pub fn start_settled(&self, config: &str) -> Daemon {
        let daemon = self.start(config);
        self.settle();
        daemon
    }

    /// Gives the guests their addresses and default routes.
    pub fn settle(&self) {
        for (number, guest) in self.guests.iter().enumerate() {
            let interface = Interface::new()
                .mac(&mac(number))
                .address(&format!("{}/24", v4(number)))
                .address(&format!("{}/64", v6(number)));
            guest.configure("t0", &interface);
            default_routes(guest, GATEWAY, "fd00:1::1");
        }
    }

    /// Gives a guest back what it lost as its link went down.
    pub fn settle_again(&self, number: usize) {
        let guest = &self.guests[number];
        guest.configure("t0", &Interface::new().address(&format!("{}/64", v6(number))));
        default_routes(guest, GATEWAY, "fd00:1::1");
    }

    /// Has the guests up with their MAC addresses, but no IP address.
    pub fn plug(&self) {
        for (number, guest) in self.guests.iter().enumerate() {
            guest.configure("t0", &Interface::new().mac(&mac(number)));
        }
    }

    /// A listener at the internet's server.
    pub fn listen(&self, address: &str) -> TcpListener {
        listen(&self.internet, address)
    }
}

fn default_routes(netns: &Netns, v4: &str, v6: &str) {
    netns.ip(["route", "add", "default", "via", v4]);
    netns.ip(["-6", "route", "add", "default", "via", v6]);
}

/// The MAC address of guest `number`.
pub fn mac(number: usize) -> String {
    format!("52:54:00:00:00:1{number}")
}

/// The IPv4 address of guest `number`.
pub fn v4(number: usize) -> String {
    format!("10.213.5.1{number}")
}

/// The IPv6 address of guest `number`.
pub fn v6(number: usize) -> String {
    format!("fd00:1::1{number}")
}

/// An address and a port.
pub fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse::<IpAddr>().expect("an address"), port)
}

/// A TCP listener in a namespace, at `ADDRESS:PORT`.
#[track_caller]
pub fn listen(netns: &Netns, address: &str) -> TcpListener {
    netns.inside(|| TcpListener::bind(address)).unwrap_or_else(|error| panic!("{address}: {error}"))
}

/// A UDP socket in a namespace, whose reads end.
#[track_caller]
pub fn udp(netns: &Netns, address: &str) -> UdpSocket {
    let socket =
        netns.inside(|| UdpSocket::bind(address)).unwrap_or_else(|error| panic!("{address}: {error}"));
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

/// A connection from a namespace; its reads and writes end.
pub fn dial(netns: &Netns, to: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = netns.inside(|| TcpStream::connect_timeout(&to, PATIENCE))?;
    Ok(patient(stream))
}

/// The same from this address and port.
pub fn dial_from(netns: &Netns, from: SocketAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    netns.inside(|| {
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket: OwnedFd = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &from)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(PATIENCE))?;
        connect(&socket, &to)?;
        Ok(patient(socket.into()))
    })
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// The next caller of a listener.
#[track_caller]
pub fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    listener.set_nonblocking(true).expect("a socket");
    let (stream, from) = wait_for("a caller", PATIENCE, || listener.accept().ok());
    stream.set_nonblocking(false).expect("a socket");
    (patient(stream), from)
}

/// Both ends of a connection from a guest to a listener at this address.
#[track_caller]
pub fn join(guest: &Netns, to: SocketAddr, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let near = dial(guest, to).unwrap_or_else(|error| panic!("{to}: {error}"));
    (near, accept(listener).0)
}

/// Sends a word each way.
#[track_caller]
pub fn talk(near: &mut TcpStream, far: &mut TcpStream) {
    say(near, far);
    say(far, near);
}

#[track_caller]
fn say(from: &mut TcpStream, to: &mut TcpStream) {
    from.write_all(b"word").expect("an open connection");
    let mut word = [0; 4];
    to.read_exact(&mut word).expect("an open connection");
    assert_eq!(&word, b"word");
}

/// Closes a connection with a RST.
pub fn reset(stream: TcpStream) {
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("a socket");
}

/// Waits for the connection's end; answers the error that it was, if it was one.
pub fn read_error(stream: &mut TcpStream) -> Option<std::io::Error> {
    loop {
        match stream.read(&mut [0; 4096]) {
            Ok(0) => return None,
            Ok(_) => {}
            // With a timeout set, the kernel does not go on by itself.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Some(error),
        }
    }
}

/// Waits for the connection's end, which has to be a RST.
#[track_caller]
pub fn expect_reset(stream: &mut TcpStream) {
    let error = read_error(stream).expect("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
}

/// The flows of the network.
#[track_caller]
pub fn flows(daemon: &Daemon) -> Vec<Flow> {
    daemon.get("/v1/networks/lab/flows")
}

/// The state of the uplink.
#[track_caller]
pub fn uplink(daemon: &Daemon) -> vmlan_api::Uplink {
    daemon.get("/v1/networks/lab/uplink")
}

/// Waits until no TCP flow is there.
#[track_caller]
pub fn wait_quiet(daemon: &Daemon) {
    let tcp = || flows(daemon).into_iter().filter(|flow| flow.protocol == "tcp" && flow.state != "closed");
    wait_until("the end of all flows", PATIENCE, || tcp().count() == 0);
}

/// Waits for the refusal of this target.
#[track_caller]
pub fn expect_denied(events: &mut Events, wanted: &str) {
    let is = |event: &EventKind| matches!(event, EventKind::EgressDenied { target, .. } if target == wanted);
    events.expect(wanted, is);
}

/// Writes an executable script.
pub fn script(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).expect("a file in our own directory");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("our own file");
}
