//! Switches between two guests on vhost-user sockets, and DPDK's driver as both guests.
//!
//! The guests are one program with one thread, which stays on the first processor and never sleeps; the switch has the
//! others. Frames circulate: each guest sends what it receives to the other, so that no more frames are on their way
//! than fit in the rings, and none is lost. Memory is of huge pages for all.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::ensure;
use testbed::testpmd::{Device, Forward, HugePages, PROGRAM, Testpmd};

use super::{ovs, vmlan};
use crate::measure::{Placement, first_two, place};
use crate::row::{Programs, Unavailable};
use crate::world::World;

const JOIN_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

const PORTS: [&str; 2] = ["a", "b"];
const MACS: [&str; 2] = ["02:00:00:00:aa:01", "02:00:00:00:bb:01"];

/// Huge pages of the guests and of DPDK's relay, with some to spare.
const PAGES: u64 = 256;
/// Those of Open vSwitch: its buffers are as many as fit in half of them.
const OVS_PAGES: u64 = 512;

/// Programs of others that the guests need.
pub const GUESTS: [&str; 2] = [PROGRAM, "stdbuf"];

/// A switch between two guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// vmlan, with what its configuration says of `poll`, and so many ports without a guest besides.
    Vmlan { poll: Option<&'static str>, more_ports: usize },
    /// DPDK's relay, which looks at no frame, or writes the addresses of each anew.
    Relay { forward: Forward },
    /// Open vSwitch with DPDK, learning addresses.
    Ovs,
}

/// How the guests' drivers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Packed rings.
    pub packed: bool,
    /// Buffers are used in order.
    pub in_order: bool,
    /// Pairs of queues.
    pub queues: u16,
    /// Octets of each frame, without FCS.
    pub frame: usize,
    /// Bursts of frames that set out at each guest, and frames of each.
    pub circulating: (u32, u32),
}

impl Switch {
    /// vmlan as it comes.
    pub const VMLAN: Switch = Switch::Vmlan { poll: None, more_ports: 0 };
    /// vmlan that never sleeps.
    pub const VMLAN_BUSY: Switch = Switch::Vmlan { poll: Some("busy"), more_ports: 0 };
    /// vmlan with 128 ports.
    pub const VMLAN_MANY: Switch = Switch::Vmlan { poll: None, more_ports: 126 };
    /// DPDK's relay that looks at no frame.
    pub const RELAY: Switch = Switch::Relay { forward: Forward::Io };
    /// DPDK's relay that writes addresses.
    pub const RELAY_MAC: Switch = Switch::Relay { forward: Forward::Mac };

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Switch::Vmlan { more_ports: 1.., .. } => "vmlan-128-ports",
            Switch::Vmlan { poll: None, .. } => "vmlan",
            Switch::Vmlan { poll: Some(_), .. } => "vmlan-busy",
            Switch::Relay { forward: Forward::Io } => "testpmd-io",
            Switch::Relay { .. } => "testpmd-mac",
            Switch::Ovs => "ovs-dpdk",
        }
    }

    /// Programs of others that it and the guests need.
    pub fn programs(self) -> Vec<&'static str> {
        let own: &[&str] = if self == Switch::Ovs { &ovs::DPDK_PROGRAMS } else { &[] };
        [&GUESTS, own].concat()
    }

    /// True if the guests listen, and it connects.
    fn connects(self) -> bool {
        self == Switch::Ovs
    }
}

/// A switch with its guests. Fields are dropped in this order.
pub struct Pair {
    /// Both guests.
    pub guests: Testpmd,
    relay: Option<Testpmd>,
    world: World,
    _pages: HugePages,
}

