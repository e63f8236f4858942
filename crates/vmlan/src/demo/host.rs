use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use vmlan_guest::{Amount, Guest, ServeReport, TcpServer, TransferReport};

use super::PATIENCE;

/// Where guests take TCP connections.
const TCP_PORT: u16 = 5001;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Ipv4 => "IPv4",
            Family::Ipv6 => "IPv6",
        })
    }
}

/// A participant of the demonstration: a guest of this process, or the kernel.
pub trait Host {
    /// Its name.
    fn name(&self) -> &str;

    /// Its address; none when it lacks that family.
    fn address(&self, family: Family) -> Option<IpAddr>;

    /// Gets ready for one transfer of the pattern ([`vmlan_guest::pattern`]).
    fn take(&self, family: Family) -> anyhow::Result<Taking<'_>>;

    /// Sends the pattern for so long.
    fn send(&self, to: SocketAddr, time: Duration) -> anyhow::Result<TransferReport>;
}

/// A transfer that is expected.
pub struct Taking<'a> {
    /// Where.
    pub address: SocketAddr,
    /// Waits for its end, which is near when the sender has finished.
    pub wait: Box<dyn FnOnce() -> anyhow::Result<Taken> + 'a>,
}

/// The result of a transfer, at its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Octets.
    pub octets: u64,
    /// Connections whose octets were not those of the pattern.
    pub corrupt: u64,
}

/// A guest of this process.
pub struct GuestHost {
    guest: Guest,
    server: TcpServer,
}

impl GuestHost {
    pub fn new(guest: Guest) -> anyhow::Result<GuestHost> {
        let server = guest.tcp_serve(TCP_PORT)?;
        Ok(GuestHost { guest, server })
    }

    /// The port of its TCP server.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    pub fn guest(&self) -> &Guest {
        &self.guest
    }
}

impl Host for GuestHost {
    fn name(&self) -> &str {
        self.guest.name()
    }

    fn address(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::Ipv4 => self.guest.ipv4().map(IpAddr::from),
            Family::Ipv6 => self.guest.ipv6().map(IpAddr::from),
        }
    }

    fn take(&self, family: Family) -> anyhow::Result<Taking<'_>> {
        let address = self.address(family).context("the guest has no such address")?;
        let before = self.server.report();
        let wait = move || {
            let is_over = |report: &ServeReport| report.finished > before.finished;
            let report = self.server.wait(PATIENCE, is_over);
            anyhow::ensure!(is_over(&report), "the end of the connection did not arrive");
            Ok(Taken { octets: report.octets - before.octets, corrupt: report.corrupt - before.corrupt })
        };
        Ok(Taking { address: (address, self.server.port()).into(), wait: Box::new(wait) })
    }

    fn send(&self, to: SocketAddr, time: Duration) -> anyhow::Result<TransferReport> {
        Ok(self.guest.tcp_send(to, Amount::For(time))?)
    }
}
