//! The device behind which the guests are for the kernel: a TAP with the gateway's addresses.

use std::io;
use std::net::IpAddr;

use rustix::io::Errno;
use vmlan_drivers::tap::{Device, set_offloads};
use vmlan_nat::envelope::GATEWAY_LINK_LOCAL;
use vmlan_sys::{netdev, tap};

use super::sysctl;
use crate::uplink::Rooms;

/// Makes the device, which must not be there, and brings it up.
pub(super) fn make(name: &str, rooms: &Rooms, mtu: usize) -> Result<Device, String> {
    let explain = |call: &'static str| {
        move |error: io::Error| {
            let cure = match Errno::from_io_error(&error) {
                Some(Errno::BUSY | Errno::EXIST) => {
                    "an interface of that name is there: another vmlan with a network of this name runs here, or \
                     `ip link del` it"
                }
                Some(Errno::PERM | Errno::ACCESS) => "run vmlan as root, or write `mode = \"user\"`",
                Some(Errno::NOENT | Errno::NODEV) => "load the tun module: `modprobe tun`",
                _ => "see `vmlan doctor`",
            };
            format!("cannot {call} {name}: {error}; {cure}")
        }
    };
    let options = tap::Options { exclusive: true, ..tap::Options::default() };
    let (fd, name) = tap::open(name, options).map_err(explain("make the device"))?;
    tap::set_owner(&fd, tap::ours()).map_err(explain("set the owner of"))?;
    let takes = set_offloads(&fd, true).map_err(explain("set the offloads of"))?;
    netdev::set_mac(&name, rooms.mac.0).map_err(explain("set the address of"))?;
    netdev::set_mtu(&name, u32::try_from(mtu).unwrap_or(u32::MAX)).map_err(explain("set the MTU of"))?;
    // The gateway's own link-local address is the only one, and its routers are others'. It speaks for no other address
    // of the host.
    let mut variables = vec![(format!("net/ipv4/conf/{name}/arp_ignore"), "1")];
    if rooms.subnet6.is_some() {
        variables.extend(
            [("addr_gen_mode", "1"), ("accept_ra", "0"), ("autoconf", "0")]
                .map(|(key, value)| (format!("net/ipv6/conf/{name}/{key}"), value)),
        );
    } else {
        variables.push((format!("net/ipv6/conf/{name}/disable_ipv6"), "1"));
    }
    for (variable, value) in variables {
        match sysctl::set_own(&variable, value) {
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.map_err(explain("set up"))?,
        }
    }
    let link_local = rooms.subnet6.map(|_| IpAddr::V6(GATEWAY_LINK_LOCAL));
    for address in rooms.hosts(1).chain(link_local) {
        let prefix = if address.is_ipv4() { rooms.subnet.prefix } else { 64 };
        netdev::add_address(&name, address, prefix).map_err(explain("give an address to"))?;
    }
    netdev::set_up(&name).map_err(explain("bring up"))?;
    Ok(Device::new(vec![fd], takes))
}
