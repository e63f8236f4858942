use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Instant;

use crate::client::{Client, DatagramClient, RawFdClient, StreamClient, VdeClient};

/// How a guest is attached to its network.
#[derive(Debug)]
pub enum Attachment {
    /// Connects to a Unix stream socket and frames as QEMU's `-netdev stream` does.
    Stream {
        /// Where the network listens.
        path: PathBuf,
    },
    /// Listens at a Unix stream socket and takes the first connection: QEMU's `-netdev stream,server=on`.
    StreamListen {
        /// Where the network connects to.
        path: PathBuf,
    },
    /// A connected stream socket of any family, with QEMU's framing.
    StreamFd(OwnedFd),
    /// A Unix datagram socket: QEMU's `-netdev dgram`, unixgram on macOS.
    Datagram {
        /// The guest's own path.
        local: PathBuf,
        /// The network's path.
        remote: PathBuf,
    },
    /// A plug in a VDE switch.
    Vde {
        /// The switch's directory, which holds `ctl`.
        directory: PathBuf,
    },
    /// A descriptor that carries a frame per read and write: a TAP without virtio-net header, a datagram pair's end.
    Fd(OwnedFd),
}

impl Attachment {
    /// Opens the attachment, waiting for the other side until `deadline`; a VDE switch is told `name`.
    ///
    /// # Errors
    /// The error of the last attempt.
    pub fn open(self, name: &str, deadline: Instant) -> io::Result<Box<dyn Client>> {
        Ok(match self {
            Attachment::Stream { path } => Box::new(StreamClient::connect(&path, deadline)?),
            Attachment::StreamListen { path } => Box::new(StreamClient::accept(&path, deadline)?),
            Attachment::StreamFd(socket) => Box::new(StreamClient::new(socket)?),
            Attachment::Datagram { local, remote } => {
                Box::new(DatagramClient::open(&local, &remote, deadline)?)
            }
            Attachment::Vde { directory } => Box::new(VdeClient::connect(&directory, 0, name, deadline)?),
            Attachment::Fd(fd) => Box::new(RawFdClient::new(fd)?),
        })
    }
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attachment::Stream { path } => write!(f, "stream socket {}", path.display()),
            Attachment::StreamListen { path } => write!(f, "listening stream socket {}", path.display()),
            Attachment::StreamFd(_) => f.write_str("stream socket (inherited)"),
            Attachment::Datagram { local, remote } => {
                write!(f, "datagram socket {} (own: {})", remote.display(), local.display())
            }
            Attachment::Vde { directory } => write!(f, "VDE switch {}", directory.display()),
            Attachment::Fd(_) => f.write_str("descriptor of frames"),
        }
    }
}
