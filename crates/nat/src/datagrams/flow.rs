//! Flows, by key, by guest and by age.
//!
//! Theory of operation. A flow is a socket of a guest's address and port (or echo identifier), a listener of a forward,
//! or one caller of such a listener. It has a slot in the table, which is its socket's too. Each but a listener is in
//! two lists: of its timeout, in order of its last datagram, and of its guest, which finds what a full guest gives up:
//! the oldest flow of the same kind that was never answered, or of echo just the oldest.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use vmlan_frame::{Instant, MacAddr};

use super::Settings;
use super::drops::Drop;
use super::sockets::Family;
use crate::bucket::Bucket;
use crate::chain::{Chain, List};
use crate::keyed::Keyed;

/// A kind of flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FlowKind {
    /// A guest's UDP address and port, with a socket (RFC 4787: one mapping for all its peers).
    Udp,
    /// A guest's address and echo identifier, with a socket.
    Echo,
    /// A listener of a forward.
    Forward,
    /// One caller of a forward.
    Caller,
}

#[derive(Debug)]
pub(super) struct Flow {
    pub kind: FlowKind,
    /// Tells one user of the slot from the next.
    pub serial: u32,
    /// The guest's address and port, or identifier.
    pub guest: SocketAddr,
    pub mac: MacAddr,
    pub ingress: u16,
    /// The family of the socket.
    pub family: Family,
    /// True if there was traffic against the direction that the flow began with.
    pub answered: bool,
    /// True if the guest sent only to ports that answer at once.
    pub short: bool,
    /// The latest other side.
    pub peer: SocketAddr,
    /// Of a caller: its address as the guest sees it.
    pub inside: SocketAddr,
    /// Of a caller: the slot of the forward.
    pub listener: u32,
    pub since: Instant,
    pub last: Instant,
    pub octets_out: u64,
    pub octets_in: u64,
    /// The list that the flow is in.
    pub timeout: Timeout,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timeout {
    Answered,
    OneWay,
    Short,
    Echo,
}

impl Timeout {
    const ALL: [Timeout; 4] = [Timeout::Answered, Timeout::OneWay, Timeout::Short, Timeout::Echo];

    /// RFC 4787 REQ-5: two minutes at least, five recommended, and less for well-known ports; RFC 5508 REQ-2: a minute
    /// for echo.
    const fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Timeout::Answered => 300,
            Timeout::OneWay => 120,
            Timeout::Short => 30,
            Timeout::Echo => 60,
        })
    }
}

impl Flow {
    pub fn new(kind: FlowKind, guest: SocketAddr, family: Family, now: Instant) -> Flow {
        Flow {
            kind,
            serial: 0,
            guest,
            mac: MacAddr::default(),
            ingress: 0,
            family,
            answered: false,
            short: kind == FlowKind::Udp,
            peer: guest,
            inside: guest,
            listener: 0,
            since: now,
            last: now,
            octets_out: 0,
            octets_in: 0,
            timeout: Timeout::OneWay,
        }
    }

    fn due(&self) -> Timeout {
        match (self.kind, self.answered, self.short) {
            (FlowKind::Echo, ..) => Timeout::Echo,
            (_, true, _) => Timeout::Answered,
            (_, false, true) => Timeout::Short,
            (_, false, false) => Timeout::OneWay,
        }
    }

    fn list(&self) -> usize {
        match (self.kind, self.answered) {
            (FlowKind::Udp, false) => 0,
            (FlowKind::Caller, false) => 1,
            (FlowKind::Echo, _) => 2,
            _ => OTHERS,
        }
    }

    /// True if the flow has a descriptor that its guest is charged for.
    fn has_socket(&self) -> bool {
        matches!(self.kind, FlowKind::Udp | FlowKind::Echo)
    }
}

/// The list of answered flows, which are never given up for others.
const OTHERS: usize = 3;