impl Pair {
    /// Starts a switch and its guests, and has frames circulate.
    ///
    /// # Errors
    /// When none does; [`Unavailable`] on a machine with one processor or without huge pages.
    ///
    /// # Panics
    /// When a program does not come up; the message shows what it said.
    pub fn start(switch: Switch, shape: Shape, programs: &Programs) -> anyhow::Result<Pair> {
        let [first, second] = first_two()?
            .ok_or_else(|| Unavailable("the guests and the switch want a processor each".into()))?;
        let pages = if switch == Switch::Ovs { PAGES + OVS_PAGES } else { PAGES };
        let pages =
            HugePages::reserve(pages).map_err(|error| Unavailable(format!("no huge pages: {error}")))?;
        let mut world = World::new()?;
        let sockets = PORTS.map(|port| world.directory().join(format!("{port}.sock")));
        let mut relay = None;
        match switch {
            Switch::Vmlan { poll, more_ports } => {
                let directory = world.directory().to_owned();
                let process = vmlan::start(programs, &directory, &config(poll, more_ports), None)?;
                place(process.pid(), Placement::Apart)?;
                world.keep(process);
            }
            Switch::Relay { forward } => {
                let device = |socket: &Path| Device::vhost(socket).queues(shape.queues);
                let builder = Testpmd::builder().device(device(&sockets[0])).device(device(&sockets[1]));
                let builder = builder.forward(forward).huge_pages(&pages).processors(first, second);
                relay.insert(builder.start()).start();
            }
            Switch::Ovs => ovs::vhost(&mut world, &sockets, [first, second])?,
        }
        let guests = guests(switch, shape, &sockets).huge_pages(&pages).processors(first, first).start();
        let mut pair = Pair { guests, relay, world, _pages: pages };
        pair.circulate(shape)?;
        Ok(pair)
    }

    /// Sends frames on their way until they go round. A switch that has just got its guests may lose the first ones.
    fn circulate(&mut self, shape: Shape) -> anyhow::Result<()> {
        let deadline = Instant::now() + JOIN_LIMIT;
        self.guests.wait_up();
        let (bursts, frames) = shape.circulating;
        let all = u64::from(bursts * frames);
        loop {
            let before = self.guests.stats();
            self.guests.start_with(bursts, frames);
            std::thread::sleep(POLL);
            let now = self.guests.stats();
            // Each has received more than the other has set out with.
            if now.iter().zip(&before).all(|(now, before)| now.rx_packets - before.rx_packets > 2 * all) {
                return Ok(());
            }
            self.check()?;
            ensure!(
                Instant::now() < deadline,
                "frames did not circulate in {JOIN_LIMIT:?}: {before:?}, {now:?}"
            );
            self.guests.stop();
            self.guests.drain();
        }
    }

    /// That everything is still running.
    ///
    /// # Errors
    /// When something has ended, with what it said.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.world.check()?;
        let testpmds = self.relay.iter_mut().chain([&mut self.guests]);
        for process in testpmds.map(Testpmd::process) {
            ensure!(process.is_running(), "testpmd has ended\nlog: {}", process.log());
        }
        Ok(())
    }

    /// Has the guests leave as they want to.
    pub fn end(self) {
        self.guests.quit();
        if let Some(mut relay) = self.relay {
            relay.stop();
            relay.quit();
        }
    }
}

fn guests(switch: Switch, shape: Shape, sockets: &[PathBuf; 2]) -> testbed::testpmd::Builder {
    let guest = |socket: &Path, mac: &str| {
        let device = match switch.connects() {
            true => Device::virtio_listening(socket, mac),
            false => Device::virtio(socket, mac),
        };
        let device = device.queues(shape.queues).queue_size(1024).in_order(shape.in_order);
        if shape.packed { device.packed() } else { device }
    };
    let [a, b] = sockets;
    Testpmd::builder()
        .device(guest(a, MACS[0]))
        .device(guest(b, MACS[1]))
        .peer(0, MACS[1])
        .peer(1, MACS[0])
        .frame(shape.frame as u32)
}

fn config(poll: Option<&str>, more_ports: usize) -> String {
    let mut config = poll.map(|mode| format!("poll = \"{mode}\"\n")).unwrap_or_default();
    let more = (0..more_ports).map(|number| format!("p{number}"));
    for port in PORTS.map(str::to_owned).into_iter().chain(more) {
        writeln!(config, "[network.bench.port.{port}]\nvhost_user = {{ listen = \"{port}.sock\" }}")
            .expect("room in a string");
    }
    config
}
