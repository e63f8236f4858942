//! Listeners and connections whose peers are strangers.
//!
//! Nothing decodes a peer's address here, since the libraries' decoders panic at some that peers can have, and nothing
//! takes, or closes in this thread, the descriptors that peers send along ([`vmlan_drivers::peer`]).

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::unix::UCred;
use tokio::net::{UnixDatagram, UnixStream};
use vmlan_drivers::{PeerSocket, peer};

/// A socket that listens, of any family and type with connections.
#[derive(Debug)]
pub struct Listener {
    /// `None` only while it is dropped. Only its readiness is asked of this type, so it fits every socket.
    watched: Option<UnixDatagram>,
    refuses: bool,
    /// Another descriptor of the socket may go on with it.
    shared: bool,
}

impl Listener {
    /// Takes a listening socket that does not wait. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// It cannot be watched.
    pub fn new(socket: PeerSocket) -> io::Result<Listener> {
        let shared = socket.is_shared();
        let (socket, refuses) = socket.into_parts();
        Ok(Listener { watched: Some(UnixDatagram::from_std(socket.into())?), refuses, shared })
    }

    /// The next connection. Safe to cancel.
    ///
    /// # Errors
    /// The error of accept(2).
    pub async fn accept(&self) -> io::Result<PeerSocket> {
        self.watched().async_io(Interest::READABLE, || self.accept_now()).await
    }

    /// A connection that is there, without waiting for one. It refuses descriptors when the listener does.
    ///
    /// # Errors
    /// The error of accept(2).
    pub fn accept_now(&self) -> io::Result<PeerSocket> {
        Ok(PeerSocket::from_parts(vmlan_sys::socket::accept(self.watched())?, self.refuses))
    }

    fn watched(&self) -> &UnixDatagram {
        self.watched.as_ref().expect("only a dropped one has none")
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // It is closed where that may take its time, with the connections that wait for being accepted.
        if let Some(Ok(socket)) = self.watched.take().map(UnixDatagram::into_std) {
            drop(PeerSocket::from_parts(socket.into(), self.refuses).sharing(self.shared));
        }
    }
}

/// A connection of a Unix socket, of octets or of records.
#[derive(Debug)]
pub struct Connection {
    /// `None` only while it is dropped. Of its type only reading and writing, readiness and credentials are asked,
    /// which are the same for records.
    stream: Option<UnixStream>,
    refuses: bool,
}

impl Connection {
    /// Takes a connected socket that does not wait. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// It cannot be watched.
    pub fn new(socket: PeerSocket) -> io::Result<Connection> {
        let (socket, refuses) = socket.into_parts();
        Ok(Connection { stream: Some(UnixStream::from_std(socket.into())?), refuses })
    }

    /// The socket, not watched any more.
    ///
    /// # Errors
    /// It cannot be taken out of the runtime.
    pub fn into_socket(mut self) -> io::Result<PeerSocket> {
        let stream = self.stream.take().expect("only a dropped one has none");
        Ok(PeerSocket::from_parts(OwnedFd::from(stream.into_std()?), self.refuses))
    }

    /// The peer's credentials when it connected.
    ///
    /// # Errors
    /// The error of getsockopt(2).
    pub fn peer_cred(&self) -> io::Result<UCred> {
        self.stream().peer_cred()
    }

    fn stream(&self) -> &UnixStream {
        self.stream.as_ref().expect("only a dropped one has none")
    }

    fn writer(self: Pin<&mut Self>) -> Pin<&mut UnixStream> {
        Pin::new(self.get_mut().stream.as_mut().expect("only a dropped one has none"))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = self.stream();
        loop {
            ready!(stream.poll_read_ready(cx))?;
            let room = buffer.initialize_unfilled();
            let read = || peer::receive(stream, self.refuses, room, RecvFlags::empty());
            match stream.try_io(Interest::READABLE, read) {
                Ok(message) => {
                    buffer.advance(message.len);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.writer().poll_write(cx, octets)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writer().poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer().poll_shutdown(cx)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream().as_fd()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // It is closed where that may take its time.
        if let Some(Ok(stream)) = self.stream.take().map(UnixStream::into_std) {
            drop(PeerSocket::from_parts(stream.into(), self.refuses));
        }
    }
}
