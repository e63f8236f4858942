//! TCP transfers: a server that discards and checks, a sender of the pattern, and a request with its answer.

mod fetch;
mod send;
mod serve;

use std::time::Duration;

use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer};

pub(crate) use fetch::FetchTask;
pub(crate) use send::SendTask;
pub(crate) use serve::ServeTask;
pub use serve::{ServeReport, TcpServer};

/// Octets of the buffer in the direction that data flows: a good 170 segments, above any bandwidth-delay product on
/// one host and below what a port queues.
const BUFFER: usize = 256 * 1024;
/// Octets of the buffer in the other direction.
const IDLE_BUFFER: usize = 2 * 1024;

/// How long a closed connection is kept to acknowledge the other side's FIN.
const LINGER: Duration = Duration::from_secs(1);

/// How much to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// So many octets.
    Octets(u64),
    /// As much as goes in this time, counted from the connection's establishment.
    For(Duration),
}

/// The size and the duration of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferReport {
    /// Octets of payload that the other side acknowledged.
    pub octets: u64,
    /// From the connection's establishment to the last acknowledgement.
    pub elapsed: Duration,
}

impl TransferReport {
    /// Payload bits per second.
    pub fn bits_per_second(&self) -> f64 {
        self.octets as f64 * 8.0 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

fn socket(receive: usize, send: usize) -> Socket<'static> {
    let mut socket = Socket::new(SocketBuffer::new(vec![0; receive]), SocketBuffer::new(vec![0; send]));
    // Several senders share a port's queue: without a congestion window each keeps it full and resends what was lost.
    socket.set_congestion_control(CongestionControl::Reno);
    socket.set_nagle_enabled(false);
    socket
}
