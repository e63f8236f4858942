//! From the port that received a batch to the queues of the ports that get it.
//!
//! Theory of operation. A forwarder belongs to one worker and one network. It holds the port table that it last saw and
//! takes up a newer one between batches, which costs one atomic load when nothing changed. Within a batch every frame
//! goes through four steps: admission (`admission`: what the frame alone and the port's policy decide), its source
//! (guard by other ports' set addresses, learning), the stages of its port (`guard`), its destination. The last step
//! decides who gets a copy and moves the frame to the last of them, so unicast clones nothing.
//!
//! The last source and the last destination are remembered (`memo`) until the FDB changes, and what follows from them
//! for all frames of a flow to one receiver (`flows`), so that most frames take none of these steps.
//!
//! A network with a trunk goes another way (`trunk`) through the same steps; flows are the same in both.

mod admission;
mod budget;
mod flows;
mod memo;
mod shared;
mod trunk;

use core::{iter, mem};
use std::sync::Arc;

use vmlan_frame::{Account, Batch, Context, DropReason, Frame, Instant, Losses, Sides, Witness};

use self::admission::Header;
use self::budget::{Allowance, Budgets};
use self::memo::{Memo, Target};
use self::trunk::Beside;
use crate::egress::Way;
use crate::fdb::{Claimant, EntryKind, Key, Learning};
use crate::guard::{Challenge, Inspection, Inspector, Stages};
use crate::port::Port;
use crate::port_table::PortTable;
use crate::{Egress, Network, PortId, Rate};

/// A worker's view of one network.
pub struct Forwarder {
    network: Arc<Network>,
    ports: Arc<PortTable>,
    memo: Memo,
    budgets: Budgets,
    inspector: Inspector,
    /// Of the batch.
    losses: Losses,
    /// The frames that the last turn left, see [`Forwarder::left`].
    left: Batch,
}

impl Forwarder {
    /// A forwarder for `network`.
    pub fn new(network: Arc<Network>) -> Forwarder {
        let ports = network.ports();
        let (memo, budgets, inspector) = (Memo::default(), Budgets::default(), Inspector::default());
        let (losses, left) = (Losses::default(), Batch::default());
        Forwarder { network, ports, memo, budgets, inspector, losses, left }
    }

    /// The frames that the last call did not come to, because those before them used up what the egress allows
    /// ([`Egress::allow`]); nothing is counted of them yet. The caller takes them out, and forwards them in the port's
    /// next turn, before what the port receives later.
    #[inline]
    pub fn left(&mut self) -> &mut Batch {
        &mut self.left
    }

    /// Forwards what the port `ingress` received, in order, and empties the batch, as far as the egress allows
    /// ([`Forwarder::left`]).
    ///
    /// Every frame is counted at `ingress`: as copies made, or as lost there. Copies for which a port has no room are
    /// lost there as [`DropReason::QueueFull`].
    ///
    /// Returns false when `ingress` is no port of the network any more. Then nothing happened to the batch, and the
    /// caller loses it as [`DropReason::NotAttached`].
    #[must_use]
    pub fn forward(
        &mut self,
        cx: &Context<'_>,
        ingress: PortId,
        batch: &mut Batch,
        egress: &mut Egress,
    ) -> bool {
        // 2^32 seconds are 136 years.
        let (started, now) = (cx.now, cx.now.as_secs() as u32);
        self.catch_up(now);
        let Some(from) = self.ports.port(ingress) else { return false };
        if !from.enabled {
            // It takes nothing from a port that is not enabled.
            from.account.lose_all(cx, batch, DropReason::PortDown);
            return true;
        }
        let allowance = self.budgets.start(from, started);
        let (network, ports) = (&*self.network, &*self.ports);
        let (memo, left) = (&mut self.memo, &mut self.left);
        let inspection = self.inspector.start(network, ports, from, started);
        let mut lose = Lose { cx, account: &from.account, losses: &mut self.losses };
        let mut pass = Pass { cx, network, ports, from, now, memo, egress, allowance, inspection };
        let copies = each((batch, left), &mut lose, &mut pass);
        let allowance = pass.finish();
        self.budgets.finish(from, &allowance, started);
        let counters = from.account.counters();
        counters.copied(cx.worker, copies);
        self.losses.settle(cx, counters);
        settle(cx, &self.ports, egress);
        true
    }

    /// When [`Forwarder::decide`] is to be called next: a guest has claimed another's address, and the other had a
    /// second to say that it still has it.
    #[inline]
    pub fn due(&self) -> Option<Instant> {
        self.inspector.due()
    }

