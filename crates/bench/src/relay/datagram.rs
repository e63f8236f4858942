//! Between two datagram sockets: 64 are received with one call and sent with another.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, poll};
use vmlan_sys::datagrams::{self, LIMIT, Received};
use vmlan_sys::{Poller, Ready};

use super::{BUFFER, READABLE, say_ready};

pub(super) fn run(first: &Path, second: &Path) -> anyhow::Result<()> {
    let bind =
        |path: &Path| UnixDatagram::bind(path).with_context(|| format!("cannot bind {}", path.display()));
    let sockets = [bind(first)?, bind(second)?];
    say_ready()?;
    for socket in &sockets {
        connect(socket)?;
    }
    let poller = Poller::new()?;
    for (token, socket) in (0..).zip(&sockets) {
        poller.add(socket, token, READABLE)?;
    }
    let mut buffers = vec![vec![0; BUFFER]; LIMIT];
    let mut ready: Vec<Ready> = Vec::new();
    loop {
        poller.wait(&mut ready, None::<Duration>)?;
        for event in &ready {
            let from = event.token as usize;
            relay(&sockets[from], &sockets[1 - from], &mut buffers)?;
        }
    }
}

/// To whoever speaks first: a socket that is connected back queues more than eleven datagrams
/// (net.unix.max_dgram_qlen).
fn connect(socket: &UnixDatagram) -> anyhow::Result<()> {
    let (_, peer) = socket.recv_from(&mut [0; BUFFER]).context("waiting for a guest")?;
    let path = peer.as_pathname().context("the guest's socket has no path")?;
    socket.connect(path).with_context(|| format!("connecting to {}", path.display()))?;
    Ok(socket.set_nonblocking(true)?)
}

fn relay(from: &UnixDatagram, to: &UnixDatagram, buffers: &mut [Vec<u8>]) -> io::Result<()> {
    let mut received = [Received::default(); LIMIT];
    let count = match datagrams::receive(from, buffers, &mut received, None) {
        Ok(count) => count,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut done = 0;
    while done < count {
        let frame = |i: usize| [&buffers[done + i][..received[done + i].len], &[][..], &[][..]];
        match datagrams::send(to, count - done, frame) {
            Ok(sent) => done += sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(to, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
