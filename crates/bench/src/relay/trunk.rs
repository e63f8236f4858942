use std::os::fd::AsFd;
use std::path::Path;

use anyhow::Context;
use rustix::net::{AddressFamily, SocketType, netdevice, socket};
use vmlan_drivers::host::programs::{self, Divert, Side};
use vmlan_frame::MacAddr;
use vmlan_sys::ebpf::{Hook, Link, Set, load_classifier};

/// A joint of an interface and a TAP, for as long as it lives.
pub(super) struct Hooked {
    _links: [Link; 2],
    _guests: Set<2>,
}

/// Diverts frames for the guest `mac` from the interface to the TAP, and has the interface send, or receive, what comes
/// from the TAP; with the programs of a trunk in mode filter.
pub(super) fn hook(
    netns: &Path,
    (interface, tap): (&str, &str),
    mac: MacAddr,
    to_host: bool,
) -> anyhow::Result<Hooked> {
    let guests = Set::new("bench_guests", 16).context("a table of guests")?;
    guests.insert(programs::key(mac))?;
    let (hook, side) = if to_host { (Hook::Egress, Side::Host) } else { (Hook::Ingress, Side::Wire) };
    let hooked = vmlan_sys::netns::within(netns, || {
        let (interface, tap) = (index(interface)?, index(tap)?);
        let divert = Divert {
            to: tap,
            guests: guests.as_fd(),
            from_wire: !to_host,
            shared: None,
            unknown: false,
            unheard: None,
            everything: false,
        };
        let divert = load_classifier("bench_divert", &programs::divert(&divert, None))?;
        let inject = load_classifier("bench_inject", &programs::inject(interface, side))?;
        Ok([Link::new(divert, interface, hook)?, Link::new(inject, tap, Hook::Ingress)?])
    });
    let links = hooked.with_context(|| format!("programs on the hooks of {interface} and {tap}"))?;
    Ok(Hooked { _links: links, _guests: guests })
}

/// Puts a program on the way out of the interface that leaves every frame to the next one: what a trunk cannot cost
/// less than.
pub(super) fn idle(netns: &Path, interface: &str) -> anyhow::Result<Link> {
    let linked = vmlan_sys::netns::within(netns, || {
        let program = load_classifier("bench_idle", &programs::idle())?;
        Link::new(program, index(interface)?, Hook::Egress)
    });
    linked.with_context(|| format!("a program on the hook of {interface}"))
}

/// The number of an interface in this thread's namespace.
fn index(name: &str) -> std::io::Result<u32> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    Ok(netdevice::name_to_index(&socket, name)?)
}