    /// Forwards the claims that were held back until `now` and that nobody denied, and loses the others at their
    /// ports.
    pub fn decide(&mut self, cx: &Context<'_>, egress: &mut Egress) {
        let (now, seconds) = (cx.now, cx.now.as_secs() as u32);
        self.catch_up(seconds);
        while let Some(held) = self.inspector.next(now) {
            let (network, ports) = (&*self.network, &*self.ports);
            // Nobody has a word to say where the port or the stage has gone meanwhile.
            let examined = ports.port(held.port).filter(|port| port.stages.contains(Stages::CLAIMS));
            let Some(from) = examined else { continue };
            let allowance = self.budgets.start(from, now);
            let inspection = self.inspector.start(network, ports, from, now);
            let memo = &mut self.memo;
            let kept = kept(&from.account, &held.frame);
            let mut pass =
                Pass { cx, network, ports, from, now: seconds, memo, egress, allowance, inspection };
            let result = pass.decide(held);
            let allowance = pass.finish();
            self.budgets.finish(from, &allowance, now);
            match result {
                Ok(copies) => from.account.counters().copied(cx.worker, copies),
                Err(reason) => {
                    let losses = &mut self.losses;
                    Lose { cx, account: &from.account, losses }.frame(kept.as_ref(), reason);
                    losses.settle(cx, from.account.counters());
                }
            }
            settle(cx, ports, egress);
        }
    }

    /// Takes up what other threads changed.
    #[inline]
    fn catch_up(&mut self, now: u32) {
        if self.network.generation() != self.ports.generation {
            self.ports = self.network.ports();
            self.memo.forget();
        }
        self.memo.catch_up(self.network.fdb.version(), now);
    }
}

/// Has what ports had no room for counted.
#[inline]
fn settle(cx: &Context<'_>, ports: &PortTable, egress: &mut Egress) {
    egress.settle(|port, losses| {
        if let Some(port) = ports.port(port) {
            losses.settle(cx, port.account.counters());
        }
    });
}

/// The way in which a batch loses frames at the port that received it.
struct Lose<'a> {
    cx: &'a Context<'a>,
    account: &'a Account,
    losses: &'a mut Losses,
}

impl Lose<'_> {
    fn frame(&mut self, kept: Option<&Frame>, reason: DropReason) {
        self.losses.lose(self.cx, (self.account.counters(), self.account), kept, reason);
    }
}

/// A second handle to a frame that goes its way, where a witness is to see it if it is lost.
fn kept(account: &Account, frame: &Frame) -> Option<Frame> {
    account.is_present().then(|| frame.clone())
}

/// Forwards every frame until the egress allows no more, the first in any case: then those behind go to `left`. Returns
/// how many copies were made.
#[inline]
fn each((batch, left): (&mut Batch, &mut Batch), lose: &mut Lose<'_>, pass: &mut Pass<'_>) -> u64 {
    let mut copies = 0;
    let is_watched = lose.account.is_present();
    let frames = batch.iter_mut().into_slice();
    let (mut at, mut goes_on) = (0, true);
    while goes_on && at < frames.len() {
        let count = pass.hand_on(&mut frames[at..]);
        copies += count as u64;
        at += count;
        if (count == 0 || pass.egress.is_allowed())
            && let Some(frame) = frames.get_mut(at)
        {
            let kept = is_watched.then(|| frame.clone());
            match pass.frame(mem::take(frame)) {
                Ok(count) => copies += count,
                Err(reason) => lose.frame(kept.as_ref(), reason),
            }
            at += 1;
        }
        goes_on = pass.egress.is_allowed();
    }
    frames[at..].iter_mut().for_each(|frame| left.push(mem::take(frame)));
    batch.clear();
    copies
}

/// Returns the number of copies of a frame to all, or to an unknown address, which may have nobody to get it.
#[inline]
fn heard(copies: u64) -> Result<u64, DropReason> {
    if copies == 0 { Err(DropReason::NoReceiver) } else { Ok(copies) }
}

/// One batch on its way.
struct Pass<'a> {
    cx: &'a Context<'a>,
    network: &'a Network,
    ports: &'a PortTable,
    /// The port that received the batch.
    from: &'a Port,
    /// In seconds.
    now: u32,
    memo: &'a mut Memo,
    egress: &'a mut Egress,
    /// The allowance that the port has left.
    allowance: Allowance,
    /// The stages of the port.
    inspection: Inspection<'a>,
}

/// The verdict of a port's stages on a frame that they do not drop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Examined {
    /// It goes on.
    Passed,
    /// It is held back, and another frame was sent instead.
    Held,
}

impl<'a> Pass<'a> {
    /// Ends the batch, and with it the lock that it may hold. Returns the allowance that the port has left.
    #[inline]
    fn finish(self) -> Allowance {
        self.allowance
    }

    /// Forwards one frame; returns how many copies were made, at least one.
    #[inline(never)]
    fn frame(&mut self, frame: Frame) -> Result<u64, DropReason> {
        match &self.ports.trunk {
            None => self.frame_between_guests(frame),
            Some(entry) => Beside { pass: self, entry }.frame(frame),
        }
    }

