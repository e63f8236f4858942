//! TCP, mediated: each flow is a socket of the host, and the guest's sequence numbers are mapped onto it.
//!
//! Theory of operation. The guest's TCP and the host's TCP do the work; between them stands no third one. What the
//! guest sends in order is handed to the socket, and acknowledged once the socket, or a bounded queue in front of it,
//! has it. What the socket has is read into a buffer of the uplink's own, behind room for headers; the frame that
//! leaves is a handle to that buffer, and another handle is kept until the guest acknowledges. There is no congestion
//! control: on this link something is lost only when a queue is full, so what may be in flight to one guest is bounded
//! and grows with what arrives.
//!
//! Frames of a batch only note what is to be done; [`Tcp::flush`] hands each flow's data over in one call, and
//! [`Tcp::poll`] gives the flows turns of one read each, round and round. So a flow, or a guest, that has much waits
//! for the others.
//!
//! | State | Moved by |
//! |---|---|
//! | Queued | the guest's SYN; its turn to connect |
//! | Connecting | the socket: connected, or failed, which the guest is told at once |
//! | Accepting | the guest's acknowledgement of SYN/ACK |
//! | Calling | a caller from outside; the guest's SYN/ACK |
//! | Open | both directions end, each by itself; a reset ends both |
//! | Gone | two seconds |

mod arrive;
mod chains;
mod emit;
mod flow;
mod handshake;
mod held;
mod inward;
mod outward;
mod refused;
mod sequence;
mod socket;
#[cfg(test)]
mod tests;
mod timers;
mod turns;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::net::SocketAddr;
use std::time::Duration;

use vmlan_frame::{Frame, Instant, MacAddr, Pool, WriteBuf};

pub use self::flow::State;
pub use self::socket::{Failure, FlowId, GuestEnd, Read, Sockets, Target};

use self::chains::Chains;
use self::flow::{Flow, Key, Wait, flag};
use self::held::Held;
use self::turns::Turns;
use crate::guests::Guests;
use crate::keyed::Keyed;
use crate::rate::Rates;
use crate::reach::Reach;
use crate::wheel::Wheel;

/// The settings of the TCP half of an uplink.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The gateway's link address.
    pub mac: MacAddr,
    /// Octets of the network's largest packet.
    pub mtu: usize,
    /// A random key, for numbers that nobody outside may guess.
    pub key: Keyed,
    /// Octets that are kept for all guests together: no more than the pool has.
    pub memory: usize,
}

/// Everything that a call needs besides the flows.
pub struct Turn<'a, S> {
    /// The sockets.
    pub sockets: &'a mut S,
    /// The decisions about destinations.
    pub reach: &'a Reach,
    /// The guests.
    pub guests: &'a mut Guests,
    /// The allowances of each way.
    pub rates: &'a mut Rates,
    /// The time.
    pub now: Instant,
    /// Buffers for small frames, of the worker.
    pub pool: &'a Pool,
    /// Frames for guests.
    pub out: &'a mut VecDeque<Frame>,
}

/// Counts of what happened beside the frames' own counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Segments beyond a gap.
    pub out_of_order: u64,
    /// Repetitions after time went by.
    pub timeouts: u64,
    /// Repetitions after duplicate acknowledgements.
    pub fast_repeats: u64,
    /// Segments that were dropped before they reached the guest, of which the network told.
    pub refused: u64,
    /// New flows that a limit refused.
    pub flow_limit: u64,
}

/// A frame's segment that came in order and is handed to its socket at the end of the batch.
struct Gathered {
    frame: Frame,
    start: u32,
    len: u32,
}

/// A segment beyond a gap: a copy of its payload.
struct Beyond {
    frame: Frame,
    sequence: u32,
    /// Octets of its buffer.
    cost: u32,
}

/// Octets to the guest that may have to be sent again: a handle to the payload alone.
struct Sent {
    frame: Frame,
    sequence: u32,
    /// Octets of its buffer.
    cost: u32,
}

/// Octets for a socket that did not take them.
struct Kept {
    buffer: WriteBuf,
    start: u32,
    end: u32,
}

