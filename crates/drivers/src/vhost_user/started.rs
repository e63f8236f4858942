//! A ring of a connection from its start to its stop: what it begins with, and how it is made of that.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use vmlan_frame::Takes;

use super::Trouble;
use super::checkpoint::{Checkpoint, Starting};
use super::log::Log;
use super::memory::Memory;
use super::packed::{self, Cursor, Packed};
use super::ring::{AnyLayout, Form, Frames, Ring};
use super::session::feature;
use super::split::{self, Split};

/// Where the areas of a ring are. Of a packed one they are the descriptors, what the driver wants to hear, and what the
/// device wants to hear.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RingAddresses {
    /// The descriptors, as an address of the front end's.
    pub descriptors: u64,
    /// Its available ring, as an address of the front end's.
    pub driver: u64,
    /// Its used ring, as an address of the front end's.
    pub device: u64,
    /// The guest address of the used entries, if writes to them are to be logged.
    pub log: Option<u64>,
}

/// Everything that a ring begins with.
pub struct Setup {
    /// The features that were agreed on.
    pub features: u64,
    /// Its entries.
    pub num: u32,
    /// Where it goes on, as SET_VRING_BASE says. Of a split ring its own memory says it, of a packed one the checkpoint
    /// where that is the ring's.
    pub base: u32,
    /// The part of a packed ring that outlives us, where there is one.
    pub checkpoint: Option<Checkpoint>,
    /// Where it is.
    pub addresses: RingAddresses,
    /// Where all is.
    pub memory: Arc<Memory>,
    /// Where writes are logged.
    pub log: Option<Arc<Log>>,
    /// Frames pass.
    pub enabled: bool,
    /// It is the ring of commands, whatever its index.
    pub commands: bool,
    /// By which the guest tells us.
    pub kick: Option<OwnedFd>,
    /// By which we tell the guest.
    pub call: Option<OwnedFd>,
    /// By which we tell the front end that the ring is broken.
    pub error: Option<OwnedFd>,
}

/// The belongings of a ring that was stopped. Dropping it closes descriptors and may unmap memory, which may take its
/// time.
pub struct Stopped {
    /// Where it can go on, as GET_VRING_BASE answers.
    pub base: u32,
    /// Everything that it began with, as it was changed since.
    pub setup: Setup,
    _ring: Result<Ring, Trouble>,
}

impl Stopped {
    /// Forgets where it was, since the front end knows it or is gone.
    pub fn erase_checkpoint(&self) {
        if let Some(checkpoint) = &self.setup.checkpoint {
            checkpoint.erase();
        }
    }
}

/// A ring that was started.
pub(crate) struct Started {
    pub(super) setup: Setup,
    pub(super) ring: Result<Ring, Trouble>,
}

/// Frames are taken from it, or dropped while it is not enabled.
pub(super) const RUNS: u8 = 1;
pub(super) const ENABLED: u8 = 2;
/// There is no kick for it.
pub(super) const UNKICKED: u8 = 4;
/// It is the ring of commands.
pub(super) const COMMANDS: u8 = 8;

impl Started {
    pub(super) fn new(mut setup: Setup) -> Started {
        let ring = resume(&mut setup).and_then(|()| make(&setup, setup.base));
        Started { setup, ring }
    }

    pub(super) fn stop(self) -> Stopped {
        Stopped { base: self.base(), setup: self.setup, _ring: self.ring }
    }

    pub(super) fn base(&self) -> u32 {
        self.ring.as_ref().map_or(self.setup.base, Ring::base)
    }

    pub(super) fn flags(&self) -> u8 {
        match &self.ring {
            Ok(_) => {
                let enabled = match (self.setup.commands, self.setup.enabled) {
                    (true, _) => COMMANDS,
                    (false, true) => ENABLED,
                    (false, false) => 0,
                };
                RUNS | enabled | if self.setup.kick.is_none() { UNKICKED } else { 0 }
            }
            Err(_) => 0,
        }
    }

    /// The ring, and the descriptor that tells its guest, if it is not broken.
    #[inline]
    pub(crate) fn ring(&mut self) -> Option<(&mut Ring, Option<&OwnedFd>)> {
        Some((self.ring.as_mut().ok()?, self.setup.call.as_ref()))
    }
}

