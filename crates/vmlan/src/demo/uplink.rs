//! The network's uplink: two guests that have nothing set but a MAC address get everything else from it.
//!
//! Guest `app` and guest `store` get their addresses by DHCP. `app` finds `store` and this host by name, and fetches a
//! page from a server of this process, which listens on 127.0.0.1 and is a host service of the uplink. Then `app` sends
//! TCP to another such service, and this process to `store`, by a forward. Nothing leaves this machine, and leases are
//! not kept.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use vmlan_api::ErrorCode;
use vmlan_guest::{Attachment, Guest, GuestConfig, TransferReport};

use super::host::{Family, GuestHost, Host, Taking};
use super::lab::{self, Lab};
use super::measure::{Throughput, transfer};
use super::{PATIENCE, progress, sockets};

/// The guests' subnet (RFC 5737), which is not that of the guests with addresses of their own.
const SUBNET: &str = "198.51.100.0/24";
/// The address at which guests reach the services of this host.
const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// The network's domain, which follows from its name.
const DOMAIN: &str = "demo.internal";
/// The guests, and their numbers.
const GUESTS: [(&str, u8); 2] = [("app", 5), ("store", 6)];
/// The page that guest `app` fetches.
const PAGE: &str = "Hello from 127.0.0.1 of this host.\n";
/// Octets of a request or an answer with its header, at most.
const LONGEST: usize = 4096;
/// Numbers that are tried for the forward: another process may take each before it is listened at.
const ATTEMPTS: usize = 16;

/// The uplink's table of the configuration.
pub fn table(services: Option<&Services>) -> String {
    let numbers = services.map(|services| format!("\"{}\", \"{}\"", services.page.1, services.sink.1));
    format!(
        "\n[network.demo.uplink]\nsubnet = \"{SUBNET}\"\nipv6 = \"off\"\nhost = [{}]\n",
        numbers.unwrap_or_default()
    )
}

/// The services of this host that guests may reach, each with its number: they listen on 127.0.0.1.
pub struct Services {
    page: (TcpListener, u16),
    sink: (TcpListener, u16),
}

impl Services {
    /// Begins to listen.
    ///
    /// # Errors
    /// Why that is not possible here.
    pub fn open() -> Result<Services, String> {
        let listen = || {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let address = listener.local_addr()?;
            // Where the loopback interface is down it can be listened on and not be reached.
            TcpStream::connect_timeout(&address, PATIENCE)?;
            listener.accept()?;
            Ok((listener, address.port()))
        };
        let explain = |error: io::Error| format!("127.0.0.1 does not work here ({error})");
        Ok(Services { page: listen().map_err(explain)?, sink: listen().map_err(explain)? })
    }

    /// Answers one request for the page, on a thread of its own.
    fn serve_page(&self) -> io::Result<()> {
        let listener = self.page.0.try_clone()?;
        // The guest tells what came of it.
        let serve = move || drop(answer(&listener));
        thread::Builder::new().name("demo page".into()).spawn(serve).map(drop)
    }
}

/// Takes one connection, reads a request, and answers with the page.
fn answer(listener: &TcpListener) -> io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    let mut piece = [0; 512];
    while !request.ends_with(b"\r\n\r\n") && request.len() < LONGEST {
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            len => request.extend_from_slice(&piece[..len]),
        }
    }
    let status = if request.starts_with(b"GET / HTTP/1.1\r\n") { "200 OK" } else { "404 Not Found" };
    let len = PAGE.len();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n{PAGE}")
}

/// Something that a guest wanted of the uplink, and got.
pub struct Step {
    pub from: String,
    pub wants: String,
    pub gets: String,
    pub elapsed: Duration,
}

/// The guests that have all from the uplink, and the ways between them and this host.
pub struct Uplinked {
    app: GuestHost,
    store: GuestHost,
    this_host: Option<ThisHost>,
}

impl Uplinked {
    /// Attaches the guests, and has them get what the uplink gives, step by step.
    ///
    /// # Errors
    /// The first thing that they do not get.
    pub fn start(lab: &Lab) -> anyhow::Result<(Uplinked, Vec<Step>)> {
        progress(
            "asking the uplink: two more guests want addresses by DHCP, names by DNS, and a page of this host",
        );
        let mut steps = Vec::new();
        let [app, store] = GUESTS.map(|(name, number)| attach(lab, name, number));
        let (app, store) = (app?, store?);
        lab.wait_until_up(&GUESTS.map(|(name, _)| name))?;
        for guest in [&app, &store] {
            steps.push(lease(guest.guest())?);
        }
        let at = store.guest().ipv4().context("the lease of guest store is gone")?;
        steps.push(resolve(app.guest(), "store", at)?);
        let mut this_host = None;
        if let Some(services) = &lab.services {
            steps.push(resolve(app.guest(), "host", HOST)?);
            steps.push(fetch(app.guest(), services)?);
            let behind = SocketAddr::from((at, store.port()));
            let sink = (services.sink.0.try_clone()?, services.sink.1);
            this_host = Some(ThisHost { sink, forward: forward(lab, store.port())?, behind });
        }
        Ok((Uplinked { app, store, this_host }, steps))
    }

