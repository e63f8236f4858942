//! TCP of many guests at once.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use testbed::Netns;

use super::connect::within;

/// Octets of a call.
const PIECE: usize = 128 * 1024;
/// The time that connections have for their slow start.
const WARM_UP: Duration = Duration::from_millis(300);

/// The rate at which all `guests` together send to a server at `at` in `host`, which they reach by `to`, one connection
/// each, in 10⁹ bits a second.
///
/// # Errors
/// When a connection fails.
pub fn senders(
    guests: &[Netns],
    to: SocketAddr,
    host: &Netns,
    at: SocketAddr,
    duration: Duration,
) -> anyhow::Result<f64> {
    let listener =
        within(host, move || TcpListener::bind(at)).with_context(|| format!("cannot listen at {at}"))?;
    let connect = |guest| {
        let near = within(guest, move || TcpStream::connect_timeout(&to, Duration::from_secs(5)))?;
        let (far, _) = listener.accept()?;
        Ok((near, far))
    };
    let pairs: std::io::Result<Vec<_>> = guests.iter().map(connect).collect();
    let pairs = pairs.context("connections through the uplink")?;
    let arrived = AtomicU64::new(0);
    let rate = thread::scope(|scope| {
        for (near, far) in &pairs {
            let (mut from, mut into) = (far, near);
            scope.spawn(move || {
                let piece = vec![1; PIECE];
                while into.write_all(&piece).is_ok() {}
            });
            let arrived = &arrived;
            scope.spawn(move || {
                let mut piece = vec![0; PIECE];
                while let Ok(octets @ 1..) = from.read(&mut piece) {
                    arrived.fetch_add(octets as u64, Ordering::Relaxed);
                }
            });
        }
        thread::sleep(WARM_UP);
        let (start, before) = (Instant::now(), arrived.load(Ordering::Relaxed));
        thread::sleep(duration);
        let octets = arrived.load(Ordering::Relaxed) - before;
        let seconds = start.elapsed().as_secs_f64();
        for (near, far) in &pairs {
            // One that is closed already is the same.
            let _ = near.shutdown(Shutdown::Both);
            let _ = far.shutdown(Shutdown::Both);
        }
        octets as f64 * 8.0 / seconds / 1e9
    });
    ensure!(rate > 0.0, "nothing arrived");
    Ok(rate)
}