/// The form of frames that goes with features.
pub(super) fn form(features: u64) -> Form {
    let has = |bits: u64| features & bits == bits;
    let header = if features & (feature::VERSION_1 | feature::MRG_RXBUF) != 0 { 12 } else { 10 };
    let mut takes = Takes::NONE;
    if has(feature::GUEST_CSUM) {
        takes = takes | Takes::CHECKSUM;
        let uso = feature::GUEST_USO4 | feature::GUEST_USO6;
        for (bits, one) in [
            (feature::GUEST_TSO4, Takes::TSO4),
            (feature::GUEST_TSO6, Takes::TSO6),
            (feature::GUEST_ECN, Takes::ECN),
            (uso, Takes::USO),
        ] {
            if has(bits) {
                takes = takes | one;
            }
        }
    }
    Form { header, mergeable: has(feature::MRG_RXBUF), takes }
}

/// Finds where a packed ring goes on that has a checkpoint.
fn resume(setup: &mut Setup) -> Result<(), Trouble> {
    let Setup { features, num, addresses, memory, log, .. } = &*setup;
    let Some(checkpoint) = setup.checkpoint.as_ref().filter(|_| features & feature::RING_PACKED != 0) else {
        return Ok(());
    };
    let RingAddresses { descriptors: address, log: used, .. } = *addresses;
    let octets = 16 * u64::from(*num);
    // What is wrong with the ring is found when it is made.
    let (Some(table), Ok(num)) = (memory.area_of_user(address, octets), u16::try_from(*num)) else {
        return Ok(());
    };
    let table = table.span();
    let base = Cursor::from_bits(setup.base as u16);
    if !table.is_aligned(16) || base.index >= num {
        return Ok(());
    }
    let (position, wrote) = checkpoint.begin(Starting { address, table, num, base });
    if let (true, Some(log), Some(used)) = (wrote, log, used) {
        log.mark(used, octets)?;
    }
    let position = u32::from(position.bits());
    setup.base = position << 16 | position;
    Ok(())
}

/// Resolves the areas of a ring that goes on at `base`.
pub(super) fn make(setup: &Setup, base: u32) -> Result<Ring, Trouble> {
    let Setup { features, num, addresses, memory, log, enabled, .. } = setup;
    let event_idx = features & feature::EVENT_IDX != 0;
    let area = |what: &str, user: u64, len: u64| {
        memory.area_of_user(user, len).ok_or_else(|| {
            Trouble(format!("{what} of {len} octets at {user:#x} are in no region of the shared memory"))
        })
    };
    let (RingAddresses { descriptors, driver, device, log: used }, num) = (*addresses, *num);
    let layout = if features & feature::RING_PACKED != 0 {
        let areas = packed::Areas {
            descriptors: area("the descriptors", descriptors, 16 * u64::from(num))?,
            driver: area("the driver's events", driver, packed::EVENT)?,
            device: area("the device's events", device, packed::EVENT)?,
        };
        let num = u16::try_from(num).ok().filter(|num| (1..=1 << 15).contains(num));
        let num = num.ok_or_else(|| Trouble(format!("a packed ring cannot have {} entries", setup.num)))?;
        let (position, checkpoint) = (Cursor::from_bits(base as u16), setup.checkpoint.as_ref());
        let word = checkpoint.map(Checkpoint::word);
        AnyLayout::Packed(Packed::new(areas, num, event_idx, position, word)?)
    } else {
        let octets = split::Areas::octets(num, event_idx);
        let areas = split::Areas {
            descriptors: area("the descriptors", descriptors, octets[0])?,
            available: area("the available ring", driver, octets[1])?,
            used: area("the used ring", device, octets[2])?,
        };
        let num = u16::try_from(num).ok().filter(|num| num.is_power_of_two());
        let num = num.ok_or_else(|| Trouble(format!("a split ring cannot have {} entries", setup.num)))?;
        AnyLayout::Split(Split::new(areas, num, event_idx)?)
    };
    let frames = Frames::new(memory.clone(), log.clone(), used, form(*features));
    Ok(Ring { layout, frames, enabled: *enabled, commands: setup.commands })
}
