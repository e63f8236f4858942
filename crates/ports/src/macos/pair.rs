//! Pairs of feth interfaces: made, removed, and found when their maker is gone.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use vmlan_sys::darwin::InterfaceName;

use super::mark::Mark;
use super::{Interface, Kernel};

/// The pairs that this process has, a bit each.
static USED: AtomicU64 = AtomicU64::new(0);

/// A number of a pair that nobody else in the process has.
pub(super) struct Number(u32);

impl Number {
    fn take() -> Option<Number> {
        let lowest = |used: u64| used.checked_add(1).map(|next| used | next);
        let before = USED.fetch_update(Ordering::AcqRel, Ordering::Acquire, lowest).ok()?;
        Some(Number(before.trailing_ones()))
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        USED.fetch_and(!(1 << self.0), Ordering::AcqRel);
    }
}

/// Two feth interfaces: what one sends, the other receives. They go when it is dropped.
pub(crate) struct Pair<K: Kernel> {
    kernel: K,
    /// Our end.
    pub inner: InterfaceName,
    /// The end for the bridge.
    pub outer: InterfaceName,
    _number: Number,
}

/// Why there is no pair.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PairError {
    /// This process has as many as it may.
    #[error("there are {} trunks on bridges and uplinks of the kernel already; remove one", Mark::PAIRS)]
    TooMany,
    /// The system refused.
    #[error("cannot {step}: {source}")]
    System {
        /// The step that was tried.
        step: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

impl<K: Kernel + Clone> Pair<K> {
    /// Makes a pair, marked as ours, with both ends up.
    pub(crate) fn make(kernel: &K, mtu: u32) -> Result<Pair<K>, PairError> {
        let at = |step| move |source| PairError::System { step, source };
        let number = Number::take().ok_or(PairError::TooMany)?;
        let mac = |is_outer| {
            Mark { process: std::process::id(), pair: number.0, is_outer }.mac().ok_or(PairError::TooMany)
        };
        let macs = [mac(false)?, mac(true)?];
        let inner = Feth::make(kernel)?;
        let outer = Feth::make(kernel)?;
        for (feth, mac) in [(&inner, macs[0]), (&outer, macs[1])] {
            kernel
                .prepare_feth(feth.name, mac, mtu)
                .map_err(at("set address and MTU of a feth interface"))?;
        }
        kernel.pair_feths(inner.name, outer.name).map_err(at("join two feth interfaces"))?;
        for feth in [&inner, &outer] {
            kernel.set_up(feth.name).map_err(at("bring a feth interface up"))?;
        }
        let [inner, outer] = [inner, outer].map(Feth::keep);
        Ok(Pair { kernel: kernel.clone(), inner, outer, _number: number })
    }
}

impl<K: Kernel> Drop for Pair<K> {
    fn drop(&mut self) {
        for name in [self.outer, self.inner] {
            // Somebody may have removed it, which is what is wanted.
            let _ = self.kernel.destroy_feth(name);
        }
    }
}

/// An interface that goes again unless it is kept.
struct Feth<'a, K: Kernel> {
    kernel: &'a K,
    name: InterfaceName,
    is_kept: bool,
}

impl<'a, K: Kernel> Feth<'a, K> {
    fn make(kernel: &'a K) -> Result<Feth<'a, K>, PairError> {
        let step = "make a feth interface";
        let name = kernel.create_feth().map_err(|source| PairError::System { step, source })?;
        Ok(Feth { kernel, name, is_kept: false })
    }

    fn keep(mut self) -> InterfaceName {
        self.is_kept = true;
        self.name
    }
}

impl<K: Kernel> Drop for Feth<'_, K> {
    fn drop(&mut self) {
        if !self.is_kept {
            // There is nothing else to be done about it.
            let _ = self.kernel.destroy_feth(self.name);
        }
    }
}

/// The feth interfaces of ours whose process is gone, or that this process does not know.
pub(super) fn left_over<K: Kernel>(
    kernel: &K,
    is_alive: impl Fn(u32) -> bool,
) -> io::Result<Vec<InterfaceName>> {
    let own = std::process::id();
    let is_left = |mark: Mark| match mark.process {
        process if process == own => USED.load(Ordering::Acquire) >> mark.pair & 1 == 0,
        process => !is_alive(process),
    };
    let is_ours_and_left = |interface: &Interface| {
        let is_feth = interface.name.as_str().starts_with("feth");
        is_feth && interface.mac.and_then(Mark::of).is_some_and(is_left)
    };
    Ok(kernel.interfaces()?.into_iter().filter(is_ours_and_left).map(|interface| interface.name).collect())
}
