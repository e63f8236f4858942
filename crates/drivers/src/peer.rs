//! Sockets whose peers are strangers: what they send along (SCM_RIGHTS) costs the thread that receives nothing.
//!
//! The kernel refuses descriptors where it can (Linux 6.16) and was told from the socket's birth, in front of bind(2);
//! connections inherit that. Everywhere else descriptors are received with the octets, all of them, and closed by
//! threads of their own (`closer`), for the kernel would close them in the thread that receives, which can take as long
//! as their sender likes. The socket itself is closed there too, since what was not received is closed with it.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixStream};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, Shutdown, SocketAddrAny, SocketType, recvfrom,
    recvmsg, shutdown, sockopt,
};
use vmlan_sys::datagrams::{self, LIMIT, Passed, Received};

use crate::{closer, inject};

/// The most descriptors that one message brings: 253 on Linux, fewer than 512 on macOS.
const MOST: usize = if cfg!(target_os = "macos") { 512 } else { 253 };

/// Room for control data that other options of an inherited socket ask for.
const OTHER_CONTROL: usize = 512;

/// A socket whose peer is a stranger.
#[derive(Debug)]
pub struct PeerSocket {
    /// `None` only while it is dropped.
    fd: Option<OwnedFd>,
    /// No descriptors can come.
    refuses: bool,
    /// Another descriptor of the socket may go on with it.
    shared: bool,
}

/// A received message.
#[derive(Debug, Clone)]
pub struct Message {
    /// Octets written to the buffer. A message that fills it may have been longer.
    pub len: usize,
    /// The sender's address, if it has one. It must not be decoded by libraries, see [`vmlan_sys::address`].
    pub address: Option<SocketAddrAny>,
}

/// Makes the kernel refuse descriptors for a socket. False when it cannot.
pub fn refuse_descriptors(fd: impl AsFd) -> bool {
    !inject::is_wanted("no-passrights") && vmlan_sys::socket::refuse_descriptors(fd)
}

impl PeerSocket {
    /// Takes a socket for which [`refuse_descriptors`] was called before any peer could reach it, itself or its
    /// listener, or a half of a new pair whose other half nobody has yet.
    pub fn from_birth(fd: OwnedFd) -> PeerSocket {
        let refuses = refuse_descriptors(&fd);
        PeerSocket { fd: Some(fd), refuses, shared: false }
    }

    /// Takes a copy of an inherited descriptor, of which nothing is known. The peer sees the end only when the
    /// inherited one is closed too.
    pub fn inherited(fd: OwnedFd) -> PeerSocket {
        let mut socket = PeerSocket::from(fd);
        socket.shared = true;
        socket
    }

    /// Takes a device, or a socket of a family that descriptors cannot be sent over.
    pub fn without_descriptors(fd: OwnedFd) -> PeerSocket {
        PeerSocket { fd: Some(fd), refuses: true, shared: false }
    }

    /// Takes a socket of which is known whether it `refuses` descriptors, as a connection does whose listener does.
    pub fn from_parts(fd: OwnedFd, refuses: bool) -> PeerSocket {
        PeerSocket { fd: Some(fd), refuses, shared: false }
    }

    /// The same, while another descriptor may go on using the socket, or not.
    pub fn sharing(mut self, shared: bool) -> PeerSocket {
        self.shared = shared;
        self
    }

    /// True if another descriptor may go on using the socket.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// The socket, and whether it refuses descriptors.
    pub fn into_parts(mut self) -> (OwnedFd, bool) {
        (self.fd.take().expect("only a dropped one has none"), self.refuses)
    }

    /// True if no descriptors can come over the socket.
    pub fn refuses(&self) -> bool {
        self.refuses
    }

    /// Another handle of the same socket.
    ///
    /// # Errors
    /// No descriptor.
    pub fn try_clone(&self) -> io::Result<PeerSocket> {
        Ok(PeerSocket {
            fd: Some(self.as_fd().try_clone_to_owned()?),
            refuses: self.refuses,
            shared: self.shared,
        })
    }

    /// Receives octets or a message without waiting.
    ///
    /// # Errors
    /// `WouldBlock` when none is there; `ETOOMANYREFS` when the peer sends more descriptors than can be closed; else
    /// what recvmsg(2) says.
    pub fn receive(&self, buffer: &mut [u8], flags: RecvFlags) -> io::Result<Message> {
        receive(self, self.refuses, buffer, flags)
    }

    /// Receives many datagrams, as [`datagrams::receive`] does. `passed` is kept for its memory.
    ///
    /// # Errors
    /// `ETOOMANYREFS` when the peer sends more descriptors than can be closed; else the same.
    pub fn receive_many<B: std::ops::DerefMut<Target = [u8]>>(
        &self,
        buffers: &mut [B],
        received: &mut [Received; LIMIT],
        passed: &mut Passed,
    ) -> io::Result<usize> {
        if self.refuses {
            return datagrams::receive(self, buffers, received, None);
        }
        let came = datagrams::receive(self, buffers, received, Some(passed))?;
        if !passed.came.is_empty() && !closer::close(passed.came.drain(..)) {
            return Err(Errno::TOOMANYREFS.into());
        }
        Ok(came)
    }
}

/// Receives as [`PeerSocket::receive`] does, from a socket that another type owns.
///
/// # Errors
/// The same.
pub fn receive(socket: impl AsFd, refuses: bool, buffer: &mut [u8], flags: RecvFlags) -> io::Result<Message> {
    let flags = flags | RecvFlags::DONTWAIT;
    if refuses {
        let (_, len, address) = recvfrom(socket, buffer, flags)?;
        return Ok(Message { len, address });
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST)) + OTHER_CONTROL];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | vmlan_sys::socket::CLOSE_ON_EXEC;
    let received = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags)?;
    let descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let mut descriptors = descriptors.flatten().peekable();
    if descriptors.peek().is_some() && !closer::close(descriptors) {
        return Err(Errno::TOOMANYREFS.into());
    }
    Ok(Message { len: received.bytes, address: received.address })
}

