//! Reads from a packet filter's device (net/bpf.h): records of a header and a frame, each aligned to 4.

use std::ops::Range;

use super::{field, word};

/// Octets of a record's header that the kernel fills (struct bpf_hdr). What it says itself may be more, for padding.
pub const HEADER: usize = 18;
/// Records begin at multiples of this.
pub const ALIGNMENT: usize = 4;

pub(super) const CAPTURED: usize = 8;
pub(super) const ORIGINAL: usize = 12;
pub(super) const HEADER_LEN: usize = 16;

/// A checked record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Where the frame lies.
    pub frame: Range<usize>,
    /// True if the end of the frame is missing.
    pub cut: bool,
    /// Where the next record begins; beyond the end after the last one.
    pub next: usize,
}

/// A record whose header contradicts the read that it is in. There is no telling where the next one would begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadRecord;

/// The record at `at` in what one read gave; `None` behind the last one.
///
/// # Errors
/// [`BadRecord`] when the header is not whole, is shorter than it can be, tells of more octets than there are, or of
/// more than the frame had.
pub fn record(octets: &[u8], at: usize) -> Option<Result<Record, BadRecord>> {
    let rest = octets.get(at..).filter(|rest| !rest.is_empty())?;
    Some(parse(rest, at).ok_or(BadRecord))
}

fn parse(rest: &[u8], at: usize) -> Option<Record> {
    let captured = word(rest, CAPTURED)?;
    let original = word(rest, ORIGINAL)?;
    let header = usize::from(u16::from_ne_bytes(field(rest, HEADER_LEN)?));
    let len = usize::try_from(captured).ok()?;
    let end = header.checked_add(len)?;
    if header < HEADER || end > rest.len() || captured > original {
        return None;
    }
    Some(Record {
        frame: at + header..at + end,
        cut: captured < original,
        // Below the end of the read, which is far from the largest number.
        next: at + end.next_multiple_of(ALIGNMENT),
    })
}

/// Writes a record as the kernel would: for tests, here and elsewhere, and fuzzing.
pub fn emit(record: &mut Vec<u8>, frame: &[u8], original: u32) {
    record.resize(record.len().next_multiple_of(ALIGNMENT), 0);
    record.extend([0; CAPTURED]);
    record.extend((frame.len() as u32).to_ne_bytes());
    record.extend(original.to_ne_bytes());
    record.extend((HEADER as u16).to_ne_bytes());
    record.extend(frame);
}

/// One instruction of a filter program (struct bpf_insn).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Instruction {
    /// The operation's code.
    pub code: u16,
    /// Instructions to skip when a test holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// The constant.
    pub k: u32,
}

const _: () = assert!(size_of::<Instruction>() == 8);

#[cfg(test)]
mod tests {
    use super::*;

    /// A read of these frames.
    fn read(frames: &[&[u8]]) -> Vec<u8> {
        let mut octets = Vec::new();
        frames.iter().for_each(|frame| emit(&mut octets, frame, frame.len() as u32));
        octets
    }

    fn records(octets: &[u8]) -> Result<Vec<Record>, BadRecord> {
        let mut records = Vec::<Record>::new();
        while let Some(record) = record(octets, records.last().map_or(0, |last| last.next)) {
            records.push(record?);
        }
        Ok(records)
    }

    #[test]
    fn records_follow_each_other_at_multiples_of_four() {
        let octets = read(&[&[1; 60], &[2; 61], &[3; 14], &[]]);
        let found = records(&octets).unwrap();
        let starts: Vec<_> = found.iter().map(|record| record.frame.start - HEADER).collect();
        assert_eq!(starts, [0, 80, 160, 192]);
        let frames: Vec<_> = found.iter().map(|record| octets[record.frame.clone()].to_vec()).collect();
        assert_eq!(frames, [vec![1; 60], vec![2; 61], vec![3; 14], vec![]]);
        assert!(found.iter().all(|record| !record.cut));
        assert_eq!(record(&[], 0), None);
    }

    #[test]
    fn a_longer_header_is_skipped_whole() {
        let mut octets = read(&[&[7; 20]]);
        octets[HEADER_LEN..HEADER].copy_from_slice(&24u16.to_ne_bytes());
        octets.splice(HEADER..HEADER, [0; 6]);
        assert_eq!(records(&octets).unwrap()[0].frame, 24..44);
    }

    #[test]
    fn a_frame_without_its_end_is_told() {
        let mut octets = Vec::new();
        emit(&mut octets, &[1; 60], 1514);
        assert!(records(&octets).unwrap()[0].cut);
    }

    #[test]
    fn a_header_that_cannot_be_is_refused() {
        let edit = |at: usize, value: &[u8]| {
            let mut octets = read(&[&[1; 60]]);
            octets[at..at + value.len()].copy_from_slice(value);
            records(&octets)
        };
        // One octet more than there is, and all that a field can say.
        assert_eq!(edit(CAPTURED, &61u32.to_ne_bytes()), Err(BadRecord));
        assert_eq!(edit(CAPTURED, &u32::MAX.to_ne_bytes()), Err(BadRecord));
        // More captured than there was.
        assert_eq!(edit(ORIGINAL, &59u32.to_ne_bytes()), Err(BadRecord));
        assert_eq!(edit(HEADER_LEN, &17u16.to_ne_bytes()), Err(BadRecord));
        assert_eq!(edit(HEADER_LEN, &0u16.to_ne_bytes()), Err(BadRecord));
        assert_eq!(edit(HEADER_LEN, &u16::MAX.to_ne_bytes()), Err(BadRecord));
        let octets = read(&[&[1; 60]]);
        (1..octets.len()).for_each(|len| assert_eq!(records(&octets[..len]), Err(BadRecord), "{len}"));
    }

    #[test]
    fn a_record_that_ends_the_read_needs_no_padding() {
        let octets = read(&[&[1; 61]]);
        assert_eq!(records(&octets).unwrap()[0].next, octets.len() + 1);
    }
}
