//! Other projects' programs, as the other side of what is tested: VDE's switch and plugs, passt.

use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::{ChildStdin, Command};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use crate::netns::{Interface, Netns};
use crate::process::Process;

const START_LIMIT: Duration = Duration::from_secs(10);
/// Ports of VDE's switch unless it is told otherwise.
const VDE_PORTS: usize = 32;

/// Frames that a plug keeps for the test; more wait in the plug's pipe.
const KEPT_FRAMES: usize = 1024;

/// Starts VDE's switch with its control socket in `directory`, and waits until it takes connections.
///
/// # Panics
/// When it does not start.
#[track_caller]
pub fn vde_switch(directory: &Path) -> Process {
    vde_switch_with_ports(directory, VDE_PORTS)
}

/// The same with room for so many ports.
///
/// # Panics
/// When it does not start.
#[track_caller]
pub fn vde_switch_with_ports(directory: &Path, ports: usize) -> Process {
    let mut command = Command::new("vde_switch");
    command.arg("-s").arg(directory).arg("--numports").arg(ports.to_string());
    let mut process = Process::spawn_with_open_stdin(command);
    let control = directory.join("ctl");
    process.wait_while_running("its control socket", START_LIMIT, || control.exists().then_some(()));
    process
}

/// Connects a new TAP interface of a namespace to a VDE switch with `vde_plug2tap`, and waits until it is there.
///
/// # Panics
/// When the program ends, for example because nobody answers in `directory`.
#[track_caller]
pub fn vde_plug2tap(namespace: &Netns, directory: &Path, interface: &str) -> Process {
    let mut command = namespace.command("vde_plug2tap");
    command.arg("-s").arg(directory).arg(interface);
    let mut process = Process::spawn(command);
    process.wait_while_running("its interface", START_LIMIT, || {
        namespace.has_interface(interface).then_some(())
    });
    process
}

/// `vde_plug`, with the test itself as the program behind it: frames go in and come out.
#[derive(Debug)]
pub struct VdePlug {
    process: Process,
    to_switch: ChildStdin,
    from_switch: Receiver<Vec<u8>>,
}

impl VdePlug {
    /// Connects to the VDE switch whose directory this is.
    ///
    /// # Panics
    /// When `vde_plug` cannot be started.
    #[track_caller]
    pub fn connect(directory: &Path) -> Self {
        let mut command = Command::new("vde_plug");
        command.arg(format!("vde://{}", directory.display()));
        let (process, to_switch, stdout) = Process::spawn_piped(command);
        let (sender, from_switch) = sync_channel(KEPT_FRAMES);
        // Ends when vde_plug does (the pipe closes), or when the test no longer listens.
        thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            while let Ok(frame) = read_frame(&mut stdout) {
                if sender.send(frame).is_err() {
                    return;
                }
            }
        });
        Self { process, to_switch, from_switch }
    }

    /// Sends a frame (octets with the Ethernet header, without FCS).
    ///
    /// # Panics
    /// When `vde_plug` has ended, or the frame is longer than 65,535 octets.
    #[track_caller]
    pub fn send(&mut self, frame: &[u8]) {
        let sent = write_frame(&mut self.to_switch, frame);
        sent.unwrap_or_else(|error| panic!("vde_plug takes no frame: {error}\nlog: {}", self.process.log()));
    }

    /// The next frame from the switch, or `None` when none has come within `limit`.
    pub fn receive(&mut self, limit: Duration) -> Option<Vec<u8>> {
        self.from_switch.recv_timeout(limit).ok()
    }

    /// The program, to look at or to end.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// A frame on a VDE stream is its length in two octets, most significant first, and its octets.
fn read_frame(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut frame = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}

fn write_frame(stream: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    let length = u16::try_from(frame.len()).map_err(io::Error::other)?;
    let mut octets = length.to_be_bytes().to_vec();
    octets.extend_from_slice(frame);
    stream.write_all(&octets)?;
    stream.flush()
}

/// passt on a small network of its own, which listens on a stream socket for one client after another.
///
/// passt gives its guest the addresses of the machine it runs on, so it gets a machine: a namespace with
/// [`Passt::GUEST_V4`] and [`Passt::GUEST_V6`], joined to a second one that is the router and answers pings.
#[derive(Debug)]
pub struct Passt {
    process: Process,
    router: Netns,
    _host: Netns,
}

impl Passt {
    /// The address that passt's DHCP server leases.
    pub const GUEST_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
    /// The IPv6 address that a guest is to take, with a prefix length of 64.
    pub const GUEST_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 0x10);
    /// The router, which answers pings through passt.
    pub const ROUTER_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    /// The router's IPv6 address.
    pub const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 1);

    /// Starts passt on a socket path and waits until it listens there.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn listen(socket: &Path) -> Self {
        let host = Netns::new("passt");
        let router = Netns::new("router");
        host.veth("up0", &router, "down0");
        let addresses = |v4: Ipv4Addr, v6: Ipv6Addr| {
            Interface::new().address(&format!("{v4}/24")).address(&format!("{v6}/64"))
        };
        router.configure("down0", &addresses(Self::ROUTER_V4, Self::ROUTER_V6));
        host.configure("up0", &addresses(Self::GUEST_V4, Self::GUEST_V6));
        host.ip(["route", "add", "default", "via", &Self::ROUTER_V4.to_string()]);
        host.ip(["-6", "route", "add", "default", "via", &Self::ROUTER_V6.to_string()]);
        // passt sends pings from sockets that only these groups may open.
        host.sysctl("net.ipv4.ping_group_range", "0 2147483647");

        let mut command = host.command("passt");
        // As root it would become nobody, who cannot make the socket in a test's directory.
        command.args(["--foreground", "--stderr", "--runas", "0:0", "--socket"]).arg(socket);
        let mut process = Process::spawn(command);
        process.wait_for_log("UNIX domain socket bound at", START_LIMIT);
        Self { process, router, _host: host }
    }

    /// The namespace of the router, for servers that the guest shall reach.
    pub fn router(&self) -> &Netns {
        &self.router
    }

    /// The program, to look at or to end.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_their_length_in_front() {
        let mut octets = Vec::new();

        write_frame(&mut octets, &[7; 300]).expect("room in a vector");

        assert_eq!(&octets[..3], &[1, 44, 7]);
        assert_eq!(read_frame(&mut octets.as_slice()).expect("a frame"), vec![7; 300]);
    }

    #[test]
    fn a_frame_longer_than_its_length_can_say_is_refused() {
        let mut octets = Vec::new();

        assert!(write_frame(&mut octets, &[0; 65_536]).is_err());
        assert!(octets.is_empty());
    }

    #[test]
    fn two_plugs_of_one_switch_hear_each_other() {
        crate::require!(tool("vde_switch"), tool("vde_plug"));
        let directory = tempfile::tempdir().expect("a temporary directory");
        let control = directory.path().join("switch");
        let _switch = vde_switch(&control);
        let mut first = VdePlug::connect(&control);
        let mut second = VdePlug::connect(&control);
        let mut frame = vec![0xff; 6];
        frame.extend_from_slice(&[2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
        frame.resize(60, 0x5a);

        // The switch floods to whom it knows, and the second plug may still be connecting.
        let mut heard = None;
        crate::wait_until("the broadcast", START_LIMIT, || {
            first.send(&frame);
            heard = second.receive(Duration::from_millis(100));
            heard.is_some()
        });

        assert_eq!(heard, Some(frame));
    }
}
