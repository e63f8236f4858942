//! Clients that attackers use. Every call of theirs ends within [`STEP`], so that an attacker sees when its time is
//! over.

use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_linger, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, bind, recv, sendmsg, socket_with,
};
use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use vmlan_drivers::tunnel::client::Client as Tunnel;
use vmlan_drivers::tunnel::message::Prefixed;
use vmlan_guest::client::{Client, DatagramClient, StreamClient, VdeClient};

use crate::attack::Field;

/// The longest that a call of an attacker's waits.
pub(crate) const STEP: Duration = Duration::from_millis(300);

/// The user that attackers are who are not the daemon's user: `nobody` everywhere on Linux.
const NOBODY: u32 = 65534;

/// Makes the calling thread one of another user, for good.
pub(crate) fn become_nobody() -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

/// A socket of the Unix family whose calls end within `limit`.
pub(crate) fn unix(kind: SocketType, limit: Duration) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    for timeout in [Timeout::Recv, Timeout::Send] {
        set_socket_timeout(&socket, timeout, Some(limit))?;
    }
    Ok(socket)
}

/// A connection to the socket of this type at `path`; also the wait for room in its backlog ends within `limit`.
pub(crate) fn connect(path: &Path, kind: SocketType, limit: Duration) -> io::Result<OwnedFd> {
    let socket = unix(kind, limit)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// A stream connection.
pub(crate) fn stream(path: &Path) -> io::Result<UnixStream> {
    Ok(connect(path, SocketType::STREAM, STEP)?.into())
}

/// A bound datagram socket; its path goes with it.
pub(crate) struct Bound {
    pub(crate) socket: OwnedFd,
    pub(crate) path: PathBuf,
}

impl Bound {
    /// Binds `path`, which may be as long as an address can be, in place of what was left there.
    pub(crate) fn new(kind: SocketType, path: PathBuf) -> io::Result<Bound> {
        let socket = unix(kind, STEP)?;
        let _ = std::fs::remove_file(&path);
        bind(&socket, &SocketAddrUnix::new(path.as_os_str().as_bytes())?)?;
        Ok(Bound { socket, path })
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // Another may have removed it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Sends `octets` with a descriptor beside them. False where the kernel lets the receiver refuse descriptors.
pub(crate) fn send_with(socket: impl AsFd, octets: &[u8], descriptor: impl AsFd) -> io::Result<bool> {
    let descriptors = [descriptor.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)), "there is room for one");
    match sendmsg(socket, &[IoSlice::new(octets)], &mut control, SendFlags::NOSIGNAL) {
        Ok(_) => Ok(true),
        Err(Errno::PERM) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A TCP connection that blocks the process that closes it last: octets are unsent, the other end does not read, and
/// SO_LINGER is set. Dropping this lets go of all that wait.
pub(crate) struct Lingering {
    near: Option<TcpStream>,
    _far: TcpStream,
}

/// Longer than anything waits for that an attack may hold up.
const LINGER: Duration = Duration::from_secs(60);

impl Lingering {
    pub(crate) fn new() -> io::Result<Lingering> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 2048)?;
        let near = TcpStream::connect(listener.local_addr()?)?;
        let (far, _) = listener.accept()?;
        near.set_nonblocking(true)?;
        while (&near).write(&[0; 65536]).is_ok() {}
        near.set_nonblocking(false)?;
        set_socket_linger(&near, Some(LINGER))?;
        Ok(Lingering { near: Some(near), _far: far })
    }

    /// Sends this end to the peer of `socket`, which becomes the only one that has it.
    pub(crate) fn send(&mut self, socket: impl AsFd, octets: &[u8]) -> io::Result<bool> {
        self.pass(|near| send_with(socket, octets, near))
    }

    /// Lets `send` send this end away, which answers whether it did.
    pub(crate) fn pass(&mut self, send: impl FnOnce(BorrowedFd<'_>) -> io::Result<bool>) -> io::Result<bool> {
        let Some(near) = self.near.take() else { return Ok(false) };
        let sent = send(near.as_fd());
        if matches!(sent, Ok(true)) {
            // The other process may have closed its own already, and then this is the last one.
            thread::spawn(move || drop(near));
        } else {
            // Nobody but us will close it.
            self.near = Some(near);
        }
        sent
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        if let Some(near) = &self.near {
            let _ = set_socket_linger(near, None);
        }
    }
}

/// Writes `octets` over and over until the time is over, reading and dropping what comes meanwhile.
pub(crate) fn flood(field: &Field, stream: &UnixStream, octets: &[u8]) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    let mut at = 0;
    while !field.is_over() {
        if !discard(stream)? {
            return Ok(());
        }
        match (&*stream).write(&octets[at..]) {
            Ok(written) => at = (at + written) % octets.len(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait(stream, PollFlags::IN | PollFlags::OUT, Duration::from_millis(20))?;
            }
            // The daemon ends a port whose guest breaks the protocol.
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

/// Drops what has come; false at the end.
pub(crate) fn discard(mut stream: &UnixStream) -> io::Result<bool> {
    let mut octets = [0; 16 << 10];
    for _ in 0..64 {
        match stream.read(&mut octets) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(_) => return Ok(false),
        }
    }
    Ok(true)
}

/// Waits for readiness, at most so long.
pub(crate) fn wait(fd: impl AsFd, flags: PollFlags, limit: Duration) -> io::Result<()> {
    let timeout = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) };
    match poll(&mut [PollFd::new(&fd, flags)], Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The octets of a VDE request for a port whose frames go to `path` (vde-2, `libvdeplug`).
pub(crate) fn vde_request(path: &Path) -> Vec<u8> {
    let mut octets: Vec<u8> = [0xfeed_face_u32, 3, 0].iter().flat_map(|word| word.to_ne_bytes()).collect();
    octets.extend_from_slice(&1_u16.to_ne_bytes());
    octets.extend_from_slice(path.as_os_str().as_bytes());
    octets.resize(12 + 110, 0);
    octets.extend_from_slice(b"attack");
    octets
}

/// Asks a VDE switch for a port whose frames go to `path`: the control connection and the switch's path; nothing when
/// it refuses.
pub(crate) fn vde_ask(directory: &Path, path: &Path) -> io::Result<Option<(OwnedFd, PathBuf)>> {
    let control = connect(&directory.join("ctl"), SocketType::STREAM, STEP)?;
    rustix::io::write(&control, &vde_request(path))?;
    let mut answer = [0; 110];
    match recv(&control, &mut answer, RecvFlags::WAITALL) {
        Ok((110, _)) => {
            let path = answer[2..].split(|octet| *octet == 0).next().unwrap_or_default();
            Ok(Some((control, PathBuf::from(std::ffi::OsStr::from_bytes(path)))))
        }
        _ => Ok(None),
    }
}

/// A plug in a VDE switch that behaves.
pub(crate) fn vde(directory: &Path, limit: Duration) -> io::Result<VdeClient> {
    VdeClient::connect(directory, 0, "honest", Instant::now() + limit)
}

/// A guest of a stream port that behaves.
pub(crate) fn stream_guest(path: &Path, limit: Duration) -> io::Result<Box<dyn Client>> {
    Ok(Box::new(StreamClient::connect(path, Instant::now() + limit)?))
}

/// A guest of a datagram port that behaves.
pub(crate) fn datagram_guest(local: &Path, remote: &Path, limit: Duration) -> io::Result<Box<dyn Client>> {
    Ok(Box::new(DatagramClient::open(local, remote, Instant::now() + limit)?))
}

/// A tunnel with these addresses, of 24 bits each.
pub(crate) fn tunnel(
    path: &Path,
    addresses: &[std::net::Ipv4Addr],
) -> Result<Tunnel, vmlan_drivers::tunnel::client::Error> {
    let addresses: Vec<_> =
        addresses.iter().map(|address| Prefixed { address: (*address).into(), prefix: 24 }).collect();
    Tunnel::connect(path, 0, &addresses)
}

/// A client that has to stay connected whatever others do.
pub struct Honest {
    name: String,
    is_over: Box<dyn FnMut() -> bool>,
}

impl Honest {
    /// The daemon may not close it.
    pub(crate) fn vde(name: &str, mut client: VdeClient) -> Honest {
        let mut frame = Vec::new();
        let is_over = move || loop {
            match client.receive(&mut frame) {
                Ok(true) => {}
                Ok(false) => return false,
                Err(_) => return true,
            }
        };
        Honest { name: name.to_owned(), is_over: Box::new(is_over) }
    }

    /// The daemon may not end it.
    pub(crate) fn tunnel(name: &str, client: Tunnel) -> Honest {
        Honest {
            name: name.to_owned(),
            is_over: Box::new(move || vmlan_sys::socket::is_over(client.control())),
        }
    }

    /// Its name when it has lost its connection.
    pub(crate) fn lost(&mut self) -> Option<&str> {
        (self.is_over)().then_some(self.name.as_str())
    }
}

/// Makes a descriptor one whose calls do not wait.
pub(crate) fn without_waiting(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::fcntl_setfl(fd, OFlags::NONBLOCK)?)
}

/// True if anything comes to a socket within `limit` that `wanted` accepts; the rest is dropped.
pub(crate) fn hears(socket: &UnixDatagram, limit: Duration, mut wanted: impl FnMut(&[u8]) -> bool) -> bool {
    let deadline = Instant::now() + limit;
    let mut octets = [0; 2048];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if socket.set_read_timeout(Some(left.max(Duration::from_millis(1)))).is_err() {
            return false;
        }
        match socket.recv(&mut octets) {
            Ok(length) if wanted(&octets[..length]) => return true,
            Ok(_) if !left.is_zero() => {}
            _ => return false,
        }
    }
}
