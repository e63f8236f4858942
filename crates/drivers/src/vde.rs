//! VDE's control handshake, the switch's side (vde_plug, QEMU `-netdev vde`, libvdeplug).
//!
//! A client connects to `DIRECTORY/ctl` and sends one request in host order: magic, version, type and port, the
//! address of its datagram socket, and a description that nothing terminates. The switch answers with the address of
//! a datagram socket of its own; frames are datagrams between the two from then on, and the control connection stays
//! open for as long as the port lives. So the data socket is a [`crate::datagram::Socket`].
//!
//! The client names a path that the switch connects to. It must not be able to aim the switch at somebody else's
//! socket, so [`find_socket`] takes only a socket of the client's own user, in the switch's directory or one for
//! temporary files, and answers that very file: the client may exchange what the path leads to at any time.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::unix::{Directory, Node};

const MAGIC: u32 = 0xfeed_face;
const VERSION: u32 = 3;

/// Octets of the path in a socket address.
const PATH: usize = if cfg!(target_os = "macos") { 104 } else { 108 };

/// Octets of a socket address: two for its family (on macOS its length and family), then the path.
pub const ADDRESS: usize = 2 + PATH;

/// Octets of a request without its description.
const FIXED: usize = 12 + ADDRESS;

/// Octets of the longest description.
const DESCRIPTION: usize = 128;

/// Octets of the longest request.
pub const REQUEST: usize = FIXED + DESCRIPTION;

/// A client's request, as parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Where its datagram socket is bound.
    pub socket: PathBuf,
    /// The client's description of itself, printable.
    pub description: String,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRequest {
    /// It does not begin as VDE requests do.
    #[error("no VDE request: it begins with {0:08x} instead of {MAGIC:08x}")]
    Magic(u32),
    /// Another version.
    #[error("version {0} of VDE's protocol is not spoken here, only {VERSION}")]
    Version(u32),
    /// It is no request for a port.
    #[error("request type {0} is not known; 0 asks for a port")]
    Type(u8),
    /// The address is no path of a Unix socket.
    #[error("the client's socket address is no absolute path")]
    Address,
    /// The client's socket is where none is taken from.
    #[error("the client's socket {0} is neither in the switch's directory nor in one for temporary files")]
    Place(PathBuf),
    /// It is not the client's.
    #[error("the client's socket {0} is no socket, belongs to another user, or has another name as well")]
    Owner(PathBuf),
}

impl Request {
    /// Reads a request from the front of `octets`, as far as they have come: `None` when more is needed. The
    /// description is whatever has come with it.
    ///
    /// # Errors
    /// [`BadRequest`], as soon as it can be told.
    pub fn parse(octets: &[u8]) -> Result<Option<Request>, BadRequest> {
        let word = |at: usize| {
            octets.get(at..).and_then(|rest| rest.first_chunk()).map(|word| u32::from_ne_bytes(*word))
        };
        let (magic, version, kind) = (word(0), word(4), word(8));
        if let Some(magic) = magic.filter(|magic| *magic != MAGIC) {
            return Err(BadRequest::Magic(magic));
        }
        if let Some(version) = version.filter(|version| *version != VERSION) {
            return Err(BadRequest::Version(version));
        }
        if let Some(kind) = kind.filter(|kind| kind & 0xff != 0) {
            return Err(BadRequest::Type(kind as u8));
        }
        let Some(address) = octets.get(12..FIXED) else {
            return Ok(None);
        };
        let socket = path_of(address).ok_or(BadRequest::Address)?;
        let description = &octets[FIXED..octets.len().min(REQUEST)];
        let printable = |octet: &u8| if (0x20..0x7f).contains(octet) { char::from(*octet) } else { '?' };
        let description = description.iter().take_while(|octet| **octet != 0).map(printable).collect();
        Ok(Some(Request { socket, description }))
    }
}

/// The address of the switch's socket at `path`, as it is answered to the client; `None` when the path is too long.
pub fn answer(path: &Path) -> Option<[u8; ADDRESS]> {
    let path = path.as_os_str().as_bytes();
    if path.len() >= PATH {
        return None;
    }
    let mut address = [0; ADDRESS];
    address[..2].copy_from_slice(&family());
    address[2..2 + path.len()].copy_from_slice(path);
    Some(address)
}

/// AF_UNIX as the first two octets of an address hold it.
fn family() -> [u8; 2] {
    if cfg!(target_os = "macos") { [ADDRESS as u8, 1] } else { 1u16.to_ne_bytes() }
}

fn path_of(address: &[u8]) -> Option<PathBuf> {
    let (family_octets, path) = address.split_at(2);
    // On macOS the first octet is the address's length, which clients need not fill in.
    let is_unix = if cfg!(target_os = "macos") { family_octets[1] == 1 } else { family_octets == family() };
    let len = path.iter().position(|octet| *octet == 0)?;
    let path = PathBuf::from(OsStr::from_bytes(&path[..len]));
    (is_unix && path.is_absolute()).then_some(path)
}

