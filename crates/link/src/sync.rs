//! The primitives that [`gate`](crate::gate) is built on; its model test puts the model checker's in their place.

pub(crate) use core::sync::atomic::{AtomicU64, Ordering};
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
