//! The plug's side of the VDE protocol (vde-2, `libvdeplug`).
//!
//! The control connection to `<directory>/ctl` carries one request and one answer, each with the Unix address of a
//! datagram socket; frames are datagrams between the two. The port exists as long as the control connection does, so
//! the switch closing it ends the client, and dropping the client drops the port.

#[cfg(target_os = "linux")]
#[path = "vde/sockaddr_linux.rs"]
mod sockaddr;
#[cfg(target_os = "macos")]
#[path = "vde/sockaddr_macos.rs"]
mod sockaddr;

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::connect::retry;
use super::{Client, DatagramClient, Transmit};

/// First word of a request.
const MAGIC: u32 = 0xfeed_face;
/// Version of the request's layout.
const VERSION: u32 = 3;
/// Octets of the longest description.
const MAX_DESCRIPTION: usize = 128;
/// Request type of a new port; the port's number is above it, 0 for any.
const NEW_PORT: u32 = 0;
/// Sockets tried for a free name in one directory.
const MAX_NAMES: u32 = 1000;

/// A plug in a VDE switch.
pub struct VdeClient {
    control: UnixStream,
    data: DatagramClient,
}

impl VdeClient {
    /// Plugs into the switch whose directory is `directory`, waiting for it until `deadline`.
    ///
    /// `port` is the number wanted, 0 for any; the switch shows `description`, of which it takes 128 octets.
    ///
    /// # Errors
    /// The error of connecting, or `InvalidData` when the switch refused or answered something else.
    pub fn connect(
        directory: &Path,
        port: u8,
        description: &str,
        deadline: Instant,
    ) -> io::Result<VdeClient> {
        let mut control = retry(deadline, || UnixStream::connect(directory.join("ctl")))?;
        let (socket, local) = bind_near(directory)?;
        let mut data = DatagramClient::bound(socket, local, PathBuf::new())?;

        control.write_all(&request(data.local(), port, description)?)?;
        let answer = read_answer(&mut control, deadline)?;
        data.connect(answer)?;
        control.set_nonblocking(true)?;
        Ok(VdeClient { control, data })
    }

    /// Fails once the switch has closed the control connection.
    fn check_control(&self) -> io::Result<()> {
        let mut octets = [0; 256];
        match rustix::io::read(&self.control, &mut octets) {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the switch removed the port")),
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The octets of a request for a new port, with the plug's own datagram socket at `local`.
///
/// # Errors
/// `InvalidInput` when the path is too long for a Unix address.
pub fn request(local: &Path, port: u8, description: &str) -> io::Result<Vec<u8>> {
    let mut octets = Vec::with_capacity(12 + sockaddr::LENGTH + MAX_DESCRIPTION);
    for word in [MAGIC, VERSION, NEW_PORT | u32::from(port) << 8] {
        octets.extend_from_slice(&word.to_ne_bytes());
    }
    octets.extend_from_slice(&address(local)?);
    let description = description.as_bytes();
    octets.extend_from_slice(&description[..description.len().min(MAX_DESCRIPTION)]);
    Ok(octets)
}

/// `struct sockaddr_un` with `path`.
fn address(path: &Path) -> io::Result<[u8; sockaddr::LENGTH]> {
    let path = path.as_os_str().as_bytes();
    let mut address = sockaddr::EMPTY;
    // The path ends with a NUL.
    if path.len() >= sockaddr::LENGTH - sockaddr::PATH {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path is too long for a Unix socket"));
    }
    address[sockaddr::PATH..][..path.len()].copy_from_slice(path);
    Ok(address)
}

fn path_of(address: &[u8; sockaddr::LENGTH]) -> Option<PathBuf> {
    let path = &address[sockaddr::PATH..];
    let path = path.split(|&octet| octet == 0).next()?;
    (address[..sockaddr::PATH] == sockaddr::EMPTY[..sockaddr::PATH] && !path.is_empty())
        .then(|| PathBuf::from(OsStr::from_bytes(path)))
}

fn read_answer(control: &mut UnixStream, deadline: Instant) -> io::Result<PathBuf> {
    let left = deadline.saturating_duration_since(Instant::now());
    control.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
    let mut answer = sockaddr::EMPTY;
    control.read_exact(&mut answer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            io::Error::new(io::ErrorKind::InvalidData, "the switch refused the port")
        }
        io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "the switch does not answer"),
        _ => error,
    })?;
    path_of(&answer).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "the switch's answer is no Unix socket address")
    })
}

/// A datagram socket in the switch's directory, as libvdeplug makes it, or among the temporary files where that
/// directory cannot be written.
fn bind_near(directory: &Path) -> io::Result<(UnixDatagram, PathBuf)> {
    let process = std::process::id();
    let mut last = None;
    for (directory, prefix) in [(directory, "."), (&std::env::temp_dir(), "vde.")] {
        for number in 0..MAX_NAMES {
            let path = directory.join(format!("{prefix}{process:05}-{number:05}"));
            match UnixDatagram::bind(&path) {
                Ok(socket) => return Ok((socket, path)),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = Some(error),
                Err(error) => {
                    last = Some(error);
                    break;
                }
            }
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

impl Client for VdeClient {
    fn receive(&mut self, frame: &mut Vec<u8>) -> io::Result<bool> {
        let received = self.data.receive(frame)?;
        if !received {
            self.check_control()?;
        }
        Ok(received)
    }

    fn transmit(&mut self, frame: &[u8]) -> io::Result<Transmit> {
        self.data.transmit(frame)
    }

    fn flush(&mut self) -> io::Result<bool> {
        self.data.flush()
    }

    fn descriptors(&self) -> (BorrowedFd<'_>, Option<BorrowedFd<'_>>) {
        (self.data.descriptors().0, Some(self.control.as_fd()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_packed_and_its_description_is_cut_without_nul() {
        let octets = request(Path::new("/run/lab.vde/.00001-00000"), 3, &"x".repeat(200)).unwrap();

        assert_eq!(octets[..4], 0xfeed_face_u32.to_ne_bytes());
        assert_eq!(octets[4..8], 3_u32.to_ne_bytes());
        assert_eq!(octets[8..12], 0x300_u32.to_ne_bytes());
        assert_eq!(&octets[12 + sockaddr::PATH..][..26], b"/run/lab.vde/.00001-00000\0");
        assert_eq!(octets[12 + sockaddr::LENGTH..], [b'x'; 128]);
    }

    #[test]
    fn an_address_round_trips_and_a_foreign_family_is_refused() {
        let mut octets = address(Path::new("/run/ctl")).unwrap();
        assert_eq!(path_of(&octets).unwrap(), Path::new("/run/ctl"));

        octets[sockaddr::PATH - 1] ^= 0xff;
        assert_eq!(path_of(&octets), None);
        assert_eq!(path_of(&sockaddr::EMPTY), None);
    }

    #[test]
    fn a_path_needs_room_for_its_nul() {
        let room = sockaddr::LENGTH - sockaddr::PATH;
        assert!(address(Path::new(&"p".repeat(room - 1))).is_ok());
        assert!(address(Path::new(&"p".repeat(room))).is_err());
    }
}
