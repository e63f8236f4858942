//! Trunks: how a network is joined to an interface of the host's, and kept joined.

mod check;
#[cfg(all(target_os = "linux", feature = "netlink"))]
#[path = "linux/mod.rs"]
mod system;
#[cfg(target_os = "macos")]
#[path = "macos.rs"]
mod system;

#[cfg(all(target_os = "linux", not(feature = "netlink")))]
use crate::without::trunk as system;

#[cfg(all(target_os = "linux", feature = "netlink"))]
pub(crate) use system::leftovers;
pub use system::run;

/// Returns a message if the network's MTU, the first, is larger than the MTU of its trunk's interface.
pub fn too_long(interface: &str, (network, trunk): (usize, usize)) -> Option<String> {
    (network > trunk).then(|| {
        format!(
            "packets longer than the MTU of {interface}, {trunk}, are dropped at the trunk, and the network has {network}; \
             write `mtu = {trunk}`, or raise that of {interface}"
        )
    })
}
