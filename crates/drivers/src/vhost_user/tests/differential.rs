//! The walkers, a naive reader of rings and the one of the crate `virtio-queue`, on the same memory: honest rings with
//! few faults, so that most are read to their end and many are not.

use std::collections::BTreeSet;

use proptest::prelude::*;
use virtio_queue::{Queue as TheirQueue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmlan_frame::{Offload, VlanTag};
use vmlan_sys::guest_memory::Mapping;

use super::super::device::{RingAddresses, Setup};
use super::super::log::Log;
use super::super::memory::{Memory, Region};
use super::super::message::RegionDescription;
use super::naive::{DEVICE, DRIVER, Naive, REGIONS, Sent};
use super::*;
use crate::tap::checked;

const TABLES: usize = 0x3000;
const TABLE: usize = 0x200;
/// The part that buffers may lie in: behind the rings to the end of all regions.
const DATA: usize = 0x8000;
const ALL: usize = REGIONS[0].1 + REGIONS[1].1;
const LOG: u64 = 4096;

/// A descriptor before its ring is known.
#[derive(Debug, Clone)]
struct Entry {
    guest: u64,
    len: u32,
    /// Its kind, of a hundred.
    kind: u8,
    table: usize,
    wild: u16,
}

fn entry() -> impl Strategy<Value = Entry> {
    let start = REGIONS[0].0;
    let ends = REGIONS.map(|(start, size)| start + size as u64);
    let guest = prop_oneof![
        40 => (0..(ALL - DATA) as u64 / 64 - 8).prop_map(move |block| start + DATA as u64 + 64 * block),
        1 => (0..2usize, 0..80u64).prop_map(move |(region, before)| ends[region] - before),
        1 => prop_oneof![Just(0), any::<u64>()],
    ];
    let len = prop_oneof![8 => 12..300u32, 4 => 0..16u32, 1 => 0..2000u32, 1 => Just(80_000)];
    (guest, len, 0..100u8, 0..8usize, any::<u16>()).prop_map(|(guest, len, kind, table, wild)| Entry {
        guest,
        len,
        kind,
        table,
        wild,
    })
}

/// All of a ring's memory, before it is written down.
#[derive(Debug, Clone)]
struct Image {
    packed: bool,
    mergeable: bool,
    event_idx: bool,
    num: u16,
    /// Where it begins, and in which round.
    place: (u16, bool),
    available: u16,
    heads: Vec<u16>,
    entries: Vec<Entry>,
    tables: Vec<Entry>,
    seed: u8,
}

fn image(packed: impl Strategy<Value = bool>) -> impl Strategy<Value = Image> {
    let entries = (prop::collection::vec(entry(), 16), prop::collection::vec(entry(), 64));
    let num = (packed, 0..3u32, 1..17u16);
    let place = (prop_oneof![any::<u16>(), 65_520..=u16::MAX], any::<bool>(), 0..=100u16);
    let heads = prop::collection::vec(0..1000u16, 16);
    (num, place, heads, entries, any::<[bool; 2]>(), any::<u8>()).prop_map(
        |((packed, power, any), (index, round, part), heads, (entries, tables), flags, seed)| {
            let num = if packed { any } else { 4 << power };
            // Once in a hundred, more of a split ring than there can be.
            let more = u16::from(part == 100 && !packed);
            let available = (u32::from(num) * u32::from(part.min(99)) / 99) as u16 + more;
            let heads = heads.iter().map(|head| if *head == 999 { num } else { head % num }).collect();
            let place = (if packed { index % num } else { index }, round);
            let [mergeable, event_idx] = flags;
            Image { packed, mergeable, event_idx, num, place, available, heads, entries, tables, seed }
        },
    )
}

impl Image {
    /// Writes the memory of a ring of chains that the device writes to, or reads.
    fn draw(&self, write: bool) -> Naive {
        let mut octets = vec![0; ALL];
        for (offset, octet) in octets.iter_mut().enumerate().skip(DATA) {
            // Most buffers begin with what is no request.
            *octet = if offset % 64 < 12 { 0 } else { (offset as u8).wrapping_mul(31) ^ self.seed };
        }
        for (number, entry) in self.entries.iter().take(self.num.into()).enumerate() {
            self.put(&mut octets, 16 * number, entry, (number as u16, self.num), write);
            if self.packed {
                self.mark(&mut octets, number as u16, entry);
            }
        }
        for (number, entry) in self.tables.iter().enumerate() {
            let at = TABLES + number / 8 * TABLE + 16 * (number % 8);
            self.put(&mut octets, at, entry, (number as u16 % 8, 8), write);
        }
        if !self.packed {
            let index = self.place.0.wrapping_add(self.available);
            octets[DRIVER + 2..DRIVER + 4].copy_from_slice(&index.to_le_bytes());
            octets[DEVICE + 2..DEVICE + 4].copy_from_slice(&self.place.0.to_le_bytes());
            for (slot, head) in self.heads.iter().take(self.num.into()).enumerate() {
                octets[DRIVER + 4 + 2 * slot..][..2].copy_from_slice(&head.to_le_bytes());
            }
        }
        Naive { octets, packed: self.packed, num: self.num, place: self.place, dirty: BTreeSet::new() }
    }

    fn put(&self, octets: &mut [u8], at: usize, entry: &Entry, (number, count): (u16, u16), write: bool) {
        let is_table_entry = at >= TABLES;
        // Of a table are few entries asked for, so that it is cut off in the middle of a chain at times.
        let entries = 1 + entry.wild % 4;
        let table = (REGIONS[0].0 + (TABLES + entry.table * TABLE) as u64, 16 * u32::from(entries));
        let way = if write { 2 } else { 0 };
        let plain = (entry.guest, entry.len);
        let next = (number + 1) % count;
        let ((guest, len), flags, next) = match entry.kind {
            0 => (plain, way ^ 2, next),
            1 => (plain, way | 1, entry.wild % (count + 2)),
            2 => (table, 4 | 1, next),
            3 => ((table.0 + 4, table.1), 4, next),
            4 => ((table.0, u32::from(entry.wild) % 200), 4, next),
            // A table whose own direction says nothing.
            5 => (table, 4 | 2, next),
            6..20 if !is_table_entry || entry.kind == 6 => (table, 4, next),
            6..45 if !is_table_entry || number % 4 != 3 => (plain, way | 1, next),
            _ => (plain, way, next),
        };
        octets[at..at + 8].copy_from_slice(&guest.to_le_bytes());
        octets[at + 8..at + 12].copy_from_slice(&len.to_le_bytes());
        // A chain of a packed ring that runs into what is the device's has no end that can be relied on.
        let last = (u32::from(self.place.0) + u32::from(self.available + self.num - 1)) % u32::from(self.num);
        let is_end = self.packed && !is_table_entry && (u32::from(number) == last || entry.kind == 99);
        let flags = if is_end { flags & !1 } else { flags };
        let words = if self.packed { [entry.wild, flags] } else { [flags, next] };
        octets[at + 12..at + 14].copy_from_slice(&words[0].to_le_bytes());
        octets[at + 14..at + 16].copy_from_slice(&words[1].to_le_bytes());
    }

    /// Says of an entry of a packed ring whose it is.
    fn mark(&self, octets: &mut [u8], number: u16, entry: &Entry) {
        let (first, round) = self.place;
        let round = if number < first { !round } else { round };
        let is_available = (number + self.num - first) % self.num < self.available;
        let bits = match (is_available, round) {
            (true, true) => 0x80,
            (true, false) => 0x8000,
            (false, true) => 0,
            (false, false) => 0x8080,
        };
        let bits = if entry.kind == 99 { entry.wild & 0x8080 } else { bits };
        let at = 16 * usize::from(number) + 15;
        octets[at - 1] |= bits as u8;
        octets[at] |= (bits >> 8) as u8;
    }

    fn features(&self) -> u64 {
        let chosen = [
            (self.packed, feature::RING_PACKED),
            (self.mergeable, feature::MRG_RXBUF),
            (self.event_idx, feature::EVENT_IDX),
        ];
        chosen.iter().filter(|(is_chosen, _)| *is_chosen).fold(feature::VERSION_1, |all, (_, bit)| all | bit)
    }
}

/// A device with one of its rings in such a memory.
struct Lab {
    fixture: Fixture,
    index: usize,
    regions: [Arc<Mapping>; 2],
    log: Arc<Mapping>,
}

impl Lab {
    fn new(index: usize, image: &Image, memory: &Naive) -> Lab {
        let regions = REGIONS.map(|(_, size)| Arc::new(Mapping::plain(size)));
        let (first, second) = memory.octets.split_at(REGIONS[0].1);
        regions[0].span(0, first.len() as u64).unwrap().write(0, first);
        regions[1].span(0, second.len() as u64).unwrap().write(0, second);
        // The front end's addresses lie the other way round.
        let region = |number: usize| {
            let (guest, size) = REGIONS[number];
            let description =
                RegionDescription { guest, size: size as u64, user: 0x9_0000 - guest, offset: 0 };
            Region { description, mapping: regions[number].clone() }
        };
        let shared = Arc::new(Memory::new(vec![region(1), region(0)]).unwrap());
        let log = Arc::new(Mapping::plain(LOG as usize));
        let user = 0x9_0000 - REGIONS[0].0;
        let used = REGIONS[0].0 + if image.packed { 0 } else { DEVICE as u64 };
        let fixture = Fixture::with(image.packed, 8, feature::VERSION_1);
        let setup = Setup {
            num: image.num.into(),
            base: u32::from(image.place.0) | if image.place.1 { 0x8000 } else { 0 },
            checkpoint: None,
            addresses: RingAddresses {
                descriptors: user,
                driver: user + DRIVER as u64,
                device: user + DEVICE as u64,
                log: Some(used),
            },
            memory: shared,
            log: Some(Arc::new(Log::new(log.area(0, LOG).unwrap()))),
            ..fixture.tx.setup(image.features())
        };
        fixture.rings.start(index, setup);
        Lab { fixture, index, regions, log }
    }

    /// Checks that the memory, the log and the ring are as another reader left them.
    fn check(&self, image: &Image, naive: &Naive, is_broken: bool) -> Result<(), TestCaseError> {
        let reason = self.fixture.broken(self.index);
        prop_assert_eq!(reason.is_some(), is_broken, "{:?}", reason);
        let mut octets = vec![0; ALL];
        let (first, second) = octets.split_at_mut(REGIONS[0].1);
        self.regions[0].span(0, first.len() as u64).unwrap().read(0, first);
        self.regions[1].span(0, second.len() as u64).unwrap().read(0, second);
        // When the device wants to be told is its own affair.
        let (told, event) = (if image.packed { 4 } else { 2 }, DEVICE + 4 + 8 * usize::from(image.num));
        octets[DEVICE..DEVICE + told].fill(0);
        octets[event..event + 2].fill(0);
        let differs = (0..ALL).find(|at| octets[*at] != naive.octets[*at]);
        prop_assert_eq!(differs.map(|at| (at, octets[at], naive.octets[at])), None);
        let log = self.log.span(0, LOG).unwrap();
        let is_marked = |page: &u64| log.load_u8((page / 8) as usize) >> (page % 8) & 1 != 0;
        let marked: BTreeSet<u64> = (0..8 * LOG).filter(is_marked).collect();
        prop_assert_eq!(&marked, &naive.dirty);
        Ok(())
    }
}

/// The frame that stands behind a header, if both are right.
fn frame_of(mut octets: Vec<u8>) -> Option<Vec<u8>> {
    let mut frame = octets.split_off(12);
    let request = Offload::from_virtio(octets.as_slice().try_into().unwrap());
    let (start, _) = VlanTag::take(&mut frame);
    checked(request, start, &frame[start..])?;
    Some(frame.split_off(start))
}

/// All chains as the crate `virtio-queue` reads them: the head, and the octets.
fn theirs(image: &Image, memory: &Naive) -> Vec<(u16, Option<Vec<u8>>)> {
    let ranges = REGIONS.map(|(start, size)| (GuestAddress(start), size));
    let guest = GuestMemoryMmap::<()>::from_ranges(&ranges).unwrap();
    guest.write_slice(&memory.octets, GuestAddress(REGIONS[0].0)).unwrap();
    let mut queue = TheirQueue::new(16).unwrap();
    let start = REGIONS[0].0;
    queue.set_size(image.num);
    queue.set_desc_table_address(Some(start as u32), Some(0));
    queue.set_avail_ring_address(Some(start as u32 + DRIVER as u32), Some(0));
    queue.set_used_ring_address(Some(start as u32 + DEVICE as u32), Some(0));
    queue.set_next_avail(image.place.0);
    queue.set_ready(true);
    assert!(queue.is_valid(&guest));
    let chains = queue.iter(&guest).unwrap();
    let frames = chains.map(|chain| {
        let head = chain.head_index();
        let pieces: Vec<_> = chain.map(|piece| (piece.addr(), piece.len())).collect();
        let octets: u64 = pieces.iter().map(|piece| u64::from(piece.1)).sum();
        let is_right = (12..=12 + 65_557).contains(&octets);
        let read = || {
            let mut octets = Vec::new();
            for (at, len) in &pieces {
                let mut piece = vec![0; *len as usize];
                guest.read_slice(&mut piece, *at).unwrap();
                octets.extend(piece);
            }
            octets
        };
        (head, is_right.then(read))
    });
    frames.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Two readers find the same frames in what a guest sent, complete the same chains, and give up at the same place.
    #[test]
    fn what_a_guest_sent_is_read_the_same(image in image(any::<bool>())) {
        let mut naive = image.draw(false);
        let mut lab = Lab::new(1, &image, &naive);
        let mut frames = Vec::new();
        let is_broken = naive.receive(&mut frames).is_err();
        let mut came = Vec::new();
        for _ in 0..16 {
            came.extend(lab.fixture.receive());
        }
        let expected: Vec<_> = frames.into_iter().filter_map(|(_, octets)| frame_of(octets?)).collect();
        prop_assert_eq!(came, expected);
        lab.check(&image, &naive, is_broken)?;
    }

    /// The crate `virtio-queue` reads the same from every split ring that is not broken.
    #[test]
    fn another_reader_reads_the_same(image in image(Just(false))) {
        let mut naive = image.draw(false);
        let theirs = || theirs(&image, &image.draw(false));
        let mut frames = Vec::new();
        if naive.receive(&mut frames).is_ok() {
            prop_assert_eq!(theirs(), frames);
        }
    }

    /// Two writers write the same to a guest, complete the same chains, and give up at the same place.
    #[test]
    fn what_a_guest_is_sent_is_written_the_same(
        image in image(any::<bool>()),
        lengths in prop::collection::vec(14..700usize, 1..20),
    ) {
        let mut naive = image.draw(true);
        let mut lab = Lab::new(0, &image, &naive);
        let frames: Vec<_> =
            lengths.iter().enumerate().map(|(number, len)| frame(number as u8 + 1, *len)).collect();
        let mut is_broken = false;
        for frame in &frames {
            match naive.transmit(frame, image.mergeable) {
                Ok(Sent::Written | Sent::TooLong) => {}
                Ok(Sent::Full) => break,
                Err(_) => {
                    is_broken = true;
                    break;
                }
            }
        }
        lab.fixture.transmit(&frames.iter().map(|frame| &frame[..]).collect::<Vec<_>>());
        lab.check(&image, &naive, is_broken)?;
    }
}
