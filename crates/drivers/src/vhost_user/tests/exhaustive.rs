//! Arithmetic of rings, memory and messages over all values, or over all that are near a border. Each property is a
//! function of plain numbers, as a model checker could call it.

use std::collections::BTreeSet;

use vmlan_sys::guest_memory::Mapping;

use super::super::log::Log;
use super::super::memory::{Memory, Region};
use super::super::message::{HEADER, Header, LONGEST, RegionDescription};
use super::super::packed::Cursor;
use super::super::ring::need_event;
use super::super::split;
use super::*;

const PAGE: u64 = 4096;

/// Numbers of 16 bits near borders, and others in a stride that meets every residue.
fn words() -> Vec<u16> {
    let near = [0u16, 1 << 8, 1 << 14, 1 << 15].into_iter();
    let near = near.flat_map(|border| [border.wrapping_sub(2), border.wrapping_sub(1), border, border + 1]);
    near.chain((0..=u16::MAX).step_by(509)).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The guest is told if the event is one of the indices that were passed: `old` and those behind it, below `new`.
fn is_told_of_what_was_passed(event: u16, new: u16, old: u16) {
    let [passed, behind] = [new, event].map(|index| u32::from(index.wrapping_sub(old)));
    assert_eq!(need_event(event, new, old), behind < passed, "{event} {new} {old}");
}

#[test]
fn events_over_all_words_near_borders() {
    let words = words();
    for old in &words {
        for new in &words {
            words.iter().for_each(|event| is_told_of_what_was_passed(*event, *new, *old));
        }
    }
}

#[test]
fn events_over_all_steps_of_a_turn() {
    for old in 0..=u16::MAX {
        // Of a turn that completed so many chains, all events around it.
        for (step, event) in [(1, 0), (1, 1), (1, u16::MAX), (64, 0), (64, 63), (64, 64), (64, 1 << 15)] {
            is_told_of_what_was_passed(old.wrapping_add(event), old.wrapping_add(step), old);
        }
    }
}

/// An index has its place in the areas of a ring with `1 << power` entries, the same a round later, and the next one
/// has the next place.
fn has_a_place(index: u16, power: u32) {
    let num = 1u16 << power;
    let slot = split::slot(index, num);
    assert_eq!(slot, usize::from(index) % usize::from(num));
    assert_eq!(split::slot(index.wrapping_add(num), num), slot);
    assert_eq!(split::slot(index.wrapping_add(1), num), (slot + 1) % usize::from(num));
    let [_, available, used] = split::Areas::octets(num.into(), false).map(|octets| octets as usize);
    assert!(4 + 2 * slot + 2 <= available && 4 + 8 * slot + 8 <= used);
}

/// So many chains are available, unless it is more than there are entries.
fn is_available(index: u16, taken: u16, power: u32) {
    let num = 1u16 << power;
    let reference = (0..=num).find(|count| taken.wrapping_add(*count) == index);
    assert_eq!(split::available(index, taken, num), reference, "{index} {taken} {num}");
}

#[test]
fn split_indices_over_all_rings() {
    for power in 0..16 {
        (0..=u16::MAX).for_each(|index| has_a_place(index, power));
        let num = 1u16 << power;
        for taken in [0, 1, num - 1, num, 0x7fff, 0x8000, u16::MAX - 1, u16::MAX] {
            for count in [0, 1, num / 2, num - 1, num, num.wrapping_add(1), num.wrapping_mul(2), u16::MAX] {
                is_available(taken.wrapping_add(count), taken, power);
            }
        }
    }
}

/// A place and a round are one position on a circle of two rounds, on which it goes on.
fn goes_on(index: u16, wrap: bool, by: u16, num: u16) {
    let mut cursor = Cursor::from_bits(index | u16::from(wrap) << 15);
    assert_eq!(cursor.bits(), index | u16::from(wrap) << 15);
    cursor.advance(by, num);
    let num = u32::from(num);
    let position = (u32::from(index) + u32::from(by) + if wrap { 0 } else { num }) % (2 * num);
    let expected = (position % num) | if position < num { 0x8000 } else { 0 };
    assert_eq!(u32::from(cursor.bits()), expected, "{index} {wrap} {by} {num}");
}

#[test]
fn packed_positions_over_all_rings() {
    for num in 1..=24 {
        for index in 0..num {
            (0..=num).for_each(|by| [false, true].iter().for_each(|wrap| goes_on(index, *wrap, by, num)));
        }
    }
    for num in 1..=1u16 << 15 {
        for index in [0, num / 2, num - 1] {
            for by in [0, 1, num / 2, num.saturating_sub(index), num - 1, num] {
                [false, true].iter().for_each(|wrap| goes_on(index, *wrap, by, num));
            }
        }
    }
}

/// Octets are found if they are in one of two regions, there, and never elsewhere.
fn is_found_inside(memory: &Memory, regions: [(u64, u64); 2], hint: usize, guest: u64, len: u64) {
    let is_in = |(start, size): (u64, u64)| {
        guest >= start && u128::from(guest) + u128::from(len) <= u128::from(start) + u128::from(size)
    };
    let mut later = hint;
    let span = memory.find(&mut later, guest, len);
    assert_eq!(span.is_some(), regions.into_iter().any(is_in), "{regions:?} {hint} {guest:#x} {len:#x}");
    let Some(span) = span else { return };
    assert_eq!(span.len() as u64, len);
    // Each octet has the low octet of its address.
    (0..span.len()).for_each(|at| assert_eq!(span.load_u8(at), (guest + at as u64) as u8));
}

#[test]
fn memory_is_found_inside_alone() {
    let region = |(guest, size): (u64, u64), user: u64| {
        let mapping = Arc::new(Mapping::plain(size as usize));
        (0..size).for_each(|at| mapping.span(at, 1).unwrap().write(0, &[(guest + at) as u8]));
        Region { description: RegionDescription { guest, size, user, offset: 0 }, mapping }
    };
    for base in [0, PAGE - 4, u64::MAX - 12] {
        for (first, gap, second) in (0..27).map(|number| (1 + number % 3, number / 3 % 3, 1 + number / 9)) {
            let regions = [(base + 2, first), (base + 2 + first + gap, second)];
            let memory = Memory::new(vec![region(regions[1], 0), region(regions[0], 1 << 20)]).unwrap();
            for guest in (0..14).map(|by: u64| base.wrapping_add(by)) {
                for len in [0, 1, 2, 3, 4, 5, u32::MAX.into(), u64::MAX - 1, u64::MAX] {
                    (0..4).for_each(|hint| is_found_inside(&memory, regions, hint, guest, len));
                }
            }
        }
    }
}

/// A log of two octets has a mark of each page that was written, and of no other one; what ends behind it is refused.
fn marks_its_pages(guest: u64, len: u64) {
    let all = Arc::new(Mapping::plain(6));
    let log = Log::new(all.area(2, 2).unwrap());
    let result = log.mark(guest, len);
    let pages =
        (guest / PAGE..).take_while(|page| u128::from(page * PAGE) < u128::from(guest) + u128::from(len));
    let pages: BTreeSet<u64> = pages.take(17).filter(|_| len > 0).collect();
    assert_eq!(result.is_ok(), pages.iter().all(|page| *page < 16), "{guest:#x} {len}");
    let marked: u64 = (0..6).map(|at| u64::from(all.span(at, 1).unwrap().load_u8(0)) << (8 * at)).sum();
    let expected: u64 = pages.iter().filter(|page| **page < 16).map(|page| 1 << (page + 16)).sum();
    assert_eq!(marked, expected, "{guest:#x} {len}");
}

#[test]
fn marks_over_all_pages_of_a_log() {
    for page in 0..20 {
        for at in [0, 1, PAGE - 2, PAGE - 1] {
            for len in [0, 1, 2, PAGE - 1, PAGE, PAGE + 1, 9 * PAGE, 16 * PAGE, 16 * PAGE + 1] {
                marks_its_pages(page * PAGE + at, len);
            }
        }
    }
}

/// A header that is taken has a version, a direction and a size that are right.
fn is_taken_if_right(number: u32, flags: u32, size: u32) {
    let octets = [number, flags, size].map(u32::to_ne_bytes).concat();
    let Ok(header) = Header::parse(octets.as_slice().try_into().unwrap()) else { return };
    assert_eq!(octets.len(), HEADER);
    assert_eq!((header.kind as u32, header.size as u64), (number, size.into()));
    assert!(header.size <= LONGEST && flags & 7 == 1 && header.needs_reply == (flags & 8 != 0));
}

#[test]
fn headers_over_all_requests() {
    let mut taken = 0;
    for number in (0..64).chain([u32::MAX]) {
        for flags in (0..32).chain([u32::MAX, 1 << 31 | 1]) {
            for size in (0..600).chain([4095, 4096, 4097, 1 << 31, u32::MAX]) {
                is_taken_if_right(number, flags, size);
            }
        }
        let is_known = |size: &u32| {
            let octets = [number, 1, *size].map(u32::to_ne_bytes).concat();
            Header::parse(octets.as_slice().try_into().unwrap()).is_ok()
        };
        taken += usize::from((0..600).any(|size| is_known(&size)));
    }
    assert_eq!(taken, 26);
}
