//! The addresses that the daemon gives a device: set whenever it is opened or comes up, and taken away with the port
//! where the device outlives it.

use rustix::io::Errno;
use vmlan_drivers::tunnel::message::Prefixed;
use vmlan_sys::netdev;

use crate::home::Residence;

/// The addresses that a device gets from us.
pub(crate) struct Addresses {
    pub(crate) residence: Residence,
    /// The device's name.
    pub(crate) device: String,
    pub(crate) addresses: Vec<Prefixed>,
}

impl Addresses {
    /// Gives the device those that it does not have.
    pub(crate) fn set(&self) -> Result<(), String> {
        for prefixed @ Prefixed { address, prefix } in &self.addresses {
            let set = self.residence.run(|| netdev::add_address(&self.device, *address, *prefix));
            match set.map_err(|error| (Errno::from_io_error(&error), error)) {
                Ok(()) | Err((Some(Errno::EXIST), _)) => {}
                Err((errno, error)) => {
                    let cure = match errno {
                        Some(Errno::PERM) => "run vmlan with CAP_NET_ADMIN, or remove `address`",
                        Some(Errno::ACCESS | Errno::OPNOTSUPP) => {
                            "the address family is turned off here; leave its addresses out"
                        }
                        _ => "see `vmlan doctor`",
                    };
                    return Err(format!("cannot give {prefixed} to {}: {error}; {cure}", self.device));
                }
            }
        }
        Ok(())
    }

    /// Takes them away from the device, where that outlives us.
    pub(crate) fn remove(&self, port: &str) {
        // Another namespace may have the name by now, and a device of the same name.
        if self.residence.lost().is_some() {
            return;
        }
        for prefixed @ Prefixed { address, prefix } in &self.addresses {
            let removed = self.residence.run(|| netdev::remove_address(&self.device, *address, *prefix));
            match removed.map_err(|error| (Errno::from_io_error(&error), error)) {
                // The device or the address is gone already.
                Ok(()) | Err((Some(Errno::NODEV | Errno::NXIO | Errno::ADDRNOTAVAIL), _)) => {}
                Err((_, error)) => {
                    tracing::warn!(%port, "{prefixed} cannot be taken from {}: {error}", self.device);
                }
            }
        }
    }
}
