use std::io;
use std::os::fd::AsFd;

/// Gives a TUN a carrier, or takes it away.
///
/// # Errors
/// Errors of ioctl(2).
pub(super) fn set(device: impl AsFd, carrier: bool) -> io::Result<()> {
    vmlan_sys::tap::set_carrier(device, carrier)
}