/// The flows of one guest, and what it may do how often.
#[derive(Debug)]
pub(super) struct GuestState {
    lists: [List; 4],
    counts: [usize; 3],
    beginnings: Bucket,
    /// The same for callers, so that they do not use up what the guest may begin.
    calls: Bucket,
    /// Errors that are told.
    pub errors: Bucket,
}

impl GuestState {
    fn new() -> GuestState {
        GuestState {
            lists: Default::default(),
            counts: [0; 3],
            beginnings: Bucket::new(NEW_FLOWS, NEW_FLOWS),
            calls: Bucket::new(NEW_FLOWS, NEW_FLOWS),
            errors: Bucket::new(ERRORS, ERRORS),
        }
    }
}

/// New flows of a guest in a second.
const NEW_FLOWS: u32 = 500;

/// Errors that a guest is told in a second.
const ERRORS: u32 = 100;

const fn count_of(kind: FlowKind) -> Option<usize> {
    match kind {
        FlowKind::Udp => Some(0),
        FlowKind::Caller => Some(1),
        FlowKind::Echo => Some(2),
        FlowKind::Forward => None,
    }
}

type Key = (FlowKind, SocketAddr, Family);

/// All flows.
#[derive(Debug)]
pub(super) struct Table {
    flows: Vec<Option<Flow>>,
    free: Vec<u32>,
    keys: HashMap<Key, u32, Keyed>,
    /// By number of the port.
    guests: Vec<Option<Box<GuestState>>>,
    ages: Chain,
    ends: [List; 4],
    owners: Chain,
    limit: usize,
    /// Flows with a descriptor that guests are charged for.
    sockets: usize,
    per_guest: [usize; 3],
    serial: u32,
}

impl Table {
    pub fn new(settings: &Settings) -> Table {
        Table {
            flows: Vec::new(),
            free: Vec::new(),
            keys: HashMap::with_hasher(Keyed(settings.key)),
            guests: Vec::new(),
            ages: Chain::default(),
            ends: Default::default(),
            owners: Chain::default(),
            limit: settings.flows,
            sockets: 0,
            per_guest: [settings.udp_per_guest, settings.udp_per_guest, settings.echo_per_guest],
            serial: 0,
        }
    }

    pub fn guest(&mut self, ingress: u16) -> &mut GuestState {
        let index = usize::from(ingress);
        if self.guests.len() <= index {
            self.guests.resize_with(index + 1, || None);
        }
        self.guests[index].get_or_insert_with(|| Box::new(GuestState::new()))
    }

    pub fn forget_guest(&mut self, ingress: u16) {
        if let Some(guest) = self.guests.get_mut(usize::from(ingress)) {
            *guest = None;
        }
    }

    #[inline]
    pub fn find(&self, kind: FlowKind, guest: SocketAddr, family: Family) -> Option<u32> {
        self.keys.get(&(kind, guest, family)).copied()
    }

