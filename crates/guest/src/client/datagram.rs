use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::connect::retry;
use super::{Client, MAX_FRAME, Transmit, prepare};

/// QEMU's `-netdev dgram`, and what macOS VM managers call unixgram: a frame a datagram on a Unix socket.
///
/// The socket is connected, so that the kernel says when the other side has room again. A peer that went away loses
/// frames until it is back at its path; that is no error.
pub struct DatagramClient {
    socket: UnixDatagram,
    local: PathBuf,
    remote: PathBuf,
}

impl DatagramClient {
    /// Binds `local`, replacing a socket that was left there, and connects to `remote`, waiting for it until
    /// `deadline`.
    ///
    /// # Errors
    /// The error of binding, or of the last attempt to connect.
    pub fn open(local: &Path, remote: &Path, deadline: Instant) -> io::Result<DatagramClient> {
        // As QEMU does; nothing but a socket is removed.
        if std::fs::symlink_metadata(local).is_ok_and(|found| found.file_type().is_socket()) {
            std::fs::remove_file(local)?;
        }
        let socket = UnixDatagram::bind(local)?;
        let client = DatagramClient::bound(socket, local.to_owned(), remote.to_owned())?;
        retry(deadline, || client.socket.connect(remote))?;
        Ok(client)
    }

    /// Takes over `socket`, which is bound to `local`, without connecting it.
    pub(super) fn bound(socket: UnixDatagram, local: PathBuf, remote: PathBuf) -> io::Result<DatagramClient> {
        let client = DatagramClient { socket, local, remote };
        prepare(&client.socket)?;
        Ok(client)
    }

    /// Connects to `remote` from now on.
    pub(super) fn connect(&mut self, remote: PathBuf) -> io::Result<()> {
        self.socket.connect(&remote)?;
        self.remote = remote;
        Ok(())
    }

    /// The path that others send to.
    pub fn local(&self) -> &Path {
        &self.local
    }

    fn send(&self, frame: &[u8]) -> io::Result<Transmit> {
        match rustix::net::send(&self.socket, frame, SendFlags::empty()) {
            Ok(_) => Ok(Transmit::Taken),
            Err(Errno::AGAIN | Errno::NOBUFS) => Ok(Transmit::Full),
            Err(Errno::MSGSIZE) => Ok(Transmit::Lost),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for DatagramClient {
    fn drop(&mut self) {
        // Somebody may have removed it already; nothing is lost by that.
        let _ = std::fs::remove_file(&self.local);
    }
}

impl Client for DatagramClient {
    fn receive(&mut self, frame: &mut Vec<u8>) -> io::Result<bool> {
        frame.clear();
        frame.reserve(MAX_FRAME);
        loop {
            match rustix::net::recv(&self.socket, spare_capacity(frame), RecvFlags::empty()) {
                Ok((0, _)) => {}
                Ok(_) => return Ok(true),
                // A connection that the peer's restart reset is renewed when the next frame is sent.
                Err(Errno::AGAIN | Errno::CONNRESET) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn transmit(&mut self, frame: &[u8]) -> io::Result<Transmit> {
        // A datagram without octets stops a QEMU port.
        if frame.is_empty() || frame.len() > MAX_FRAME {
            return Ok(Transmit::Lost);
        }
        match self.send(frame) {
            Ok(done) => Ok(done),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Transmit::Full),
            // Refused or not connected: the peer is away. It may have come back at its path.
            Err(_) if self.socket.connect(&self.remote).is_ok() => {
                Ok(self.send(frame).unwrap_or(Transmit::Lost))
            }
            Err(_) => Ok(Transmit::Lost),
        }
    }

    fn flush(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    fn descriptors(&self) -> (BorrowedFd<'_>, Option<BorrowedFd<'_>>) {
        (self.socket.as_fd(), None)
    }
}
