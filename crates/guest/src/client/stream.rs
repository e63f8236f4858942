use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::connect::retry;
use super::{Client, MAX_FRAME, Transmit, prepare};
use crate::wait;

/// Octets of the length prefix, a big-endian u32.
const PREFIX: usize = 4;
/// Octets read at once, and the most that waits to be written: a good hundred frames, and more than one largest frame.
const BUFFER: usize = 256 * 1024;

/// QEMU's `-netdev stream`: each frame behind its length, on any stream socket.
///
/// Frames are read and written many at a time; a frame may be split at any octet. Received octets are
/// `input[start..end]`; `output[written..]` waits for the socket to take it.
pub struct StreamClient {
    socket: OwnedFd,
    input: Box<[u8]>,
    start: usize,
    end: usize,
    output: Vec<u8>,
    written: usize,
}

impl StreamClient {
    /// Takes over a connected stream socket.
    ///
    /// # Errors
    /// When the descriptor cannot be made non-blocking.
    pub fn new(socket: OwnedFd) -> io::Result<StreamClient> {
        prepare(&socket)?;
        let input = vec![0; BUFFER].into_boxed_slice();
        Ok(StreamClient { socket, input, start: 0, end: 0, output: Vec::new(), written: 0 })
    }

    /// Connects to the Unix stream socket at `path`, waiting for its listener until `deadline`.
    ///
    /// # Errors
    /// The error of the last attempt.
    pub fn connect(path: &Path, deadline: Instant) -> io::Result<StreamClient> {
        let socket = retry(deadline, || UnixStream::connect(path))?;
        StreamClient::new(socket.into())
    }

    /// Listens at `path` and takes the first connection; the path is removed again.
    ///
    /// # Errors
    /// `TimedOut` when nobody connects until `deadline`, else what the system call failed with.
    pub fn accept(path: &Path, deadline: Instant) -> io::Result<StreamClient> {
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        let accepted = accept_before(&listener, deadline);
        // The connection needs the path no longer, and a second client shall not wait for an answer.
        let _ = std::fs::remove_file(path);
        StreamClient::new(accepted?.into())
    }

    /// The next whole frame among the octets received.
    fn take_frame(&mut self, frame: &mut Vec<u8>) -> io::Result<bool> {
        let octets = &self.input[self.start..self.end];
        let Some((prefix, rest)) = octets.split_first_chunk::<PREFIX>() else { return Ok(false) };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length == 0 || length > MAX_FRAME {
            let text =
                format!("the peer announced a frame of {length} octets; 1 to {MAX_FRAME} are possible");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let Some(octets) = rest.get(..length) else { return Ok(false) };
        frame.clear();
        frame.extend_from_slice(octets);
        self.start += PREFIX + length;
        Ok(true)
    }
}

fn accept_before(listener: &UnixListener, deadline: Instant) -> io::Result<UnixStream> {
    loop {
        match listener.accept() {
            Ok((socket, _)) => return Ok(socket),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if Instant::now() >= deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "nobody connected"));
        }
        wait::until(&mut [PollFd::new(listener, PollFlags::IN)], Some(deadline))?;
    }
}

impl Client for StreamClient {
    fn receive(&mut self, frame: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            if self.take_frame(frame)? {
                return Ok(true);
            }
            self.input.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            match rustix::io::read(&self.socket, &mut self.input[self.end..]) {
                Ok(0) => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the peer closed the connection",
                    ));
                }
                Ok(octets) => self.end += octets,
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn transmit(&mut self, frame: &[u8]) -> io::Result<Transmit> {
        if frame.is_empty() || frame.len() > MAX_FRAME {
            return Ok(Transmit::Lost);
        }
        let needed = PREFIX + frame.len();
        if self.output.len() + needed > BUFFER {
            self.flush()?;
            self.output.drain(..self.written);
            self.written = 0;
            if self.output.len() + needed > BUFFER {
                return Ok(Transmit::Full);
            }
        }
        self.output.extend_from_slice(&(frame.len() as u32).to_be_bytes());
        self.output.extend_from_slice(frame);
        Ok(Transmit::Taken)
    }

    fn flush(&mut self) -> io::Result<bool> {
        while self.written < self.output.len() {
            match rustix::io::write(&self.socket, &self.output[self.written..]) {
                Ok(octets) => self.written += octets,
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(true)
    }

    fn descriptors(&self) -> (BorrowedFd<'_>, Option<BorrowedFd<'_>>) {
        (self.socket.as_fd(), None)
    }
}
