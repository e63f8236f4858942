//! The TCP of a guest, as small as it can be: it keeps no segment beyond a gap, and repeats everything when it repeats.

use std::net::SocketAddr;

use vmlan_frame::checksum::Addresses;
use vmlan_frame::wire::{IpProtocol, TcpFlags, TcpOption, TcpRepr, TcpSegment};
use vmlan_frame::{Frame, MacAddr, Offload, Pool};

use crate::envelope::Envelope;
use crate::packet::Packet;
use crate::testing::{GATEWAY_MAC, GUEST_MAC, INGRESS};

pub(super) const ACK: TcpFlags = TcpFlags::ACK;
pub(super) const SYN: TcpFlags = TcpFlags::SYN;
pub(super) const FIN: TcpFlags = TcpFlags::FIN;
pub(super) const RST: TcpFlags = TcpFlags::RST;

/// A segment as it was seen, without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) sequence: u32,
    pub(super) acknowledgement: u32,
    pub(super) flags: TcpFlags,
    pub(super) window: u16,
    pub(super) len: usize,
}

/// Reads and checks a segment for a guest: lengths, checksum, what is left to offload.
pub(super) fn read(frame: &Frame) -> (Seen, SocketAddr, SocketAddr, Vec<u8>) {
    let packet = Packet::parse(frame).expect("a packet");
    assert_eq!((packet.protocol, packet.mac), (IpProtocol::TCP, GATEWAY_MAC));
    let tcp = TcpSegment::new_checked(packet.upper).expect("a segment");
    let offload = packet.offload;
    if offload.needs_checksum() {
        let length = packet.upper.len() as u32;
        let sum = packet.addresses.pseudo_header(IpProtocol::TCP, length).fold();
        assert_eq!(tcp.checksum(), sum, "the sum over the pseudo-header is there already");
        let start = frame.len() - packet.upper.len();
        assert_eq!((usize::from(offload.checksum_start), offload.checksum_offset), (start, 16));
        if offload.gso_type != 0 {
            assert_eq!(usize::from(offload.header_len), frame.len() - tcp.payload().len());
            assert!(tcp.payload().len() > usize::from(offload.gso_size));
        }
    } else {
        assert!(tcp.verify_checksum(&packet.addresses));
    }
    let seen = Seen {
        sequence: tcp.sequence(),
        acknowledgement: tcp.acknowledgement(),
        flags: tcp.flags().without(TcpFlags::PSH),
        window: tcp.window(),
        len: tcp.payload().len(),
    };
    let guest = SocketAddr::new(packet.destination(), tcp.destination_port());
    (seen, guest, SocketAddr::new(packet.source(), tcp.source_port()), tcp.payload().to_vec())
}

/// One end of a connection, at a guest.
pub(super) struct Peer {
    pub(super) mac: MacAddr,
    pub(super) ingress: u16,
    pub(super) guest: SocketAddr,
    pub(super) other: SocketAddr,
    pub(super) mss: Option<u16>,
    pub(super) scale: Option<u8>,
    /// Octets that it takes from `rcv_nxt` on.
    pub(super) window: u32,
    /// Octets of one frame that it sends.
    pub(super) chunk: usize,
    /// The segment size and scale of the other end.
    pub(super) their_mss: u16,
    pub(super) their_scale: Option<u8>,
    pub(super) iss: u32,
    pub(super) una: u32,
    pub(super) nxt: u32,
    pub(super) edge: u32,
    /// Octets that are not acknowledged, from `una` on.
    pub(super) unsent: Vec<u8>,
    pub(super) closes: bool,
    pub(super) is_closed: bool,
    pub(super) rcv_nxt: u32,
    pub(super) received: Vec<u8>,
    pub(super) is_open: bool,
    pub(super) has_end: bool,
    pub(super) is_reset: bool,
    /// Acknowledges what arrives.
    pub(super) answers: bool,
    pub(super) seen: Vec<Seen>,
    pub(super) outbox: Vec<Frame>,
    pub(super) pool: Pool,
}

