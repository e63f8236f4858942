use attack::books::imbalances;
use testbed::poll_until;

use super::{Daemon, PATIENCE};

/// Waits until the books of every network balance, those of ports that left included.
#[track_caller]
pub fn assert_balanced(daemon: &Daemon) {
    let mut faults = Vec::new();
    let balanced = poll_until(PATIENCE, || {
        let mut ports = daemon.ports();
        ports.extend_from_slice(&daemon.departed.borrow());
        faults = imbalances(&ports);
        faults.is_empty()
    });
    assert!(balanced, "the books do not balance: {faults:?}\n{:#?}", daemon.ports());
}
