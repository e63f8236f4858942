//! Clients of the control interface that do not read, or come in great numbers, and captures that cost much.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::Context;
use rustix::net::{SendFlags, SocketType, send};

use crate::attack::{Attack, Card, Field, Held};
use crate::peers::{STEP, connect, discard, stream};
use crate::wire::{MacAddr, attacker, framed, noise};

pub(super) const ALL: &[&dyn Attack] = &[&Unread, &Connections, &UnreadEvents, &HeavyFilters];

/// Connections that are served at once.
const SERVED: usize = 64;
/// Event streams that are served at once.
const STREAMS: usize = 32;
/// Captures that are served at once.
const CAPTURES: usize = 8;
/// Instructions of the longest program that a kernel takes (BPF_MAXINSNS).
const INSTRUCTIONS: usize = 4096;

/// Clients that send requests and read no answers.
struct Unread;

impl Attack for Unread {
    fn card(&self) -> Card {
        Card::new("control-unread", "64 clients of the control interface send requests and read no answers")
    }

    fn config(&self, _: &Field) -> String {
        let port =
            |number| format!("[network.many.port.n{number}]\nstream = {{ listen = \"n{number}.sock\" }}\n");
        (0..40).map(port).collect()
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        let requests = b"GET /v1/ports HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
        let mut clients: Vec<OwnedFd> = Vec::new();
        while !field.is_over() {
            if clients.len() < SERVED
                && let Ok(client) = connect(&field.control(), SocketType::STREAM, STEP)
            {
                clients.push(client);
            }
            // Those that were given up on make room for others.
            clients.retain(|client| {
                let sent = send(client, &requests, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
                sent.is_ok() || sent == Err(rustix::io::Errno::AGAIN)
            });
            if clients.len() == SERVED {
                field.pause(Duration::from_millis(20));
            }
        }
        Ok(Box::new(clients))
    }
}

/// Short connections, half of them without a request.
struct Connections;

impl Attack for Connections {
    fn card(&self) -> Card {
        Card::new("control-connections", "10,000 short connections to the control interface").by(2)
    }

    fn config(&self, _: &Field) -> String {
        String::new()
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        for number in 0..5000 {
            if field.is_over() {
                break;
            }
            if let Ok(client) = connect(&field.control(), SocketType::STREAM, STEP)
                && number % 2 == 0
            {
                let _ = send(&client, b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n", SendFlags::NOSIGNAL);
            }
        }
        Ok(Box::new(()))
    }
}

/// Event streams that nothing reads.
struct UnreadEvents;

impl Attack for UnreadEvents {
    fn card(&self) -> Card {
        Card::new("control-events", "32 event streams are not read while guests come and go")
    }

    fn config(&self, _: &Field) -> String {
        "[network.lab.port.x]\nstream = { listen = \"x.sock\" }\n".to_owned()
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            let mut client = UnixStream::from(connect(&field.control(), SocketType::STREAM, STEP)?);
            client.write_all(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")?;
            streams.push(client);
        }
        let mut number = 0;
        while !field.is_over() {
            if let Ok(mut guest) = stream(&field.path("x.sock")) {
                let frames: Vec<_> =
                    (0..64).map(|more| noise(MacAddr::BROADCAST, attacker(number + more))).collect();
                let _ = guest.write_all(&framed(&frames));
                number += 64;
            }
            field.pause(Duration::from_millis(5));
        }
        Ok(Box::new(streams))
    }
}

/// Captures whose filters are as long as filters can be, and keep nothing.
struct HeavyFilters;

impl Attack for HeavyFilters {
    fn card(&self) -> Card {
        Card::new("capture-filters", "8 captures have filters of 4,096 instructions while a guest broadcasts")
    }

    fn config(&self, _: &Field) -> String {
        "[network.lab.port.x]\nstream = { listen = \"x.sock\" }\n".to_owned()
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        let request = serde_json::to_string(&vmlan_api::CaptureRequest {
            // A build for tests takes its time for each.
            filter: Some(heavy_filter(if field.is_short { INSTRUCTIONS / 16 } else { INSTRUCTIONS })),
            both: true,
            ..vmlan_api::CaptureRequest::default()
        })?;
        let mut captures = Vec::new();
        for _ in 0..CAPTURES {
            let mut client = UnixStream::from(connect(&field.control(), SocketType::STREAM, field.patience)?);
            let head =
                format!("POST /v1/capture HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", request.len());
            client.write_all(head.as_bytes()).and_then(|()| client.write_all(request.as_bytes()))?;
            let mut answer = [0; 12];
            client.read_exact(&mut answer).context("an answer")?;
            // The daemon may refuse such filters.
            if answer.ends_with(b"200") {
                captures.push(client);
            }
        }
        field.note(format!("{} captures", captures.len()));
        let guest = stream(&field.path("x.sock")).context("the port x")?;
        guest.set_nonblocking(true)?;
        let octets = framed(&vec![noise(MacAddr::BROADCAST, attacker(1)); 20]);
        let mut left = &octets[..];
        while !field.is_over() {
            // About as many as a port may send.
            if let Ok(written) = (&guest).write(left) {
                left = &left[written..];
            }
            if left.is_empty() {
                left = &octets;
            }
            discard(&guest)?;
            for capture in &captures {
                capture.set_nonblocking(true)?;
                discard(capture)?;
            }
            field.pause(Duration::from_millis(1));
        }
        Ok(Box::new((captures, guest)))
    }
}

/// A program that adds until its end and keeps nothing, as `tcpdump -ddd` writes it.
fn heavy_filter(instructions: usize) -> String {
    let mut text = format!("{instructions}\n40 0 0 12\n");
    for _ in 0..instructions - 2 {
        text.push_str("4 0 0 1\n");
    }
    let _ = write!(text, "6 0 0 0");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_has_the_length_that_it_says() {
        assert_eq!(heavy_filter(INSTRUCTIONS).lines().count(), INSTRUCTIONS + 1);
    }
}
