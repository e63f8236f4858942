//! Mode `xdp`: as mode `packet`, but most of what is for guests is taken before the host's stack has any work with it.
//!
//! A program in the interface's driver (XDP) hands frames to the guests' addresses to AF_XDP sockets, one for each
//! queue that the interface receives from. Everything else goes on, the host's own traffic first of all, and what of
//! it is for guests comes by the packet socket, with the same filter as in mode `packet`: so the program decides about
//! speed, and never about who gets what. Program and sockets go with the process, however it ends.

use std::future::ready;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use rustix::io::Errno;
use vmlan_api::TrunkMode;
use vmlan_drivers::host::xdp::{Attached, TAG_FUNCTION, Wanted, XdpSockets, divert, function};
use vmlan_drivers::host::{BySource, Stations};
use vmlan_drivers::{Endpoint, Flows};
use vmlan_frame::{ETHERNET_HEADER, MacAddr, Sides, VLAN_TAG};
use vmlan_lan::Diversion;
use vmlan_sys::ebpf::{self, Sockets};
use vmlan_sys::xdp::{HEADROOM, Options, Socket};

use super::medium::{Attempt, Medium, attempt};
use super::packet::Listening;
use crate::Seat;
use crate::apart::Apart;
use crate::kernel::{Interface, Kernel, KernelError, Kind};

/// The name of the program in the lists of bpftool(8); [`TABLE`] names its table.
const PROGRAM: &str = "vmlan_xdp";
const TABLE: &str = "vmlan_guests";

/// Queues of the interface that get a socket, at most; frames of others come by the packet socket.
const QUEUES: u32 = 16;

/// Chunks of each socket.
const RECEIVE: u32 = 2048;
const SEND: u32 = 1024;

/// The set-up of mode `xdp`: the program, its tables and the sockets.
pub(super) struct Xdp {
    packet: Listening,
    stations: Stations,
    setting: Setting,
    /// How many queues have a socket, and how many there are.
    queues: (usize, u32),
    zero_copy: bool,
    /// Keeps the program on the interface.
    _program: OwnedFd,
}

/// The properties of an interface that decide how its sockets are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Setting {
    /// Octets of a chunk.
    chunk: usize,
    /// Frames may be longer than a chunk, so the interface must not put them there itself: it would lose them.
    copy: bool,
    /// The interface takes tags off, and holds them beside.
    strips_tags: bool,
}

impl Xdp {
    /// Puts the program on the interface and opens the sockets.
    pub(super) fn make(
        interface: &Interface,
        mac: MacAddr,
        shared_mac: bool,
        workers: usize,
        flows: Flows,
    ) -> Result<(Xdp, Arc<dyn Endpoint>), Apart> {
        let name = &interface.name;
        if interface.kind == Kind::Bond {
            // The frames are its members', whose sockets they would have to be.
            return Err(Apart::Refused(format!(
                "{name} is a bond, whose frames do not come to AF_XDP sockets; use `mode = \"packet\"`"
            )));
        }
        let unprepared = |error| KernelError::new(format!("prepare XDP on {name}"), error);
        let setting = Setting::of(interface)?;
        let (receive, send) = vmlan_sys::netdev::queues(name).map_err(unprepared)?;
        let stations = Stations::new(Box::new(|_, _| false)).map_err(|error| not_loaded(name, error))?;
        let table = Sockets::new(TABLE, QUEUES).map_err(unprepared)?;
        let wanted = Wanted {
            longest: setting.longest(),
            tag_function: tag_function().ok_or_else(|| too_old(name))?,
            strips_tags: setting.strips_tags,
        };
        let program = ebpf::load_xdp(PROGRAM, interface.index, &divert(stations.guests(), &table, wanted));
        let program = program.map_err(|error| not_loaded(name, error))?;
        let program =
            ebpf::attach_xdp(program, interface.index).map_err(|error| not_attached(name, error))?;
        let mut sockets = Vec::new();
        let mut zero_copy = true;
        for queue in 0..receive.min(QUEUES) {
            let socket = open(interface, queue, setting)?;
            zero_copy &= socket.is_zero_copy().map_err(unprepared)?;
            table.set(queue, &socket).map_err(unprepared)?;
            sockets.push(Attached { socket, sends: queue < send });
        }
        let (packet, medium) = Listening::open(interface, mac, shared_mac)?;
        let queues = (sockets.len(), receive);
        let medium = Arc::new(XdpSockets::new(sockets, zero_copy, medium, workers));
        let endpoint = BySource::of_wire(medium, flows);
        let xdp = Xdp { packet, stations, setting, queues, zero_copy, _program: program };
        Ok((xdp, Arc::new(endpoint)))
    }

