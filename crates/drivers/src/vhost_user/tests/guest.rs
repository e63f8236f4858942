//! A guest's half of a ring, written without regard to speed and apart from the device's half.

use std::sync::Arc;

use vmlan_sys::guest_memory::{Mapping, Span, fence};

use super::super::device::{RingAddresses, Setup};
use super::super::memory::{Memory, Region};
use super::super::message::RegionDescription;
use super::super::ring::need_event;
use super::super::session::feature;

pub const GUEST: u64 = 0x1_0000;
pub const USER: u64 = 0x7f00_0000_0000;
/// Octets of the memory of a ring.
pub const SIZE: u64 = 4 << 20;
const DRIVER: u64 = 0x10_0000;
const DEVICE: u64 = 0x14_0000;
const TABLES: u64 = 0x20_0000;
/// Offset of what buffers may lie in.
pub const BUFFERS: u64 = 0x28_0000;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// A buffer of a chain: its guest address, its octets, and whether the device writes to it.
pub type Buffer = (u64, u32, bool);

pub struct GuestRing {
    pub packed: bool,
    pub num: u16,
    pub mapping: Arc<Mapping>,
    /// The next entry, and of a packed ring the round.
    pub next: u16,
    pub wrap: bool,
    /// The next used entry, and its round.
    used: u16,
    used_wrap: bool,
    /// Free descriptors of a split ring.
    free: Vec<u16>,
    /// The descriptors of each chain that is out; of a packed ring, how many.
    out: Vec<Vec<u16>>,
    table: u64,
}

impl GuestRing {
    pub fn new(packed: bool, num: u16) -> GuestRing {
        GuestRing {
            packed,
            num,
            mapping: Arc::new(Mapping::plain(SIZE as usize)),
            next: 0,
            wrap: true,
            used: 0,
            used_wrap: true,
            free: (0..num).rev().collect(),
            out: vec![Vec::new(); num.into()],
            table: 0,
        }
    }

    /// Begins a split ring at an index, with `used` as the index of used entries.
    pub fn beginning_at(mut self, next: u16, used: u16) -> GuestRing {
        (self.next, self.used) = (next, used);
        self.all().store_u16(DRIVER as usize + 2, next);
        self.all().store_u16(DEVICE as usize + 2, used);
        self
    }