    #[inline]
    fn frame_between_guests(&mut self, frame: Frame) -> Result<u64, DropReason> {
        let header = self.admit(&frame)?;
        if self.examine(&frame, &header)? == Examined::Held {
            return Ok(1);
        }
        let copies = if header.destination.is_multicast() {
            self.charge_group(&frame, &header)?;
            let ports = self.ports;
            let copies = self.fan_out(frame, &header, ports.active.iter().map(|port| &**port));
            self.allowance.made(copies);
            return heard(copies);
        } else if header.destination == header.source {
            0
        } else {
            self.unicast(frame, &header)?
        };
        if copies == 0 { Err(DropReason::NoDestination) } else { Ok(copies) }
    }

    /// Checks that a guest's frame may go on, and learns its source.
    #[inline]
    fn admit(&mut self, frame: &Frame) -> Result<Header, DropReason> {
        let header = admission::admit(frame, self.from, self.ports)?;
        if !self.from.guard {
            self.check_source(&header)?;
        }
        if !self.allowance.octets(frame) {
            return Err(DropReason::RateLimit);
        }
        Ok(header)
    }

    /// Asks the stages of the port about a guest's frame that is admitted. Both ways through a network ask here, after
    /// the source is learnt and before the destination is looked up.
    #[inline]
    fn examine(&mut self, frame: &Frame, header: &Header) -> Result<Examined, DropReason> {
        let stages = self.from.stages;
        if stages.is_empty() || !stages.concern(frame) {
            Ok(Examined::Passed)
        } else {
            self.ask(frame, header)
        }
    }

    /// The same for the few frames that concern a stage. Apart, so that what it keeps in hand costs the others nothing.
    #[inline(never)]
    fn ask(&mut self, frame: &Frame, header: &Header) -> Result<Examined, DropReason> {
        let Some((to, question)) = self.inspection.examine(frame, header.sender())? else {
            return Ok(Examined::Passed);
        };
        self.send(to, question, header);
        Ok(Examined::Held)
    }

    /// Decides a claim of the port's that was held back: it goes on its way, as new, when the former owner has given
    /// the address up.
    fn decide(&mut self, held: Challenge) -> Result<u64, DropReason> {
        let Challenge { key, owner, frame, .. } = held;
        let header = self.admit(&frame)?;
        self.inspection.decide(header.source, key, owner)?;
        self.frame(frame)
    }

    /// Charges the port for a frame to every other one. To a single one it costs no more than any frame. The copies are
    /// charged when they are made ([`Allowance::made`]).
    #[inline]
    fn charge_group(&mut self, frame: &Frame, header: &Header) -> Result<(), DropReason> {
        let ports = self.ports.active.len() + usize::from(self.ports.trunk.is_some());
        self.charge(frame, header, &self.ports.active, ports - usize::from(self.from.active))
    }

    /// Charges the port for a frame to all ports that may have its unknown address.
    fn charge_unknown(&mut self, frame: &Frame, header: &Header) -> Result<(), DropReason> {
        let (flooded, from) = (&self.ports.flooded, self.from);
        let is_trunk = self.ports.trunk.as_ref().is_some_and(|entry| entry.port.id == from.id);
        let is_among_them = !is_trunk && from.active && (from.macs.is_empty() || from.promiscuous);
        let receivers = flooded.len() - usize::from(is_among_them);
        self.charge(frame, header, flooded, receivers)
    }

    /// `receivers` is how many ports get a copy at most.
    #[inline]
    fn charge(
        &mut self,
        frame: &Frame,
        header: &Header,
        ports: &[Arc<Port>],
        receivers: usize,
    ) -> Result<(), DropReason> {
        if receivers < 2 {
            return Ok(());
        }
        let segments = frame.segments() as u64;
        let mut copies = segments * receivers as u64;
        if copies > Rate::LEAST_COPIES {
            copies = segments * self.count(header, ports);
        }
        if self.allowance.flood(segments, copies) { Ok(()) } else { Err(DropReason::Storm) }
    }

    /// How many of `ports` get the frame, and the trunk. For frames that may be too many copies for any budget: mostly
    /// those of all ports are few enough.
    #[cold]
    fn count(&self, header: &Header, ports: &[Arc<Port>]) -> u64 {
        let receivers = ports.iter().filter(|port| port.receives(self.from, header.vlan)).count();
        (receivers + usize::from(self.ports.trunk.is_some())) as u64
    }

    /// Learns the source, or drops the frame when the source is set for another port.
    #[inline]
    fn check_source(&mut self, header: &Header) -> Result<(), DropReason> {
        let key = Key::new(header.source, header.vlan);
        if self.memo.knows_source(key, self.from.id, self.now) {
            return Ok(());
        }
        self.look_at_source(key, header)
    }

