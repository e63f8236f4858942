//! The data that macOS's kernel gives: records of the packet filter's device and messages of the event socket.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmlan_drivers::packet_filter::{Piece, split};
use vmlan_sys::darwin::bpf::{HEADER, emit, record};
use vmlan_sys::darwin::event;

// The first octet says what the rest is: a read as it is, a message as it is, or frames to be written as records.
fuzz_target!(|octets: &[u8]| {
    let Some((kind, octets)) = octets.split_first() else { return };
    match kind % 3 {
        0 => any_read(octets),
        1 => any_message(octets),
        _ => written_records(octets, usize::from(*kind)),
    }
});

/// Pieces lie in the read, in order and apart; nothing comes from behind a bad record.
fn any_read(octets: &[u8]) {
    let mut changed = octets.to_vec();
    let mut pieces = Vec::new();
    let found = split(&mut changed, &mut pieces);
    let mut end = 0;
    for Piece { range, tag } in &pieces {
        let offset = if tag.is_some() { 4 } else { 0 };
        assert!(range.start >= end + HEADER + offset && range.end <= octets.len() - found.bad_octets);
        // Taking a tag off moves the addresses; what is behind them stays.
        if range.len() > 12 {
            let rest = range.start + 12..range.end;
            assert_eq!(changed[rest.clone()], octets[rest]);
        }
        end = range.end;
    }
    let mut at = 0;
    let mut records = 0;
    while let Some(Ok(record)) = record(octets, at) {
        assert!(record.next > at && record.next % 4 == at % 4 && record.frame.end <= octets.len());
        at = record.next;
        records += 1;
    }
    assert_eq!(records, pieces.len() + found.cut);
    assert_eq!(found.bad_octets, octets.len().saturating_sub(at));
}

/// An event names an interface that can be.
fn any_message(octets: &[u8]) {
    if let Ok(Some(event)) = event::parse(octets) {
        let name = event.interface.as_str();
        assert!((1..16).contains(&name.len()) && name.ends_with(|last: char| last.is_ascii_digit()));
    }
}

/// Checks that records give back the frames that were written to them, and nothing else.
fn written_records(octets: &[u8], len: usize) {
    let frames: Vec<_> = octets.chunks(len.max(1)).collect();
    let mut read = Vec::new();
    frames.iter().for_each(|frame| emit(&mut read, frame, frame.len() as u32));
    let mut pieces = Vec::new();
    assert_eq!(split(&mut read, &mut pieces), Default::default());
    assert_eq!(pieces.len(), frames.len());
    for (piece, frame) in pieces.iter().zip(frames) {
        let mut found = read[piece.range.clone()].to_vec();
        if let Some(tag) = piece.tag {
            found.splice(12..12, tag.octets());
        }
        assert_eq!(found, frame);
    }
}
