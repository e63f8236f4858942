use std::sync::MutexGuard;

use vmlan_frame::Mutex;

use crate::guard::addresses::Addresses;
use crate::shared_mac::Echoes;

/// The knowledge that the workers of a network share. Empty while no port has a stage that asks for it.
pub(crate) struct Shared {
    pub(crate) addresses: Addresses,
    pub(crate) echoes: Echoes,
}

impl Shared {
    pub(crate) fn new(seed: [u64; 2]) -> Shared {
        Shared { addresses: Addresses::new(seed), echoes: Echoes::new(seed) }
    }
}

/// The lock around that, taken by the first frame of a batch that needs it and kept to the batch's end.
pub(crate) struct Known<'a> {
    shared: &'a Mutex<Shared>,
    guard: Option<MutexGuard<'a, Shared>>,
}

impl<'a> Known<'a> {
    pub(crate) fn new(shared: &'a Mutex<Shared>) -> Known<'a> {
        Known { shared, guard: None }
    }

    pub(crate) fn get(&mut self) -> &mut Shared {
        self.guard.get_or_insert_with(|| self.shared.lock())
    }
}