impl Peer {
    pub(super) fn new(guest: &str, other: &str, pool: &Pool) -> Peer {
        let iss = 0xffff_ff00;
        Peer {
            mac: GUEST_MAC,
            ingress: INGRESS,
            guest: guest.parse().expect("an address"),
            other: other.parse().expect("an address"),
            mss: Some(1460),
            scale: Some(7),
            window: 1 << 20,
            chunk: 1460,
            their_mss: 536,
            their_scale: None,
            iss,
            una: iss,
            nxt: iss,
            edge: iss,
            unsent: Vec::new(),
            closes: false,
            is_closed: false,
            rcv_nxt: 0,
            received: Vec::new(),
            is_open: false,
            has_end: false,
            is_reset: false,
            answers: true,
            seen: Vec::new(),
            outbox: Vec::new(),
            pool: pool.clone(),
        }
    }

    /// Any segment; a payload that is longer than a segment leaves as a segmentation frame.
    pub(super) fn segment(
        &self,
        (sequence, acknowledgement): (u32, u32),
        flags: TcpFlags,
        window: u16,
        options: &[u8],
        payload: &[u8],
    ) -> Frame {
        let repr = TcpRepr {
            source_port: self.guest.port(),
            destination_port: self.other.port(),
            sequence,
            acknowledgement,
            flags,
            window,
            urgent: 0,
            options,
        };
        let ends = (self.guest.ip(), self.other.ip());
        let header = repr.header_len();
        let envelope = Envelope::new(GATEWAY_MAC, self.mac, ends, IpProtocol::TCP).expect("one family");
        let start = envelope.header_len();
        let is_long = payload.len() > 1460;
        let write = |octets: &mut [u8], addresses: &Addresses| {
            octets[header..].copy_from_slice(payload);
            repr.emit(octets, addresses);
        };
        let mut frame = envelope.frame(&self.pool, header + payload.len(), write).expect("a buffer");
        frame.meta.ingress = self.ingress;
        if is_long {
            frame.meta.offload = Offload {
                flags: Offload::NEEDS_CHECKSUM,
                gso_type: if self.guest.is_ipv4() { Offload::TCPV4 } else { Offload::TCPV6 },
                header_len: (start + header) as u16,
                gso_size: 1460,
                checksum_start: start as u16,
                checksum_offset: 16,
            };
        }
        frame
    }

    pub(super) fn options(&self) -> Vec<u8> {
        let mut options = Vec::new();
        if let Some(mss) = self.mss {
            options.extend([2, 4, (mss >> 8) as u8, mss as u8]);
        }
        if let Some(scale) = self.scale {
            options.extend([1, 3, 3, scale]);
        }
        options
    }

    pub(super) fn syn(&self) -> Frame {
        let window = self.window.min(0xffff) as u16;
        self.segment((self.iss, 0), SYN, window, &self.options(), &[])
    }

    fn told(&self) -> u16 {
        let scale = if self.their_scale.is_some() { self.scale.unwrap_or(0) } else { 0 };
        (self.window >> scale).min(0xffff) as u16
    }

    /// A segment without data, with the numbers that are right.
    pub(super) fn bare(&self, flags: TcpFlags) -> Frame {
        self.segment((self.nxt, self.rcv_nxt), flags, self.told(), &[], &[])
    }

    pub(super) fn acknowledge(&mut self) {
        let frame = self.bare(ACK);
        self.outbox.push(frame);
    }

    /// Data at any number.
    pub(super) fn data(&self, sequence: u32, payload: &[u8]) -> Frame {
        self.segment((sequence, self.rcv_nxt), ACK, self.told(), &[], payload)
    }

    pub(super) fn send(&mut self, octets: &[u8]) {
        self.unsent.extend(octets);
        self.pump();
    }

    pub(super) fn close(&mut self) {
        self.closes = true;
        self.pump();
    }

    /// Sends what the other end has room for.
    pub(super) fn pump(&mut self) {
        if !self.is_open || self.is_reset || self.is_closed {
            return;
        }
        loop {
            let sent = self.nxt.wrapping_sub(self.una) as usize;
            let room = self.edge.wrapping_sub(self.nxt) as i32;
            if sent > self.unsent.len() {
                return;
            }
            let len = (self.unsent.len() - sent).min(self.chunk).min(room.max(0) as usize);
            let is_last = self.closes && sent + len == self.unsent.len();
            if len == 0 && !is_last {
                return;
            }
            let flags = if is_last { FIN | ACK } else { ACK };
            let payload = self.unsent[sent..sent + len].to_vec();
            let frame = self.segment((self.nxt, self.rcv_nxt), flags, self.told(), &[], &payload);
            self.outbox.push(frame);
            self.nxt = self.nxt.wrapping_add(len as u32 + u32::from(is_last));
            if is_last {
                return;
            }
        }
    }

