use std::sync::{Arc, Condvar, MutexGuard};
use std::time::{Duration, Instant};

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{Socket, State};
use vmlan_frame::Mutex;

use super::{BUFFER, IDLE_BUFFER, socket};
use crate::guest::Reply;
use crate::stack::Stack;
use crate::worker::{Step, Task};
use crate::{Error, pattern};

/// Sockets that listen, so that as many connections can be opened at once.
const LISTENING: usize = 4;
/// Connections at once; more are refused.
const MAX_CONNECTIONS: usize = 32;

/// The connections and octets that a server has taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServeReport {
    /// Connections established.
    pub connections: u64,
    /// Connections whose client sent everything and closed.
    pub finished: u64,
    /// Octets received, of all connections.
    pub octets: u64,
    /// Connections with an octet that the pattern does not have there.
    pub corrupt: u64,
    /// Offset of the first such octet in its connection.
    pub first_mismatch: Option<u64>,
}

/// The counters that a server shares with its views.
#[derive(Debug, Default)]
struct Board {
    report: Mutex<ServeReport>,
    changed: Condvar,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, ServeReport> {
        // The counts are whole after every statement, so a panic elsewhere spoils nothing.
        self.report.lock()
    }
}

/// A view of a server that [`crate::Guest::tcp_serve`] started; it may outlive the guest.
#[derive(Debug, Clone)]
pub struct TcpServer {
    port: u16,
    board: Arc<Board>,
}

impl TcpServer {
    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the connections and octets that the server has taken until now.
    pub fn report(&self) -> ServeReport {
        *self.board.lock()
    }

    /// Waits until `condition` holds, at most for `timeout`; what it has taken by then.
    pub fn wait(&self, timeout: Duration, mut condition: impl FnMut(&ServeReport) -> bool) -> ServeReport {
        let report = self.board.lock();
        let waited = self.board.changed.wait_timeout_while(report, timeout, |report| !condition(report));
        *waited.unwrap_or_else(std::sync::PoisonError::into_inner).0
    }
}

/// A socket that was accepted.
struct Connection {
    socket: SocketHandle,
    offset: u64,
    corrupt: bool,
}

/// A server at work: `LISTENING` sockets listen as long as there are fewer than `MAX_CONNECTIONS`.
pub(crate) struct ServeTask {
    port: u16,
    listening: Vec<SocketHandle>,
    connections: Vec<Connection>,
    board: Arc<Board>,
    reply: Option<Reply<Result<TcpServer, Error>>>,
}

impl ServeTask {
    pub(crate) fn new(port: u16, reply: Reply<Result<TcpServer, Error>>) -> ServeTask {
        ServeTask {
            port,
            listening: Vec::new(),
            connections: Vec::new(),
            board: Arc::default(),
            reply: Some(reply),
        }
    }

    fn tell(&mut self, result: Result<TcpServer, Error>) {
        if let Some(reply) = self.reply.take() {
            // The caller waits for it, unless its thread died.
            let _ = reply.send(result);
        }
    }

    fn accept(&mut self, stack: &mut Stack, report: &mut ServeReport) {
        let connections = &mut self.connections;
        self.listening.retain(|&handle| match stack.sockets.get::<Socket>(handle).state() {
            State::Listen | State::SynReceived => true,
            _ => {
                connections.push(Connection { socket: handle, offset: 0, corrupt: false });
                report.connections += 1;
                false
            }
        });
        while self.listening.len() < LISTENING && self.connections.len() < MAX_CONNECTIONS {
            let mut socket = socket(BUFFER, IDLE_BUFFER);
            if socket.listen(self.port).is_err() {
                return;
            }
            self.listening.push(stack.sockets.add(socket));
        }
    }
}

impl Connection {
    /// Takes what is there; false when the connection is over.
    fn poll(&mut self, socket: &mut Socket<'_>, report: &mut ServeReport) -> bool {
        while socket.can_recv() {
            let taken = socket.recv(|octets| {
                let mismatch = if self.corrupt { None } else { pattern::mismatch(self.offset, octets) };
                (octets.len(), (octets.len() as u64, mismatch))
            });
            let Ok((octets, mismatch)) = taken else { break };
            self.offset += octets;
            report.octets += octets;
            if let Some(offset) = mismatch {
                self.corrupt = true;
                report.corrupt += 1;
                report.first_mismatch.get_or_insert(offset);
            }
        }
        if socket.state() == State::CloseWait {
            report.finished += 1;
            socket.close();
        }
        socket.is_open()
    }
}

impl Task for ServeTask {
    fn poll(&mut self, stack: &mut Stack, _now: Instant) -> Step {
        let board = self.board.clone();
        let mut report = board.lock();
        let before = *report;
        self.accept(stack, &mut report);
        self.connections.retain_mut(|connection| {
            let open = connection.poll(stack.sockets.get_mut(connection.socket), &mut report);
            if !open {
                stack.sockets.remove(connection.socket);
            }
            open
        });
        if *report != before {
            board.changed.notify_all();
        }
        drop(report);
        let server = TcpServer { port: self.port, board };
        self.tell(Ok(server));
        Step::Wait(None)
    }

    fn disconnected(&mut self, error: Error) {
        self.tell(Err(error));
    }
}
