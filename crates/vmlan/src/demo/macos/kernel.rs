use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use vmlan_daemon::embedded::Embedded;
use vmlan_guest::TransferReport;

use super::host::{Family, Host, Taking};

/// The kernel's stack as a guest, of which there is none.
pub enum Kernel {}

impl Kernel {
    /// Says that it is not possible.
    ///
    /// # Errors
    /// Always.
    pub fn attach(_: &Embedded) -> Result<Kernel, String> {
        Err("TAP is there on Linux only".into())
    }

    /// Returns the part that the kernel cannot show.
    pub fn lacks(&self) -> Option<&str> {
        match *self {}
    }
}

impl Host for Kernel {
    fn name(&self) -> &str {
        match *self {}
    }

    fn address(&self, _: Family) -> Option<IpAddr> {
        match *self {}
    }

    fn take(&self, _: Family) -> anyhow::Result<Taking<'_>> {
        match *self {}
    }

    fn send(&self, _: SocketAddr, _: Duration) -> anyhow::Result<TransferReport> {
        match *self {}
    }
}
