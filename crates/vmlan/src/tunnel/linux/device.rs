//! This machine's own stack by a TUN.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use vmlan_drivers::tunnel::client::Client;
use vmlan_drivers::tunnel::message::Prefixed;
use vmlan_sys::netdev;

use super::describe;
use crate::args::ConnectArguments;
use crate::output::print;

/// Packets that go one way before the other has its turn.
const TURN: usize = 64;

/// Makes the device, and moves packets until the tunnel ends.
pub fn join(client: &Client, arguments: &ConnectArguments) -> anyhow::Result<()> {
    let wanted = arguments.device.as_deref().unwrap_or("tun%d");
    let (device, name) = vmlan_sys::tunnel::open(wanted, false).with_context(|| match wanted {
        "tun%d" => "a TUN cannot be made; it takes root, and the module tun".to_owned(),
        name => format!("the TUN {name} cannot be made, or is in use; it takes root, and the module tun"),
    })?;
    let opened = client.opened();
    netdev::set_mtu(&name, opened.mtu).with_context(|| format!("the MTU of {name} cannot be set"))?;
    for Prefixed { address, prefix } in &opened.addresses {
        let added = netdev::add_address(&name, *address, *prefix);
        added.with_context(|| format!("{name} cannot be given {address}/{prefix}"))?;
    }
    netdev::set_up(&name).with_context(|| format!("{name} cannot be brought up"))?;
    // Whoever reads our output may have gone, which is no reason to end.
    let _ = print(&format!("{name} is joined by {}\n", describe(client)?));
    relay(client, &device)
}

fn relay(client: &Client, device: &OwnedFd) -> anyhow::Result<()> {
    let mut packet = vec![0; usize::from(u16::MAX) + 1];
    loop {
        let mut fds = [
            PollFd::new(device, PollFlags::IN),
            PollFd::from_borrowed_fd(client.data(), PollFlags::IN),
            PollFd::from_borrowed_fd(client.control(), PollFlags::RDHUP),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(anyhow::Error::new(error).context("waiting for packets failed")),
        }
        let [from_host, from_tunnel, control] = fds.each_ref().map(PollFd::revents);
        if !from_host.is_empty() {
            to_tunnel(client, device, &mut packet)?;
        }
        if !from_tunnel.is_empty() && !to_host(client, device, &mut packet)? || !control.is_empty() {
            bail!("the daemon ended the tunnel");
        }
    }
}

fn to_tunnel(client: &Client, device: &OwnedFd, packet: &mut [u8]) -> anyhow::Result<()> {
    for _ in 0..TURN {
        let len = match rustix::io::read(device, &mut *packet) {
            Ok(len) => len,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => return Err(anyhow::Error::new(error).context("the TUN is gone")),
        };
        match client.send(&packet[..len]) {
            Ok(()) => {}
            // Somebody raised the device's MTU, or sends what is no IP.
            Err(error) if is_of_the_packet(&error) => {}
            Err(error) => return Err(anyhow::Error::new(error).context("the daemon ended the tunnel")),
        }
    }
    Ok(())
}

fn is_of_the_packet(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput || error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error())
}

/// False at the end of the tunnel.
fn to_host(client: &Client, device: &OwnedFd, packet: &mut [u8]) -> anyhow::Result<bool> {
    for _ in 0..TURN {
        if !is_readable(client.data()) {
            return Ok(true);
        }
        let Some(len) = client.receive(packet).context("the tunnel cannot be read")? else {
            return Ok(false);
        };
        match rustix::io::write(device, &packet[..len]) {
            // The device takes no such packet, or is down: that is between it and who set it so.
            Ok(_) | Err(Errno::AGAIN | Errno::INTR | Errno::INVAL | Errno::IO | Errno::NOBUFS) => {}
            Err(error) => return Err(anyhow::Error::new(error).context("the TUN is gone")),
        }
    }
    Ok(true)
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Default::default())), Ok(1..))
}
