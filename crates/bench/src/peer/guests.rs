//! Many guests of one uplink, each a namespace with a TAP.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, ensure};
use testbed::{Interface, Netns};

use super::vmlan;
use super::way_out::SERVER;
use crate::measure::is_reached;
use crate::row::Programs;
use crate::world::{INTERFACE, World};

/// The address of the host services.
const HOST: Ipv4Addr = Ipv4Addr::new(10, 213, 5, 2);

const START_LIMIT: Duration = Duration::from_secs(20);

/// So many namespaces in which nobody but us sends anything.
pub fn namespaces(count: usize) -> Vec<Netns> {
    let namespace = |number| {
        let netns = Netns::new(&format!("g{number}"));
        netns.sysctl("net.ipv6.conf.default.disable_ipv6", "1");
        netns
    };
    (0..count).map(namespace).collect()
}

/// Joins `guests` to the host of `world` by one uplink. Returns the address by which they reach the server's place on
/// the host.
///
/// # Errors
/// The last one does not reach it, or a file cannot be written.
///
/// # Panics
/// When vmlan does not come up; the message shows what it said.
pub fn join(world: &mut World, programs: &Programs, guests: &[Netns]) -> anyhow::Result<SocketAddr> {
    let mut config = format!(
        "[network.bench]\nuplink = {{ subnet = \"10.213.5.0/24\", host = [\"{}\"] }}\n",
        SERVER.port()
    );
    for guest in guests {
        writeln!(config, "[network.bench.port.{}]\n{}", guest.name(), vmlan::tap(guest))?;
    }
    let directory = world.directory().to_owned();
    let process = vmlan::start(programs, &directory, &config, Some(world.between()))?;
    world.keep(process);
    for (guest, number) in guests.iter().zip(20..) {
        guest.configure(INTERFACE, &Interface::new().address(&format!("10.213.5.{number}/24")));
    }
    let to = (HOST, SERVER.port()).into();
    let last = guests.last().context("no guests")?;
    let reached = is_reached(last, to, world.between(), SERVER, START_LIMIT);
    world.check()?;
    ensure!(reached, "a guest does not reach {to}");
    Ok(to)
}
