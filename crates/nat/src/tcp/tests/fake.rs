//! Sockets without a host: what they do is scripted, and readiness is told at edges only.

use std::collections::{HashMap, VecDeque};
use std::io::IoSlice;

use crate::tcp::{Failure, FlowId, GuestEnd, Read, Sockets, Target};

/// One socket.
#[derive(Debug, Default)]
pub(super) struct FakeSocket {
    /// Octets that it takes; `None` is any number.
    pub(super) room: Option<usize>,
    /// Everything that it took.
    pub(super) taken: Vec<u8>,
    /// Octets that are to be read.
    pub(super) input: VecDeque<u8>,
    pub(super) has_end: bool,
    pub(super) failure: Option<Failure>,
    pub(super) is_shut: bool,
    waits_to_write: bool,
    waits_to_read: bool,
}

/// All sockets of an uplink.
#[derive(Debug, Default)]
pub(super) struct Fake {
    pub(super) open: HashMap<FlowId, FakeSocket>,
    /// Answers to the next calls of `connect`; then all succeed.
    pub(super) connects: VecDeque<Result<(), Failure>>,
    /// Every call of `connect`, in order.
    pub(super) connected: Vec<FlowId>,
    /// Closed sockets, and whether that was a reset.
    pub(super) closed: Vec<(FakeSocket, bool)>,
    pub(super) events: VecDeque<(FlowId, (bool, bool))>,
    pub(super) sends: usize,
    pub(super) reads: usize,
}

impl Fake {
    pub(super) fn adopt(&mut self, flow: FlowId) {
        assert!(
            self.open.insert(flow, FakeSocket { waits_to_read: true, ..FakeSocket::default() }).is_none()
        );
    }

    pub(super) fn socket(&mut self, flow: FlowId) -> &mut FakeSocket {
        self.open.get_mut(&flow).expect("an open socket")
    }

    /// The last socket that was made.
    pub(super) fn last(&self) -> FlowId {
        *self.connected.last().expect("a socket")
    }

    pub(super) fn is_connected(&mut self, flow: FlowId) {
        self.events.push_back((flow, (false, true)));
    }

    /// The other side sends.
    pub(super) fn feed(&mut self, flow: FlowId, octets: &[u8]) {
        let socket = self.socket(flow);
        socket.input.extend(octets);
        self.tell_reader(flow);
    }

    pub(super) fn end(&mut self, flow: FlowId) {
        self.socket(flow).has_end = true;
        self.tell_reader(flow);
    }

    pub(super) fn fail(&mut self, flow: FlowId, failure: Failure) {
        self.socket(flow).failure = Some(failure);
        self.events.push_back((flow, (true, true)));
    }

    pub(super) fn set_room(&mut self, flow: FlowId, room: Option<usize>) {
        let socket = self.socket(flow);
        socket.room = room;
        if room != Some(0) && std::mem::take(&mut socket.waits_to_write) {
            self.events.push_back((flow, (false, true)));
        }
    }

    fn tell_reader(&mut self, flow: FlowId) {
        if std::mem::take(&mut self.socket(flow).waits_to_read) {
            self.events.push_back((flow, (true, false)));
        }
    }
}

impl Sockets for Fake {
    fn connect(&mut self, flow: FlowId, _: GuestEnd, to: &Target<'_>) -> Result<(), Failure> {
        self.connects.pop_front().unwrap_or(Ok(()))?;
        assert!(matches!(to, Target::Address(_)));
        let socket = FakeSocket { waits_to_read: true, ..FakeSocket::default() };
        assert!(self.open.insert(flow, socket).is_none(), "one socket a flow");
        self.connected.push(flow);
        Ok(())
    }

    fn send(&mut self, flow: FlowId, slices: &[IoSlice<'_>]) -> Result<usize, Failure> {
        self.sends += 1;
        let socket = self.open.get_mut(&flow).expect("an open socket");
        assert!(!socket.is_shut, "nothing is sent behind the end");
        if let Some(failure) = socket.failure {
            return Err(failure);
        }
        assert!(slices.len() <= 64 && slices.iter().any(|slice| !slice.is_empty()));
        let mut sent = 0;
        for slice in slices {
            let count = slice.len().min(socket.room.unwrap_or(usize::MAX));
            socket.taken.extend(&slice[..count]);
            socket.room = socket.room.map(|room| room - count);
            sent += count;
            if count < slice.len() {
                socket.waits_to_write = true;
                break;
            }
        }
        Ok(sent)
    }

    fn receive(&mut self, flow: FlowId, buffer: &mut [u8]) -> Read {
        self.reads += 1;
        let socket = self.open.get_mut(&flow).expect("an open socket");
        assert!(!buffer.is_empty());
        let len = socket.input.len().min(buffer.len());
        if len > 0 {
            for (to, from) in buffer.iter_mut().zip(socket.input.drain(..len)) {
                *to = from;
            }
            return Read::Octets(len);
        }
        match socket.failure {
            Some(failure) => Read::Failed(failure),
            None if socket.has_end => Read::End,
            None => {
                socket.waits_to_read = true;
                Read::Nothing
            }
        }
    }

    fn shutdown(&mut self, flow: FlowId) {
        assert!(!std::mem::replace(&mut self.socket(flow).is_shut, true), "once");
    }

    fn close(&mut self, flow: FlowId, reset: bool) {
        let socket = self.open.remove(&flow).expect("a socket is closed once");
        self.closed.push((socket, reset));
    }

    fn error(&mut self, flow: FlowId) -> Option<Failure> {
        self.socket(flow).failure
    }
}
