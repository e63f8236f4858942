//! TCP of a guest by its own stack: one octet to and fro, and connections one after the other.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use anyhow::Context;
use testbed::Netns;

/// Round trips before those that count.
const WARM_UP: usize = 200;
/// Round trips that count.
const ROUNDS: usize = 4_000;

/// A server in a namespace that gives every octet back, one connection at a time, until the process ends.
fn serve(netns: &Netns, at: SocketAddr) -> anyhow::Result<()> {
    let listener =
        within(netns, move || TcpListener::bind(at)).with_context(|| format!("cannot listen at {at}"))?;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.set_nodelay(true);
            let mut octet = [0];
            while stream.read_exact(&mut octet).is_ok() && octet != [0] && stream.write_all(&octet).is_ok() {}
            if octet == [0] {
                return;
            }
        }
    });
    Ok(())
}

/// Has the server end.
fn end(netns: &Netns, at: SocketAddr) -> io::Result<()> {
    within(netns, move || TcpStream::connect(at)?.write_all(&[0]))
}

/// Does some work in a namespace.
pub(super) fn within<T: Send>(netns: &Netns, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let file = fs::File::open(netns.path())?;
    vmlan_sys::netns::enter(file.as_fd(), work)
}

/// Waits until a connection of the guest's to `to` comes to a server at `at` in `host`. False when none ever does: not
/// every way out tells of one that is refused.
pub fn is_reached(guest: &Netns, to: SocketAddr, host: &Netns, at: SocketAddr, limit: Duration) -> bool {
    let Ok(_listener) = within(host, move || TcpListener::bind(at)) else { return false };
    testbed::poll_until(limit, || {
        within(guest, move || TcpStream::connect_timeout(&to, Duration::from_secs(1))).is_ok()
    })
}

/// The median and the 99th percentile of the time, in microseconds, that one octet takes from `guest` to a server at
/// `at` in `host`, which the guest reaches by `to`, and back.
///
/// # Errors
/// When a connection fails.
pub fn octet_round_trip(
    guest: &Netns,
    to: SocketAddr,
    host: &Netns,
    at: SocketAddr,
) -> anyhow::Result<[f64; 2]> {
    serve(host, at)?;
    let times = within(guest, move || {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut times = Vec::with_capacity(ROUNDS);
        for round in 0..WARM_UP + ROUNDS {
            let start = Instant::now();
            stream.write_all(&[1])?;
            stream.read_exact(&mut [0])?;
            if round >= WARM_UP {
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
        }
        Ok(times)
    });
    end(host, at)?;
    let mut times = times.context("a connection through the uplink")?;
    times.sort_by(f64::total_cmp);
    Ok([times[times.len() / 2], times[times.len() * 99 / 100]])
}

/// So many connections that nobody uses, from `guest` to a server at `at` in `host`, which the guest reaches by `to`.
/// Both of their ends.
///
/// # Errors
/// When one fails.
pub fn idle(
    guest: &Netns,
    to: SocketAddr,
    host: &Netns,
    at: SocketAddr,
    count: usize,
) -> anyhow::Result<Vec<TcpStream>> {
    let listener =
        within(host, move || TcpListener::bind(at)).with_context(|| format!("cannot listen at {at}"))?;
    let connect = move || {
        let mut ends = Vec::with_capacity(2 * count);
        for _ in 0..count {
            let mut near = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
            let (mut far, _) = listener.accept()?;
            near.write_all(&[1])?;
            far.read_exact(&mut [0])?;
            ends.extend([near, far]);
        }
        Ok(ends)
    };
    within(guest, connect).context("connections through the uplink")
}

/// Connections a second that are made, used for one octet to and fro, and closed.
///
/// # Errors
/// When one fails.
pub fn connects(
    guest: &Netns,
    to: SocketAddr,
    host: &Netns,
    at: SocketAddr,
    duration: Duration,
) -> anyhow::Result<f64> {
    serve(host, at)?;
    let rate = within(guest, move || {
        let start = Instant::now();
        let mut count = 0;
        while start.elapsed() < duration {
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(&[1])?;
            stream.read_exact(&mut [0])?;
            count += 1;
        }
        Ok(f64::from(count) / start.elapsed().as_secs_f64())
    });
    end(host, at)?;
    rate.context("connections through the uplink")
}
