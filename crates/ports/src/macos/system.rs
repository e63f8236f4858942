//! The system as it is.

use std::io;
use std::net::IpAddr;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use vmlan_frame::MacAddr;
use vmlan_sys::darwin::InterfaceName;
use vmlan_sys::darwin::number::{IFT_BRIDGE, IFT_ETHER, IFT_L2VLAN};
use vmlan_sys::{bridge, feth, interface};

use super::address::counts_for;
use super::{Interface, Kernel};

/// This host.
#[derive(Clone, Copy)]
pub(crate) struct System;

/// An interface of the host, or a bridge, as a network has to know it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host {
    /// The host's address on it.
    pub mac: Option<MacAddr>,
    /// Largest packet in octets, without the Ethernet header.
    pub mtu: u32,
    /// True if the interface is up and has a carrier.
    pub is_running: bool,
}

impl System {
    /// Returns the present state of the interface `name`; the error says what is wrong.
    pub(crate) fn host(&self, name: InterfaceName) -> Result<Host, String> {
        let ask = || {
            let flags = interface::flags(name)?;
            let entry = self.interfaces()?.into_iter().find(|entry| entry.name == name);
            let mac = entry.and_then(|entry| entry.mac);
            Ok(Host { mac, mtu: interface::mtu(name)?, is_running: flags & interface::RUNNING != 0 })
        };
        ask().map_err(|error: io::Error| format!("cannot ask for {name}: {error}; it is tried again"))
    }
}

impl Kernel for System {
    fn interfaces(&self) -> io::Result<Vec<Interface>> {
        let link = |entry: InterfaceAddress| {
            let address = entry.address?;
            let link = address.as_link_addr()?;
            Some(Interface {
                name: InterfaceName::new(&entry.interface_name).ok()?,
                // Those without one say that it is zero.
                mac: link.addr().map(MacAddr).filter(|mac| *mac != MacAddr::ZERO),
                is_ethernet: [IFT_ETHER, IFT_L2VLAN, IFT_BRIDGE].contains(&link.datalink_type()),
            })
        };
        Ok(getifaddrs()?.filter_map(link).collect())
    }

    fn mtu(&self, name: InterfaceName) -> io::Result<u32> {
        interface::mtu(name)
    }

    fn set_up(&self, name: InterfaceName) -> io::Result<()> {
        interface::set_up(name)
    }

    fn create_feth(&self) -> io::Result<InterfaceName> {
        feth::create()
    }

    fn prepare_feth(&self, name: InterfaceName, mac: MacAddr, mtu: u32) -> io::Result<()> {
        interface::set_mac(name, mac.0)?;
        interface::set_mtu(name, mtu)
    }

    fn pair_feths(&self, one: InterfaceName, other: InterfaceName) -> io::Result<()> {
        feth::set_peer(one, Some(other))
    }

    fn destroy_feth(&self, name: InterfaceName) -> io::Result<()> {
        feth::destroy(name)
    }

    fn members(&self, name: InterfaceName) -> io::Result<Vec<InterfaceName>> {
        bridge::members(name)
    }

    fn join(&self, name: InterfaceName, member: InterfaceName) -> io::Result<()> {
        bridge::add(name, member)
    }
}

/// The host's IP addresses that count for a trunk on the interface `trunk`, in ascending order.
///
/// # Errors
/// The error of getifaddrs(3).
pub(crate) fn addresses(trunk: &str) -> io::Result<Vec<IpAddr>> {
    let counting = |entry: InterfaceAddress| {
        let address = entry.address?;
        let address = match address.as_sockaddr_in() {
            Some(address) => IpAddr::V4(address.ip()),
            None => IpAddr::V6(address.as_sockaddr_in6()?.ip()),
        };
        counts_for(trunk, &entry.interface_name, address).then_some(address)
    };
    let mut addresses: Vec<_> = getifaddrs()?.filter_map(counting).collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}
