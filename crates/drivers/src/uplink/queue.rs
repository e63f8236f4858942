//! The workers' halves of an uplink: the one with the engine, and those that hand their frames to it.

use std::io::{self, IoSlice, Read as _};
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;
use vmlan_frame::{Account, Batch, Context, DropReason, Frame, Instant, Size, Takes, Tally};
use vmlan_nat::{Drop, Nat, Notice, Taken};
use vmlan_sys::{Interest, Poller, Ready};

use super::datagrams::MARK as DATAGRAM;
use super::host::Host;
use super::listeners::{LISTENER, Listeners, seen};
use super::outlet::{self, Outlet};
use super::streams::{FLOW, KIND, set_reset};
use super::{Options, Shared};
use crate::{Fault, Progress, Queue, Settings, Status, Waits};

/// Tokens of what there is once.
const OTHERS: u64 = 0b11 << 62;
const WAKER: u64 = OTHERS;
const CHANNEL: u64 = OTHERS | 1;

/// Octets in front of a frame on the channel: the port's number, and two of nothing.
const PREFIX: usize = 4;

/// Frames from the network's services that are taken in one turn.
const MESSAGES: usize = 64;

/// How long the engine waits for a buffer that others have.
const RETRY: Duration = Duration::from_millis(1);

pub(super) struct UplinkQueue {
    pub(super) shared: Arc<Shared>,
    poller: Arc<Poller>,
    pub(super) engine: Nat,
    pub(super) host: Host,
    pub(super) listeners: Listeners,
    outlet: Option<Outlet>,
    /// The device is asked first in this turn, so that neither keeps the other waiting.
    outlet_first: bool,
    /// The device failed.
    fault: Option<Fault>,
    channel: Socket,
    notify: Arc<dyn Fn(Notice) + Send + Sync>,
    account: Account,
    worker: usize,
    /// Empty between calls; kept for its memory.
    ready: Vec<Ready>,
    /// The poller has something, as the worker's poller says.
    has_events: bool,
    /// When to be called although nothing is ready.
    deadline: Option<Instant>,
}

impl UplinkQueue {
    pub(super) fn new(shared: Arc<Shared>, options: Options, settings: Settings) -> io::Result<UplinkQueue> {
        let Options { engine, channel, names, notify, sockets, outlet } = options;
        let poller = Arc::new(Poller::new()?);
        poller.add(&shared.waker, WAKER, Interest::READ)?;
        let channel = Socket::from(channel);
        channel.set_nonblocking(true)?;
        poller.add(&channel, CHANNEL, Interest::READ)?;
        let now = Instant::from_nanos(vmlan_sys::monotonic_nanos());
        let outlet = outlet.map(|device| Outlet::new(&*device, &settings)).transpose()?;
        let host = Host::new(&poller, (sockets, engine.datagram_flows), engine.key.0[0] as u16, names);
        let engine = Nat::new(engine, now);
        Ok(UplinkQueue {
            host,
            engine: if outlet.is_some() { engine.with_other_carrier() } else { engine },
            outlet,
            outlet_first: false,
            fault: None,
            listeners: Listeners::new(poller.clone()),
            poller,
            shared,
            channel,
            notify,
            account: settings.account,
            worker: settings.worker,
            ready: Vec::new(),
            has_events: true,
            deadline: Some(now),
        })
    }

    /// Takes a frame of a guest. Answers whether it is to be counted as sent: one that is lost is counted here, one for
    /// the device by the device.
    fn take(&mut self, cx: &Context<'_>, frame: &Frame) -> bool {
        let reason = match self.engine.take(&mut self.host.io(cx), frame) {
            Ok(Taken::Done) => return true,
            Ok(Taken::Outward | Taken::Both) => {
                let Some(outlet) = &mut self.outlet else { return true };
                if let Err(fault) = outlet.push(cx, frame.clone()) {
                    self.fault = Some(fault);
                }
                return false;
            }
            Ok(Taken::Service) if self.hand_to_service(cx, frame) => return true,
            Ok(Taken::Service) => DropReason::QueueFull,
            Err(reason) => drop_reason(reason),
        };
        self.account.lose(cx, frame, reason);
        false
    }

    /// Hands a frame to the network's services. A message to one that has too much is lost.
    fn hand_to_service(&mut self, cx: &Context<'_>, frame: &Frame) -> bool {
        let [high, low] = frame.meta.ingress.to_be_bytes();
        let mut whole = frame.clone();
        if frame.meta.offload.needs_checksum() {
            let Some(octets) = whole.make_mut(cx.pool) else { return false };
            vmlan_frame::offload::finish_checksum(octets, &frame.meta.offload);
        }
        let prefix = [high, low, 0, 0];
        let message = [IoSlice::new(&prefix), IoSlice::new(whole.octets())];
        self.channel.send_vectored(&message).is_ok()
    }

