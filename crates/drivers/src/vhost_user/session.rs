//! A session of the vhost-user protocol: everything that a front end has said and not taken back, as plain data.
//!
//! Theory of operation. [`Session::request`] takes one request, notes it, and returns the action that follows and the
//! answer. Descriptors, mappings and rings are elsewhere (`connection`): the session only knows of their
//! existence. A ring is stopped until a kick comes, and again after GetVringBase or ResetDevice; whether it is enabled
//! is a matter of its own, in any order with that. Requests come in the orders of several front ends: QEMU enables
//! rings before it has accepted features, sets memory up last, and repeats most of it for every pair of queues.
//!
//! The set of features that is offered may only grow from one connection to the next: QEMU refuses to go on with a
//! back end that lost one.
//!
//! A control ring that a front end hands over (crosvm) is known, and never becomes a ring for frames.

use std::ops::Range;

use vmlan_frame::MacAddr;

use super::log::Log;
use super::message::{
    self, Addresses, Kind, LONGEST_CONFIG, RegionDescription, Request, Violation, violation,
};

pub mod feature;
pub mod protocol;

/// Regions that guest memory has at most.
pub const SLOTS: usize = 509;

/// Descriptors that a ring has at most (virtio 1.3 2.7).
pub const LONGEST_RING: u32 = 32_768;

/// Octets of the largest log.
pub const LARGEST_LOG: u64 = 512 << 20;

/// The smallest MTU (RFC 791).
const SMALLEST_MTU: u64 = 68;

/// Octets of the configuration space that have a meaning.
const CONFIG: usize = 17;

/// The properties that a port offers to a front end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// Pairs of rings, [`Offer::MOST_PAIRS`] at most.
    pub pairs: u16,
    /// True if rings may have the packed layout.
    pub packed: bool,
    /// True if the guest may send and receive frames that are not finished.
    pub offloads: bool,
    /// The configuration space.
    pub config: ConfigOffer,
    /// The guest's address, for the configuration space.
    pub mac: Option<MacAddr>,
    /// The network's MTU.
    pub mtu: u16,
}

impl Offer {
    /// Pairs of rings at most: a message has 8 bits for an index, and twice as many indices are served as are used.
    pub const MOST_PAIRS: u16 = 63;

    /// The answer to GetQueueNum. Some front ends read it as pairs, others as rings, a control ring among them.
    fn queue_number(&self) -> usize {
        2 * usize::from(self.pairs.min(Offer::MOST_PAIRS)) + 2
    }

    /// The number of rings that a front end may use, whichever way it reads the number of queues.
    pub fn rings(&self) -> usize {
        2 * self.queue_number()
    }
}

/// The conditions on which the configuration space is offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ConfigOffer {
    /// To front ends that are known to need it by the order of their requests.
    #[default]
    Auto,
    /// To all.
    On,
    /// To none.
    Off,
}

/// The place of the dirty log in its file, in octets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogPlace {
    /// Its length.
    pub size: u64,
    /// Octets of the file in front of it.
    pub offset: u64,
}

/// Everything that was said of one ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ring {
    /// Its number of descriptors; 0 when it was not told.
    pub num: u32,
    /// The place to go on, as the front end set it or as the ring stood when it stopped.
    pub base: u32,
    /// The place to go on as far as the front end knows it.
    pub known_base: u32,
    /// Its places.
    pub addresses: Option<Addresses>,
    /// There is a descriptor for kicks.
    pub kick: bool,
    /// There is a descriptor for calls.
    pub call: bool,
    /// There is a descriptor for errors.
    pub error: bool,
    /// The front end enabled it.
    pub enabled: bool,
    /// A kick descriptor came, or word that there is none.
    pub started: bool,
}

/// The work that follows from a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// None. Descriptors of the message are closed.
    Nothing,
    /// The descriptor of the message becomes the kick of a ring, which starts. If it was started before it stops first.
    Start(usize),
    /// A ring stops. [`Session::stopped`] wants to know where.
    Stop(usize),
    /// A started ring has other places: it stops and starts.
    Restart(usize),
    /// The descriptor of the message becomes a ring's call.
    SetCall(usize),
    /// The descriptor of the message becomes a ring's error.
    SetError(usize),
    /// Rings are enabled or disabled: see [`Session::is_enabled`].
    Enable(Range<usize>),
    /// The regions `kept` of the memory so far, and `mapped` behind them, with a descriptor each, are the memory now.
    Memory {
        /// Places in the table so far.
        kept: Vec<usize>,
        /// New regions.
        mapped: Vec<RegionDescription>,
    },
    /// The descriptor of the message becomes the log.
    MapLog(LogPlace),
    /// Writes are logged from now on, or no longer: see [`Session::log`].
    SwitchLog,
    /// Every ring of these stops, and nothing is logged. [`Session::stopped`] wants to know where.
    Reset(Vec<usize>),
    /// The guest is announced to the network.
    Announce(MacAddr),
}

