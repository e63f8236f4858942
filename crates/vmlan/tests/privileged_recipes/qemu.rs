//! Machines of QEMU that are started by hand, without KVM.

use testbed::require;

use crate::guest;
use crate::machine::{Machine, needs};

#[track_caller]
pub fn follow(page: &str) {
    require!(needs(), qemu());
    let mut host = Machine::new("host");
    guest::write_system(&host.work());
    crate::follow(page, &mut [&mut host]);
}
