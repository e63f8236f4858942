//! The kernel's own stack as a guest: a TAP in a network namespace without a name, which nothing can leave behind.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use vmlan_daemon::embedded::Embedded;
use vmlan_guest::TransferReport;
use vmlan_sys::{netdev, netns};

use super::PATIENCE;
use super::host::{Family, Host, Taking};
use super::lab::{NETWORK, ipv4, ipv6};
use super::sockets;

/// The port, and who is behind it.
const NAME: &str = "kernel";
/// The TAP in its namespace.
const DEVICE: &str = "vmlan-demo";
/// Its number in the network.
const NUMBER: u8 = 4;

/// The kernel's stack in a namespace of its own.
pub struct Kernel {
    /// Keeps the namespace.
    _namespace: OwnedFd,
    path: PathBuf,
    /// Why it has no IPv6, if it has none.
    no_ipv6: Option<String>,
}

impl Kernel {
    /// Adds a port to the network, with the kernel behind it.
    ///
    /// # Errors
    /// Why that is not possible here. The network is as it was.
    pub fn attach(daemon: &Embedded) -> Result<Kernel, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root may make a TAP and a network namespace".into());
        }
        let namespace =
            netns::create().map_err(|error| format!("network namespaces cannot be made here: {error}"))?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", namespace.as_raw_fd()));
        let tap = vmlan_api::TapConfig {
            name: Some(DEVICE.to_owned()),
            netns: Some(path.display().to_string()),
            ..Default::default()
        };
        let port = vmlan_api::PortConfig { tap: Some(tap), ..Default::default() };
        let set_up = add_port(daemon, port).and_then(|()| configure(&path));
        match set_up {
            Ok(no_ipv6) => Ok(Kernel { _namespace: namespace, path, no_ipv6 }),
            Err(reason) => {
                // An error: there is no such port.
                let _ = daemon.remove_port(NETWORK, NAME);
                Err(reason)
            }
        }
    }

    /// Returns the part that the kernel cannot show, and why.
    pub fn lacks(&self) -> Option<&str> {
        self.no_ipv6.as_deref()
    }
}

fn add_port(daemon: &Embedded, port: vmlan_api::PortConfig) -> Result<(), String> {
    let report = daemon.add_port(NETWORK, NAME, port).map_err(|error| error.to_string())?;
    let failed = report.actions.into_iter().find(|action| action.outcome == vmlan_api::Outcome::Failed);
    match failed {
        Some(action) => Err(action.reason.unwrap_or_default()),
        None => Ok(()),
    }
}

/// Gives the device its addresses. Answers why it has none of IPv6, if so.
fn configure(namespace: &std::path::Path) -> Result<Option<String>, String> {
    let add =
        |address: IpAddr, prefix| netns::within(namespace, || netdev::add_address(DEVICE, address, prefix));
    add(ipv4(NUMBER).into(), 24).map_err(|error| format!("the TAP cannot be given an address: {error}"))?;
    let without = add(ipv6(NUMBER).into(), 64).err();
    Ok(without.map(|error| format!("the kernel's own stack over IPv6: it is turned off here ({error})")))
}

impl Host for Kernel {
    fn name(&self) -> &str {
        NAME
    }

    fn address(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::Ipv4 => Some(ipv4(NUMBER).into()),
            Family::Ipv6 if self.no_ipv6.is_some() => None,
            Family::Ipv6 => Some(ipv6(NUMBER).into()),
        }
    }

    fn take(&self, family: Family) -> anyhow::Result<Taking<'_>> {
        let address = self.address(family).context("the kernel has no such address")?;
        let listener = netns::within(&self.path, || TcpListener::bind((address, 0)))?;
        let address = listener.local_addr()?;
        sockets::take(listener, address)
    }

    fn send(&self, to: SocketAddr, time: Duration) -> anyhow::Result<TransferReport> {
        let stream = netns::within(&self.path, || TcpStream::connect_timeout(&to, PATIENCE));
        let stream = stream.with_context(|| format!("the kernel cannot connect to {to}"))?;
        sockets::transmit(stream, time).with_context(|| format!("the kernel cannot send to {to}"))
    }
}