/// The answer to a request, which is sent once its action is done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// None.
    Nothing,
    /// A number.
    Number(u64),
    /// The index and the place of a ring.
    Base(usize),
    /// The log that was taken; `None` for one that was not.
    Log(Option<LogPlace>),
    /// A part of the configuration space; `None` where it has no such part.
    Config {
        /// Its first octet, as it was asked for.
        offset: u32,
        /// Flags, as they were asked for.
        flags: u32,
        /// The octets.
        octets: Option<Vec<u8>>,
    },
}

/// The consequences of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// To be done first.
    pub action: Action,
    /// To be sent after that.
    pub answer: Answer,
}

/// The front end has nothing to wait for.
const DONE: u64 = 0;

/// The request was refused, and the session goes on.
const REFUSED: u64 = 1;

/// A session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    offer: Offer,
    owner: bool,
    /// True if the configuration space is offered; `None` until a front end decides it.
    config: Option<bool>,
    features: Option<u64>,
    protocol: u64,
    rings: Vec<Ring>,
    regions: Vec<RegionDescription>,
    log: Option<LogPlace>,
    /// A refusal that did not end the session.
    complaint: Option<String>,
}

impl Session {
    /// A session with a front end that has not said anything.
    pub fn new(offer: Offer) -> Session {
        let rings = vec![Ring::default(); offer.rings()];
        let config = match offer.config {
            ConfigOffer::Auto => None,
            ConfigOffer::On => Some(true),
            ConfigOffer::Off => Some(false),
        };
        Session {
            offer,
            owner: false,
            config,
            features: None,
            protocol: 0,
            rings,
            regions: Vec::new(),
            log: None,
            complaint: None,
        }
    }

    /// The features that the front end accepted; none before it did.
    pub fn features(&self) -> u64 {
        self.features.unwrap_or(0)
    }

    /// The features of the protocol that the front end accepted.
    pub fn protocol_features(&self) -> u64 {
        self.protocol
    }

    /// All rings that a front end may use.
    pub fn rings(&self) -> &[Ring] {
        &self.rings
    }

    /// The regions of guest memory.
    pub fn regions(&self) -> &[RegionDescription] {
        &self.regions
    }

    /// The dirty log that writes are noted in, if they are.
    pub fn log(&self) -> Option<LogPlace> {
        self.log.filter(|_| self.features() & feature::LOG_ALL != 0)
    }

    /// A refusal that did not end the session, for people to read.
    pub fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    /// True if the ring may move frames. Without features of the protocol every ring may.
    pub fn is_enabled(&self, index: usize) -> bool {
        let all = self.features.is_some_and(|features| features & feature::PROTOCOL_FEATURES == 0);
        all || self.rings[index].enabled
    }

    /// The control ring that a front end hands over, which is one that has the configuration space from here. It lies
    /// behind all pairs.
    pub fn control_ring(&self) -> Option<usize> {
        let hands_over = self.protocol & protocol::CONFIG != 0 && self.features() & feature::CTRL_VQ != 0;
        let pairs = if self.features() & feature::MQ == 0 { 1 } else { self.offer.pairs };
        hands_over.then(|| 2 * usize::from(pairs.min(Offer::MOST_PAIRS)))
    }

