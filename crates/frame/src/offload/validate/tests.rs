use super::super::samples::*;
use super::*;

#[test]
fn case_3_impossible_sizes() {
    let (octets, request) = case_1();
    assert_eq!(validate(&octets, Offload { gso_size: 0, ..request }), Err(BadOffload::SegmentSize(0)));
    let header_len = octets.len() as u16 + 1;
    assert_eq!(validate(&octets, Offload { header_len, ..request }), Err(BadOffload::HeaderLength));
}

#[test]
fn the_canonical_request_has_the_true_header_length() {
    let (octets, request) = case_1();
    let canonical = validate(&octets, request).unwrap();
    assert_eq!(canonical, Offload { header_len: 54, ..request });
    assert_eq!(validate(&octets, canonical), Ok(canonical));
}