    /// Makes everything anew when the interface was set otherwise.
    fn check(&self, interface: &Interface) -> Result<(), Apart> {
        if Setting::of(interface)? == self.setting { Ok(()) } else { Err(Apart::Anew) }
    }

    fn tell_guests(&self) -> Result<(), Apart> {
        // The packet socket gets what is for those that are left out.
        let told = self.stations.set(|| self.packet.guests()).map(drop);
        told.map_err(|error| KernelError::new("tell XDP of the guests", error).into())
    }
}

impl Medium for Xdp {
    fn mode(&self) -> TrunkMode {
        TrunkMode::Xdp
    }

    fn reach(&self) -> (Diversion, Sides) {
        (Diversion::Nothing, Sides::WIRE)
    }

    fn needs_more(&self) -> bool {
        true
    }

    fn resize<'a>(&'a mut self, _: &'a Kernel, interface: &'a Interface, mac: MacAddr) -> Attempt<'a> {
        attempt(async move {
            self.check(interface)?;
            self.packet.resize(mac)?;
            self.tell_guests()
        })
    }

    fn sync(&mut self, seat: &Seat) -> Result<bool, Apart> {
        self.packet.sync(seat)?;
        self.tell_guests().map(|()| true)
    }

    fn divert<'a>(&'a mut self, _: &'a Kernel, _: &'a Interface, seat: &'a Seat) -> Attempt<'a> {
        attempt(ready(self.packet.divert(seat.wants())))
    }

    fn repair<'a>(&'a mut self, _: &'a Kernel, interface: &'a Interface) -> Attempt<'a> {
        attempt(ready(self.check(interface)))
    }

    fn describe(&self, interface: &Interface, report: &mut vmlan_api::Trunk) {
        self.packet.describe(interface, report);
        let name = &interface.name;
        report.installed.push(format!("XDP program {PROGRAM} on {name}, in its driver"));
        let copies = if self.zero_copy { "without copies (zero-copy)" } else { "copied by the kernel" };
        let (sockets, queues) = self.queues;
        report.installed.push(format!("AF_XDP sockets on {sockets} of {queues} queues of {name}, {copies}"));
    }
}

impl Setting {
    /// # Errors
    /// [`Apart::Anew`] when the interface is gone.
    fn of(interface: &Interface) -> Result<Setting, Apart> {
        let strips_tags = vmlan_sys::netdev::strips_tags(&interface.name).map_err(|error| {
            match Errno::from_io_error(&error) {
                Some(Errno::NODEV) => Apart::Anew,
                _ => KernelError::new(format!("ask {} for its offloads", interface.name), error).into(),
            }
        })?;
        let longest = interface.mtu as usize + ETHERNET_HEADER + 2 * VLAN_TAG;
        let chunk = if longest <= 2048 - HEADROOM { 2048 } else { 4096 };
        Ok(Setting { chunk, copy: longest > chunk - HEADROOM, strips_tags })
    }

    /// Octets of the longest frame that a socket takes.
    fn longest(self) -> usize {
        self.chunk - HEADROOM
    }
}

/// A socket on a queue of the interface.
fn open(interface: &Interface, queue: u32, setting: Setting) -> Result<Socket, Apart> {
    let name = &interface.name;
    let options = Options { chunk: setting.chunk, receive: RECEIVE, send: SEND };
    let socket = Socket::open(options).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::NOBUFS) => Apart::Refused(format!(
            "no AF_XDP socket for {name}: too much memory would be locked; give vmlan CAP_IPC_LOCK, or raise the limit \
             (`ulimit -l`, LimitMEMLOCK= of the service)"
        )),
        Some(Errno::AFNOSUPPORT) => Apart::Refused(format!(
            "no AF_XDP socket for {name}: this kernel was built without them (CONFIG_XDP_SOCKETS); use \
             `mode = \"packet\"`"
        )),
        _ => KernelError::new(format!("open an AF_XDP socket for {name}"), error).into(),
    })?;
    socket.bind(interface.index, queue, setting.copy).map_err(|error| {
        match Errno::from_io_error(&error) {
            Some(Errno::BUSY) => Apart::Refused(format!(
                "queue {queue} of {name} has an AF_XDP socket of another program; stop that program, or use \
             `mode = \"packet\"`"
            )),
            _ => KernelError::new(format!("bind an AF_XDP socket to queue {queue} of {name}"), error).into(),
        }
    })?;
    Ok(socket)
}

