//! Questions for names by UDP (RFC 1035), answered by a server that knows one answer.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};
use std::{io, thread};

use anyhow::{Context, ensure};
use testbed::Netns;

use super::connect::within;

/// The time between two questions: a third less than vmlan lets one guest ask in a second.
const PACE: Duration = Duration::from_micros(7_500);
/// Questions before those that count.
const WARM_UP: usize = 20;
/// The time for the first answer.
const START_LIMIT: Duration = Duration::from_secs(20);

const HEADER: usize = 12;
/// An A record of class IN for the name in the question, for a minute.
const ANSWER: [u8; 16] = [0xc0, HEADER as u8, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1];

/// A server in a namespace that answers every question, until the process ends or a message is no question.
fn serve(netns: &Netns, at: SocketAddr) -> anyhow::Result<()> {
    let socket = within(netns, move || UdpSocket::bind(at)).with_context(|| format!("no socket at {at}"))?;
    thread::spawn(move || {
        let mut message = [0; 1500];
        while let Ok((octets, from)) = socket.recv_from(&mut message) {
            let Some(answer) = answer(&message[..octets]) else { return };
            let _ = socket.send_to(&answer, from);
        }
    });
    Ok(())
}

/// The answer to a message with a question.
fn answer(message: &[u8]) -> Option<Vec<u8>> {
    let name = message.get(HEADER..)?.iter().position(|&octet| octet == 0)?;
    let mut answer = message.get(..HEADER + name + 5)?.to_vec();
    // An answer with recursion, one question, one record of an answer and nothing else.
    answer[2..HEADER].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    answer.extend(ANSWER);
    Some(answer)
}

/// A question for the address of a name that was not asked for before.
fn question(number: u16) -> Vec<u8> {
    let mut message = number.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let first = format!("q{number}");
    for label in [&first, "example", "org"] {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// Asks and waits for the answer.
fn ask(socket: &UdpSocket, number: u16) -> io::Result<()> {
    socket.send(&question(number))?;
    let mut message = [0; 1500];
    loop {
        let octets = socket.recv(&mut message)?;
        if message[..octets].starts_with(&number.to_be_bytes()) {
            let is_good = message[..octets].ends_with(&ANSWER[12..]);
            return if is_good { Ok(()) } else { Err(io::Error::other("not the server's answer")) };
        }
    }
}

/// The median and the 99th percentile of the time, in microseconds, that one question of `guest` takes by a forwarder
/// at `to`, which asks a server at `at` in `host`. There is time between the questions.
///
/// # Errors
/// When one has no answer.
pub fn names(
    guest: &Netns,
    to: SocketAddr,
    host: &Netns,
    at: SocketAddr,
    duration: Duration,
) -> anyhow::Result<[f64; 2]> {
    serve(host, at)?;
    let asked = within(guest, move || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut number = 0;
        let mut next = || {
            thread::sleep(PACE);
            number += 1;
            let start = Instant::now();
            ask(&socket, number).map(|()| start.elapsed().as_secs_f64() * 1e6)
        };
        // The forwarder may still be about to listen.
        if !testbed::poll_until(START_LIMIT, || next().is_ok()) {
            next()?;
        }
        (0..WARM_UP).try_for_each(|_| next().map(drop))?;
        let start = Instant::now();
        let mut times = Vec::new();
        while start.elapsed() < duration {
            times.push(next()?);
        }
        Ok(times)
    });
    within(host, move || UdpSocket::bind("127.0.0.1:0")?.send_to(&[0], at))?;
    let mut times = asked.with_context(|| format!("a question to {to}"))?;
    ensure!(!times.is_empty(), "no time for a question");
    times.sort_by(f64::total_cmp);
    Ok([times[times.len() / 2], times[times.len() * 99 / 100]])
}
