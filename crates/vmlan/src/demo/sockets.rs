//! Transfers of the pattern by sockets of this process, in whatever network namespace they were made.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use vmlan_guest::{TransferReport, pattern};

use super::PATIENCE;
use super::host::{Taken, Taking};

/// Octets that are read or written at once.
const PIECE: usize = 64 << 10;

/// Takes one connection of a listener, on a thread of its own. The sender reaches it at `address`.
///
/// # Errors
/// No thread.
pub fn take(listener: TcpListener, address: std::net::SocketAddr) -> anyhow::Result<Taking<'static>> {
    let (tell, told) = mpsc::channel();
    thread::Builder::new().name("demo takes".into()).spawn(move || tell.send(receive(&listener)))?;
    let wait =
        move || Ok(told.recv_timeout(PATIENCE).context("the end of the connection did not arrive")??);
    Ok(Taking { address, wait: Box::new(wait) })
}

/// Takes one connection to its end.
fn receive(listener: &TcpListener) -> io::Result<Taken> {
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut piece = vec![0; PIECE];
    let mut taken = Taken { octets: 0, corrupt: 0 };
    loop {
        let len = stream.read(&mut piece)?;
        if len == 0 {
            return Ok(taken);
        }
        if pattern::mismatch(taken.octets, &piece[..len]).is_some() {
            taken.corrupt = 1;
        }
        taken.octets += len as u64;
    }
}

/// Sends for so long, and waits until the other side has closed as well, which it does when it has everything.
///
/// # Errors
/// The connection fails, or the other side sends something.
pub fn transmit(mut stream: TcpStream, time: Duration) -> io::Result<TransferReport> {
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let start = Instant::now();
    let mut piece = vec![0; PIECE];
    let mut octets = 0;
    while start.elapsed() < time {
        pattern::fill(octets, &mut piece);
        stream.write_all(&piece)?;
        octets += PIECE as u64;
    }
    stream.shutdown(Shutdown::Write)?;
    let after = stream.read(&mut piece)?;
    let elapsed = start.elapsed();
    if after > 0 {
        return Err(io::Error::other("the other side answered where it should only have closed"));
    }
    Ok(TransferReport { octets, elapsed })
}