    /// Takes frames for guests from the network's services. False when the services are gone.
    fn take_from_services(&mut self, cx: &Context<'_>) -> bool {
        for _ in 0..MESSAGES {
            let Some(mut buffer) = cx.pool.take(Size::Small) else { return true };
            match (&self.channel).read(&mut buffer) {
                Ok(len) if len > PREFIX => {
                    self.engine.send(buffer.into_frame(PREFIX..len));
                }
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        true
    }

    /// Looks at what is ready.
    fn take_events(&mut self, cx: &Context<'_>) -> Result<(), Fault> {
        let mut ready = mem::take(&mut self.ready);
        self.poller.wait(&mut ready, Some(Duration::ZERO)).map_err(Fault::Io)?;
        let mut result = Ok(());
        for event in &ready {
            match event.token & KIND {
                FLOW => {
                    if let Some(flow) = self.host.streams.flow_of(event.token) {
                        let signs = (event.read, event.write);
                        self.engine.stream_ready(&mut self.host.io(cx), flow, signs);
                    }
                }
                DATAGRAM => self.engine.datagram_ready(event.token as u32),
                LISTENER => self.accept(cx, event.token),
                _ if event.token == WAKER => {
                    self.shared.waker.clear();
                    self.obey(cx);
                    self.take_handed(cx);
                }
                _ if event.token == CHANNEL && !self.take_from_services(cx) => result = Err(Fault::Closed),
                _ => {}
            }
        }
        self.ready = ready;
        result
    }

    /// Takes the frames of other workers.
    fn take_handed(&mut self, cx: &Context<'_>) {
        let shared = self.shared.clone();
        let mut handed = shared.handed.lock();
        let (mut sent, mut taken) = (Tally::default(), 0);
        for entry in handed.iter().take(Batch::LIMIT) {
            taken += 1;
            let Some(mut frame) = cx.pool.copy(entry.octets) else {
                self.account.lose_entry(cx, entry, DropReason::NoSendBuffer);
                continue;
            };
            frame.meta = entry.meta;
            if self.take(cx, &frame) {
                sent.add(&frame);
            }
        }
        handed.pop(taken);
        if !handed.is_empty() {
            shared.waker.wake();
        }
        drop(handed);
        self.account.counters().sent(self.worker, &sent);
        self.flush(cx);
    }

    /// Hands over what a batch of frames brought.
    fn flush(&mut self, cx: &Context<'_>) {
        self.engine.flush(&mut self.host.io(cx));
        if let Some(Err(fault)) = self.outlet.as_mut().map(|outlet| outlet.flush(cx)) {
            self.fault = Some(fault);
        }
    }

    /// Has the device's frames join `batch`.
    fn receive_from_outlet(&mut self, cx: &Context<'_>, batch: &mut Batch) {
        if let Some(Err(fault)) = self.outlet.as_mut().map(|outlet| outlet.receive(cx, batch)) {
            self.fault = Some(fault);
        }
    }

    fn check(&mut self) -> Result<(), Fault> {
        self.fault.take().map_or(Ok(()), Err)
    }

    /// Takes callers from outside.
    fn accept(&mut self, cx: &Context<'_>, token: u64) {
        let mut callers = Vec::new();
        self.listeners.accept(token, self.host.streams.has_room(), |caller| callers.push(caller));
        for caller in callers {
            let guests = &self.engine.guests;
            let guest = caller.guest;
            let from = seen(caller.from, guest, |address| self.engine.reach.is_in_subnet(address));
            let from = match from {
                Some(from) => Some(from),
                None => guests
                    .gateway_for(guest.ip())
                    .map(|gateway| SocketAddr::new(gateway, self.listeners.next_port())),
            };
            let flow = from.and_then(|from| self.engine.call(&mut self.host.io(cx), guest, from));
            let Some(flow) = flow else {
                set_reset(&caller.socket);
                continue;
            };
            match self.host.streams.adopt(flow, caller.socket) {
                Ok(()) => self.engine.begin_call(&mut self.host.io(cx), flow),
                Err(_) => {
                    self.engine.close_where(&mut self.host.io(cx), |report| report.id == flow);
                }
            }
        }
    }

    /// Notes when to be called next.
    fn settle(&mut self, now: Instant) {
        self.engine.take_notices().for_each(|notice| (self.notify)(notice));
        self.deadline = if self.engine.has_output() {
            Some(now)
        } else if self.engine.has_work() {
            Some(now + RETRY)
        } else {
            self.engine.deadline()
        };
    }
}

impl Queue for UplinkQueue {
    fn descriptor(&self, number: usize) -> Option<BorrowedFd<'_>> {
        match number {
            0 => Some(self.poller.as_fd()),
            outlet::NUMBER => self.outlet.as_ref()?.descriptor(),
            _ => None,
        }
    }

    fn is_ready(&mut self, number: usize) {
        match &mut self.outlet {
            Some(outlet) if number == outlet::NUMBER => outlet.is_ready(),
            _ => self.has_events = true,
        }
    }

    fn receive(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<Progress, Fault> {
        let mut result = Ok(());
        if mem::take(&mut self.has_events) {
            result = self.take_events(cx);
        }
        self.outlet_first = !self.outlet_first;
        if self.outlet_first {
            self.receive_from_outlet(cx, batch);
        }
        let more = self.engine.poll(&mut self.host.io(cx), batch);
        self.receive_from_outlet(cx, batch);
        self.settle(cx.now);
        result.and_then(|()| self.check())?;
        Ok(if more && !batch.is_empty() { Progress::Again } else { Progress::Done })
    }

    fn transmit(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<(), Fault> {
        let mut sent = Tally::default();
        for frame in batch.drain() {
            if self.take(cx, &frame) {
                sent.add(&frame);
            }
        }
        self.account.counters().sent(self.worker, &sent);
        self.flush(cx);
        self.settle(cx.now);
        self.check()
    }

    fn refused(&mut self, cx: &Context<'_>, frames: &[Frame]) {
        for frame in frames {
            self.engine.refused(&mut self.host.io(cx), frame);
        }
        self.settle(cx.now);
    }

    fn status(&self) -> Status {
        let waits = Waits::of_one(false);
        let waits = if self.outlet.is_some() { waits.receive(outlet::NUMBER) } else { waits };
        Status { waits, deadline: self.deadline, ..Status::default() }
    }

    fn takes(&self) -> Takes {
        // What a flow gets in a batch goes to its socket in one call anyway.
        self.outlet.as_ref().map_or(Takes::ALL | Takes::APART, Outlet::takes)
    }
}

/// The reason of the books for a packet that goes no further.
fn drop_reason(reason: Drop) -> DropReason {
    use vmlan_nat::datagrams::Drop as Datagram;
    match reason {
        Drop::BadHeader | Drop::Datagram(Datagram::BadHeader) => DropReason::BadHeader,
        Drop::BadChecksum | Drop::Datagram(Datagram::BadChecksum) => DropReason::BadChecksum,
        Drop::SpoofedSource => DropReason::SpoofedSource,
        Drop::Denied | Drop::Datagram(Datagram::EgressDenied) => DropReason::EgressDenied,
        Drop::NotForUplink => DropReason::NotForUplink,
        Drop::NotForwarded | Drop::Datagram(Datagram::NotForwarded | Datagram::BadProtocol) => {
            DropReason::NotForwarded
        }
        Drop::BadMss => DropReason::BadMss,
        Drop::FlowLimit | Drop::Datagram(Datagram::FlowLimit | Datagram::NoSocket) => DropReason::FlowLimit,
        Drop::Busy | Drop::Datagram(Datagram::SocketFull) => DropReason::QueueFull,
        Drop::Datagram(Datagram::RateLimit) => DropReason::UplinkRate,
        Drop::Datagram(Datagram::Closed) => DropReason::ClosedPort,
        Drop::Datagram(Datagram::HopLimit) => DropReason::HopLimit,
        Drop::Datagram(Datagram::EchoUnavailable) => DropReason::EchoUnavailable,
        Drop::Datagram(Datagram::TooBig) => DropReason::TooLong,
        Drop::Datagram(Datagram::Unreachable) => DropReason::Unreachable,
        Drop::Datagram(Datagram::FragmentLimit | Datagram::FragmentOverlap | Datagram::FragmentTimeout) => {
            DropReason::BadFragment
        }
        // These are about what comes for guests.
        Drop::Datagram(
            Datagram::Stranger | Datagram::BadAnswer | Datagram::GuestAway | Datagram::NoBuffer,
        ) => DropReason::TransmitError,
    }
}

/// The half of a worker that does not have the engine.
pub(super) struct HandOver {
    shared: Arc<Shared>,
    account: Account,
    takes: Takes,
}

impl HandOver {
    pub(super) fn new(shared: Arc<Shared>, settings: Settings, takes: Takes) -> HandOver {
        HandOver { shared, account: settings.account, takes }
    }
}

impl Queue for HandOver {
    fn descriptor(&self, number: usize) -> Option<BorrowedFd<'_>> {
        (number == 0).then(|| self.shared.waker.as_fd())
    }

    fn receive(&mut self, _: &Context<'_>, _: &mut Batch) -> Result<Progress, Fault> {
        Ok(Progress::Done)
    }

    fn transmit(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<(), Fault> {
        let mut handed = self.shared.handed.lock();
        for frame in batch.drain() {
            if !handed.push(&frame) {
                self.account.lose(cx, &frame, DropReason::QueueFull);
            }
        }
        drop(handed);
        self.shared.waker.wake();
        Ok(())
    }

    fn status(&self) -> Status {
        Status { waits: Waits::NONE, ..Status::default() }
    }

    fn takes(&self) -> Takes {
        self.takes
    }
}
