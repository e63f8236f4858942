//! Frames that the network did not take.

use std::net::SocketAddr;

use vmlan_frame::Frame;
use vmlan_frame::wire::{IpProtocol, TcpFlags, TcpSegment};

use super::flow::{Key, State, flag};
use super::inward::REFUSALS;
use super::sequence::{before, within};
use super::{Tcp, Turn};
use crate::packet::Packet;

impl Tcp {
    /// The queue of the guest's port had no room for a frame of a flow: what was in it, and what came after, is sent
    /// again at once, without a timer. Other frames are ignored.
    pub fn refused<S>(&mut self, turn: &mut Turn<'_, S>, frame: &Frame) {
        let Ok(packet) = Packet::parse(frame) else { return };
        if packet.protocol != IpProtocol::TCP || packet.fragment.is_some() {
            return;
        }
        let Ok(tcp) = TcpSegment::new_checked(packet.upper) else { return };
        let guest = SocketAddr::new(packet.destination(), tcp.destination_port());
        let other = SocketAddr::new(packet.source(), tcp.source_port());
        let Some(&slot) = self.by_key.get(&Key::new(guest, other)) else { return };
        let flow = &mut self.flows[slot as usize];
        if flow.state != State::Open || tcp.flags().intersects(TcpFlags::SYN | TcpFlags::RST) {
            return;
        }
        self.statistics.refused += 1;
        let len = tcp.payload().len() as u32 + u32::from(tcp.flags().contains(TcpFlags::FIN));
        if len == 0 {
            flow.set(flag::ACK);
        } else {
            let (from, end) = (tcp.sequence(), tcp.sequence().wrapping_add(len));
            // Part of it may have been acknowledged since, as a repetition.
            let from = if before(from, flow.una) && before(flow.una, end) { flow.una } else { from };
            if within(from, flow.una, flow.nxt) {
                self.step_back(slot, Some(from), turn.guests);
            }
            self.lost(turn, slot);
        }
        // A guest that takes nothing at all is not to be tried for ever at such a pace.
        let flow = &mut self.flows[slot as usize];
        if flow.refusals < REFUSALS {
            flow.refusals += 1;
            self.pause(slot, turn.now);
        }
        self.rearm(slot, turn.now, false);
    }
}
