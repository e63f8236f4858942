//! Two guests that are stream sockets.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tempfile::TempDir;
use testbed::Process;

use crate::measure::{self, Placement, SMALL, frame, place};
use crate::peer::{start_relay, vmlan};
use crate::plugs::directory;
use crate::row::{Bound, Contestant, Figure, Group, Row, Setting, Target};

const LARGE: usize = 1514;

/// Octets of a large write.
const LARGE_WRITE: usize = 64 << 10;

const JOIN_LIMIT: Duration = Duration::from_secs(20);

const MACS: [[u8; 6]; 2] = [[2, 0, 0, 2, 0, 1], [2, 0, 0, 2, 0, 2]];

/// Two guests and what is between them. Fields are dropped in this order.
struct Pair {
    guests: [UnixStream; 2],
    switch: Process,
    directory: TempDir,
}

impl Pair {
    fn vmlan(setting: &Setting) -> anyhow::Result<Pair> {
        let directory = directory()?;
        let port = |name: &str| format!("[network.bench.port.{name}]\nstream = {{ listen = \"{name}\" }}\n");
        let config = port("a") + &port("b");
        let switch = vmlan::start(&setting.programs, directory.path(), &config, None)?;
        Pair::ready(directory, switch)
    }

    fn relay(setting: &Setting) -> anyhow::Result<Pair> {
        let directory = directory()?;
        let at = |name: &str| directory.path().join(name).into_os_string();
        let words: [OsString; 3] = ["stream".into(), at("a"), at("b")];
        let switch = start_relay(&setting.programs.bench, &words);
        Pair::ready(directory, switch)
    }

    fn ready(directory: TempDir, switch: Process) -> anyhow::Result<Pair> {
        place(switch.pid(), Placement::Apart).context("choosing processors")?;
        let connect = |path: &Path| {
            UnixStream::connect(path).with_context(|| format!("connecting to {}", path.display()))
        };
        let guests = [connect(&directory.path().join("a"))?, connect(&directory.path().join("b"))?];
        let mut pair = Pair { guests, switch, directory };
        let deadline = Instant::now() + JOIN_LIMIT;
        // B has to be heard first, so that what A sends later goes to B alone.
        for (from, to) in [(1, 0), (0, 1)] {
            while !pair.reaches(from, to)? {
                let log = pair.switch.log();
                ensure!(
                    pair.switch.is_running(),
                    "the switch in {} has ended\nlog: {log}",
                    pair.directory.path().display()
                );
                ensure!(Instant::now() < deadline, "no frame came through in {JOIN_LIMIT:?}\nlog: {log}");
            }
        }
        pair.drain()?;
        Ok(pair)
    }

    fn reaches(&self, from: usize, to: usize) -> anyhow::Result<bool> {
        (&self.guests[from])
            .write_all(&with_length(&frame(MACS[to], MACS[from], SMALL)))
            .context("asking for the other")?;
        let mut guest = &self.guests[to];
        guest.set_read_timeout(Some(Duration::from_millis(100)))?;
        let mut octets = [0; SMALL + 4];
        match guest.read_exact(&mut octets) {
            Ok(()) => Ok(true),
            Err(error) if is_passing(&error) => Ok(false),
            Err(error) => Err(error).context("waiting for the other"),
        }
    }

    fn drain(&self) -> anyhow::Result<()> {
        for mut guest in &self.guests {
            guest.set_nonblocking(true)?;
            while guest.read(&mut [0; 1024]).is_ok_and(|count| count > 0) {}
        }
        Ok(())
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn with_length(frame: &[u8]) -> Vec<u8> {
    let length = frame.len() as u32;
    [&length.to_be_bytes(), frame].concat()
}

fn contestant(
    name: &'static str,
    octets: usize,
    write: usize,
    make: impl Fn(&Setting) -> anyhow::Result<Pair> + 'static,
) -> Contestant {
    Contestant::new(name, &[], move |setting| {
        let pair = make(setting)?;
        setting.wait_for_quiet()?;
        let one = with_length(&frame(MACS[1], MACS[0], octets));
        let many = one.repeat((write / one.len()).max(1));
        let [from, to] = &pair.guests;
        Ok(vec![measure::streams(from, to, &many, octets, setting.duration)?.received_mpps])
    })
}

pub(super) fn rows() -> Vec<Row> {
    let row = |name, title, octets, write, targets| {
        let contestants = vec![
            contestant("vmlan", octets, write, Pair::vmlan),
            contestant("relay-stream", octets, write, Pair::relay),
        ];
        Row::new(Group::Stream, name, title, &[Figure::RATE], contestants, targets)
    };
    vec![
        row(
            "stream-64-single",
            "64 octets, one frame a write",
            SMALL,
            0,
            vec![Target::ratio(0, "vmlan", "relay-stream", 0.8)],
        ),
        row(
            "stream-64",
            "64 octets, writes of 64 KiB",
            SMALL,
            LARGE_WRITE,
            vec![Target::absolute(0, "vmlan", Bound::AtLeast(10.0))],
        ),
        row("stream-1500", "1514 octets, writes of 64 KiB", LARGE, LARGE_WRITE, vec![]),
    ]
}
