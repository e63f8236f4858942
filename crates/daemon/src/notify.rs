//! Words to the service manager (sd_notify(3)).

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;

use rustix::net::{SendFlags, SocketAddrUnix, sendto};

/// The variable that names the service manager's socket.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// All is set up.
pub(crate) const READY: &str = "READY=1";

/// The end has begun.
pub(crate) const STOPPING: &str = "STOPPING=1";

/// Tells the service manager, if there is one.
///
/// # Errors
/// Its socket's name is none, or the system refuses.
pub(crate) fn tell(state: &str) -> io::Result<()> {
    std::env::var_os(VARIABLE).map_or(Ok(()), |name| send(&name, state))
}

fn send(name: &OsStr, state: &str) -> io::Result<()> {
    let address = address(name.as_bytes())?;
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read must not keep the daemon.
    socket.set_nonblocking(true)?;
    sendto(&socket, state.as_bytes(), SendFlags::empty(), &address)?;
    Ok(())
}

/// A path, or with `@` in front a name in the abstract namespace.
fn address(name: &[u8]) -> io::Result<SocketAddrUnix> {
    match name {
        [b'/', ..] => Ok(SocketAddrUnix::new(name)?),
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => Ok(SocketAddrUnix::new_abstract_name(name)?),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{VARIABLE} is neither a path nor an abstract name that begins with @"),
        )),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;

    use super::*;

    fn hear(socket: &UnixDatagram) -> String {
        let mut octets = [0; 64];
        let len = socket.recv(&mut octets).expect("a datagram");
        String::from_utf8_lossy(&octets[..len]).into_owned()
    }

    #[test]
    fn a_manager_at_a_path_and_one_at_an_abstract_name_are_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("a socket");
        send(path.as_os_str(), READY).expect("a word");
        assert_eq!(hear(&manager), "READY=1");

        let name = format!("vmlan-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let manager = UnixDatagram::bind_addr(&address).expect("a socket");
        send(OsStr::new(&format!("@{name}")), STOPPING).expect("a word");
        assert_eq!(hear(&manager), "STOPPING=1");
    }

    #[test]
    fn a_manager_that_is_gone_or_has_no_name_is_an_error() {
        let gone = send(OsStr::new("/nonexistent/notify"), READY).expect_err("nobody is there");
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        let wrong = send(OsStr::new("notify"), READY).expect_err("no name");
        assert_eq!(wrong.kind(), io::ErrorKind::InvalidInput);
    }
}
