//! The interface that a trunk hangs on, and the check that it still does.
//!
//! Theory of operation. A trunk on a bridge is a feth pair: the outer end is a member of the bridge, the inner end is
//! ours. A trunk on an interface is that interface. Whenever something happened, and once a second besides, the caller
//! calls [`Trunk::look`]: the pair is made when the bridge is there, and joined again when the bridge dropped it; a
//! pair whose bridge is gone, has another MTU now, or of which an end was removed, is given up, and made anew later.

use std::io;

use rustix::io::Errno;
use vmlan_sys::darwin::InterfaceName;

use super::Kernel;
use super::pair::{Pair, PairError};

/// The MTU of a feth interface in octets: at least, and at most unless the system is told otherwise.
const FETH_MTU: std::ops::RangeInclusive<u32> = 72..=2048;

/// The interface or bridge that a trunk is to be on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    /// An interface of the host.
    Interface(InterfaceName),
    /// A bridge of the host.
    Bridge(InterfaceName),
}

impl Target {
    /// The interface or the bridge.
    pub(crate) fn name(self) -> InterfaceName {
        let (Target::Interface(name) | Target::Bridge(name)) = self;
        name
    }
}

/// The outcome of a look at a trunk's interface or bridge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Look {
    /// Frames pass through this interface; whether a bridge had dropped it and was joined again.
    There {
        /// The interface to attach to.
        interface: InterfaceName,
        /// It was just joined again.
        rejoined: bool,
    },
    /// The interface or bridge is not there; the reason names those that are.
    Missing(String),
    /// The system refused.
    Failed(String),
}

/// The target of a trunk, and the feth pair where the target is a bridge.
pub(crate) struct Trunk<K: Kernel> {
    kernel: K,
    target: Target,
    pair: Option<Pair<K>>,
}

impl<K: Kernel + Clone> Trunk<K> {
    /// A trunk that hangs on nothing yet.
    pub(crate) fn new(kernel: K, target: Target) -> Trunk<K> {
        Trunk { kernel, target, pair: None }
    }

    /// True if an event of `interface` is worth a look.
    pub(crate) fn concerns(&self, interface: InterfaceName) -> bool {
        self.target.name() == interface
            || self.pair.as_ref().is_some_and(|pair| [pair.inner, pair.outer].contains(&interface))
    }

    /// Removes what was made.
    pub(crate) fn give_up(&mut self) {
        self.pair = None;
    }

    /// Brings about that frames pass, as far as it can be done. An interface is brought up only when it is `wanted`.
    pub(crate) fn look(&mut self, wanted: bool) -> Look {
        let looked = match self.target {
            Target::Interface(name) => self.look_at_interface(name, wanted),
            Target::Bridge(name) => self.look_at_bridge(name),
        };
        if !matches!(looked, Look::There { .. }) {
            self.give_up();
        }
        looked
    }

    fn look_at_interface(&self, name: InterfaceName, wanted: bool) -> Look {
        match self.kernel.interfaces() {
            Ok(all) if !all.iter().any(|interface| interface.name == name) => {
                self.missing("interface", name, |interface| interface.is_ethernet)
            }
            Ok(_) if !wanted => Look::There { interface: name, rejoined: false },
            Ok(_) => match self.kernel.set_up(name) {
                Ok(()) => Look::There { interface: name, rejoined: false },
                Err(error) => Look::Failed(format!("cannot bring {name} up: {error}; {}", cure(&error))),
            },
            Err(error) => Look::Failed(format!("cannot list the host's interfaces: {error}")),
        }
    }

    fn look_at_bridge(&mut self, bridge: InterfaceName) -> Look {
        let members = match self.kernel.members(bridge) {
            Ok(members) => members,
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NXIO) => {
                return self
                    .missing("bridge", bridge, |interface| interface.name.as_str().starts_with("bridge"));
            }
            Err(error) => {
                return Look::Failed(format!(
                    "cannot list the members of {bridge}: {error}; name a bridge, as `ifconfig` lists them, or write \
                     `interface` instead of `bridge`"
                ));
            }
        };
        if let Some(pair) = &self.pair {
            let (interface, outer) = (pair.inner, pair.outer);
            if members.contains(&outer) {
                return Look::There { interface, rejoined: false };
            }
            match self.kernel.join(bridge, outer) {
                Ok(()) => return Look::There { interface, rejoined: true },
                // Its MTU changed, or an end of the pair is gone: another pair will do.
                Err(_) => self.give_up(),
            }
        }
        self.make(bridge)
    }

    /// Makes a pair and joins it to the bridge.
    fn make(&mut self, bridge: InterfaceName) -> Look {
        let mtu = match self.kernel.mtu(bridge) {
            Ok(mtu) => mtu,
            Err(error) => return Look::Failed(format!("cannot ask for the MTU of {bridge}: {error}")),
        };
        // A bridge takes members of its own MTU only.
        if !FETH_MTU.contains(&mtu) {
            return Look::Failed(format!(
                "{bridge} has an MTU of {mtu}, and a feth interface has {} to {}; change it with \
                 `ifconfig {bridge} mtu`",
                FETH_MTU.start(),
                FETH_MTU.end()
            ));
        }
        let pair = match Pair::make(&self.kernel, mtu) {
            Ok(pair) => pair,
            Err(error @ PairError::TooMany) => return Look::Failed(error.to_string()),
            Err(PairError::System { step, source }) => {
                return Look::Failed(format!("cannot {step}: {source}; {}", cure(&source)));
            }
        };
        match self.kernel.join(bridge, pair.outer) {
            Ok(()) => {
                let interface = pair.inner;
                self.pair = Some(pair);
                Look::There { interface, rejoined: false }
            }
            Err(error) => Look::Failed(format!("cannot join {bridge}: {error}; {}", cure(&error))),
        }
    }

    /// Says that `name` is not there, and which of its kind are.
    fn missing(&self, kind: &str, name: InterfaceName, is_alike: impl Fn(&super::Interface) -> bool) -> Look {
        let all = self.kernel.interfaces().unwrap_or_default();
        let alike: Vec<_> = all.iter().filter(|each| is_alike(each)).map(|each| each.name.as_str()).collect();
        let others = match alike.is_empty() {
            true => format!("there is no {kind} at all"),
            false => format!("there are: {}", alike.join(", ")),
        };
        Look::Missing(format!("there is no {kind} {name}; {others}"))
    }
}

/// Returns advice about a refusal.
fn cure(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::PERM | Errno::ACCESS) => "run vmlan as root",
        Some(Errno::INVAL) => "its MTU or kind may have changed; it is tried again",
        _ => "it is tried again",
    }
}

#[cfg(test)]
mod tests;
