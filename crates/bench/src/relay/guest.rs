//! Between a TAP and a stream socket, as a virtual machine's process does it: one frame a write, each with its length
//! before it.

use std::fs::File;
use std::io::{self, BufReader, IoSlice, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::{LARGE_BUFFER, say_ready};
use vmlan_sys::tap::HEADER;

pub(super) fn run(tap: OwnedFd, path: &Path) -> anyhow::Result<()> {
    let socket = UnixStream::connect(path).with_context(|| format!("connecting to {}", path.display()))?;
    say_ready()?;
    let (back, answers) = (tap.try_clone()?, socket.try_clone()?);
    thread::spawn(move || from_socket(answers, back.into()));
    from_tap(&tap, socket).context("relaying what the guest sends")
}

fn from_tap(tap: &OwnedFd, mut socket: UnixStream) -> io::Result<()> {
    let mut frame = vec![0; LARGE_BUFFER];
    loop {
        match rustix::io::read(tap, &mut frame[..]) {
            Ok(len) => write_frame(&mut socket, &frame[HEADER.min(len)..len])?,
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::new(tap, PollFlags::IN)], None)?;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes a frame behind its length; waits for room.
fn write_frame(socket: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    let length = (frame.len() as u32).to_be_bytes();
    let mut slices = [IoSlice::new(&length), IoSlice::new(frame)];
    let mut left = &mut slices[..];
    while !left.is_empty() {
        let count = socket.write_vectored(left)?;
        IoSlice::advance_slices(&mut left, count);
    }
    Ok(())
}

fn from_socket(socket: UnixStream, mut tap: File) {
    let mut socket = BufReader::with_capacity(256 << 10, socket);
    // Before the frame is a header that says nothing.
    let mut frame = vec![0; LARGE_BUFFER];
    while let Ok(len) = read_frame(&mut socket, &mut frame[HEADER..]) {
        // What the guest does not take, because it is down or full, is lost as on any wire.
        let _ = tap.write(&frame[..HEADER + len]);
    }
}

/// Reads a frame behind its length; returns the octets that it has.
fn read_frame(socket: &mut impl Read, frame: &mut [u8]) -> io::Result<usize> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let len = u32::from_be_bytes(length) as usize;
    let octets = frame.get_mut(..len).ok_or(io::ErrorKind::InvalidData)?;
    socket.read_exact(octets)?;
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_behind_their_lengths() {
        let mut sent = Vec::new();
        write_frame(&mut sent, &[1, 2, 3]).expect("a vector has room");
        assert_eq!(sent, [0, 0, 0, 3, 1, 2, 3]);

        let mut frame = [0; 8];
        assert_eq!(read_frame(&mut &sent[..], &mut frame).ok(), Some(3));
        assert_eq!(frame[..3], [1, 2, 3]);
        assert!(read_frame(&mut &[0, 0, 0, 9, 1][..], &mut frame).is_err());
    }
}