    #[inline]
    pub fn get(&self, slot: u32) -> Option<&Flow> {
        self.flows.get(slot as usize)?.as_ref()
    }

    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Flow)> {
        let slots = self.flows.iter().enumerate();
        slots.filter_map(|(slot, flow)| Some((slot as u32, flow.as_ref()?)))
    }

    /// Tells whether a guest may begin another flow now, and which of its own it has to give up for that.
    pub fn admit(&mut self, kind: FlowKind, ingress: u16, now: Instant) -> Result<Option<u32>, Drop> {
        let Some(which) = count_of(kind) else { return Ok(None) };
        let (most, limit, sockets) = (self.per_guest[which], self.limit, self.sockets);
        let is_full = self.free.is_empty() && self.flows.len() >= limit;
        let guest = self.guest(ingress);
        let bucket = if kind == FlowKind::Caller { &mut guest.calls } else { &mut guest.beginnings };
        if !bucket.take(now) {
            return Err(Drop::FlowLimit);
        }
        // No guest has more than half of what the others leave.
        let own = guest.counts[0] + guest.counts[2];
        let is_greedy = kind != FlowKind::Caller && 2 * own >= limit.saturating_sub(sockets - own);
        if guest.counts[which] < most && !is_full && !is_greedy {
            return Ok(None);
        }
        guest.lists[which].first().map(Some).ok_or(Drop::FlowLimit)
    }

    /// Adds a flow; `None` when all slots are taken.
    pub fn insert(&mut self, flow: Flow) -> Option<u32> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.flows.len() < self.limit => {
                self.flows.push(None);
                self.ages.grow(self.flows.len());
                self.owners.grow(self.flows.len());
                (self.flows.len() - 1) as u32
            }
            None => return None,
        };
        self.serial = self.serial.wrapping_add(1);
        let flow = Flow { serial: self.serial, timeout: flow.due(), ..flow };
        if let Some(which) = count_of(flow.kind) {
            let list = flow.list();
            self.guest(flow.ingress).counts[which] += 1;
            self.ages.push(&mut self.ends[flow.timeout as usize], slot);
            let guest = self.guests[usize::from(flow.ingress)].as_mut().expect("it was asked for");
            self.owners.push(&mut guest.lists[list], slot);
        }
        self.sockets += usize::from(flow.has_socket());
        if flow.has_socket() {
            self.keys.insert((flow.kind, flow.guest, flow.family), slot);
        }
        self.flows[slot as usize] = Some(flow);
        Some(slot)
    }

    pub fn remove(&mut self, slot: u32) -> Option<Flow> {
        let flow = self.flows.get_mut(slot as usize)?.take()?;
        if let Some(which) = count_of(flow.kind) {
            self.ages.remove(&mut self.ends[flow.timeout as usize], slot);
            let guest = self.guests[usize::from(flow.ingress)].as_mut().expect("a guest with flows is there");
            self.owners.remove(&mut guest.lists[flow.list()], slot);
            guest.counts[which] -= 1;
        }
        if flow.has_socket() {
            self.sockets -= 1;
            self.keys.remove(&(flow.kind, flow.guest, flow.family));
        }
        self.free.push(slot);
        Some(flow)
    }

    /// Notes a datagram of a flow, which begins its time anew.
    pub fn touch(&mut self, slot: u32, now: Instant, change: impl FnOnce(&mut Flow)) {
        let Some(flow) = self.flows.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        let (timeout, list) = (flow.timeout, flow.list());
        change(flow);
        flow.last = now;
        flow.timeout = flow.due();
        self.ages.remove(&mut self.ends[timeout as usize], slot);
        self.ages.push(&mut self.ends[flow.timeout as usize], slot);
        let guest = self.guests[usize::from(flow.ingress)].as_mut().expect("a guest with flows is there");
        self.owners.remove(&mut guest.lists[list], slot);
        self.owners.push(&mut guest.lists[flow.list()], slot);
    }

    /// Counts a datagram of a guest that follows one which was noted in the same turn.
    pub fn count_out(&mut self, slot: u32, octets: usize) {
        if let Some(flow) = self.flows.get_mut(slot as usize).and_then(Option::as_mut) {
            flow.octets_out += octets as u64;
        }
    }

    /// The flow whose time is over.
    pub fn over(&self, now: Instant) -> Option<u32> {
        let first = |timeout: Timeout| {
            let slot = self.ends[timeout as usize].first()?;
            (self.get(slot)?.last + timeout.duration() <= now).then_some(slot)
        };
        Timeout::ALL.into_iter().find_map(first)
    }

    /// The time at which the next flow is over.
    pub fn next_end(&self) -> Option<Instant> {
        let end = |timeout: Timeout| {
            Some(self.get(self.ends[timeout as usize].first()?)?.last + timeout.duration())
        };
        Timeout::ALL.into_iter().filter_map(end).min()
    }
}
