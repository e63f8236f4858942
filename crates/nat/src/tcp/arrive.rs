//! Segments of guests.

use std::net::SocketAddr;

use vmlan_frame::wire::{IpProtocol, TcpFlags, TcpSegment};
use vmlan_frame::{ETHERNET_HEADER, Frame, Size};

use super::emit::{Segment, bare};
use super::flow::{Key, State, flag};
use super::sequence::{ahead, before, within};
use super::{Beyond, Gathered, Sockets, Tcp, Turn};
use crate::drop::Drop;
use crate::packet::Packet;
use crate::reach::Verdict;

/// Answers a second to a guest's segments that do not fit a flow (RFC 5961 section 7).
const CHALLENGES: u32 = 10;

/// Duplicate acknowledgements that tell of a loss (RFC 5681 section 3.2).
const DUPLICATES: u8 = 3;

/// Answers to segments beyond a gap, in one turn of a flow.
const GAPS: u8 = 16;

impl Tcp {
    /// Takes a segment of a guest, whose source address was found to be its own; `frame` is the one of `packet`. What
    /// is to be done with its data waits for [`Tcp::flush`].
    ///
    /// # Errors
    /// Why the segment is dropped.
    pub fn take<S: Sockets>(
        &mut self,
        turn: &mut Turn<'_, S>,
        packet: &Packet<'_>,
        frame: &Frame,
    ) -> Result<(), Drop> {
        let tcp = TcpSegment::new_checked(packet.upper).map_err(|_| Drop::BadHeader)?;
        let length = packet.upper.len() as u32;
        if !packet.is_checksum_open()
            && !packet.addresses.pseudo_header(IpProtocol::TCP, length).add_octets(packet.upper).is_valid()
        {
            return Err(Drop::BadChecksum);
        }
        let guest = SocketAddr::new(packet.source(), tcp.source_port());
        let other = SocketAddr::new(packet.destination(), tcp.destination_port());
        let key = Key::new(guest, other);
        let flags = tcp.flags();
        let mut slot = self.by_key.get(&key).copied();
        if let Some(found) = slot
            && !self.is_from_its_place(turn, found, packet)
        {
            slot = None;
        }
        let Some(slot) = slot else {
            return if flags.contains(TcpFlags::RST) {
                Ok(())
            } else if flags.contains(TcpFlags::SYN) && !flags.contains(TcpFlags::ACK) {
                self.begin(turn, packet, &tcp)
            } else {
                self.answer_stray(turn, packet, &tcp)
            };
        };
        let flow = &mut self.flows[slot as usize];
        match flow.state {
            State::Queued | State::Connecting => self.early(turn, slot, packet, &tcp),
            State::Calling => self.answered(turn, slot, packet, &tcp),
            State::Gone => self.late(turn, slot, packet, &tcp),
            State::Accepting | State::Open => self.current(turn, slot, &tcp, packet, frame),
            State::Free => Ok(()),
        }
    }

    /// Answers a segment that belongs to no flow and begins none. Where guests are not told what is not open, such a
    /// segment tells them neither.
    fn answer_stray<S>(
        &self,
        turn: &mut Turn<'_, S>,
        packet: &Packet<'_>,
        tcp: &TcpSegment<&[u8]>,
    ) -> Result<(), Drop> {
        let to = SocketAddr::new(packet.destination(), tcp.destination_port());
        if turn.reach.denies_silently()
            && turn.reach.decide(packet.ingress, to, IpProtocol::TCP, turn.now) == Verdict::Deny
        {
            return Err(Drop::Denied);
        }
        self.answer_reset(turn, packet, tcp);
        Ok(())
    }

