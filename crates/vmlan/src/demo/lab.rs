use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use anyhow::Context;
use vmlan_api::PortState;
use vmlan_daemon::StateDirectory;
use vmlan_daemon::config;
use vmlan_daemon::embedded::Embedded;
use vmlan_frame::MacAddr;
use vmlan_guest::{Attachment, Guest, GuestConfig};

use super::host::{GuestHost, Host};
use super::kernel::Kernel;
use super::uplink::Services;
use super::{PATIENCE, progress, uplink};

/// The network.
pub const NETWORK: &str = "demo";

/// The configuration of the daemon; paths are relative to the demonstration's directory.
const CONFIG: &str = r#"
[network.demo.port.web]
stream = { listen = "web.sock" }
mac = "52:54:00:00:00:01"

[network.demo.port.db]
datagram = { local = "db.sock", remote = "db-guest.sock" }

[network.demo.port.cache]
vde = { directory = "cache.vde" }

[network.demo.port.app]
stream = { listen = "app.sock" }

[network.demo.port.store]
stream = { listen = "store.sock" }
"#;

/// The ports that have to be up: a VDE switch makes one for each client.
const PORTS: [&str; 4] = ["web", "db", "cache.0", "uplink"];

/// Everything that runs. Guests end before the daemon does.
pub struct Lab {
    /// The guests of this process.
    pub guests: Vec<GuestHost>,
    /// The kernel's stack, behind a TAP.
    pub kernel: Option<Kernel>,
    /// The services of this host that guests reach by the uplink.
    pub services: Option<Services>,
    /// The directory of the sockets.
    pub directory: PathBuf,
    /// Parts that could not be shown here, and why.
    pub left_out: Vec<String>,
    /// The daemon.
    pub daemon: Embedded,
}

impl Lab {
    /// Starts the daemon and attaches everybody. Sockets are made in `directory`.
    pub fn start(directory: &Path) -> anyhow::Result<Lab> {
        progress(
            "starting: network demo, with guests on a stream socket, a datagram socket and a VDE switch, and an uplink",
        );
        let services = Services::open();
        let text = format!("{CONFIG}{}", uplink::table(services.as_ref().ok()));
        let Ok(config) = config::parse(&text, "demo", Some(directory)) else {
            // Nothing else in it depends on the machine.
            let directory = directory.display();
            anyhow::bail!("{directory} is too long for the paths of sockets; set TMPDIR to a shorter one");
        };
        let (daemon, report) =
            Embedded::start(config, StateDirectory::None).context("the daemon cannot be started")?;
        for action in &report.actions {
            if let (vmlan_api::Outcome::Failed, Some(reason)) = (action.outcome, &action.reason) {
                anyhow::bail!("port {}: {reason}", action.port.as_deref().unwrap_or("?"));
            }
        }
        let guests = [
            ("web", Attachment::Stream { path: directory.join("web.sock") }),
            (
                "db",
                Attachment::Datagram {
                    local: directory.join("db-guest.sock"),
                    remote: directory.join("db.sock"),
                },
            ),
            ("cache", Attachment::Vde { directory: directory.join("cache.vde") }),
        ];
        let guests = guests.into_iter().zip(1..);
        let guests = guests.map(|((name, attachment), number)| start_guest(name, number, attachment));
        let guests = guests.collect::<anyhow::Result<_>>()?;
        let directory = directory.to_owned();
        let mut lab = Lab { guests, kernel: None, services: None, directory, left_out: Vec::new(), daemon };
        lab.wait_until_up(&PORTS)?;
        lab.attach_kernel();
        match services {
            Ok(services) => lab.services = Some(services),
            Err(reason) => lab.leave_out(format!("what the uplink carries from and to this host: {reason}")),
        }
        Ok(lab)
    }

    /// Returns the hosts that take part.
    pub fn hosts(&self) -> Vec<&dyn Host> {
        let guests = self.guests.iter().map(|guest| guest as &dyn Host);
        guests.chain(self.kernel.as_ref().map(|kernel| kernel as &dyn Host)).collect()
    }

    /// Ends everything in order.
    pub fn end(self) {
        let Lab { guests, kernel, daemon, .. } = self;
        drop(guests);
        drop(kernel);
        daemon.stop();
    }

    /// Waits until these ports are up.
    ///
    /// # Errors
    /// The first one that is not.
    pub fn wait_until_up(&self, names: &[&str]) -> anyhow::Result<()> {
        let is_up = |ports: &[vmlan_api::Port], name: &str| {
            ports.iter().any(|port| port.port == name && port.state == PortState::Up)
        };
        let ports = self.daemon.wait(PATIENCE, |ports| names.iter().all(|name| is_up(ports, name)))?;
        let Some(missing) = names.iter().find(|name| !is_up(&ports, name)) else { return Ok(()) };
        let port = ports.iter().find(|port| port.port == **missing);
        let reason = port.and_then(|port| port.reason.clone()).unwrap_or("its guest did not come".into());
        anyhow::bail!("port {missing} did not come up: {reason}")
    }

    fn attach_kernel(&mut self) {
        match Kernel::attach(&self.daemon) {
            Ok(kernel) => {
                progress("starting: the kernel of this machine, on a TAP in a namespace of its own");
                self.left_out.extend(kernel.lacks().map(str::to_owned));
                self.kernel = Some(kernel);
            }
            Err(reason) => self.leave_out(format!("the kernel's own stack on a TAP: {reason}")),
        }
    }

    fn leave_out(&mut self, what: String) {
        progress(&format!("left out: {what}"));
        self.left_out.push(what);
    }
}

/// The address of host `number` of the demonstration's network (RFC 5737).
pub fn ipv4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, number)
}

/// The same, of IPv6 (RFC 3849).
pub fn ipv6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into())
}

/// The MAC address of guest `number`.
pub fn mac(number: u8) -> MacAddr {
    MacAddr([0x52, 0x54, 0, 0, 0, number])
}

fn start_guest(name: &str, number: u8, attachment: Attachment) -> anyhow::Result<GuestHost> {
    let config =
        GuestConfig::new(name, mac(number), attachment).ipv4(ipv4(number), 24).ipv6(ipv6(number), 64);
    GuestHost::new(Guest::spawn(GuestConfig { timeout: PATIENCE, ..config })?)
}