/// All TCP flows of an uplink.
pub struct Tcp {
    settings: Settings,
    flows: Vec<Flow>,
    free: Vec<u32>,
    by_key: HashMap<Key, u32, Keyed>,
    /// Whose turn it is.
    turns: Turns,
    /// Flows that the rate holds back, towards guests and from them.
    reads: Held,
    writes: Held,
    /// Flows that wait to be connected.
    queued: VecDeque<u32>,
    /// Flows of this batch.
    touched: Vec<u32>,
    gathered: Chains<Gathered>,
    beyond: Chains<Beyond>,
    sent: Chains<Sent>,
    kept: Chains<Kept>,
    wheel: Wheel,
    /// Buffers of the uplink's own, which are kept for as long as guests take.
    pool: Pool,
    /// Octets of buffers that are kept.
    memory: usize,
    /// A flow could not go on for want of a buffer; nobody tells when there is one, so it tries again then.
    starved: Option<Instant>,
    pub(crate) statistics: Statistics,
    /// The port whose guest's flow could not be for want of a descriptor, until somebody asks.
    pub(crate) without_descriptor: Option<u16>,
}

/// A flow, for people to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowReport {
    /// Its name.
    pub id: FlowId,
    /// The guest's port of the network.
    pub ingress: u16,
    /// The guest's end.
    pub guest: SocketAddr,
    /// The other end.
    pub other: SocketAddr,
    /// Its state.
    pub state: State,
    /// Octets from the guest and to it.
    pub octets: (u64, u64),
    /// Octets that wait for the socket and for the guest.
    pub kept: (u64, u64),
    /// The time of its beginning.
    pub started: Instant,
    /// When the guest was heard last.
    pub heard: Instant,
    /// True if it came from outside.
    pub came_in: bool,
}

impl Tcp {
    /// No flow yet. `pool` is the uplink's own: its large buffers bound what is in flight to all guests.
    pub fn new(settings: Settings, pool: Pool, now: Instant) -> Tcp {
        Tcp {
            flows: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::with_hasher(settings.key),
            turns: Turns::default(),
            reads: Held::default(),
            writes: Held::default(),
            queued: VecDeque::new(),
            touched: Vec::with_capacity(64),
            gathered: Chains::with_capacity(64),
            beyond: Chains::with_capacity(64),
            sent: Chains::with_capacity(1024),
            kept: Chains::with_capacity(256),
            wheel: Wheel::new(now),
            pool,
            memory: 0,
            starved: None,
            settings,
            statistics: Statistics::default(),
            without_descriptor: None,
        }
    }

    /// Flows that there are, those included that are over and remembered for a moment.
    pub fn len(&self) -> usize {
        self.flows.len() - self.free.len()
    }

    /// True if there is a flow between these ends.
    pub(crate) fn has_flow(&self, guest: SocketAddr, other: SocketAddr) -> bool {
        self.by_key.contains_key(&Key::new(guest, other))
    }

    /// True without any flow.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Octets of buffers that are kept for all flows together.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Counts of what happened.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Returns when [`Tcp::poll`] has something to do, if time alone brings it.
    pub fn deadline(&self) -> Option<Instant> {
        let held = [self.reads.deadline(), self.writes.deadline()];
        let others = [self.wheel.deadline(), self.turns.deadline(), self.starved];
        held.into_iter().chain(others).flatten().min()
    }

    /// True if [`Tcp::poll`] has something to do now.
    pub fn has_output(&self) -> bool {
        self.starved.is_none() && self.turns.has_next()
            || !self.queued.is_empty()
            || !self.touched.is_empty()
            || self.turns.asks()
    }

    /// True if [`Tcp::poll`] has something to do now, or to try again when there are buffers.
    pub fn has_work(&self) -> bool {
        self.starved.is_some() || self.has_output()
    }