    /// True if the segment came from where the flow's guest is. The address may have gone to another station: then the
    /// flow is over, unless it is only about to call that address.
    fn is_from_its_place<S: Sockets>(
        &mut self,
        turn: &mut Turn<'_, S>,
        slot: u32,
        packet: &Packet<'_>,
    ) -> bool {
        let flow = &self.flows[slot as usize];
        if (flow.mac, flow.ingress) == (packet.mac, packet.ingress) {
            return true;
        }
        if flow.state == State::Calling {
            self.place(turn, slot, (packet.mac, packet.ingress));
            return true;
        }
        let id = self.id(slot);
        self.close(turn, id);
        false
    }

    /// A segment of a flow that is not connected yet.
    fn early<S: Sockets>(
        &mut self,
        turn: &mut Turn<'_, S>,
        slot: u32,
        packet: &Packet<'_>,
        tcp: &TcpSegment<&[u8]>,
    ) -> Result<(), Drop> {
        let flow = &mut self.flows[slot as usize];
        let flags = tcp.flags();
        if flags.contains(TcpFlags::RST) {
            if tcp.sequence() == flow.rcv_nxt || tcp.sequence() == flow.irs {
                self.abort(turn, slot, true);
            }
            return Ok(());
        }
        if !flags.contains(TcpFlags::SYN) || flags.contains(TcpFlags::ACK) {
            return Ok(());
        }
        if tcp.sequence() != flow.irs {
            self.abort(turn, slot, true);
            return self.begin(turn, packet, tcp);
        }
        flow.heard = turn.now;
        Ok(())
    }

    /// A segment of a flow that is over.
    fn late<S: Sockets>(
        &mut self,
        turn: &mut Turn<'_, S>,
        slot: u32,
        packet: &Packet<'_>,
        tcp: &TcpSegment<&[u8]>,
    ) -> Result<(), Drop> {
        let flow = &self.flows[slot as usize];
        let flags = tcp.flags();
        if flags.contains(TcpFlags::RST) {
            self.release(slot, turn.guests);
        } else if flags.contains(TcpFlags::SYN) && !flags.contains(TcpFlags::ACK) {
            if before(flow.rcv_nxt.wrapping_sub(1), tcp.sequence()) {
                self.release(slot, turn.guests);
                return self.begin(turn, packet, tcp);
            }
        } else if flags.contains(TcpFlags::FIN) {
            let segment = Segment {
                sequence: flow.max,
                acknowledgement: flow.rcv_nxt,
                flags: TcpFlags::ACK,
                window: 0,
            };
            turn.out.extend(bare(flow, self.settings.mac, &segment, &[], turn.pool));
        }
        Ok(())
    }

    /// Tells the guest where the flow is, but not often.
    fn challenge<S>(&mut self, turn: &mut Turn<'_, S>, slot: u32) {
        let ingress = self.flows[slot as usize].ingress;
        if turn.guests.of(ingress).challenges.take(CHALLENGES, turn.now) {
            self.list(slot, flag::ACK);
        }
    }

