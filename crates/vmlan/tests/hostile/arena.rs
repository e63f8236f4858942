use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use testbed::wait_until;
use vmlan_guest::Attachment;

use crate::support::{Daemon, PATIENCE, Peer, Probe, assert_balanced, exchange};

/// Resident memory that the daemon may keep, in KiB: buffers of its pools that it had not touched before, queues, and
/// what the allocator holds back.
const KEPT: u64 = 16 << 10;

/// A daemon with a probe on two ports whose addresses are set, and ports for attackers.
pub struct Arena {
    pub daemon: Daemon,
    pub probe: Probe,
    descriptors: usize,
    resident: u64,
    pid: u32,
}

impl Arena {
    /// Starts with these ports beside the probe's.
    #[track_caller]
    pub fn start(ports: &str) -> Arena {
        Arena::beside(Daemon::start(&Arena::config(ports)))
    }

    /// The same with a log that goes elsewhere, see [`Daemon::start_logging_to`].
    #[track_caller]
    pub fn start_logging_to(log: OwnedFd, ports: &str) -> Arena {
        Arena::beside(Daemon::start_logging_to(log, &Arena::config(ports)))
    }

    /// The same with faults injected, see [`Daemon::start_injecting`].
    #[track_caller]
    pub fn start_injecting(faults: &[&str], ports: &str) -> Arena {
        Arena::beside(Daemon::start_injecting(faults, &Arena::config(ports)))
    }

    fn config(ports: &str) -> String {
        format!(
            "[network.lab.port.one]\nstream = {{ listen = \"one.sock\" }}\nmac = \"52:54:00:00:00:01\"\n\
             [network.lab.port.two]\ndatagram = {{ listen = \"two.sock\" }}\nmac = \"52:54:00:00:00:02\"\n{ports}"
        )
    }

    #[track_caller]
    fn beside(daemon: Daemon) -> Arena {
        let mut one = Peer::attach(1, Attachment::Stream { path: daemon.path("one.sock") });
        let attachment =
            Attachment::Datagram { local: daemon.path("local"), remote: daemon.path("two.sock") };
        let mut two = Peer::attach(2, attachment);
        daemon.wait_up(&["one"]);
        two.send(one.mac);
        daemon.wait_up(&["two"]);
        exchange(&mut one, &mut two);
        let probe = Probe::start(one, two);
        probe.wait(100);
        let (descriptors, resident, pid) = (daemon.descriptors(), daemon.resident(), daemon.pid());
        Arena { daemon, probe, descriptors, resident, pid }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.daemon.path(name)
    }

    /// Attaches guest 7 to the stream port `bad`.
    #[track_caller]
    pub fn stream_guest(&self) -> Peer {
        let guest = Peer::attach(7, Attachment::Stream { path: self.path("bad.sock") });
        self.daemon.wait_up(&["bad"]);
        guest
    }

    /// Checks that nobody else has noticed anything, and that the daemon is as it was. All attackers have to be gone.
    #[track_caller]
    pub fn finish(self) {
        let Arena { daemon, probe, descriptors, resident, pid } = self;
        probe.wait(100);
        wait_until("the descriptors to be given back", PATIENCE, || {
            // The guests of the probe are still there, and so is what they hold.
            daemon.descriptors() <= descriptors
        });
        let now = daemon.resident();
        assert!(now <= resident + KEPT, "{now} KiB resident; {resident} KiB before");
        assert_eq!(daemon.status().pid, pid);
        probe.finish();
        assert_balanced(&daemon);
        daemon.stop();
    }
}

/// Sends `octets` together with ten descriptors. A kernel that lets the daemon refuse descriptors says so: that is
/// fine.
pub fn send_descriptors(socket: impl AsFd, octets: &[u8]) {
    let (passed, _other) = UnixStream::pair().expect("a pair");
    // One that takes its time to be closed.
    passed.shutdown(Shutdown::Read).expect("a shutdown");
    let descriptors = [passed.as_fd(); 10];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(10))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let octets = std::io::IoSlice::new(octets);
    match sendmsg(socket, &[octets], &mut control, SendFlags::empty()) {
        Ok(_) | Err(rustix::io::Errno::PERM | rustix::io::Errno::AGAIN) => {}
        Err(error) => panic!("descriptors cannot be sent: {error}"),
    }
}
