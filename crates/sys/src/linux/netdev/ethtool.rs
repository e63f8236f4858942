//! Settings of an interface's driver (ethtool(8), linux/ethtool.h).

use std::io;

use super::{Request, control, ioctl};

const SIOCETHTOOL: u64 = 0x8946;
/// The command that asks whether the interface is up and has a carrier.
pub(in crate::linux) const GET_LINK: u32 = 0x0a;
pub(in crate::linux) const GET_TX_CHECKSUM: u32 = 0x16;
pub(in crate::linux) const GET_TSO: u32 = 0x1e;
const GET_FLAGS: u32 = 0x25;
const GET_CHANNELS: u32 = 0x3c;
/// `ETH_FLAG_RXVLAN`.
const STRIPS_TAGS: u32 = 1 << 8;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    cmd: u32,
    data: u32,
}

/// `struct ethtool_channels`.
#[repr(C)]
#[derive(Default)]
struct Channels {
    cmd: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx_count: u32,
    tx_count: u32,
    other_count: u32,
    combined_count: u32,
}

/// Asks for one number: `command` is one that reads and writes an ethtool_value.
pub(in crate::linux) fn value(name: &str, command: u32) -> io::Result<u32> {
    let mut value = Value { cmd: command, data: 0 };
    let mut request = Request::new(name)?;
    request.0.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: SIOCETHTOOL reads one ifreq, and the commands above read and write one ethtool_value where it points,
    // which lives through the call.
    unsafe { ioctl(control()?, SIOCETHTOOL, request.as_ptr()) }?;
    Ok(value.data)
}

/// True if the interface `name` takes VLAN tags off the frames that it receives, and holds them beside.
///
/// # Errors
/// `ENODEV` when there is none.
pub fn strips_tags(name: &str) -> io::Result<bool> {
    Ok(value(name, GET_FLAGS)? & STRIPS_TAGS != 0)
}

/// How many queues the interface `name` receives from and sends through; one of each where it does not tell.
///
/// # Errors
/// `ENODEV` when there is none.
pub fn queues(name: &str) -> io::Result<(u32, u32)> {
    let mut channels = Channels { cmd: GET_CHANNELS, ..Channels::default() };
    let mut request = Request::new(name)?;
    request.0.ifr_ifru.ifru_data = (&raw mut channels).cast();
    // SAFETY: SIOCETHTOOL reads one ifreq, and this command reads and writes one ethtool_channels where it points,
    // which lives through the call.
    match unsafe { ioctl(control()?, SIOCETHTOOL, request.as_ptr()) } {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok((1, 1)),
        Err(error) => Err(error),
        Ok(_) => {
            let both = channels.combined_count;
            Ok((channels.rx_count.saturating_add(both).max(1), channels.tx_count.saturating_add(both).max(1)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_has_one_queue_and_holds_no_tags() {
        assert_eq!(queues("lo").unwrap(), (1, 1));
        assert!(!strips_tags("lo").unwrap());
        assert_eq!(queues("no-such-name").unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }
}
