//! What can be said of whoever is at the other end of a socket.

use std::path::PathBuf;

use drivers::unix::Node;
use rustix::net::{SocketAddrAny, SocketAddrUnix, SocketType};
use tokio::net::UnixStream;

/// The peer of a Unix stream socket, for people.
pub(super) fn describe(stream: &UnixStream) -> String {
    match stream.peer_cred() {
        Ok(peer) => match peer.pid() {
            Some(pid) => format!("pid {pid}, uid {}", peer.uid()),
            None => format!("uid {}", peer.uid()),
        },
        Err(_) => "unknown".into(),
    }
}

/// The path of a Unix socket's address, if it has one.
pub(super) fn path_of(address: &SocketAddrAny) -> Option<PathBuf> {
    let address = SocketAddrUnix::try_from(address.clone()).ok()?;
    let path = std::str::from_utf8(address.path_bytes()?).ok()?;
    Some(PathBuf::from(path))
}

/// Whether a peer's datagram socket is gone: it was removed, or nobody holds it. A datagram socket is not told when its
/// peer goes, so its peer has to be looked at.
pub(super) fn is_gone(node: &Node) -> bool {
    !node.is_there() || !node.is_held(SocketType::DGRAM)
}