    /// A segment of a flow that is established, or is just being so (RFC 9293 section 3.10.7.4).
    fn current<S: Sockets>(
        &mut self,
        turn: &mut Turn<'_, S>,
        slot: u32,
        tcp: &TcpSegment<&[u8]>,
        packet: &Packet<'_>,
        frame: &Frame,
    ) -> Result<(), Drop> {
        let (sequence, acknowledgement, flags) = (tcp.sequence(), tcp.acknowledgement(), tcp.flags());
        let flow = &mut self.flows[slot as usize];
        if flags.contains(TcpFlags::RST) {
            // A FIN that waits behind data counts for the guest already.
            let waits = flow.has(flag::GUEST_FIN) && !flow.has(flag::GUEST_DONE);
            if sequence == flow.rcv_nxt || waits && sequence == flow.rcv_nxt.wrapping_add(1) {
                self.abort(turn, slot, true);
            } else if within(sequence, flow.rcv_nxt, flow.rcv_adv) {
                self.challenge(turn, slot);
            }
            return Ok(());
        }
        if flags.contains(TcpFlags::SYN) {
            if flow.state == State::Accepting && sequence == flow.irs && !flags.contains(TcpFlags::ACK) {
                // Our answer was lost.
                flow.tries = flow.tries.saturating_sub(1);
                self.shake(turn, slot);
            } else {
                self.challenge(turn, slot);
            }
            return Ok(());
        }
        if !flags.contains(TcpFlags::ACK) {
            return Err(Drop::BadHeader);
        }
        // What was not sent cannot be acknowledged, and numbers from long ago are a blind guess.
        if before(flow.max, acknowledgement) || ahead(acknowledgement, flow.una) > (4 << 20) {
            self.challenge(turn, slot);
            return Ok(());
        }
        if flow.state == State::Accepting {
            if acknowledgement != flow.max {
                return Ok(());
            }
            self.established(slot, turn.guests);
            let flow = &mut self.flows[slot as usize];
            flow.una = acknowledgement;
            flow.recover = acknowledgement;
            flow.wl2 = acknowledgement;
            flow.snd_wnd = u32::from(tcp.window()) << flow.snd_scale;
            flow.max_wnd = flow.snd_wnd;
            self.list(slot, flag::READABLE);
        }
        let flow = &mut self.flows[slot as usize];
        flow.heard = turn.now;
        flow.questions = 0;
        let payload = tcp.payload();
        let window = u32::from(tcp.window()) << flow.snd_scale;
        let is_news = before(flow.una, acknowledgement);
        if is_news {
            self.acknowledged(turn, slot, acknowledgement);
        } else if acknowledgement == flow.una
            && payload.is_empty()
            && !flags.contains(TcpFlags::FIN)
            && flow.in_flight() > 0
            && window == flow.snd_wnd
            && !flow.repeats()
        {
            self.duplicate(turn, slot);
        }
        let flow = &mut self.flows[slot as usize];
        let is_newer =
            before(flow.wl1, sequence) || flow.wl1 == sequence && !before(acknowledgement, flow.wl2);
        if is_newer && !before(flow.rcv_adv, sequence) {
            let opened = window > flow.snd_wnd;
            (flow.snd_wnd, flow.wl1, flow.wl2) = (window, sequence, acknowledgement);
            flow.max_wnd = flow.max_wnd.max(window);
            if opened {
                flow.tries = 0;
                self.list(slot, 0);
            }
        }
        if self.flows[slot as usize].state == State::Open {
            self.data(turn, slot, tcp, packet, frame);
            self.rearm(slot, turn.now, is_news);
        }
        Ok(())
    }

    /// The same acknowledgement once more: a segment got there, and one before it did not.
    fn duplicate<S>(&mut self, turn: &mut Turn<'_, S>, slot: u32) {
        let flow = &mut self.flows[slot as usize];
        flow.duplicates = flow.duplicates.saturating_add(1);
        let alone = self.sent.iter(flow.sent).nth(1).is_none();
        let is_enough = flow.duplicates == if alone { 1 } else { DUPLICATES };
        if is_enough && !flow.has(flag::RECOVERS) {
            self.statistics.fast_repeats += 1;
            self.go_back(turn, slot);
        }
    }

