//! Guests that are datagram sockets: vmlan's datagram ports, VDE's protocol, a bare relay.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Read, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;
use testbed::Process;
use testbed::peer::vde_switch_with_ports;

use crate::measure::{Placement, frame, place};
use crate::peer::{start_relay, vmlan};
use crate::row::Setting;

const JOIN_LIMIT: Duration = Duration::from_secs(20);
const PROBE: Duration = Duration::from_millis(20);

/// One guest's end.
pub struct Plug {
    /// Connected to the switch.
    pub socket: UnixDatagram,
    /// The guest's address.
    pub mac: [u8; 6],
    /// VDE's switch keeps a port for as long as this is open.
    _control: Option<UnixStream>,
}

/// A switch and the guests that are plugged into it. Fields are dropped in this order.
pub struct Board {
    /// The guests.
    pub plugs: Vec<Plug>,
    /// The program that moves the frames.
    pub switch: Process,
    /// Where the sockets are.
    _directory: TempDir,
}

/// The address of a guest.
fn mac(number: usize) -> [u8; 6] {
    let [high, low] = (number as u16).to_be_bytes();
    [2, 0, 0, 1, high, low]
}

impl Board {
    /// vmlan with a datagram port for each of `count` guests, in a network with these further settings.
    ///
    /// # Errors
    /// No files, no sockets, or guests that do not reach each other.
    ///
    /// # Panics
    /// When vmlan does not come up.
    pub fn datagrams(setting: &Setting, count: usize, network: &str, port: &str) -> anyhow::Result<Board> {
        let directory = directory()?;
        let config = format!("[network.bench]\n{network}\n{}", datagram_ports("bench", 0..count, port)?);
        let switch = vmlan::start(&setting.programs, directory.path(), &config, None)?;
        Board::plugged(directory, switch, count)
    }

    /// With a running switch that has a datagram socket for each guest.
    ///
    /// # Errors
    /// No sockets, or guests that do not reach each other.
    pub fn plugged(directory: TempDir, switch: Process, count: usize) -> anyhow::Result<Board> {
        let plugs =
            (0..count).map(|number| datagram(directory.path(), number)).collect::<anyhow::Result<_>>()?;
        Board { plugs, switch, _directory: directory }.ready()
    }

    /// vmlan with a VDE port that all guests plug into.
    ///
    /// # Errors
    /// As [`Board::datagrams`].
    ///
    /// # Panics
    /// When vmlan does not come up.
    pub fn vmlan_vde(setting: &Setting, count: usize) -> anyhow::Result<Board> {
        let directory = directory()?;
        let config = "[network.bench.port.plugs]\nvde = { directory = \"switch\" }\n";
        let switch = vmlan::start(&setting.programs, directory.path(), config, None)?;
        Board::vde(directory, switch, count)
    }

    /// VDE's own switch.
    ///
    /// # Errors
    /// As [`Board::datagrams`].
    ///
    /// # Panics
    /// When vde_switch does not come up.
    pub fn vde_switch(count: usize) -> anyhow::Result<Board> {
        let directory = directory()?;
        let switch = vde_switch_with_ports(&directory.path().join("switch"), 2 * count.max(16));
        Board::vde(directory, switch, count)
    }

    /// No switch: recvmmsg and sendmmsg between two sockets.
    ///
    /// # Errors
    /// As [`Board::datagrams`].
    ///
    /// # Panics
    /// When the relay does not come up.
    pub fn relay(setting: &Setting) -> anyhow::Result<Board> {
        let directory = directory()?;
        let words: [OsString; 3] =
            ["datagram".into(), socket(directory.path(), 0).into(), socket(directory.path(), 1).into()];
        let switch = start_relay(&setting.programs.bench, &words);
        Board::plugged(directory, switch, 2)
    }

    fn vde(directory: TempDir, switch: Process, count: usize) -> anyhow::Result<Board> {
        let at = directory.path().join("switch");
        let plugs = (0..count).map(|number| vde_plug(&at, number)).collect::<anyhow::Result<_>>()?;
        Board { plugs, switch, _directory: directory }.ready()
    }