    /// Reports every flow.
    pub fn reports(&self) -> impl Iterator<Item = FlowReport> + '_ {
        self.flows.iter().enumerate().filter(|(_, flow)| flow.state != State::Free).map(|(slot, flow)| {
            FlowReport {
                id: FlowId { slot: slot as u32, generation: flow.generation },
                ingress: flow.ingress,
                guest: flow.key.guest(),
                other: flow.key.other(),
                state: flow.state,
                octets: (flow.octets_out, flow.octets_in),
                kept: (u64::from(flow.kept_octets), u64::from(flow.in_flight())),
                started: flow.started,
                heard: flow.heard,
                came_in: flow.has(flag::CAME_IN),
            }
        })
    }

    /// Finds the slot of a flow that there is.
    fn slot_of(&self, id: FlowId) -> Option<u32> {
        let flow = self.flows.get(id.slot as usize)?;
        (flow.generation == id.generation && flow.state != State::Free).then_some(id.slot)
    }

    fn id(&self, slot: u32) -> FlowId {
        FlowId { slot, generation: self.flows[slot as usize].generation }
    }

    /// A new flow.
    fn allocate(&mut self, key: Key, ingress: u16, guests: &mut Guests, now: Instant) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.flows.push(Flow::new(key, 0, now));
            (self.flows.len() - 1) as u32
        });
        let flow = &mut self.flows[slot as usize];
        let (generation, paused) = (flow.generation, flow.flags & flag::PAUSED);
        *flow = Flow::new(key, generation, now);
        flow.flags = paused | flag::HALF_OPEN;
        flow.ingress = ingress;
        flow.iss = iss(&self.settings.key, &key, now);
        (flow.una, flow.nxt, flow.max) = (flow.iss, flow.iss, flow.iss);
        self.by_key.insert(key, slot);
        let guest = guests.of(ingress);
        guest.flows += 1;
        guest.half_open += 1;
        slot
    }

    /// Forgets a flow whose socket is closed.
    fn release(&mut self, slot: u32, guests: &mut Guests) {
        self.unlist(slot);
        self.let_go(slot, guests);
        self.wheel.stop(slot);
        let flow = &mut self.flows[slot as usize];
        let guest = guests.of(flow.ingress);
        guest.flows = guest.flows.saturating_sub(1);
        if flow.has(flag::HALF_OPEN) {
            guest.half_open = guest.half_open.saturating_sub(1);
        }
        self.by_key.remove(&flow.key);
        flow.state = State::Free;
        flow.flags &= flag::PAUSED;
        flow.wait = Wait::Nothing;
        flow.generation = flow.generation.wrapping_add(1);
        self.free.push(slot);
    }

    /// Frees everything that is kept for a flow.
    fn let_go(&mut self, slot: u32, guests: &mut Guests) {
        self.forget_data(slot, guests);
        let flow = &mut self.flows[slot as usize];
        let mut freed = 0;
        while let Some(sent) = self.sent.pop(&mut flow.sent) {
            freed += sent.cost as usize;
        }
        let (ingress, in_flight) = (flow.ingress, flow.pipe() as usize);
        let was_open = flow.state == State::Open;
        (flow.una, flow.nxt) = (flow.max, flow.max);
        if was_open {
            let guest = guests.of(ingress);
            guest.in_flight = guest.in_flight.saturating_sub(in_flight);
        }
        self.freed(ingress, freed, guests);
        self.wake(ingress);
    }

    /// Frees what the guest sent and the socket did not take.
    fn forget_data(&mut self, slot: u32, guests: &mut Guests) {
        let flow = &mut self.flows[slot as usize];
        let mut freed = 0;
        while let Some(kept) = self.kept.pop(&mut flow.kept) {
            freed += kept.buffer.len();
        }
        while self.gathered.pop(&mut flow.gathered).is_some() {}
        while let Some(beyond) = self.beyond.pop(&mut flow.beyond) {
            freed += beyond.cost as usize;
        }
        flow.kept_octets = 0;
        let ingress = flow.ingress;
        self.freed(ingress, freed, guests);
    }

    /// Octets of buffers are not kept for a guest any more.
    fn freed(&mut self, ingress: u16, octets: usize, guests: &mut Guests) {
        let guest = guests.of(ingress);
        guest.memory = guest.memory.saturating_sub(octets);
        self.memory = self.memory.saturating_sub(octets);
        if octets > 0 {
            self.starved = None;
        }
    }

    /// A buffer was missing: nobody has a turn until some are back.
    fn lack(&mut self, now: Instant) {
        /// Buffers are with other ports meanwhile, and come back without a word.
        const AGAIN: Duration = Duration::from_millis(1);
        self.starved = Some(now + AGAIN);
    }

    /// Octets that may still be kept for a guest. It never has more than is left for all the others.
    fn left(&self, ingress: u16, guests: &mut Guests) -> usize {
        let (own, limit) = (guests.of(ingress).memory, guests.limits.memory);
        let all = self.settings.memory.saturating_sub(self.memory);
        limit.min(all).saturating_sub(own)
    }

    /// A flow is established.
    fn established(&mut self, slot: u32, guests: &mut Guests) {
        let flow = &mut self.flows[slot as usize];
        flow.state = State::Open;
        flow.tries = 0;
        if flow.has(flag::HALF_OPEN) {
            flow.clear(flag::HALF_OPEN);
            let guest = guests.of(flow.ingress);
            guest.half_open = guest.half_open.saturating_sub(1);
        }
    }
}

/// The first sequence number of a flow: not to be guessed, and higher with each use of the same ends (RFC 6528).
fn iss(secret: &Keyed, key: &Key, now: Instant) -> u32 {
    let mut hasher = secret.build_hasher();
    hasher.write(&key.guest.octets());
    hasher.write(&key.other.octets());
    hasher.write_u32(u32::from(key.guest_port) << 16 | u32::from(key.other_port));
    (hasher.finish() as u32).wrapping_add((now.as_nanos() / 4_000) as u32)
}