/// A socket of which nothing is known: what came before now is not refused.
impl From<OwnedFd> for PeerSocket {
    fn from(fd: OwnedFd) -> PeerSocket {
        refuse_descriptors(&fd);
        PeerSocket { fd: Some(fd), refuses: false, shared: false }
    }
}

impl From<UnixStream> for PeerSocket {
    fn from(socket: UnixStream) -> PeerSocket {
        OwnedFd::from(socket).into()
    }
}

impl From<UnixDatagram> for PeerSocket {
    fn from(socket: UnixDatagram) -> PeerSocket {
        OwnedFd::from(socket).into()
    }
}

impl AsFd for PeerSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_ref().expect("only a dropped one has none").as_fd()
    }
}

impl AsRawFd for PeerSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for PeerSocket {
    fn drop(&mut self) {
        if let Some(fd) = self.fd.take().filter(|_| !self.refuses) {
            // The peer need not wait for a thread to see the end. Datagram sockets have handles that go on.
            if !self.shared && !matches!(sockopt::socket_type(&fd), Ok(SocketType::DGRAM)) {
                // Fails without a connection.
                let _ = shutdown(&fd, Shutdown::Both);
            }
            // It is closed in any case; nothing could be done about the others.
            let _ = closer::close([fd]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::io::{IoSlice, Read};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    fn send_along(socket: impl AsFd, passed: impl AsFd) {
        let descriptors = [passed.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        sendmsg(socket, &[IoSlice::new(b"octets")], &mut control, SendFlags::empty()).unwrap();
    }

    /// Reads until the other end is closed by the closer.
    fn assert_closed(mut stream: UnixStream) {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn descriptors_are_closed_whether_received_singly_in_batches_or_never() {
        let (theirs, ours) = UnixDatagram::pair().unwrap();
        let ours = PeerSocket { fd: Some(ours.into()), refuses: false, shared: false };
        let pairs: Vec<_> = (0..3).map(|_| UnixStream::pair().unwrap()).collect();
        let mut watched = Vec::new();
        for (passed, other) in pairs {
            send_along(&theirs, &passed);
            watched.push(other);
        }
        assert_eq!(ours.receive(&mut [0; 10], RecvFlags::empty()).unwrap().len, 6);
        assert_closed(watched.remove(0));
        let mut received = [Received::default(); LIMIT];
        let mut passed = Passed::default();
        assert_eq!(ours.receive_many(&mut [vec![0; 10]], &mut received, &mut passed).unwrap(), 1);
        assert_closed(watched.remove(0));
        drop(ours);
        assert_closed(watched.remove(0));
    }

    #[test]
    fn a_descriptor_that_is_slow_to_close_holds_up_nobody() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let lingering = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_unread, _) = listener.accept().unwrap();
        lingering.set_nonblocking(true).unwrap();
        while rustix::net::send(&lingering, &[0; 65_536], SendFlags::empty()).is_ok() {}
        lingering.set_nonblocking(false).unwrap();
        sockopt::set_socket_linger(&lingering, Some(Duration::from_secs(600))).unwrap();

        let (theirs, ours) = UnixStream::pair().unwrap();
        let ours = PeerSocket { fd: Some(ours.into()), refuses: false, shared: false };
        send_along(&theirs, &lingering);
        drop(lingering);
        // A test that hangs here fails.
        assert_eq!(ours.receive(&mut [0; 10], RecvFlags::empty()).unwrap().len, 6);
    }

    #[test]
    fn what_a_socket_refuses_from_birth_its_connections_refuse() {
        let directory = tempfile::tempdir().unwrap();
        let (listener, _path) = crate::unix::listen(
            &crate::unix::Place::of(&directory.path().join("socket")).unwrap(),
            crate::unix::PRIVATE,
        )
        .unwrap();
        let listener = PeerSocket::from_birth(listener);
        if !listener.refuses {
            // An older kernel, where the others show what is done instead.
            return;
        }
        let client = UnixStream::connect(directory.path().join("socket")).unwrap();
        let (passed, _other) = UnixStream::pair().unwrap();
        let refused = |socket: &UnixStream| {
            let descriptors = [passed.as_fd()];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
            sendmsg(socket, &[IoSlice::new(b"x")], &mut control, SendFlags::empty()) == Err(Errno::PERM)
        };
        // Before it is accepted, and after.
        assert!(refused(&client));
        let _accepted = vmlan_sys::socket::accept(&listener).unwrap();
        assert!(refused(&client));
    }

    #[test]
    fn a_listener_for_descriptors_gives_them_to_who_reads() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let place = crate::unix::Place::of(&path).unwrap();
        let (listener, _path) = crate::unix::listen_for_descriptors(&place, crate::unix::PRIVATE).unwrap();
        let connecting = crate::unix::connect_for_descriptors(&path).unwrap();
        let accepted = vmlan_sys::socket::accept(&listener).unwrap();
        for (from, to) in [(&connecting, &accepted), (&accepted, &connecting)] {
            let (passed, _other) = UnixStream::pair().unwrap();
            send_along(from, &passed);
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut octets = [0; 6];
            recvmsg(to, &mut [IoSliceMut::new(&mut octets)], &mut control, RecvFlags::empty()).unwrap();
            let came = control.drain().map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => descriptors.count(),
                _ => 0,
            });
            assert_eq!(came.sum::<usize>(), 1);
        }
    }
}