    fn look_at_source(&mut self, key: Key, header: &Header) -> Result<(), DropReason> {
        let fdb = &self.network.fdb;
        let from = self.from.id;
        match fdb.find(key) {
            Some(entry) if entry.port == from => fdb.refresh(&entry, self.now),
            Some(entry) if entry.kind == EntryKind::Set => {
                // An address that is set for a trunk port says nothing about VLANs which that port is not in.
                let owner = self.ports.port(entry.port);
                if owner.is_some_and(|owner| owner.vlan.includes(header.vlan)) {
                    return Err(DropReason::SourceGuard);
                }
            }
            Some(entry) if entry.kind == EntryKind::Static => {}
            former => {
                let proven = former.is_some() && self.is_for_us(header);
                match fdb.learn(key, Claimant { port: from, proven }, self.now) {
                    Learning::Changed => self.memo.forget(),
                    Learning::Refused => {}
                    Learning::Contested { moved } => {
                        if moved {
                            self.memo.forget();
                        }
                        return Err(DropReason::Contested);
                    }
                    Learning::Busy => return Ok(()),
                }
            }
        }
        self.memo.remember_source(key, from, self.now);
        Ok(())
    }

    /// True if a frame from the trunk is unicast to a station behind this network: no switch on the wire sends that
    /// back to where it came from.
    #[cold]
    fn is_for_us(&mut self, header: &Header) -> bool {
        let Some(entry) = &self.ports.trunk else { return false };
        if header.destination.is_multicast() {
            return false;
        }
        match self.target(header) {
            Target::Port(id) if id == entry.port.id => entry.trunk.macs.contains(&header.destination),
            Target::Port(_) => true,
            Target::Unknown => false,
        }
    }

    #[inline]
    fn unicast(&mut self, frame: Frame, header: &Header) -> Result<u64, DropReason> {
        let (ports, from) = (self.ports, self.from);
        let to = match self.target(header) {
            Target::Port(id) if id == from.id => return Ok(0),
            Target::Port(id) => ports.port(id),
            Target::Unknown => None,
        };
        let Some(to) = to else {
            self.charge_unknown(&frame, header)?;
            let copies = self.fan_out(frame, header, ports.flooded.iter().map(|port| &**port));
            self.allowance.made(copies);
            return heard(copies);
        };
        if ports.promiscuous.is_empty() {
            if !to.receives(from, header.vlan) {
                return Ok(0);
            }
            self.send_alone(to, frame, header, Sides::NONE);
            return Ok(1);
        }
        let listeners = ports.promiscuous.iter().map(|port| &**port).filter(|port| port.id != to.id);
        Ok(self.fan_out(frame, header, iter::once(to).chain(listeners)))
    }

    #[inline]
    fn target(&mut self, header: &Header) -> Target {
        let key = Key::new(header.destination, header.vlan);
        if let Some(target) = self.memo.target(key) {
            return target;
        }
        let target = self.look_up(key, header);
        self.memo.remember_target(key, target);
        target
    }

    fn look_up(&self, key: Key, header: &Header) -> Target {
        let Some(entry) = self.network.fdb.find(key) else {
            return Target::Unknown;
        };
        match self.ports.port(entry.port) {
            // Set for a trunk port that is not in this VLAN.
            Some(port) if entry.key.is_wildcard() && !port.vlan.includes(header.vlan) => Target::Unknown,
            Some(port) => Target::Port(port.id),
            // Of a port that was just removed, or is in a table which comes with the next batch.
            None => Target::Unknown,
        }
    }

    /// Sends a copy to every one of `ports` that may get one, the frame itself to the last; returns how many.
    #[inline]
    fn fan_out<'p>(&mut self, frame: Frame, header: &Header, ports: impl Iterator<Item = &'p Port>) -> u64 {
        let from = self.from;
        let mut receivers = ports.filter(|port| port.receives(from, header.vlan));
        let Some(mut to) = receivers.next() else {
            return 0;
        };
        let mut copies = 1;
        for next in receivers {
            self.send(to, frame.clone(), header);
            to = next;
            copies += 1;
        }
        self.send(to, frame, header);
        copies
    }

    #[inline]
    fn send(&mut self, to: &Port, frame: Frame, header: &Header) {
        let way = self.way(to, &frame, header, frame.meta.sides);
        self.egress.push(self.cx, (&way, &to.account), frame);
    }

    #[inline]
    fn way(&self, to: &Port, frame: &Frame, header: &Header, sides: Sides) -> Way {
        let tag = to.vlan.egress_tag(header.vlan, frame.meta.tag);
        Way { to: to.id, tag, sides, ingress: self.from.id.slot() as u16 + 1 }
    }
}