    pub fn all(&self) -> Span<'_> {
        self.mapping.span(0, SIZE).unwrap()
    }

    pub fn memory(&self) -> Arc<Memory> {
        let description = RegionDescription { guest: GUEST, size: SIZE, user: USER, offset: 0 };
        Arc::new(Memory::new(vec![Region { description, mapping: self.mapping.clone() }]).unwrap())
    }

    pub fn setup(&self, features: u64) -> Setup {
        let packed = if self.packed { feature::RING_PACKED } else { 0 };
        Setup {
            features: features | packed,
            num: self.num.into(),
            base: 1 << 15 | 1 << 31,
            checkpoint: None,
            addresses: RingAddresses {
                descriptors: USER,
                driver: USER + DRIVER,
                device: USER + DEVICE,
                log: None,
            },
            memory: self.memory(),
            log: None,
            enabled: true,
            commands: false,
            kick: None,
            call: None,
            error: None,
        }
    }

    /// The guest address of octets that buffers may lie in.
    pub fn at(offset: u64) -> u64 {
        GUEST + BUFFERS + offset
    }

    pub fn write(&self, guest: u64, octets: &[u8]) {
        self.all().write((guest - GUEST) as usize, octets);
    }

    pub fn read(&self, guest: u64, len: usize) -> Vec<u8> {
        let mut octets = vec![0; len];
        self.all().read((guest - GUEST) as usize, &mut octets);
        octets
    }

    fn descriptor(&self, at: u64, (guest, len, _): Buffer, third: u16, fourth: u16) {
        let (all, at) = (self.all(), at as usize);
        all.store_u64(at, guest);
        all.store_u32(at + 8, len);
        all.store_u16(at + 12, third);
        all.store_u16(at + 14, fourth);
    }

    fn flags((_, _, write): Buffer) -> u16 {
        if write { WRITE } else { 0 }
    }

    /// Makes a chain available. Returns its id.
    pub fn offer(&mut self, buffers: &[Buffer]) -> u16 {
        if self.packed { self.offer_packed(buffers, None) } else { self.offer_split(buffers, None) }
    }

    /// The same with its descriptors in a table of their own.
    pub fn offer_indirect(&mut self, buffers: &[Buffer]) -> u16 {
        let at = TABLES + self.table % 64 * 4096;
        self.table += 1;
        for (number, buffer) in buffers.iter().enumerate() {
            let is_last = number + 1 == buffers.len();
            let flags = Self::flags(*buffer) | if is_last || self.packed { 0 } else { NEXT };
            let (third, fourth) = if self.packed { (0, flags) } else { (flags, number as u16 + 1) };
            self.descriptor(at + 16 * number as u64, *buffer, third, fourth);
        }
        let table = (GUEST + at, 16 * buffers.len() as u32, false);
        if self.packed {
            self.offer_packed(&[table], Some(INDIRECT))
        } else {
            self.offer_split(&[table], Some(INDIRECT))
        }
    }

    fn offer_split(&mut self, buffers: &[Buffer], extra: Option<u16>) -> u16 {
        let numbers: Vec<_> = buffers.iter().map(|_| self.free.pop().expect("a free descriptor")).collect();
        for (place, buffer) in buffers.iter().enumerate() {
            let next = numbers.get(place + 1);
            let flags = Self::flags(*buffer) | extra.unwrap_or(0) | if next.is_some() { NEXT } else { 0 };
            self.descriptor(16 * u64::from(numbers[place]), *buffer, flags, next.copied().unwrap_or(0));
        }
        let head = numbers[0];
        self.out[usize::from(head)] = numbers;
        self.name(head);
        head
    }

    /// Makes whatever is at a descriptor of a split ring available.
    pub fn name(&mut self, head: u16) {
        let slot = usize::from(self.next % self.num);
        self.all().store_u16(DRIVER as usize + 4 + 2 * slot, head);
        self.next = self.next.wrapping_add(1);
        self.all().store_u16_release(DRIVER as usize + 2, self.next);
    }

    /// Sets a descriptor of a split ring.
    pub fn set(&self, number: u16, buffer: Buffer, flags: u16, next: u16) {
        self.descriptor(16 * u64::from(number), buffer, flags, next);
    }

    /// Sets the index of what is available.
    pub fn set_available(&self, index: u16) {
        self.all().store_u16_release(DRIVER as usize + 2, index);
    }

    fn offer_packed(&mut self, buffers: &[Buffer], extra: Option<u16>) -> u16 {
        let id = (0..self.num).find(|id| self.out[usize::from(*id)].is_empty()).expect("a free id");
        let (first, round) = (self.next, self.wrap);
        let mut head = 0;
        for (number, buffer) in buffers.iter().enumerate() {
            let is_last = number + 1 == buffers.len();
            let round = if self.wrap { 1 << 7 } else { 1 << 15 };
            let flags = Self::flags(*buffer) | extra.unwrap_or(0) | if is_last { 0 } else { NEXT } | round;
            let at = 16 * u64::from(self.next);
            if number == 0 {
                head = flags;
                // Not available yet.
                self.descriptor(at, *buffer, id, flags ^ (1 << 7 | 1 << 15));
            } else {
                self.descriptor(at, *buffer, id, flags);
            }
            self.next += 1;
            if self.next == self.num {
                (self.next, self.wrap) = (0, !self.wrap);
            }
        }
        let _ = round;
        self.all().store_u16_release(16 * usize::from(first) + 14, head);
        self.out[usize::from(id)] = vec![0; buffers.len()];
        id
    }

    /// Takes what was used: ids and octets that were written.
    pub fn used(&mut self) -> Vec<(u16, u32)> {
        let mut used = Vec::new();
        while let Some((id, len)) = if self.packed { self.used_packed() } else { self.used_split() } {
            used.push((id, len));
        }
        used
    }

    fn used_split(&mut self) -> Option<(u16, u32)> {
        let all = self.all();
        if all.load_u16_acquire(DEVICE as usize + 2) == self.used {
            return None;
        }
        let at = DEVICE as usize + 4 + 8 * usize::from(self.used % self.num);
        let (id, len) = (all.load_u32(at) as u16, all.load_u32(at + 4));
        self.used = self.used.wrapping_add(1);
        let mut numbers = std::mem::take(&mut self.out[usize::from(id)]);
        numbers.reverse();
        self.free.extend(numbers);
        Some((id, len))
    }

    fn used_packed(&mut self) -> Option<(u16, u32)> {
        let (all, at) = (self.all(), 16 * usize::from(self.used));
        let flags = all.load_u16_acquire(at + 14);
        if (flags >> 7 & 1 != 0) != self.used_wrap || (flags >> 15 != 0) != self.used_wrap {
            return None;
        }
        let (len, id) = (all.load_u32(at + 8), all.load_u16(at + 12));
        let entries = std::mem::take(&mut self.out[usize::from(id)]).len() as u16;
        assert!(entries > 0, "chain {id} is used, which is not out");
        self.used += entries;
        if self.used >= self.num {
            (self.used, self.used_wrap) = (self.used - self.num, !self.used_wrap);
        }
        Some((id, len))
    }

    /// The used index of a split ring.
    pub fn used_index(&self) -> u16 {
        self.all().load_u16(DEVICE as usize + 2)
    }

    /// The device wants to be told of what is offered next, as far as its flags say.
    pub fn wants_kick(&self) -> bool {
        match self.packed {
            true => self.all().load_u16(DEVICE as usize + 2) != 1,
            false => self.all().load_u16(DEVICE as usize) & 1 == 0,
        }
    }

    /// Offers one buffer as a driver does. True if the device wants to be told of it.
    pub fn offer_and_look(&mut self, buffer: Buffer, event_idx: bool) -> bool {
        let (before, round) = (self.next, u16::from(self.wrap) << 15);
        self.offer(&[buffer]);
        // What the device wants is looked at behind what it looks at.
        fence();
        match (self.packed, event_idx) {
            (false, true) => need_event(self.kick_event(), self.next, before),
            (true, true) if self.all().load_u16_acquire(DEVICE as usize + 2) == 2 => {
                self.all().load_u16(DEVICE as usize) == before | round
            }
            _ => self.wants_kick(),
        }
    }

    /// Answers the place of the device, as far as the guest has looked, in the form of GET_VRING_BASE.
    pub fn position(&self) -> u32 {
        let position = u32::from(self.used) | if self.packed { u32::from(self.used_wrap) << 15 } else { 0 };
        if self.packed { position << 16 | position } else { position }
    }

    /// With an event index of a split ring: of which index the device wants to hear.
    pub fn kick_event(&self) -> u16 {
        self.all().load_u16(DEVICE as usize + 4 + 8 * usize::from(self.num))
    }

    /// Of which used entry the guest wants to hear.
    pub fn set_call_event(&self, index: u16) {
        let at = DRIVER as usize + if self.packed { 0 } else { 4 + 2 * usize::from(self.num) };
        self.all().store_u16(at, index);
        if self.packed {
            self.all().store_u16(DRIVER as usize + 2, 2);
        }
    }
}