    /// Repeats what is not acknowledged, and asks for the window where there is nothing else.
    pub(super) fn timeout(&mut self) {
        if self.is_open && !self.is_closed && self.una != self.nxt {
            self.nxt = self.una;
            self.pump();
        }
        if self.is_open && !self.is_reset && self.nxt == self.una && !self.unsent.is_empty() {
            let probe = self.segment((self.una.wrapping_sub(1), self.rcv_nxt), ACK, self.told(), &[], &[]);
            self.outbox.push(probe);
        }
    }

    /// True when both directions have ended, and all is acknowledged.
    pub(super) fn is_done(&self) -> bool {
        self.has_end && self.is_closed && self.una == self.nxt
    }

    pub(super) fn handle(&mut self, frame: &Frame) {
        let (seen, guest, other, payload) = read(frame);
        assert_eq!((guest, other, frame.destination()), (self.guest, self.other, Some(self.mac)));
        self.seen.push(seen);
        // What answers a segment that came late is nothing to an end that is done (RFC 1337).
        if self.is_reset || seen.flags.contains(RST) && self.is_done() {
            return;
        }
        if seen.flags.contains(RST) {
            let off = seen.sequence.wrapping_sub(self.rcv_nxt);
            if !self.is_open || off == 0 {
                self.is_reset = true;
            } else if off < self.window {
                self.acknowledge();
            }
            return;
        }
        if seen.flags.contains(SYN) {
            return self.handle_syn(frame, seen);
        }
        if !self.is_open {
            return;
        }
        let sent = self.nxt.wrapping_sub(self.una);
        let done = seen.acknowledgement.wrapping_sub(self.una);
        if done <= sent.max(self.unsent.len() as u32 + 1) {
            let done = done as usize;
            self.is_closed |= self.closes && done > self.unsent.len();
            self.unsent.drain(..done.min(self.unsent.len()));
            self.una = seen.acknowledgement;
            if (self.nxt.wrapping_sub(self.una) as i32) < 0 {
                self.nxt = self.una;
            }
            self.edge = self.una.wrapping_add(u32::from(seen.window) << self.their_scale.unwrap_or(0));
        }
        let has_fin = seen.flags.contains(FIN);
        let old = self.rcv_nxt.wrapping_sub(seen.sequence) as i32;
        let is_probe = old > 0 && payload.is_empty() && !has_fin;
        if old >= 0 && (old as usize) < payload.len() + usize::from(has_fin) && !self.has_end {
            let fresh = &payload[(old as usize).min(payload.len())..];
            let fresh = &fresh[..fresh.len().min(self.window as usize)];
            let is_whole = old as usize + fresh.len() >= payload.len();
            self.received.extend(fresh);
            self.rcv_nxt = self.rcv_nxt.wrapping_add(fresh.len() as u32);
            if has_fin && is_whole {
                self.has_end = true;
                self.rcv_nxt = self.rcv_nxt.wrapping_add(1);
            }
        }
        if (!payload.is_empty() || has_fin || is_probe) && self.answers {
            self.acknowledge();
        }
        self.pump();
    }

    fn handle_syn(&mut self, frame: &Frame, seen: Seen) {
        let packet = Packet::parse(frame).expect("a packet");
        let tcp = TcpSegment::new_checked(packet.upper).expect("a segment");
        for option in tcp.options().map_while(Result::ok) {
            match option {
                TcpOption::MaximumSegmentSize(mss) => self.their_mss = mss,
                TcpOption::WindowScale(scale) => self.their_scale = Some(scale),
                _ => {}
            }
        }
        self.rcv_nxt = seen.sequence.wrapping_add(1);
        self.is_open = true;
        if seen.flags.contains(ACK) {
            self.una = seen.acknowledgement;
            self.nxt = self.una;
            self.edge = self.una.wrapping_add(u32::from(seen.window));
            self.acknowledge();
            self.pump();
        } else {
            let answer = self.segment((self.iss, self.rcv_nxt), SYN | ACK, 0xffff, &self.options(), &[]);
            self.outbox.push(answer);
            self.una = self.iss.wrapping_add(1);
            self.nxt = self.una;
            self.edge = self.una.wrapping_add(u32::from(seen.window));
        }
    }
}
