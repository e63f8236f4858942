use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use testbed::{Interface, Netns, ping};

use crate::support::Daemon;

/// The IPv4 address of guest `number`.
pub fn v4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 0, number)
}

/// The IPv6 address of guest `number`.
pub fn v6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, number.into())
}

/// A namespace whose interface `t0` is, or will be, a port.
pub struct Guest {
    pub number: u8,
    pub netns: Netns,
}

impl Guest {
    #[track_caller]
    pub fn new(number: u8) -> Guest {
        Guest { number, netns: Netns::new(&format!("guest{number}")) }
    }

    /// The port that it is, `guest1` and so on, with further lines of its table.
    pub fn port(&self, settings: &str) -> String {
        format!(
            "[network.lab.port.guest{}]\ntap = {{ name = \"t0\", netns = \"{}\" }}\n{settings}\n",
            self.number,
            self.netns.path().display()
        )
    }

    pub fn interface(&self) -> Interface {
        Interface::new()
            .mac(&crate::support::mac(self.number).to_string())
            .address(&format!("{}/24", v4(self.number)))
            .address(&format!("{}/64", v6(self.number)))
    }

    /// Gives the interface its addresses.
    #[track_caller]
    pub fn configure(&self) {
        self.netns.configure("t0", &self.interface());
    }

    /// Pings another guest in both families; every request has to be answered, once.
    #[track_caller]
    pub fn pings(&self, other: &Guest) {
        let reports = [ping(&self.netns, v4(other.number), 3), ping(&self.netns, v6(other.number), 3)];
        assert!(
            reports.iter().all(|report| report.all()),
            "{} to {}: {reports:?}",
            self.number,
            other.number
        );
    }

    /// True if the other guest answers a ping, which has a second to do so.
    pub fn reaches(&self, other: &Guest) -> bool {
        ping(&self.netns, v4(other.number), 1).received == 1
    }

    pub fn has_tap(&self) -> bool {
        self.netns.has_interface("t0")
    }
}

/// A daemon with these guests on ports without further settings, all configured.
#[track_caller]
pub fn with_guests(head: &str, guests: &[&Guest]) -> Daemon {
    let ports: String = guests.iter().map(|guest| guest.port("")).collect();
    let daemon = Daemon::start(&format!("{head}{ports}"));
    configure(&daemon, guests);
    daemon
}

/// Waits until all are up and gives them their addresses.
#[track_caller]
pub fn configure(daemon: &Daemon, guests: &[&Guest]) {
    for guest in guests {
        daemon.wait_up(&[&format!("guest{}", guest.number)]);
        guest.configure();
    }
}

/// A TAP in a namespace, as somebody else opens it to hand it over.
#[track_caller]
pub fn open_in(netns: &Netns) -> OwnedFd {
    let open = || vmlan_sys::tap::open("t0", vmlan_sys::tap::Options::default());
    vmlan_sys::netns::within(&netns.path(), open).expect("a namespace and a TAP").0
}
