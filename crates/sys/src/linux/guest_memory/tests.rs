use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::*;

#[test]
fn two_mappings_of_a_file_see_the_same_octets() {
    let file = memfd_create("guest", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&file, 1 << 20).unwrap();
    let one = Arc::new(Mapping::new(file.as_fd(), 0, 1 << 20).unwrap());
    let other = Mapping::new(file.as_fd(), 4096, 4096).unwrap();
    let area = one.area(4096, 100).unwrap();
    area.span().store_u64(3, 0x1122_3344_5566_7788);
    assert_eq!(other.span(0, 4096).unwrap().load_u32(7), 0x1122_3344);
    assert!(!area.is_poisoned() && !one.is_sealed());
}
