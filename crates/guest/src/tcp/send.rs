use std::net::SocketAddr;
use std::time::Instant;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{Socket, State};
use smoltcp::wire::IpEndpoint;

use super::{Amount, BUFFER, IDLE_BUFFER, LINGER, TransferReport, socket};
use crate::guest::Reply;
use crate::stack::{Resolver, Stack};
use crate::worker::{Step, Task};
use crate::{Error, pattern};

enum Phase {
    New,
    Resolving(Resolver),
    Connecting(SocketHandle),
    Sending {
        socket: SocketHandle,
        since: Instant,
    },
    /// The result is told; the stack only finishes its handshake.
    Closing {
        socket: SocketHandle,
        until: Instant,
    },
}

/// A transfer under way.
pub(crate) struct SendTask {
    remote: SocketAddr,
    amount: Amount,
    phase: Phase,
    /// Octets given to the socket, and of these the acknowledged ones.
    offset: u64,
    acknowledged: u64,
    /// When the last thing moved.
    moved: Instant,
    reply: Reply<Result<TransferReport, Error>>,
}

impl SendTask {
    pub(crate) fn new(
        remote: SocketAddr,
        amount: Amount,
        reply: Reply<Result<TransferReport, Error>>,
    ) -> SendTask {
        let moved = Instant::now();
        SendTask { remote, amount, phase: Phase::New, offset: 0, acknowledged: 0, moved, reply }
    }

    fn finish(&self, result: Result<TransferReport, Error>) -> Step {
        // The caller waits for it, unless its thread died.
        let _ = self.reply.send(result);
        Step::Done
    }

    fn fail(&self, stack: &mut Stack, socket: SocketHandle, error: Error) -> Step {
        stack.sockets.remove(socket);
        self.finish(Err(error))
    }

    fn reset(&self, stack: &Stack) -> Error {
        let guest = stack.name.clone();
        Error::Reset { guest, address: self.remote.ip(), acknowledged: self.acknowledged }
    }

    fn connect(&mut self, stack: &mut Stack) -> SocketHandle {
        let mut socket = socket(IDLE_BUFFER, BUFFER);
        let local = stack.next_port();
        // A port 0 is refused; the closed socket is reported as a reset.
        let _ = socket.connect(stack.interface.context(), IpEndpoint::from(self.remote), local);
        stack.sockets.add(socket)
    }

    /// Octets that may be given to the socket still.
    fn left(&self, since: Instant, now: Instant) -> u64 {
        match self.amount {
            Amount::Octets(octets) => octets - self.offset,
            Amount::For(duration) if now.saturating_duration_since(since) < duration => u64::MAX,
            Amount::For(_) => 0,
        }
    }

    /// Fills the socket's buffer, and closes once everything is in it.
    fn fill(&mut self, socket: &mut Socket<'_>, since: Instant, now: Instant) {
        loop {
            let left = self.left(since, now);
            if left == 0 {
                socket.close();
                return;
            }
            let offset = self.offset;
            let given = socket.send(|octets| {
                let given = usize::try_from(left).map_or(octets.len(), |left| left.min(octets.len()));
                pattern::fill(offset, &mut octets[..given]);
                (given, given)
            });
            match given {
                Ok(given) if given > 0 => self.offset += given as u64,
                _ => return,
            }
        }
    }

    fn note_acknowledged(&mut self, socket: &Socket<'_>, now: Instant) {
        let acknowledged = self.offset - socket.send_queue() as u64;
        if acknowledged != self.acknowledged {
            self.acknowledged = acknowledged;
            self.moved = now;
        }
    }

    fn poll_sending(
        &mut self,
        stack: &mut Stack,
        handle: SocketHandle,
        since: Instant,
        now: Instant,
    ) -> Step {
        let socket = stack.sockets.get_mut::<Socket>(handle);
        match socket.state() {
            State::Established | State::CloseWait => {
                self.note_acknowledged(socket, now);
                self.fill(socket, since, now);
            }
            State::FinWait1 | State::Closing | State::LastAck => self.note_acknowledged(socket, now),
            // The FIN is acknowledged, and with it everything before.
            State::FinWait2 | State::TimeWait => {
                let report =
                    TransferReport { octets: self.offset, elapsed: now.saturating_duration_since(since) };
                self.finish(Ok(report));
                self.phase = Phase::Closing { socket: handle, until: now + LINGER };
                return Step::Wait(Some(now + LINGER));
            }
            _ => {
                let error = self.reset(stack);
                return self.fail(stack, handle, error);
            }
        }
        self.wait_or_give_up(stack, Some(handle), now)
    }

    fn wait_or_give_up(&self, stack: &mut Stack, socket: Option<SocketHandle>, now: Instant) -> Step {
        let until = self.moved + stack.timeout;
        if now < until {
            return Step::Wait(Some(until));
        }
        if let Some(socket) = socket {
            stack.sockets.remove(socket);
        }
        let what = match self.phase {
            Phase::New | Phase::Resolving(_) => "no answer to neighbour solicitations".to_owned(),
            Phase::Connecting(_) => "connecting".to_owned(),
            _ => format!("sending after {} octets", self.acknowledged),
        };
        self.finish(Err(stack.timed_out(format!("TCP to {}: {what}", self.remote))))
    }
}

impl Task for SendTask {
    fn poll(&mut self, stack: &mut Stack, now: Instant) -> Step {
        if let Phase::New = self.phase {
            self.moved = now;
            match Resolver::new(stack, self.remote.ip()) {
                Ok(resolver) => self.phase = Phase::Resolving(resolver),
                Err(error) => return self.finish(Err(error)),
            }
        }
        if let Phase::Resolving(resolver) = &mut self.phase {
            if !resolver.poll(stack, now) {
                let again = resolver.wake_at();
                return match self.wait_or_give_up(stack, None, now) {
                    Step::Wait(until) => Step::Wait(again.into_iter().chain(until).min()),
                    Step::Done => Step::Done,
                };
            }
            self.phase = Phase::Connecting(self.connect(stack));
            self.moved = now;
        }
        if let Phase::Connecting(socket) = self.phase {
            match stack.sockets.get::<Socket>(socket).state() {
                State::SynSent | State::SynReceived => return self.wait_or_give_up(stack, Some(socket), now),
                State::Closed => {
                    let error = self.reset(stack);
                    return self.fail(stack, socket, error);
                }
                _ => {
                    self.phase = Phase::Sending { socket, since: now };
                    self.moved = now;
                }
            }
        }
        match self.phase {
            Phase::Sending { socket, since } => self.poll_sending(stack, socket, since, now),
            Phase::Closing { socket, until } => {
                let state = stack.sockets.get::<Socket>(socket).state();
                if state == State::Closed || now >= until {
                    stack.sockets.remove(socket);
                    return Step::Done;
                }
                Step::Wait(Some(until))
            }
            _ => unreachable!("the phases above went on"),
        }
    }

    fn disconnected(&mut self, error: Error) {
        if !matches!(self.phase, Phase::Closing { .. }) {
            self.finish(Err(error));
        }
    }
}