/// Finds the socket at the path `socket` for the client of user `uid`, with `directory` the switch's own.
///
/// # Errors
/// [`BadRequest::Place`] and [`BadRequest::Owner`].
pub fn find_socket(socket: &Path, directory: &Directory, uid: u32) -> Result<Node, BadRequest> {
    let place = || BadRequest::Place(socket.into());
    let (parent, name) = (socket.parent().ok_or_else(place)?, socket.file_name().ok_or_else(place)?);
    if socket.components().any(|part| matches!(part, Component::ParentDir)) {
        return Err(place());
    }
    let found = if parent == directory.path() {
        directory.find(name).ok()
    } else if [Path::new("/tmp"), &std::env::temp_dir()].contains(&parent) {
        Directory::open(parent).ok().and_then(|directory| directory.find(name).ok())
    } else {
        return Err(place());
    };
    found.filter(|node| node.is_socket_of(uid)).ok_or_else(|| BadRequest::Owner(socket.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::net::UnixDatagram;

    fn request(kind: u32, path: &str, description: &[u8]) -> Vec<u8> {
        let mut octets = Vec::new();
        octets.extend(MAGIC.to_ne_bytes());
        octets.extend(VERSION.to_ne_bytes());
        octets.extend(kind.to_ne_bytes());
        octets.extend(answer(Path::new(path)).unwrap());
        octets.extend(description);
        octets
    }

    #[test]
    fn a_request_of_vde_plug() {
        let octets = request(0, "/run/lab.vde/.18190-00000", b"vdeplug: user=root pid=18190");
        let wanted = Request {
            socket: "/run/lab.vde/.18190-00000".into(),
            description: "vdeplug: user=root pid=18190".into(),
        };
        assert_eq!(Request::parse(&octets), Ok(Some(wanted)));
    }

    #[test]
    fn a_port_number_is_taken_and_ignored() {
        assert!(Request::parse(&request(7 << 8, "/a", b"")).unwrap().is_some());
    }

    #[test]
    fn what_is_wrong_is_told_as_soon_as_it_can_be() {
        assert_eq!(Request::parse(b"GET "), Err(BadRequest::Magic(u32::from_ne_bytes(*b"GET "))));
        assert_eq!(Request::parse(&request(3, "/a", b"")), Err(BadRequest::Type(3)));
        assert_eq!(Request::parse(&request(0, "relative", b"")), Err(BadRequest::Address));
        let mut old = request(0, "/a", b"");
        old[4..8].copy_from_slice(&1u32.to_ne_bytes());
        assert_eq!(Request::parse(&old[..8]), Err(BadRequest::Version(1)));
    }

    #[test]
    fn a_path_without_an_end_is_refused() {
        let mut octets = request(0, "/a", b"");
        octets[14..FIXED].fill(b'a');
        octets[14] = b'/';
        assert_eq!(Request::parse(&octets), Err(BadRequest::Address));
    }

    #[test]
    fn only_the_clients_own_socket_in_the_right_place() {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().join("own");
        let _socket = UnixDatagram::bind(&own).unwrap();
        let uid = rustix::process::getuid().as_raw();
        let ours = Directory::open(directory.path()).unwrap();
        let check = |socket: &Path, uid| find_socket(socket, &ours, uid).map(drop);
        assert_eq!(check(&own, uid), Ok(()));
        assert_eq!(check(&own, uid + 1), Err(BadRequest::Owner(own.clone())));
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(check(&file, uid), Err(BadRequest::Owner(file)));
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&own, &link).unwrap();
        assert_eq!(check(&link, uid), Err(BadRequest::Owner(link)));
        let elsewhere = Path::new("/run/other/socket");
        assert_eq!(check(elsewhere, uid), Err(BadRequest::Place(elsewhere.into())));
        let dotted = directory.path().join("../own");
        assert_eq!(check(&dotted, uid), Err(BadRequest::Place(dotted)));
        fs::hard_link(&own, directory.path().join("again")).unwrap();
        assert_eq!(check(&own, uid), Err(BadRequest::Owner(own)));
    }

    proptest! {
        #[test]
        fn any_octets(octets in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Request::parse(&octets);
        }

        /// Whatever follows a good beginning, what is read is bounded and printable.
        #[test]
        fn any_rest(rest in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut octets = request(0, "/a", b"");
            octets.extend(&rest);
            let request = Request::parse(&octets).unwrap().unwrap();
            prop_assert!(request.description.len() <= DESCRIPTION);
            prop_assert!(request.description.chars().all(|char| (' '..='~').contains(&char)));
        }
    }
}
