//! How a device is that is a port: the state of the port follows it.
//!
//! The device's name and whether it is up are asked of its descriptor, once a second and without entering its
//! namespace. What costs more, its MTU and its carrier, is asked for when something changed, and every few seconds.

use std::os::fd::{AsFd, OwnedFd};

use vmlan_api::PortState;
use vmlan_drivers::Fault;
use vmlan_sys::netdev::{self, State};
use vmlan_sys::netns::{self, Identity};
use vmlan_sys::tap;

use super::home::Residence;
use crate::Look;

/// Seconds after which everything is asked for.
const CHECK: u32 = 5;

/// The last known state of a device, and the means to look again.
pub(super) struct Follow {
    device: OwnedFd,
    residence: Residence,
    /// The MTU that the device should have.
    mtu: u32,
    name: String,
    state: State,
    seconds: u32,
}

impl Follow {
    /// Follows the device of a queue, which was set up just now.
    ///
    /// # Errors
    /// No descriptor.
    pub(super) fn new(
        device: impl AsFd,
        residence: Residence,
        mtu: usize,
        name: &str,
    ) -> Result<Follow, String> {
        let device = device.as_fd().try_clone_to_owned();
        let device = device.map_err(|error| format!("cannot follow the device {name}: {error}"))?;
        let mtu = mtu as u32;
        let state = State { up: true, carrier: true, mtu };
        Ok(Follow { device, residence, mtu, name: name.to_owned(), state, seconds: 0 })
    }

    /// Looks at the device; to be called once a second.
    pub(super) fn look(&mut self) -> Look {
        if let Some(reason) = self.residence.lost() {
            return Look::Gone(reason);
        }
        // An error: it was deleted, which the worker finds out.
        let Ok(name) = tap::name(&self.device) else { return Look::Same };
        let up = tap::is_up(&self.device);
        let due = self.seconds.is_multiple_of(CHECK);
        self.seconds += 1;
        let changed = name != self.name || up != self.state.up;
        if !changed && !due && (self.state.carrier || !up) {
            return Look::Same;
        }
        let known = State { up, carrier: up, mtu: self.state.mtu };
        let state = State { up, ..self.ask(&name).unwrap_or(known) };
        if (&name, state) == (&self.name, self.state) {
            return Look::Same;
        }
        (self.name, self.state) = (name, state);
        let (state, reason) = self.describe();
        Look::Changed { state, reason, name: self.name.clone() }
    }

    /// Returns the fault, or the end of the device where it is ending. A TAP or TUN that is being deleted reports a
    /// failure some time before its reads say why, and does so in no other state.
    pub(super) fn explain(&self, fault: Fault) -> Fault {
        match fault {
            Fault::Io(error) if error.raw_os_error().is_none() || self.residence.lost().is_some() => {
                Fault::Gone
            }
            fault => fault,
        }
    }

    /// Asks the namespace in which the device is, wherever it was moved.
    fn ask(&self, name: &str) -> std::io::Result<State> {
        let Ok(namespace) = tap::namespace(&self.device) else {
            return self.residence.run(|| netdev::state(name));
        };
        if Identity::of(&namespace)? == Identity::current()? {
            return netdev::state(name);
        }
        netns::enter(namespace, || netdev::state(name))
    }

    fn describe(&self) -> (PortState, Option<String>) {
        let (name, State { up, carrier, mtu }) = (&self.name, self.state);
        if !up {
            return (
                PortState::Down,
                Some(format!("the device {name} is down; `ip link set {name} up` brings it up")),
            );
        }
        if !carrier {
            let reason =
                format!("the device {name} has no carrier; `ip link set {name} carrier on` gives it one");
            return (PortState::Down, Some(reason));
        }
        let reason = (mtu != self.mtu).then(|| {
            format!(
                "the device {name} has an MTU of {mtu} instead of {0}; `ip link set {name} mtu {0}` sets it back",
                self.mtu
            )
        });
        (PortState::Up, reason)
    }
}
