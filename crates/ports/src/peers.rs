//! Facts about the peer at the other end of a socket.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::net::{SocketAddrAny, SocketType};
use vmlan_drivers::unix::Node;

use crate::connection::Connection;

/// The peer of a Unix connection, for people.
pub(super) fn describe(connection: &Connection) -> String {
    match connection.peer_cred() {
        Ok(peer) => match peer.pid() {
            Some(pid) => format!("pid {pid}, uid {}", peer.uid()),
            None => format!("uid {}", peer.uid()),
        },
        Err(_) => "unknown".into(),
    }
}

/// The path of a Unix socket's address, if it has one.
pub(super) fn path_of(address: &SocketAddrAny) -> Option<PathBuf> {
    let path = vmlan_sys::address::unix_path(address)?;
    Some(PathBuf::from(OsStr::from_bytes(path)))
}

/// True if a peer's datagram socket is gone: it was removed, or no process holds it. A datagram socket is not told when
/// its peer goes, so its peer has to be looked at.
pub(super) fn is_gone(node: &Node) -> bool {
    !node.is_there() || !node.is_held(SocketType::DGRAM)
}
