//! One worker's half of a tunnel: packets to frames and back.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, MutexGuard};

use vmlan_frame::{
    Account, Batch, Context, Counters, DropReason, ETHERNET_HEADER, Frame, Instant, MacAddr, Size, Tally,
};
use vmlan_link::Transmit;
use vmlan_link::resolver::{Resolution, Resolver};

use super::interface::Interface;
use super::medium::{Medium, Read, Room};
use super::outlet::Outlet;
use super::proxy::{Kind, Proxy};
use super::record::{self, Family, HEADER};
use super::too_big::{self, Pace};
use crate::{Fault, Progress, Queue, Settings, Status, Waits};

pub(super) struct TunnelQueue {
    proxy: Proxy,
    interface: Arc<Interface>,
    receives: bool,
    size: Size,
    /// The port's account; that of the tunnel's link is the link's own.
    account: Account,
    /// Its counters, where records are counted, which are no frames that could be shown.
    port: Arc<Counters>,
    worker: usize,
    outlet: Outlet,
    /// Empty between calls; kept for their memory.
    records: Batch,
    room: Room,
    /// Answers to the senders of packets that were too long: frames for the network, and records for the client.
    answers: Batch,
    replies: Batch,
    pace: Pace,
    /// When the resolver has something to do, as this worker left it.
    deadline: Option<Instant>,
}

impl TunnelQueue {
    pub(super) fn new(
        medium: Medium,
        proxy: Proxy,
        interface: Arc<Interface>,
        settings: Settings,
    ) -> TunnelQueue {
        // The receiving worker begins with the announcements; others have no timers until they change something.
        let deadline = settings.receives.then(|| proxy.lock().poll_timeout()).flatten();
        let outlet = Outlet::new(medium, interface.link().counters().clone(), &settings);
        TunnelQueue {
            proxy,
            interface,
            receives: settings.receives,
            size: Medium::size(settings.longest),
            port: settings.account.counters().clone(),
            account: settings.account,
            worker: settings.worker,
            outlet,
            records: Batch::new(),
            room: Room::default(),
            answers: Batch::new(),
            replies: Batch::new(),
            pace: Pace::new(),
            deadline,
        }
    }
}