    /// Sends TCP from a guest out to this host, and from this host in to a guest.
    ///
    /// # Errors
    /// When something does not arrive, or not as it was sent.
    pub fn transfer(&self) -> anyhow::Result<Vec<Throughput>> {
        let Some(host) = &self.this_host else { return Ok(Vec::new()) };
        progress("sending TCP through the uplink: out to this host, and in from it by a forward");
        let out = transfer(&self.app, host, Family::Ipv4)?;
        Ok(vec![out, transfer(host, &self.store, Family::Ipv4)?])
    }
}

fn attach(lab: &Lab, name: &str, number: u8) -> anyhow::Result<GuestHost> {
    let path = lab.directory.join(format!("{name}.sock"));
    let config = GuestConfig::new(name, lab::mac(number), Attachment::Stream { path }).dhcp();
    GuestHost::new(Guest::spawn(GuestConfig { timeout: PATIENCE, ..config })?)
}

/// A step that `guest` takes by `act`.
fn step(guest: &Guest, wants: String, act: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<Step> {
    let start = Instant::now();
    let gets = act().with_context(|| format!("guest {} wants {wants}", guest.name()))?;
    Ok(Step { from: guest.name().to_owned(), wants, gets, elapsed: start.elapsed() })
}

fn lease(guest: &Guest) -> anyhow::Result<Step> {
    step(guest, "an address, by DHCP".to_owned(), || {
        let lease = guest.lease(PATIENCE)?;
        anyhow::ensure!(
            lease.domain.as_deref() == Some(DOMAIN),
            "the lease names the domain {:?} instead of {DOMAIN}",
            lease.domain
        );
        let router = lease.router.context("the lease names no router")?;
        Ok(format!("{}/{}, router {router}, domain {DOMAIN}", lease.address, lease.prefix))
    })
}

fn resolve(guest: &Guest, name: &str, expected: Ipv4Addr) -> anyhow::Result<Step> {
    let name = format!("{name}.{DOMAIN}");
    step(guest, format!("{name}, by DNS"), || {
        let addresses = guest.resolve(&name, PATIENCE)?;
        anyhow::ensure!(
            addresses == [IpAddr::V4(expected)],
            "{addresses:?} is not the address of {name}, {expected}"
        );
        Ok(expected.to_string())
    })
}

fn fetch(guest: &Guest, services: &Services) -> anyhow::Result<Step> {
    services.serve_page().context("the page cannot be served")?;
    let number = services.page.1;
    step(guest, format!("http://host.{DOMAIN}:{number}/"), || {
        let request = format!("GET / HTTP/1.1\r\nHost: host.{DOMAIN}:{number}\r\nConnection: close\r\n\r\n");
        let answer = guest.fetch((HOST, number).into(), request.as_bytes(), LONGEST, PATIENCE)?;
        let answer = String::from_utf8_lossy(&answer);
        let (status, body) = (answer.lines().next().unwrap_or_default(), answer.split_once("\r\n\r\n"));
        anyhow::ensure!(
            status == "HTTP/1.1 200 OK" && body.is_some_and(|(_, body)| body == PAGE),
            "the answer is another one: {answer:?}"
        );
        Ok(format!("200 OK, {} octets from 127.0.0.1:{number}", PAGE.len()))
    })
}

/// Makes a way from a number on 127.0.0.1 to guest `store`.
fn forward(lab: &Lab, to: u16) -> anyhow::Result<SocketAddr> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        match lab.daemon.add_forward(lab::NETWORK, &format!("{free}=store:{to}")) {
            Ok(_) => return Ok(free),
            Err(error) if error.code == ErrorCode::Conflict => last = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    Err(last.context("nothing was tried")?.into())
}

/// This host, as it and guests see each other through the uplink.
struct ThisHost {
    sink: (TcpListener, u16),
    forward: SocketAddr,
    /// The guest's address that the forward leads to.
    behind: SocketAddr,
}

impl Host for ThisHost {
    fn name(&self) -> &str {
        "host"
    }

    fn address(&self, family: Family) -> Option<IpAddr> {
        (family == Family::Ipv4).then_some(HOST.into())
    }

    fn take(&self, _: Family) -> anyhow::Result<Taking<'_>> {
        sockets::take(self.sink.0.try_clone()?, (HOST, self.sink.1).into())
    }

    fn send(&self, to: SocketAddr, time: Duration) -> anyhow::Result<TransferReport> {
        anyhow::ensure!(to == self.behind, "no forward leads to {to}");
        let forward = self.forward;
        let stream = TcpStream::connect_timeout(&forward, PATIENCE);
        let stream = stream.with_context(|| format!("the forward {forward} does not answer"))?;
        sockets::transmit(stream, time).with_context(|| format!("the forward {forward} does not take all"))
    }
}
