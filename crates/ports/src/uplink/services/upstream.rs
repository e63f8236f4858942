//! Questions to the host's resolvers: by UDP with a socket each, by TCP with a connection each.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::time::timeout;
use vmlan_services::names::{Code, Question};
use vmlan_services::proxy::{Attempt, PATIENCE};

/// Octets of the longest datagram.
const LONGEST: usize = 65_535;
/// The time for one server to answer by TCP.
const EACH: Duration = Duration::from_secs(2);

/// A datagram that came back for an attempt, or why none will.
pub(super) type Heard = (Attempt, io::Result<Vec<u8>>);

/// Asks a server by UDP, and tells all that comes back until it is given up.
pub(super) async fn ask(attempt: Attempt, server: SocketAddr, message: Vec<u8>, heard: mpsc::Sender<Heard>) {
    let asked = async {
        let any = match server {
            SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        // The system chooses the port. Connected, the socket takes nothing of others, and hears of closed ports.
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(server).await?;
        socket.send(&message).await?;
        Ok(socket)
    };
    let socket = match asked.await {
        Ok(socket) => socket,
        Err(error) => return drop(heard.send((attempt, Err(error))).await),
    };
    let listen = async {
        loop {
            let received = hear(&socket).await;
            let is_end = received.is_err();
            if heard.send((attempt, received)).await.is_err() || is_end {
                return;
            }
        }
    };
    let _ = timeout(PATIENCE, listen).await;
}

/// The next datagram, or the error that the socket was told.
async fn hear(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    loop {
        let ready = socket.ready(Interest::READABLE | Interest::ERROR).await?;
        if ready.is_error() {
            if let Some(error) = socket.take_error()? {
                return Err(error);
            }
            // It is taken: the next one is told anew.
            let _ =
                socket.try_io(Interest::ERROR, || io::Result::<()>::Err(io::ErrorKind::WouldBlock.into()));
        }
        if ready.is_readable() {
            // Only a socket that has something gets a large buffer.
            let mut buffer = vec![0; LONGEST];
            match socket.try_recv(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
                Ok(len) => {
                    buffer.truncate(len);
                    buffer.shrink_to_fit();
                    return Ok(buffer);
                }
            }
        }
    }
}

/// Asks the servers by TCP, one after the other; the answer is a failure if none answers in time. `id` is the number
/// that the question has there.
pub(super) async fn ask_by_tcp(
    servers: &[SocketAddr],
    question: &Question,
    octets: &[u8],
    id: u16,
) -> Vec<u8> {
    let mut message = octets.to_vec();
    message[..2].copy_from_slice(&id.to_be_bytes());
    let asking = async {
        for server in servers {
            let exchange = async {
                let mut stream = TcpStream::connect(server).await?;
                write(&mut stream, &message).await?;
                read(&mut stream, LONGEST).await
            };
            match timeout(EACH, exchange).await {
                Ok(Ok(Some(answer)))
                    if question.is_answered_by(id, &answer) && !question.is_failure(id, &answer) =>
                {
                    return Some(answer);
                }
                _ => {}
            }
        }
        None
    };
    let answer = timeout(PATIENCE, asking).await.ok().flatten();
    answer.unwrap_or_else(|| question.answer(Code::ServerFailure))
}

/// Reads a message with its length in front; `None` at the end, or if it is longer than `most`.
///
/// # Errors
/// The connection fails, or ends within a message.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin), most: usize) -> io::Result<Option<Vec<u8>>> {
    let len = match stream.read_u16().await {
        Ok(len) => usize::from(len),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if len > most {
        return Ok(None);
    }
    let mut octets = vec![0; len];
    stream.read_exact(&mut octets).await?;
    Ok(Some(octets))
}

/// Writes a message with its length in front, in one piece, as some clients want it (RFC 7766 section 8).
///
/// # Errors
/// The connection fails.
pub(super) async fn write(stream: &mut (impl AsyncWrite + Unpin), octets: &[u8]) -> io::Result<()> {
    let len = u16::try_from(octets.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    stream.write_all(&[&len.to_be_bytes(), octets].concat()).await
}
