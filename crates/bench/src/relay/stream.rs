//! Between two stream sockets: as much as there is with one read, taken apart into frames; small ones are copied
//! together and large ones gathered, and written with one call.

use std::io::{self, IoSlice, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, poll};
use vmlan_sys::{Poller, Ready};

use super::{READABLE, say_ready};

const BUFFER: usize = 256 << 10;

/// Octets of the length before a frame.
const LENGTH: usize = 4;

/// Copying fewer octets than these costs less than a piece to gather.
const SMALL: usize = 512;

/// Pieces that one call gathers at most (IOV_MAX).
const PIECES: usize = 1024;

/// The octets that were read from one socket and belong to the other.
struct Way {
    octets: Box<[u8]>,
    /// Octets at the front that are not relayed yet.
    have: usize,
}

pub(super) fn run(first: &Path, second: &Path) -> anyhow::Result<()> {
    let listen =
        |path: &Path| UnixListener::bind(path).with_context(|| format!("cannot bind {}", path.display()));
    let listeners = [listen(first)?, listen(second)?];
    say_ready()?;
    let [first, second] = listeners.map(|listener| listener.accept());
    let sockets = [first?.0, second?.0];
    let poller = Poller::new()?;
    for (token, socket) in (0..).zip(&sockets) {
        socket.set_nonblocking(true)?;
        poller.add(socket, token, READABLE)?;
    }
    let mut ways = [(); 2].map(|()| Way { octets: vec![0; BUFFER].into(), have: 0 });
    let mut together = Vec::with_capacity(BUFFER);
    let mut ready: Vec<Ready> = Vec::new();
    loop {
        poller.wait(&mut ready, None::<Duration>)?;
        for event in &ready {
            let from = event.token as usize;
            relay(&sockets[from], &sockets[1 - from], &mut ways[from], &mut together)?;
        }
    }
}

fn relay(
    mut from: &UnixStream,
    to: &UnixStream,
    way: &mut Way,
    together: &mut Vec<u8>,
) -> anyhow::Result<()> {
    match from.read(&mut way.octets[way.have..]) {
        Ok(0) => bail!("a guest is gone"),
        Ok(count) => way.have += count,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    together.clear();
    let mut pieces: Vec<&[u8]> = Vec::new();
    let mut done = 0;
    while let Some(len) = frame(&way.octets[done..way.have])? {
        let piece = &way.octets[done..done + len];
        if len < SMALL {
            together.extend_from_slice(piece)
        } else {
            pieces.push(piece)
        }
        done += len;
    }
    write(to, &[together])?;
    for pieces in pieces.chunks(PIECES) {
        write(to, pieces)?;
    }
    way.octets.copy_within(done..way.have, 0);
    way.have -= done;
    Ok(())
}

/// Octets of the frame at the front with its length, when all of it is there.
fn frame(octets: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(length) = octets.first_chunk::<LENGTH>() else { return Ok(None) };
    let len = LENGTH + u32::from_be_bytes(*length) as usize;
    if len > BUFFER {
        bail!("a frame of {len} octets");
    }
    Ok((octets.len() >= len).then_some(len))
}

/// All of it, waiting for room.
fn write(mut to: &UnixStream, pieces: &[&[u8]]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut left = &mut slices[..];
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        match to.write_vectored(left) {
            Ok(count) => IoSlice::advance_slices(&mut left, count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(to, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_told_from_their_lengths() {
        let case = |octets: &[u8]| frame(octets).ok();

        assert_eq!(case(&[0, 0, 0]), Some(None));
        assert_eq!(case(&[0, 0, 0, 2, 9]), Some(None));
        assert_eq!(case(&[0, 0, 0, 2, 9, 9, 0]), Some(Some(6)));
        assert_eq!(case(&[9, 0, 0, 0]), None);
    }

    #[test]
    fn small_and_large_frames_and_pieces_of_them_come_through() {
        let [(ours, from), (to, theirs)] = [(); 2].map(|()| UnixStream::pair().expect("sockets"));
        from.set_nonblocking(true).expect("a socket");
        let mut way = Way { octets: vec![0; BUFFER].into(), have: 0 };
        let mut sent = vec![0, 0, 0, 3, 1, 2, 3, 0, 0, 2, 88];
        sent.extend([7; 600]);
        sent.extend([0, 0]);

        (&ours).write_all(&sent).expect("there is room");
        relay(&from, &to, &mut way, &mut Vec::new()).expect("frames");

        let mut received = vec![0; 7 + 604];
        (&theirs).read_exact(&mut received).expect("they were relayed");
        assert_eq!((&received[..], way.have), (&sent[..611], 2));
    }
}