/// The number of the kernel's function that tells of tags.
fn tag_function() -> Option<u32> {
    static NUMBER: OnceLock<Option<u32>> = OnceLock::new();
    *NUMBER.get_or_init(|| function(&std::fs::read("/sys/kernel/btf/vmlinux").ok()?, TAG_FUNCTION))
}

fn too_old(name: &str) -> Apart {
    Apart::Refused(format!(
        "mode xdp on {name} needs Linux 6.8 or later with CONFIG_DEBUG_INFO_BTF, which tells programs of VLAN tags; \
         use `mode = \"packet\"`"
    ))
}

fn not_loaded(name: &str, error: io::Error) -> Apart {
    match Errno::from_io_error(&error) {
        Some(Errno::OPNOTSUPP) => no_driver(name),
        Some(Errno::PERM | Errno::ACCESS) => Apart::Refused(format!(
            "cannot load an XDP program for {name}: {error}; run vmlan with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"
        )),
        _ => KernelError::new(format!("load an XDP program for {name}"), error).into(),
    }
}

fn not_attached(name: &str, error: io::Error) -> Apart {
    match Errno::from_io_error(&error) {
        Some(Errno::BUSY | Errno::EXIST) => Apart::Refused(format!(
            "{name} has an XDP program of another's, which stays (`ip link show dev {name}` shows it); remove it, or use \
             `mode = \"packet\"`"
        )),
        Some(Errno::OPNOTSUPP) => no_driver(name),
        Some(Errno::RANGE) => Apart::Refused(format!(
            "the driver of {name} runs no XDP program with an MTU like this one's, or its peer's; lower the MTU, or use \
             `mode = \"packet\"`"
        )),
        Some(Errno::NOSPC) => Apart::Refused(format!(
            "the driver of {name} runs no XDP program with so few queues for receiving; set more with \
             `ethtool -L {name} rx N`, or use `mode = \"packet\"`"
        )),
        _ => Apart::Refused(format!(
            "the driver of {name} takes no XDP program: {error}; the kernel's log may say why (the MTU, LRO or the \
             number of queues, `ethtool -K {name} lro off`, `ethtool -L {name}`), or use `mode = \"packet\"`"
        )),
    }
}

fn no_driver(name: &str) -> Apart {
    Apart::Refused(format!(
        "the driver of {name} runs no XDP programs, and before every driver's they gain nothing; use \
         `mode = \"packet\"`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_fit_the_mtu_and_nothing_longer_is_written_by_the_interface() {
        let lo = |mtu| Interface {
            index: 1,
            name: "lo".to_owned(),
            mac: None,
            mtu,
            up: true,
            running: true,
            promiscuity: 0,
            controller: None,
            is_elsewhere: false,
            lower: None,
            kind: Kind::Loopback,
            has_queue: false,
            alias: None,
        };
        let cases =
            [(1500, (2048, false)), (1770, (2048, false)), (1771, (4096, false)), (9000, (4096, true))];
        for (mtu, wanted) in cases {
            let Ok(setting) = Setting::of(&lo(mtu)) else { panic!("the loopback interface is there") };
            assert_eq!((setting.chunk, setting.copy), wanted, "{mtu}");
        }
    }

    #[test]
    fn what_the_driver_says_is_told_with_a_remedy() {
        for (errno, said) in [
            (Errno::BUSY, "of another's, which stays"),
            (Errno::EXIST, "ip link show dev eth0"),
            (Errno::RANGE, "lower the MTU"),
            (Errno::NOSPC, "ethtool -L eth0 rx N"),
            (Errno::OPNOTSUPP, "runs no XDP programs"),
            (Errno::INVAL, "ethtool -K eth0 lro off"),
        ] {
            let Apart::Refused(reason) = not_attached("eth0", errno.into()) else { panic!("{errno}") };
            assert!(reason.contains(said) && reason.contains("mode = \"packet\""), "{reason}");
        }
    }
}
