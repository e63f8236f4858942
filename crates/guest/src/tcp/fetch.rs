use std::net::SocketAddr;
use std::time::{Duration, Instant};

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{Socket, State};
use smoltcp::wire::IpEndpoint;

use super::{BUFFER, IDLE_BUFFER, LINGER, socket};
use crate::Error;
use crate::guest::Reply;
use crate::stack::{Resolver, Stack};
use crate::worker::{Step, Task};

enum Phase {
    New,
    Resolving(Resolver),
    Connecting(SocketHandle),
    Talking(SocketHandle),
    /// The result is told; the stack only ends the connection.
    Closing {
        socket: SocketHandle,
        until: Instant,
    },
}

/// A request that is sent, and its answer that is taken until the other side closes.
pub(crate) struct FetchTask {
    remote: SocketAddr,
    request: Vec<u8>,
    /// Octets of the request that the socket took.
    sent: usize,
    answer: Vec<u8>,
    limit: usize,
    timeout: Duration,
    until: Instant,
    phase: Phase,
    reply: Reply<Result<Vec<u8>, Error>>,
}

impl FetchTask {
    pub(crate) fn new(
        remote: SocketAddr,
        request: Vec<u8>,
        limit: usize,
        timeout: Duration,
        reply: Reply<Result<Vec<u8>, Error>>,
    ) -> FetchTask {
        let until = Instant::now() + timeout;
        let (answer, phase) = (Vec::new(), Phase::New);
        FetchTask { remote, request, sent: 0, answer, limit, timeout, until, phase, reply }
    }

    fn finish(&self, result: Result<Vec<u8>, Error>) -> Step {
        // The caller waits for it, unless its thread died.
        let _ = self.reply.send(result);
        Step::Done
    }

    fn reset(&self, stack: &mut Stack, handle: SocketHandle) -> Step {
        let socket = stack.sockets.get::<Socket>(handle);
        let acknowledged = (self.sent - socket.send_queue().min(self.sent)) as u64;
        stack.sockets.remove(handle);
        let guest = stack.name.clone();
        self.finish(Err(Error::Reset { guest, address: self.remote.ip(), acknowledged }))
    }

    /// Sends and takes what goes now.
    fn talk(&mut self, stack: &mut Stack, handle: SocketHandle, now: Instant) -> Step {
        let socket = stack.sockets.get_mut::<Socket>(handle);
        if self.sent < self.request.len()
            && let Ok(taken) = socket.send_slice(&self.request[self.sent..])
        {
            self.sent += taken;
        }
        while socket.can_recv() {
            let (answer, limit) = (&mut self.answer, self.limit);
            let take = |octets: &mut [u8]| {
                let room = limit - answer.len();
                answer.extend_from_slice(&octets[..octets.len().min(room)]);
                (octets.len(), ())
            };
            if socket.recv(take).is_err() {
                break;
            }
        }
        let is_whole = match socket.state() {
            State::Closed => return self.reset(stack, handle),
            State::CloseWait | State::LastAck | State::TimeWait | State::Closing => true,
            _ => false,
        };
        if self.answer.len() == self.limit && !is_whole {
            socket.abort();
        } else if is_whole {
            socket.close();
        } else {
            return self.wait_or_give_up(stack, Some(handle), None, now);
        }
        let answer = std::mem::take(&mut self.answer);
        self.finish(Ok(answer));
        self.phase = Phase::Closing { socket: handle, until: now + LINGER };
        Step::Wait(Some(now + LINGER))
    }

    fn wait_or_give_up(
        &self,
        stack: &mut Stack,
        socket: Option<SocketHandle>,
        again: Option<Instant>,
        now: Instant,
    ) -> Step {
        if now < self.until {
            return Step::Wait(again.into_iter().chain([self.until]).min());
        }
        if let Some(socket) = socket {
            stack.sockets.remove(socket);
        }
        let what = match self.phase {
            Phase::New | Phase::Resolving(_) => "no answer to neighbour solicitations".to_owned(),
            Phase::Connecting(_) => "connecting".to_owned(),
            _ => format!("answer open after {} octets", self.answer.len()),
        };
        let (guest, operation) = (stack.name.clone(), format!("TCP to {}: {what}", self.remote));
        self.finish(Err(Error::Timeout { guest, operation, waited: self.timeout }))
    }
}

impl Task for FetchTask {
    fn poll(&mut self, stack: &mut Stack, now: Instant) -> Step {
        if let Phase::New = self.phase {
            match Resolver::new(stack, self.remote.ip()) {
                Ok(resolver) => self.phase = Phase::Resolving(resolver),
                Err(error) => return self.finish(Err(error)),
            }
        }
        if let Phase::Resolving(resolver) = &mut self.phase {
            if !resolver.poll(stack, now) {
                let again = resolver.wake_at();
                return self.wait_or_give_up(stack, None, again, now);
            }
            let mut socket = socket(BUFFER, IDLE_BUFFER);
            let local = stack.next_port();
            // A port 0 is refused; the closed socket is reported as a reset.
            let _ = socket.connect(stack.interface.context(), IpEndpoint::from(self.remote), local);
            self.phase = Phase::Connecting(stack.sockets.add(socket));
        }
        if let Phase::Connecting(handle) = self.phase {
            match stack.sockets.get::<Socket>(handle).state() {
                State::SynSent | State::SynReceived => {
                    return self.wait_or_give_up(stack, Some(handle), None, now);
                }
                _ => self.phase = Phase::Talking(handle),
            }
        }
        match self.phase {
            Phase::Talking(handle) => self.talk(stack, handle, now),
            Phase::Closing { socket, until } if now >= until => {
                stack.sockets.remove(socket);
                Step::Done
            }
            Phase::Closing { until, .. } => Step::Wait(Some(until)),
            _ => unreachable!("the phases above went on"),
        }
    }

    fn disconnected(&mut self, error: Error) {
        if !matches!(self.phase, Phase::Closing { .. }) {
            self.finish(Err(error));
        }
    }
}