impl Queue for TunnelQueue {
    fn descriptor(&self, number: usize) -> Option<BorrowedFd<'_>> {
        (number == 0).then(|| self.outlet.medium().as_fd())
    }

    fn receive(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<Progress, Fault> {
        let mut result = Ok(());
        // What waited goes before what comes now.
        let due = self.deadline.is_some_and(|deadline| deadline <= cx.now);
        if due {
            let mut resolver = self.proxy.lock();
            while batch.room() > 0 {
                let Some(frame) = resolver.poll_transmit(cx.now, cx.pool) else { break };
                batch.push(frame);
            }
            self.deadline = settle(&self.proxy, &self.port, self.worker, resolver);
        }
        let answers = self.answers.len().min(batch.room());
        self.answers.drain_front(answers).for_each(|frame| batch.push(frame));
        if !self.answers.is_empty() {
            self.deadline = Some(cx.now);
        }
        if self.receives && batch.room() > 0 {
            result = self.read(cx, batch.room());
            let total = |records: &Batch| -> u64 { records.iter().map(|record| record.len() as u64).sum() };
            let (frames, octets) = (self.records.len(), total(&self.records));
            self.interface.input(cx, &mut self.records);
            let refused = (frames - self.records.len()) as u64;
            if refused > 0 {
                let octets = octets - total(&self.records);
                self.port.received_and_dropped(self.worker, DropReason::InputFilter, refused, octets);
            }
            if !self.records.is_empty() {
                self.resolve(cx, batch);
            }
            if !self.replies.is_empty() {
                // A packet of the client's made them, as it would have made copies.
                self.port.copied(self.worker, self.replies.len() as u64);
                self.outlet.send(&mut self.replies);
            }
        }
        result.map(|()| Progress::Done)
    }

    fn transmit(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<(), Fault> {
        self.outlet.flush(self.interface.max_pending() as usize);
        self.take(cx, batch);
        if !self.records.is_empty() {
            let before = self.records.len();
            // The outcome of each record is counted; nobody upstream waits for a result.
            let _ = self.interface.refuse_oversize(cx, &mut self.records);
            let fitting = self.records.len();
            self.port.dropped_unseen(self.worker, DropReason::TooLong, (before - fitting) as u64);
            let mut arrival = Arrival { outlet: &mut self.outlet, came: 0 };
            let _ = self.interface.output(cx, &mut self.records, &mut arrival);
            let came = arrival.came;
            self.port.dropped_unseen(self.worker, DropReason::OutputFilter, (fitting - came) as u64);
        }
        self.outlet.result()
    }

    fn status(&self) -> Status {
        let waiting = self.outlet.waiting();
        Status { waiting, waits: Waits::of_one(waiting > 0), deadline: self.deadline, ..Status::default() }
    }
}

/// Gives the resolver back; answers when it has something to do again.
fn settle(
    proxy: &Proxy,
    port: &Counters,
    worker: usize,
    resolver: MutexGuard<'_, Resolver>,
) -> Option<Instant> {
    let new = proxy.newly_given_up(&resolver.statistics());
    let deadline = resolver.poll_timeout();
    drop(resolver);
    port.received_and_dropped(worker, DropReason::NoNextHop, new, 0);
    deadline
}

impl TunnelQueue {
    /// Reads records, and leaves those that are some in `self.records`.
    fn read(&mut self, cx: &Context<'_>, most: usize) -> Result<(), Fault> {
        let TunnelQueue { outlet, interface, records, room, replies, pace, proxy, .. } = self;
        let (medium, link) = (outlet.medium(), interface.link());
        let longest = link.mtu().get() as usize + HEADER;
        let (mut bad, mut long) = ([0; 2], [0; 2]);
        let count = |[frames, octets]: &mut [u64; 2], more: u64| {
            *frames += 1;
            *octets += more;
        };
        let result = medium.receive(cx.pool, (self.size, most), room, |read| match read {
            Read::TooLong(octets) => count(&mut long, octets),
            Read::Record(record) => match record.check(medium.form()) {
                Ok(record) if record.len() > longest => {
                    let packet = &record.octets()[HEADER..];
                    if too_big::may_be_cut(packet) {
                        fragment(cx, packet, longest - HEADER, records);
                        return;
                    }
                    let family = Family::of_packet(packet);
                    let from = family.and_then(|family| {
                        proxy.gateway(family).or_else(|| record::destination(family, packet))
                    });
                    if let Some(reply) = from.and_then(|from| reply(cx, pace, from, packet, longest - HEADER))
                    {
                        replies.push(reply);
                    }
                    count(&mut long, record.len() as u64);
                }
                Ok(record) => records.push(record),
                Err(octets) => count(&mut bad, octets),
            },
        });
        for ([frames, octets], reason) in [(bad, DropReason::Malformed), (long, DropReason::Oversize)] {
            if frames > 0 {
                link.counters().rx_errors(cx.worker, frames);
                for counters in [link.counters(), &self.port] {
                    counters.received_and_dropped(cx.worker, reason, frames, octets);
                }
            }
        }
        result
    }

    /// Makes frames of the records whose next hop is known.
    fn resolve(&mut self, cx: &Context<'_>, batch: &mut Batch) {
        let mut resolver = self.proxy.lock();
        let mut drops =
            [(DropReason::Malformed, 0, 0), (DropReason::NoNextHop, 0, 0), (DropReason::NoBuffer, 0, 0)];
        for mut packet in self.records.drain() {
            let octets = packet.len() as u64;
            packet.trim_front(HEADER);
            let outcome = match Family::of_packet(packet.octets())
                .and_then(|family| Some((family, record::destination(family, packet.octets())?)))
            {
                None => Some(0),
                Some((family, destination)) => match resolver.send(destination, &packet, cx.now) {
                    Resolution::Send(mac) => match packet.prepend(cx.pool, &self.proxy.header(mac, family)) {
                        true => {
                            batch.push(packet);
                            None
                        }
                        false => Some(2),
                    },
                    Resolution::Waiting => None,
                    Resolution::Refused(_) => Some(1),
                },
            };
            if let Some(which) = outcome {
                drops[which].1 += 1;
                drops[which].2 += octets;
            }
        }
        self.deadline = settle(&self.proxy, &self.port, self.worker, resolver);
        let [(_, malformed, _), ..] = drops;
        self.interface.link().counters().rx_errors(cx.worker, malformed);
        for (reason, frames, octets) in drops {
            self.port.received_and_dropped(cx.worker, reason, frames, octets);
        }
    }

    /// Takes frames from the network: messages for the resolver, and packets, which become `self.records`.
    fn take(&mut self, cx: &Context<'_>, batch: &mut Batch) {
        let TunnelQueue { proxy, records, answers, pace, account, port, worker, .. } = self;
        let mut shortener = Shortener { proxy, records, answers, pace, port, worker: *worker };
        let mut locked: Option<MutexGuard<'_, Resolver>> = None;
        let mut handled = Tally::default();
        let mut lost = 0;
        let longest = self.interface.link().mtu().get() as usize + HEADER;
        for frame in batch.drain() {
            let family = match proxy.kind(&frame) {
                Kind::Foreign => None,
                Kind::Packet(family) => Some(family),
                Kind::Message(family) => {
                    if locked.get_or_insert_with(|| proxy.lock()).handle(&frame, cx.now) {
                        handled.add(&frame);
                        continue;
                    }
                    family
                }
            };
            let Some((family, len)) = family.and_then(|family| Some((family, packet_len(&frame, family)?)))
            else {
                account.lose(cx, &frame, DropReason::NotForTunnel);
                continue;
            };
            let sender = frame.source().filter(|_| frame.destination().is_some_and(|to| !to.is_multicast()));
            match unframe(cx, frame, family, len) {
                Some(record) if record.len() > longest => shortener.shorten(cx, record, longest, sender),
                Some(record) => shortener.records.push(record),
                None => lost += 1,
            }
        }
        if let Some(resolver) = locked {
            self.deadline = settle(proxy, port, *worker, resolver);
        }
        // What the proxy answers has arrived, as at any host.
        self.port.sent(self.worker, &handled);
        self.port.dropped_unseen(self.worker, DropReason::TransmitError, lost);
        if !self.answers.is_empty() {
            self.deadline = Some(cx.now);
        }
    }
}

/// The parts of a queue that records concern which are longer than the tunnel takes.
struct Shortener<'a> {
    proxy: &'a Proxy,
    records: &'a mut Batch,
    answers: &'a mut Batch,
    pace: &'a mut Pace,
    port: &'a Counters,
    worker: usize,
}

