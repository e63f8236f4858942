use std::net::IpAddr;
use std::time::{Duration, Instant};

use smoltcp::iface::SocketHandle;
use smoltcp::socket::dns::{GetQueryResultError, QueryHandle, Socket};
use smoltcp::wire::DnsQueryType;

use crate::Error;
use crate::guest::Reply;
use crate::stack::{CLOCK_RATE, Stack};
use crate::worker::{Step, Task};

/// A question that failed before was answered, one that failed later got no answer: smoltcp gives a server ten seconds
/// of the stack's clock.
const SILENCE: Duration = Duration::from_millis(9_500 / CLOCK_RATE as u64);

/// A question for records of one type.
struct Question {
    kind: DnsQueryType,
    handle: QueryHandle,
    since: Instant,
}

/// A name that is being resolved (RFC 1035): questions for A and AAAA (RFC 3596), again as long as nobody answers.
pub(crate) struct ResolveTask {
    name: String,
    timeout: Duration,
    until: Instant,
    socket: Option<SocketHandle>,
    open: Vec<Question>,
    found: Vec<IpAddr>,
    reply: Reply<Result<Vec<IpAddr>, Error>>,
}

impl ResolveTask {
    pub(crate) fn new(
        name: String,
        timeout: Duration,
        reply: Reply<Result<Vec<IpAddr>, Error>>,
    ) -> ResolveTask {
        let until = Instant::now() + timeout;
        ResolveTask { name, timeout, until, socket: None, open: Vec::new(), found: Vec::new(), reply }
    }

    fn finish(&self, stack: &mut Stack, result: Result<Vec<IpAddr>, Error>) -> Step {
        if let Some(socket) = self.socket {
            stack.sockets.remove(socket);
        }
        // The caller waits for it, unless its thread died.
        let _ = self.reply.send(result);
        Step::Done
    }

    fn unresolved(&self, stack: &Stack, reason: &'static str) -> Error {
        Error::Unresolved { guest: stack.name.clone(), name: self.name.clone(), reason }
    }

    /// Asks; false if the name cannot be asked for.
    fn ask(&mut self, stack: &mut Stack, socket: SocketHandle, kind: DnsQueryType, now: Instant) -> bool {
        let asked =
            stack.sockets.get_mut::<Socket>(socket).start_query(stack.interface.context(), &self.name, kind);
        let question = asked.map(|handle| Question { kind, handle, since: now });
        question.map(|question| self.open.push(question)).is_ok()
    }

    /// Takes the answers that are there.
    fn take_answers(&mut self, stack: &mut Stack, socket: SocketHandle, now: Instant) {
        for question in std::mem::take(&mut self.open) {
            let result = stack.sockets.get_mut::<Socket>(socket).get_query_result(question.handle);
            match result {
                Ok(addresses) => self.found.extend(addresses.into_iter().map(IpAddr::from)),
                Err(GetQueryResultError::Pending) => self.open.push(question),
                Err(GetQueryResultError::Failed) => {
                    if now.saturating_duration_since(question.since) >= SILENCE {
                        self.ask(stack, socket, question.kind, now);
                    }
                }
            }
        }
    }
}

impl Task for ResolveTask {
    fn poll(&mut self, stack: &mut Stack, now: Instant) -> Step {
        let socket = match self.socket {
            Some(socket) => socket,
            None => {
                if stack.servers.is_empty() {
                    let error = self
                        .unresolved(stack, "the guest knows no DNS server; wait for a lease that names one");
                    return self.finish(stack, Err(error));
                }
                let socket = stack.sockets.add(Socket::new(&stack.servers, Vec::new()));
                self.socket = Some(socket);
                for kind in [DnsQueryType::A, DnsQueryType::Aaaa] {
                    if !self.ask(stack, socket, kind, now) {
                        let error = self
                            .unresolved(stack, "it cannot be asked for; use a name such as web.lab.internal");
                        return self.finish(stack, Err(error));
                    }
                }
                socket
            }
        };
        self.take_answers(stack, socket, now);
        if self.open.is_empty() {
            // Of IPv4 first, whichever answer came first.
            self.found.sort_by_key(IpAddr::is_ipv6);
            let found = std::mem::take(&mut self.found);
            let error = || self.unresolved(stack, "it has no address");
            let result = if found.is_empty() { Err(error()) } else { Ok(found) };
            return self.finish(stack, result);
        }
        if now >= self.until {
            let error = Error::Timeout {
                guest: stack.name.clone(),
                operation: format!("resolving {}", self.name),
                waited: self.timeout,
            };
            return self.finish(stack, Err(error));
        }
        Step::Wait(Some(self.until))
    }

    fn disconnected(&mut self, error: Error) {
        // As above.
        let _ = self.reply.send(Err(error));
    }
}
