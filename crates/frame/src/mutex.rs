use std::sync::{self, MutexGuard, PoisonError, TryLockError};

/// A lock that stays open after a panic of whoever held it.
///
/// A panic costs the port in hand and nothing else, so what is guarded has to be good at every point where a panic may
/// leave it; then nobody else has to hear of it.
#[derive(Debug, Default)]
pub struct Mutex<T: ?Sized>(sync::Mutex<T>);

impl<T> Mutex<T> {
    /// A lock of `value`.
    pub const fn new(value: T) -> Mutex<T> {
        Mutex(sync::Mutex::new(value))
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits for the lock and holds it. The guard is the standard library's, for its `Condvar`.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds the lock if nobody else does.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_panic_does_not_keep_it_shut() {
        let number = Mutex::new(1);
        let panics = || {
            *number.lock() = 2;
            std::panic::resume_unwind(Box::new("the test's own"));
        };
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        assert_eq!(*number.lock(), 2);
        assert_eq!(number.try_lock().as_deref(), Some(&2));
    }

    #[test]
    fn one_holds_it_at_a_time() {
        let number = Mutex::new(1);
        let held = number.lock();
        assert!(number.try_lock().is_none());
        drop(held);
        assert!(number.try_lock().is_some());
    }
}