    /// The events that have to come before frames can move, for people to read. The caller knows that none does.
    pub fn waits_for(&self) -> &'static str {
        let started = || (0..self.rings.len()).filter(|&index| self.rings[index].started);
        if self.features.is_none() {
            "waits for the front end to accept features"
        } else if self.regions.is_empty() {
            "waits for the guest's memory"
        } else if started().next().is_none() {
            "waits for the guest's driver to start a ring"
        } else if !started().any(|index| self.is_enabled(index)) {
            "waits for the front end to enable a ring"
        } else {
            "waits for a ring in each direction to be started and enabled"
        }
    }

    /// Notes where a ring stopped, as the answer to GetVringBase says it.
    pub fn stopped(&mut self, index: usize, base: u32) {
        self.rings[index].base = base;
    }

    /// Notes that the front end knows by an answer where a ring stopped.
    pub fn answered(&mut self, index: usize) {
        self.rings[index].known_base = self.rings[index].base;
    }

    /// Takes a request.
    ///
    /// # Errors
    /// The request is out of order, or asks for what was not offered: the session is over.
    pub fn request(&mut self, request: &Request, needs_reply: bool) -> Result<Outcome, Violation> {
        let (action, answer) = self.apply(request)?;
        let has_answer = |number| if needs_reply { Answer::Number(number) } else { Answer::Nothing };
        let answer = match answer {
            Reply::Always(answer) => answer,
            Reply::IfNeeded(number) if self.protocol & protocol::REPLY_ACK != 0 => has_answer(number),
            Reply::IfNeeded(_) => Answer::Nothing,
        };
        Ok(Outcome { action, answer })
    }

    /// The octets of an answer to a request of this kind, whose action is done.
    pub fn emit(&self, kind: Kind, answer: &Answer) -> Option<Vec<u8>> {
        match answer {
            Answer::Nothing => None,
            Answer::Number(number) => Some(message::answer(kind, &number.to_ne_bytes())),
            Answer::Base(index) => Some(message::answer_base(*index as u32, self.rings[*index].base)),
            Answer::Log(log) => Some(message::answer_log(log.map_or((0, 0), |log| (log.size, log.offset)))),
            Answer::Config { offset, flags, octets } => {
                Some(message::answer_config(*offset, *flags, octets.as_deref()))
            }
        }
    }

    fn apply(&mut self, request: &Request) -> Result<(Action, Reply), Violation> {
        let action = match *request {
            Request::GetFeatures => return Ok(Reply::number(self.offered())),
            Request::GetProtocolFeatures => {
                // Once for each pair of queues, and nothing that was offered may be gone.
                let config = *self.config.get_or_insert(self.owner);
                let config = if config { protocol::CONFIG } else { 0 };
                return Ok(Reply::number(protocol::ALWAYS | config));
            }
            Request::GetQueueNum => return Ok(Reply::number(self.offer.queue_number() as u64)),
            Request::GetMaxMemSlots => return Ok(Reply::number(SLOTS as u64)),
            Request::SetFeatures(features) => self.set_features(features)?,
            Request::SetProtocolFeatures(features) => self.set_protocol_features(features)?,
            Request::SetOwner => {
                self.owner = true;
                Action::Nothing
            }
            Request::ResetOwner => {
                self.rings.iter_mut().for_each(|ring| ring.enabled = false);
                Action::Enable(0..self.rings.len())
            }
            Request::SetLogFd => Action::Nothing,
            Request::SetLogBase { size, offset } => return Ok(self.set_log(LogPlace { size, offset })),
            Request::SetMemTable(ref regions) => self.set_memory(Vec::new(), regions)?,
            Request::AddMemReg(region) => self.add_region(region)?,
            Request::RemMemReg(ref region) => self.remove_region(region)?,
            Request::SetVringNum { index, num } => self.set_num(index, num)?,
            Request::SetVringBase { index, base } => {
                let ring = self.ring(index)?.1;
                (ring.base, ring.known_base) = (base, base);
                Action::Nothing
            }
            Request::SetVringAddr { index, addresses } => {
                let (index, ring) = self.ring(index)?;
                let changed = ring.addresses.replace(addresses) != Some(addresses);
                if ring.started && changed { Action::Restart(index) } else { Action::Nothing }
            }
            Request::SetVringKick { index, has_descriptor } => self.start(index, has_descriptor)?,
            Request::SetVringCall { index, has_descriptor } => {
                let (index, ring) = self.ring(index)?;
                ring.call = has_descriptor;
                Action::SetCall(index)
            }
            Request::SetVringErr { index, has_descriptor } => {
                let (index, ring) = self.ring(index)?;
                ring.error = has_descriptor;
                Action::SetError(index)
            }
            Request::SetVringEnable { index, enabled } => {
                let (index, ring) = self.ring(index)?;
                let changed = ring.enabled != enabled;
                ring.enabled = enabled;
                if ring.started && changed { Action::Enable(index..index + 1) } else { Action::Nothing }
            }
            Request::GetVringBase { index } => {
                let (index, ring) = self.ring(index)?;
                let action = if ring.started { Action::Stop(index) } else { Action::Nothing };
                if ring.started {
                    *ring = Ring { started: false, kick: false, call: false, ..*ring };
                } else {
                    self.answered(index);
                }
                return Ok((action, Reply::Always(Answer::Base(index))));
            }
            Request::SendRarp(mac) if mac.is_station() => Action::Announce(mac),
            Request::SendRarp(_) => return Ok((Action::Nothing, Reply::IfNeeded(REFUSED))),
            Request::NetSetMtu(mtu) => return Ok(self.set_mtu(mtu)),
            Request::GetConfig { offset, size, flags } => {
                self.check_config()?;
                let octets = self.config_space(offset, size);
                return Ok((Action::Nothing, Reply::Always(Answer::Config { offset, flags, octets })));
            }
            Request::SetConfig => {
                self.check_config()?;
                return Ok((Action::Nothing, Reply::IfNeeded(REFUSED)));
            }
            Request::ResetDevice => self.reset(),
        };
        Ok((action, Reply::IfNeeded(DONE)))
    }

    /// The features that are offered.
    fn offered(&self) -> u64 {
        let mut features = feature::ALWAYS;
        if self.offer.packed {
            features |= feature::RING_PACKED;
        }
        if self.offer.offloads {
            features |= feature::OFFLOADS;
        }
        if self.config.unwrap_or(self.owner) {
            features |= feature::STATUS;
            if self.offer.mac.is_some() {
                features |= feature::MAC;
            }
        }
        features
    }

    fn set_features(&mut self, features: u64) -> Result<Action, Violation> {
        let surplus = features & !self.offered();
        if surplus != 0 {
            return Err(violation!("the front end accepts features that were not offered: {surplus:#x}"));
        }
        let changed = features ^ self.features();
        let is_running = self.rings.iter().any(|ring| ring.started);
        if is_running && changed & !feature::LOG_ALL != 0 {
            return Err(violation!("the front end changes features ({changed:#x}) while rings are started"));
        }
        self.features = Some(features);
        Ok(if changed & feature::LOG_ALL == 0 { Action::Nothing } else { Action::SwitchLog })
    }

    fn set_protocol_features(&mut self, features: u64) -> Result<Action, Violation> {
        let config = if self.config.unwrap_or(self.owner) { protocol::CONFIG } else { 0 };
        let surplus = features & !(protocol::ALWAYS | config);
        if surplus != 0 {
            return Err(violation!(
                "the front end accepts features of the protocol that were not offered: {surplus:#x}"
            ));
        }
        if self.config.is_none() && features & protocol::CONFIG != 0 {
            self.config = Some(true);
        }
        self.protocol = features;
        Ok(Action::Nothing)
    }

    fn ring(&mut self, index: u32) -> Result<(usize, &mut Ring), Violation> {
        let count = self.rings.len();
        let index = index as usize;
        let ring = self.rings.get_mut(index);
        let ring = ring.ok_or_else(|| violation!("ring {index} was not offered; there are {count}"))?;
        Ok((index, ring))
    }

    fn set_num(&mut self, index: u32, num: u32) -> Result<Action, Violation> {
        let (index, ring) = self.ring(index)?;
        if num == 0 || num > LONGEST_RING {
            return Err(violation!("ring {index} has {num} descriptors; 1 to {LONGEST_RING} are possible"));
        }
        if ring.started && ring.num != num {
            return Err(violation!("the length of ring {index} changes while it is started"));
        }
        ring.num = num;
        Ok(Action::Nothing)
    }

    fn start(&mut self, index: u32, has_descriptor: bool) -> Result<Action, Violation> {
        let is_packed = self.features() & feature::RING_PACKED != 0;
        let (index, ring) = self.ring(index)?;
        if ring.num == 0 || ring.addresses.is_none() {
            return Err(violation!("ring {index} is started before its length and its addresses are known"));
        }
        if !is_packed && !ring.num.is_power_of_two() {
            let num = ring.num;
            return Err(violation!("ring {index} has {num} descriptors; a split ring has a power of two"));
        }
        *ring = Ring { started: true, kick: has_descriptor, ..*ring };
        Ok(Action::Start(index))
    }

    /// Makes `mapped`, behind the regions `kept` so far, the memory.
    fn set_memory(&mut self, kept: Vec<usize>, mapped: &[RegionDescription]) -> Result<Action, Violation> {
        let mut regions: Vec<_> = kept.iter().map(|&place| self.regions[place]).collect();
        for region in mapped {
            region.end()?;
            if regions.len() == SLOTS {
                return Err(violation!("the guest's memory has more than {SLOTS} regions"));
            }
            if let Some(other) = regions.iter().find(|other| region.overlaps(other)) {
                return Err(violation!("{region} overlaps another, at {:#x}", other.guest));
            }
            regions.push(*region);
        }
        self.regions = regions;
        Ok(Action::Memory { kept, mapped: mapped.to_vec() })
    }

    /// Adds a region, in place of the same one: QEMU before 8.0 says it once for each pair of queues.
    fn add_region(&mut self, region: RegionDescription) -> Result<Action, Violation> {
        let kept = (0..self.regions.len()).filter(|&place| self.regions[place] != region).collect();
        self.set_memory(kept, &[region])
    }

    /// Removes a region, which may be gone: that as well is said once for each pair of queues. Front ends leave the
    /// offset in the file out here.
    fn remove_region(&mut self, region: &RegionDescription) -> Result<Action, Violation> {
        let key = |region: &RegionDescription| (region.guest, region.size, region.user);
        let place = self.regions.iter().position(|other| key(other) == key(region));
        let Some(place) = place else { return Ok(Action::Nothing) };
        let kept = (0..self.regions.len()).filter(|&other| other != place).collect();
        self.set_memory(kept, &[])
    }

    /// A log that is too small is refused, and the answer is all that a front end hears of it.
    fn set_log(&mut self, log: LogPlace) -> (Action, Reply) {
        // Regions have been checked.
        let end = self.regions.iter().filter_map(|region| region.end().ok()).max().unwrap_or(0);
        let (size, least) = (log.size, end.div_ceil(Log::SCALE));
        if size < least.max(1) || size > LARGEST_LOG || log.offset.checked_add(size).is_none() {
            self.complaint = Some(format!(
                "the log of changed memory has {size} octets; {least} to {LARGEST_LOG} are right"
            ));
            return (Action::Nothing, Reply::Always(Answer::Log(None)));
        }
        self.log = Some(log);
        (Action::MapLog(log), Reply::Always(Answer::Log(Some(log))))
    }

    fn set_mtu(&mut self, mtu: u64) -> (Action, Reply) {
        let most = self.offer.mtu;
        let is_right = (SMALLEST_MTU..=most.into()).contains(&mtu);
        self.complaint =
            (!is_right).then(|| format!("the guest is given an MTU of {mtu}; that of the network is {most}"));
        (Action::Nothing, Reply::IfNeeded(if is_right { DONE } else { REFUSED }))
    }

    fn check_config(&self) -> Result<(), Violation> {
        match self.config.unwrap_or(self.owner) {
            true => Ok(()),
            false => Err(violation!("the front end asks for the configuration space, which was not offered")),
        }
    }

    /// A part of the configuration space (virtio 1.3 5.1.4): little endian, and zeros behind it.
    fn config_space(&self, offset: u32, size: u32) -> Option<Vec<u8>> {
        /// The link is up.
        const UP: u16 = 1;
        const SPEED_UNKNOWN: u32 = u32::MAX;
        const DUPLEX_UNKNOWN: u8 = u8::MAX;

        let mut space = Vec::with_capacity(LONGEST_CONFIG as usize);
        space.extend(self.offer.mac.unwrap_or(MacAddr::ZERO).0);
        space.extend(UP.to_le_bytes());
        space.extend(self.offer.pairs.to_le_bytes());
        space.extend(self.offer.mtu.to_le_bytes());
        space.extend(SPEED_UNKNOWN.to_le_bytes());
        space.push(DUPLEX_UNKNOWN);
        debug_assert_eq!(space.len(), CONFIG);
        space.resize(LONGEST_CONFIG as usize, 0);
        let end = offset.checked_add(size)?;
        space.get(offset as usize..end as usize).map(<[u8]>::to_vec)
    }

    fn reset(&mut self) -> Action {
        let started = (0..self.rings.len()).filter(|&index| self.rings[index].started).collect();
        for ring in &mut self.rings {
            *ring = Ring { started: false, enabled: false, kick: false, ..*ring };
        }
        self.features = None;
        self.log = None;
        self.complaint = None;
        Action::Reset(started)
    }
}

/// The answer that a request has.
enum Reply {
    /// Whatever the front end says.
    Always(Answer),
    /// Where the front end waits for one.
    IfNeeded(u64),
}

impl Reply {
    fn number(number: u64) -> (Action, Reply) {
        (Action::Nothing, Reply::Always(Answer::Number(number)))
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