    /// Notes what a segment brings: data in order, or beyond a gap, or again.
    fn data<S>(
        &mut self,
        turn: &mut Turn<'_, S>,
        slot: u32,
        tcp: &TcpSegment<&[u8]>,
        packet: &Packet<'_>,
        frame: &Frame,
    ) {
        let flow = &mut self.flows[slot as usize];
        let payload = tcp.payload();
        let has_fin = tcp.flags().contains(TcpFlags::FIN);
        if payload.is_empty() && !has_fin {
            // A keep-alive, or a probe of the window (RFC 9293 section 3.8.4).
            if before(tcp.sequence(), flow.rcv_nxt) {
                self.list(slot, flag::ACK);
            }
            return;
        }
        if flow.has(flag::BROKEN) {
            return;
        }
        self.list(slot, flag::ACK);
        let flow = &mut self.flows[slot as usize];
        let old = ahead(tcp.sequence(), flow.rcv_nxt);
        if old < 0 {
            // One answer for each, from which the guest knows what was lost.
            flow.gaps = (flow.gaps + 1).min(GAPS);
            self.statistics.out_of_order += 1;
            return self.keep_beyond(turn, slot, tcp.sequence(), payload);
        }
        let old = old as usize;
        flow.largest = flow.largest.max(u16::try_from(payload.len()).unwrap_or(u16::MAX));
        if flow.has(flag::GUEST_FIN | flag::GUEST_DONE) || old > payload.len() {
            return;
        }
        let window = ahead(flow.rcv_nxt, flow.rcv_adv).max(0) as usize;
        let fresh = (payload.len() - old).min(window);
        if fresh > 0 {
            // The payload is the packet's end.
            let start = ETHERNET_HEADER + packet.ip.len() - payload.len() + old;
            if flow.gathered.is_empty() {
                self.touched.push(slot);
            }
            let gathered = Gathered { frame: frame.clone(), start: start as u32, len: fresh as u32 };
            self.gathered.push(&mut flow.gathered, gathered);
            flow.rcv_nxt = flow.rcv_nxt.wrapping_add(fresh as u32);
            if !flow.beyond.is_empty() && !has_fin {
                self.close_gap(turn, slot);
            }
        }
        let flow = &mut self.flows[slot as usize];
        if has_fin && old + fresh == payload.len() {
            flow.set(flag::GUEST_FIN);
            if flow.gathered.is_empty() {
                self.touched.push(slot);
            }
        }
    }

    /// Keeps a copy of a segment beyond a gap, if it is behind all that are kept and the window has room for it. So the
    /// guest has to send again only what was lost.
    fn keep_beyond<S>(&mut self, turn: &mut Turn<'_, S>, slot: u32, sequence: u32, payload: &[u8]) {
        let flow = &mut self.flows[slot as usize];
        let room = ahead(sequence, flow.rcv_adv);
        let is_behind = self
            .beyond
            .last(flow.beyond)
            .is_none_or(|last| !before(sequence, last.sequence.wrapping_add(last.frame.len() as u32)));
        if room <= 0 || payload.is_empty() || !is_behind || flow.has(flag::GUEST_FIN | flag::GUEST_DONE) {
            return;
        }
        let payload = &payload[..payload.len().min(room as usize)];
        let ingress = flow.ingress;
        let Some(size) = Size::for_octets(payload.len()) else { return };
        let cost = size.octets();
        // What is in order goes before.
        if self.left(ingress, turn.guests) / 4 < cost {
            return;
        }
        let Some(mut buffer) = self.pool.take(size) else { return };
        buffer[..payload.len()].copy_from_slice(payload);
        let beyond = Beyond { frame: buffer.into_frame(0..payload.len()), sequence, cost: cost as u32 };
        self.beyond.push(&mut self.flows[slot as usize].beyond, beyond);
        turn.guests.of(ingress).memory += cost;
        self.memory += cost;
    }

    /// Hands on what was beyond a gap and is next now.
    fn close_gap<S>(&mut self, turn: &mut Turn<'_, S>, slot: u32) {
        let flow = &mut self.flows[slot as usize];
        let ingress = flow.ingress;
        let mut freed = 0;
        while let Some(first) = self.beyond.first(flow.beyond) {
            let old = ahead(first.sequence, flow.rcv_nxt);
            if old < 0 {
                break;
            }
            let Some(Beyond { frame, cost, .. }) = self.beyond.pop(&mut flow.beyond) else { break };
            freed += cost as usize;
            let window = ahead(flow.rcv_nxt, flow.rcv_adv).max(0) as usize;
            let fresh = frame.len().saturating_sub(old as usize).min(window) as u32;
            if fresh > 0 {
                self.gathered.push(&mut flow.gathered, Gathered { frame, start: old as u32, len: fresh });
                flow.rcv_nxt = flow.rcv_nxt.wrapping_add(fresh);
            }
        }
        self.freed(ingress, freed, turn.guests);
    }
}
