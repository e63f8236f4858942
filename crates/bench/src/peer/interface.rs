//! Interface ports of vmlan's, and what else joins the same interfaces.

use std::fmt::Write;

use super::bridge::{self, PORTS};
use super::vmlan;
use crate::relay::Mechanism;
use crate::row::Programs;
use crate::world::{INTERFACE, World, text};

/// TAPs of the namespace between, which a generator opens.
pub const TAPS: [&str; 2] = ["g0", "g1"];

/// Further lines of a configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// Of the network.
    pub network: &'static str,
    /// Of each of the two ports.
    pub ports: [&'static str; 2],
    /// Ports besides, which nobody uses.
    pub more_ports: usize,
    /// Addresses behind the first of those.
    pub more_stations: usize,
    /// The VLAN in which both guests are known from the start; without one they are learnt.
    pub vlan: Option<u16>,
}

impl Keys {
    /// Everything as it comes.
    pub const NONE: Keys = Keys { network: "", ports: ["", ""], more_ports: 0, more_stations: 0, vlan: None };
    /// Nothing past the workers.
    pub const SLOW: Keys = Keys { network: "fast = \"off\"", ..Keys::NONE };
}

/// vmlan in the namespace between, with a port for each end of the veths there.
pub fn veths(world: &mut World, programs: &Programs, keys: Keys) -> anyhow::Result<()> {
    bridge::pairs(world);
    start(world, programs, PORTS.map(|name| format!("{{ name = \"{name}\" }}")), keys)
}

/// vmlan there, with a port for each of [`TAPS`], which it makes.
pub fn taps(world: &mut World, programs: &Programs, keys: Keys) -> anyhow::Result<()> {
    world.between();
    start(world, programs, TAPS.map(|name| format!("{{ name = \"{name}\", create = \"tap\" }}")), keys)
}

fn start(world: &mut World, programs: &Programs, interfaces: [String; 2], keys: Keys) -> anyhow::Result<()> {
    let mut config = format!("[network.bench]\n{}\n", keys.network);
    let mut entries = Vec::new();
    if let Some(vlan) = keys.vlan {
        for (mac, port) in [(world.a.mac, "a"), (world.b.mac, "b")] {
            entries.push(format!("{{ mac = \"{}\", port = \"{port}\", vlan = {vlan} }}", text(mac)));
        }
    }
    for number in 0..keys.more_stations {
        let mac = text([2, 0, 0, 2, (number >> 8) as u8, number as u8]);
        entries.push(format!("{{ mac = \"{mac}\", port = \"more0\" }}"));
    }
    let size = (2 * entries.len()).max(8192);
    writeln!(config, "fdb = {{ size = {size}, static = [{}] }}", entries.join(", "))?;
    for ((port, interface), keys) in ["a", "b"].iter().zip(interfaces).zip(keys.ports) {
        writeln!(config, "[network.bench.port.{port}]\ninterface = {interface}\n{keys}")?;
    }
    for number in 0..keys.more_ports {
        writeln!(
            config,
            "[network.bench.port.more{number}]\ninterface = {{ name = \"more{number}\", create = \"tap\" }}"
        )?;
    }
    let directory = world.directory().to_owned();
    let process = vmlan::start(programs, &directory, &config, Some(world.between()))?;
    world.keep(process);
    Ok(())
}

/// vmlan there, with a trunk on the end of the first veth, whose other end is the wire, and a port for the other.
pub fn wire(world: &mut World, programs: &Programs, keys: &str) -> anyhow::Result<()> {
    bridge::pairs(world);
    let [uplink, guest] = PORTS;
    let config = format!(
        "[network.bench]\n{keys}\n[network.bench.trunk]\ninterface = \"{uplink}\"\nmode = \"filter\"\n\
         [network.bench.port.guest]\ninterface = {{ name = \"{guest}\" }}\n"
    );
    let directory = world.directory().to_owned();
    let process = vmlan::start(programs, &directory, &config, Some(world.between()))?;
    world.keep(process);
    Ok(())
}

/// A Linux bridge of the same TAPs.
pub fn bridged_taps(world: &mut World) {
    let between = world.between();
    for tap in TAPS {
        between.ip(["tuntap", "add", tap, "mode", "tap", "vnet_hdr"]);
    }
    bridge::of(world, TAPS);
}

/// A bare ring between the ends of the veths, by the same programs.
pub fn relayed_veths(world: &mut World, programs: &Programs) {
    bridge::pairs(world);
    let macs = [text(world.a.mac), text(world.b.mac)];
    let between = world.between();
    let mut words: Vec<std::ffi::OsString> = vec!["interfaces".into(), Mechanism::Uring.name().into()];
    words.push(between.path().into());
    words.extend(PORTS.map(Into::into));
    words.extend(macs.map(Into::into));
    let relay = super::start_relay(&programs.bench, &words);
    for tap in crate::relay::HOOKED_TAPS {
        between.ip(["link", "set", tap, "up"]);
    }
    world.keep(relay);
}

/// A veth, and nothing in between.
pub fn cable(world: &World) {
    world.a.netns.veth(INTERFACE, &world.b.netns, INTERFACE);
}