    /// Everybody says where he is, and the first two reach each other.
    fn ready(mut self) -> anyhow::Result<Board> {
        place(self.switch.pid(), Placement::Apart).context("choosing processors")?;
        for plug in &self.plugs {
            let hello = frame([0xff; 6], plug.mac, 64);
            plug.socket.send(&hello).context("saying hello to the switch")?;
            plug.socket.set_nonblocking(true)?;
        }
        let deadline = Instant::now() + JOIN_LIMIT;
        for (from, to) in [(0, 1), (1, 0)] {
            while !self.reaches(from, to)? {
                ensure!(self.switch.is_running(), "the switch has ended\nlog: {}", self.switch.log());
                let late = Instant::now() > deadline;
                ensure!(!late, "no frame came through in {JOIN_LIMIT:?}\nlog: {}", self.switch.log());
            }
        }
        self.drain();
        Ok(self)
    }

    fn reaches(&self, from: usize, to: usize) -> anyhow::Result<bool> {
        let (from, to) = (&self.plugs[from], &self.plugs[to]);
        let mut probe = frame(to.mac, from.mac, 64);
        probe[20] = 1;
        match from.socket.send(&probe) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("asking for the other guest"),
        }
        let deadline = Instant::now() + PROBE;
        let mut octets = [0; 128];
        while Instant::now() < deadline {
            match to.socket.recv(&mut octets) {
                Ok(len) if octets[..len] == probe => return Ok(true),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => return Err(error).context("waiting for the other guest"),
            }
        }
        Ok(false)
    }

    /// Throws away what waits for the guests.
    pub fn drain(&self) {
        let mut octets = [0; 128];
        for plug in &self.plugs {
            while plug.socket.recv(&mut octets).is_ok() {}
        }
    }
}

/// A directory for sockets.
///
/// # Errors
/// When it cannot be made.
pub fn directory() -> anyhow::Result<TempDir> {
    TempDir::with_prefix("vmlan-bench-").context("a temporary directory")
}

/// The configuration of datagram ports with these numbers, each with these further settings.
///
/// # Errors
/// None in practice.
pub fn datagram_ports(
    network: &str,
    numbers: impl IntoIterator<Item = usize>,
    further: &str,
) -> anyhow::Result<String> {
    let mut config = String::new();
    for number in numbers {
        writeln!(
            config,
            "[network.{network}.port.p{number}]\ndatagram = {{ listen = \"p{number}.sock\" }}\n{further}"
        )?;
    }
    Ok(config)
}

/// The switch's socket for a guest.
fn socket(directory: &Path, number: usize) -> PathBuf {
    directory.join(format!("p{number}.sock"))
}

/// A guest with a socket of its own, connected to the switch's.
///
/// # Errors
/// No socket, or none of the switch.
pub fn datagram(directory: &Path, number: usize) -> anyhow::Result<Plug> {
    let ours = UnixDatagram::bind(directory.join(format!("g{number}.sock"))).context("a guest's socket")?;
    let theirs = socket(directory, number);
    ours.connect(&theirs).with_context(|| format!("connecting to {}", theirs.display()))?;
    Ok(Plug { socket: ours, mac: mac(number), _control: None })
}

/// Octets of a Unix socket's address: its family and its path.
const ADDRESS: usize = 2 + 108;

/// A guest that asks VDE's switch for a port (libvdeplug's protocol, version 3): magic, version, the kind of port, the
/// address of our socket, in host order; the answer is the address of the switch's.
fn vde_plug(directory: &Path, number: usize) -> anyhow::Result<Plug> {
    let ours = directory.join(format!("bench.{number}"));
    let socket = UnixDatagram::bind(&ours).context("a guest's socket")?;
    let mut request = [0xfeed_face_u32, 3, 0].map(u32::to_ne_bytes).concat();
    request.extend(1_u16.to_ne_bytes());
    request.extend(ours.as_os_str().as_bytes());
    ensure!(request.len() < 12 + ADDRESS, "{} is too long for a socket address", ours.display());
    request.resize(12 + ADDRESS, 0);
    request.extend(b"bench\0");
    let mut control = UnixStream::connect(directory.join("ctl")).context("connecting to a VDE switch")?;
    control.set_read_timeout(Some(JOIN_LIMIT))?;
    control.write_all(&request).context("asking a VDE switch for a port")?;
    let mut answer = [0; ADDRESS];
    control.read_exact(&mut answer).context("a VDE switch's answer")?;
    let path = &answer[2..];
    let Some(end) = path.iter().position(|octet| *octet == 0).filter(|end| *end > 0) else {
        bail!("a VDE switch answered with no path");
    };
    let theirs = Path::new(std::ffi::OsStr::from_bytes(&path[..end]));
    socket.connect(theirs).with_context(|| format!("connecting to {}", theirs.display()))?;
    Ok(Plug { socket, mac: mac(number), _control: Some(control) })
}
