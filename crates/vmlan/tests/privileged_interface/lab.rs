use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use testbed::{Interface, Netns, ping, wait_until};
use vmlan_sys::{netns, tap};

use crate::support::{Daemon, PATIENCE, directory, mac};

pub fn v4(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 9, 0, number).into()
}

/// A host, and guests in namespaces of their own.
pub struct Lab {
    pub host: Netns,
    pub guests: Vec<Netns>,
}

impl Lab {
    #[track_caller]
    pub fn new(guests: usize) -> Lab {
        let guest = |number| Netns::new(&format!("guest{number}"));
        Lab { host: Netns::new("host"), guests: (1..=guests).map(guest).collect() }
    }

    pub fn guest(&self, number: u8) -> &Netns {
        &self.guests[usize::from(number) - 1]
    }

    /// The port of a guest with a veth, with further lines of its table.
    pub fn veth(&self, number: u8, settings: &str) -> String {
        format!(
            "[network.lab.port.guest{number}]\ninterface = {{ name = \"ve{number}\", create = \"veth\", peer = {{ name = \
             \"eth0\", netns = \"{}\", address = \"{}/24\", mac = \"{}\" }} }}\n{settings}\n",
            self.guest(number).path().display(),
            v4(number),
            mac(number)
        )
    }

    /// The ports of all guests, with a veth each.
    pub fn veths(&self) -> String {
        (1..=self.guests.len() as u8).map(|number| self.veth(number, "")).collect()
    }

    /// So many guests with a veth each, all up.
    #[track_caller]
    pub fn running(guests: usize) -> (Lab, Daemon) {
        let lab = Lab::new(guests);
        let daemon = lab.start(&lab.veths());
        (1..=guests).for_each(|number| daemon.wait_up(&[&format!("guest{number}")]));
        (lab, daemon)
    }

    /// Both know each other's address without asking by ARP, which goes by the daemon and which VLANs keep apart.
    #[track_caller]
    pub fn acquaint(&self, one: u8, other: u8) {
        for (knows, known) in [(one, other), (other, one)] {
            let (address, mac) = (v4(known).to_string(), mac(known).to_string());
            let entry = ["neigh", "replace", &address, "lladdr", &mac, "dev", "eth0", "nud", "permanent"];
            self.guest(knows).ip(entry);
        }
    }

    #[track_caller]
    pub fn start(&self, config: &str) -> Daemon {
        Daemon::start_within(&self.host, directory(), config)
    }

    /// Each has to be reached, and then answer everything.
    #[track_caller]
    pub fn pings(&self, from: u8, to: u8) {
        assert!(self.guest(from).reaches(v4(to), PATIENCE), "{from} does not reach {to}");
        let report = ping(self.guest(from), v4(to), 3);
        assert!(report.all(), "{from} to {to}: {report:?}");
    }

    /// Waits until the kernel alone carries pings between two guests.
    #[track_caller]
    pub fn wait_fast(&self, daemon: &Daemon, from: u8, to: u8) {
        let port = format!("guest{from}");
        wait_until("frames that the kernel carries", PATIENCE, || {
            let before = carried(daemon, &port);
            ping(self.guest(from), v4(to), 1).all() && carried(daemon, &port) > before
        });
    }
}

/// Frames that the kernel alone has received at a port.
#[track_caller]
pub fn carried(daemon: &Daemon, port: &str) -> u64 {
    daemon.port(port).fast.expect("an interface port").rx_frames
}

/// Why everything of a port goes by the daemon.
#[track_caller]
pub fn slow(daemon: &Daemon, port: &str) -> Option<String> {
    daemon.port(port).fast.expect("an interface port").slow
}

/// A machine monitor's part: it opens a TAP of the host's by its name, and hands what comes by it to the stack of a
/// namespace, by a TAP there, with offloads.
pub struct Monitor {
    stop: Arc<AtomicBool>,
    relay: Option<JoinHandle<()>>,
}

/// The user that may open the TAPs: nobody. The tests do not become that user, who may not open /dev/net/tun
/// everywhere.
pub const USER: u32 = 65_534;

impl Monitor {
    #[track_caller]
    pub fn start(host: &Netns, name: &str, guest: &Netns, number: u8) -> Monitor {
        let open = |name: &str| -> std::io::Result<OwnedFd> {
            let (device, _) = tap::open(name, tap::Options::default())?;
            vmlan_drivers::tap::set_offloads(&device, true)?;
            Ok(device)
        };
        let outer = netns::within(&host.path(), || open(name)).expect("the TAP opens");
        let inner = netns::within(&guest.path(), || open("eth0")).expect("a TAP in the guest");
        guest.configure(
            "eth0",
            &Interface::new().mac(&mac(number).to_string()).address(&format!("{}/24", v4(number))),
        );
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let relay = std::thread::spawn(move || relay(&[outer, inner], &stopped));
        Monitor { stop, relay: Some(relay) }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.relay.take().map(JoinHandle::join);
    }
}

/// Hands frames from one to the other.
fn relay(ends: &[OwnedFd; 2], stop: &AtomicBool) {
    let mut buffer = vec![0; 70_000];
    while !stop.load(Ordering::Relaxed) {
        let mut polled = ends.each_ref().map(|end| PollFd::new(end, PollFlags::IN));
        let limit = Timespec::try_from(Duration::from_millis(50)).expect("a time");
        let _ = poll(&mut polled, Some(&limit));
        for (from, to) in [(0, 1), (1, 0)] {
            // They do not block.
            while let Ok(len) = rustix::io::read(ends[from].as_fd(), &mut buffer) {
                let _ = rustix::io::write(ends[to].as_fd(), &buffer[..len]);
            }
        }
    }
}