impl Shortener<'_> {
    /// Cuts a record that is longer than the tunnel takes, or tells its sender how long it may be and leaves it to be
    /// refused.
    #[cold]
    fn shorten(&mut self, cx: &Context<'_>, record: Frame, longest: usize, sender: Option<MacAddr>) {
        let packet = &record.octets()[HEADER..];
        let mtu = longest - HEADER;
        if too_big::may_be_cut(packet) {
            let made = fragment(cx, packet, mtu, self.records);
            if made == 0 {
                return self.port.dropped_unseen(self.worker, DropReason::NoSendBuffer, 1);
            }
            return self.port.segmented(self.worker, made - 1);
        }
        let from = Family::of_packet(packet).and_then(|family| self.proxy.address(family));
        if let (Some(sender), Some(from)) = (sender, from)
            && self.answers.room() > 0
            && let Some(mut answer) = reply(cx, self.pace, from, packet, mtu)
        {
            let family = if from.is_ipv6() { Family::V6 } else { Family::V4 };
            answer.trim_front(HEADER);
            if answer.prepend(cx.pool, &self.proxy.header(sender, family)) {
                self.answers.push(answer);
            }
        }
        self.records.push(record);
    }
}

/// Puts the fragments of an IPv4 packet into `records`, as far as there are buffers. Answers how many they are.
#[cold]
fn fragment(cx: &Context<'_>, packet: &[u8], mtu: usize, records: &mut Batch) -> u64 {
    let mut made = 0;
    too_big::cut(packet, mtu, |header, part| {
        let len = HEADER + header.len() + part.len();
        let Some(mut buffer) = Size::for_octets(len).and_then(|size| cx.pool.take(size)) else {
            return false;
        };
        let (family, rest) = buffer.split_at_mut(HEADER);
        family.copy_from_slice(&Family::V4.header());
        rest[..header.len()].copy_from_slice(header);
        rest[header.len()..][..part.len()].copy_from_slice(part);
        records.push(buffer.into_frame(0..len));
        made += 1;
        true
    });
    made
}

/// The record that tells the sender of `packet` how long it may be, where it is to be told.
#[cold]
fn reply(cx: &Context<'_>, pace: &mut Pace, from: IpAddr, packet: &[u8], mtu: usize) -> Option<Frame> {
    let mut octets = [0; too_big::LONGEST];
    let len = too_big::answer(&mut octets, from, packet, mtu)?;
    let family = Family::of_packet(&octets)?;
    if !pace.may_answer(cx.now) {
        return None;
    }
    let mut reply = cx.pool.copy(&octets[..len])?;
    reply.prepend(cx.pool, &family.header()).then_some(reply)
}

/// Octets of the packet in a frame, without the frame's padding; `None` when it has none.
fn packet_len(frame: &Frame, family: Family) -> Option<usize> {
    record::packet_len(family, frame.octets().get(ETHERNET_HEADER..).unwrap_or_default())
}

/// The record with the packet of so many octets in a frame; `None` when there is no buffer for it.
fn unframe(cx: &Context<'_>, mut frame: Frame, family: Family, len: usize) -> Option<Frame> {
    frame.trim_front(ETHERNET_HEADER);
    frame.truncate(len);
    frame.meta.offload = vmlan_frame::Offload::default();
    frame.prepend(cx.pool, &family.header()).then_some(frame)
}

/// Notes how many records the link let through to the client.
struct Arrival<'a> {
    outlet: &'a mut Outlet,
    came: usize,
}

impl Transmit for Arrival<'_> {
    fn transmit(&mut self, batch: &mut Batch) {
        self.came = batch.len();
        self.outlet.send(batch);
    }
}

pub(super) fn queue(
    medium: &Medium,
    proxy: &Proxy,
    interface: &Arc<Interface>,
    settings: Settings,
) -> io::Result<Box<dyn Queue>> {
    Ok(Box::new(TunnelQueue::new(medium.clone(), proxy.clone(), interface.clone(), settings)))
}
