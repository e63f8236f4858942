//! DPDK's testpmd: guests on vhost-user sockets without a virtual machine, and a switch to compare with.
//!
//! A [`Device`] is either end of a vhost-user socket: virtio-user, the driver that a guest has, or vhost, what is
//! behind a guest's device. testpmd joins its devices as a [`Forward`] says, with a thread that never sleeps. It runs
//! in its interactive mode: a command is a line, and its answer ends with that to a second command.
//!
//! Neither root nor huge pages are needed: the memory is then a memfd of 4 KiB pages, which front ends hand over as one
//! region. With [`HugePages`] there are several regions, and more of them whenever testpmd needs memory. Its runtime
//! directory is a temporary one, so nothing of it stays in `/run`.

mod device;
mod huge;
mod stats;

use std::io::Write;
use std::process::{ChildStdin, Command};
use std::time::Duration;

use tempfile::TempDir;

use crate::process::Process;
use crate::wait::poll_until;

pub use device::Device;
pub use huge::HugePages;
pub use stats::{PortRates, PortStats};

/// The program, in Debian's package dpdk-dev.
pub const PROGRAM: &str = "dpdk-testpmd";

/// It maps its memory and then talks to every back end.
const START_LIMIT: Duration = Duration::from_secs(60);
const COMMAND_LIMIT: Duration = Duration::from_secs(30);
/// Said after each command: its answer, unlike a prompt, is written at once. Other threads, which tell of links, write
/// between the octets of a prompt.
const MARK: &str = "set verbose 0";
const MARKED: &str = "Change verbose level from 0 to 0";
/// MiB of memory, if these are not huge pages.
const MEMORY: u32 = 256;
/// Buffers of packets, 2.4 KiB each.
const BUFFERS: u32 = 16_384;

/// The work of testpmd's forwarding thread. Devices are joined in pairs: 0 and 1, 2 and 3; a single one with itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// Whatever a device receives leaves by the other one, unchanged.
    Io,
    /// The same with the other one's MAC address as the source, and its peer's as the destination.
    Mac,
    /// The same with source and destination exchanged.
    MacSwap,
    /// Every device sends UDP packets from its MAC address to its peer's, and receives nothing.
    TxOnly,
    /// Every device receives, and what comes is dropped.
    RxOnly,
    /// Answers to ARP and to pings of any IPv4 address.
    IcmpEcho,
}

impl Forward {
    fn name(self) -> &'static str {
        match self {
            Forward::Io => "io",
            Forward::Mac => "mac",
            Forward::MacSwap => "macswap",
            Forward::TxOnly => "txonly",
            Forward::RxOnly => "rxonly",
            Forward::IcmpEcho => "icmpecho",
        }
    }
}

/// The description of a testpmd to start.
#[derive(Debug)]
pub struct Builder {
    devices: Vec<Device>,
    forward: Forward,
    processors: Option<[usize; 2]>,
    queues: u16,
    peers: Vec<(usize, String)>,
    huge: bool,
    memory: u32,
    buffers: u32,
    frame: u32,
}

impl Builder {
    /// Adds a device; the first is port 0.
    pub fn device(mut self, device: Device) -> Self {
        self.queues = self.queues.max(device.queue_pairs());
        self.devices.push(device);
        self
    }

    /// The work to do; `Io` when not told.
    pub fn forward(mut self, forward: Forward) -> Self {
        self.forward = forward;
        self
    }

    /// The address to which a port sends what it makes itself.
    pub fn peer(mut self, port: usize, mac: &str) -> Self {
        self.peers.push((port, mac.to_owned()));
        self
    }

    /// Puts the thread that takes commands on the first processor and the one that forwards on the second. Otherwise
    /// both run wherever the test may.
    pub fn processors(mut self, commands: usize, forwarding: usize) -> Self {
        self.processors = Some([commands, forwarding]);
        self
    }

    /// Takes its memory from huge pages, which have to be there.
    pub fn huge_pages(mut self, _pages: &HugePages) -> Self {
        self.huge = true;
        self
    }

    /// Has so much memory in MiB, and buffers for so many packets, of 2.4 KiB each.
    pub fn memory(mut self, mebibytes: u32, buffers: u32) -> Self {
        (self.memory, self.buffers) = (mebibytes, buffers);
        self
    }

    /// Octets of the frames that it makes itself, without FCS; 64 when not told.
    pub fn frame(mut self, octets: u32) -> Self {
        self.frame = octets;
        self
    }

    /// Starts it and waits until it takes commands. Its devices are started and nothing is forwarded yet.
    ///
    /// # Panics
    /// When it does not come up, for example because no back end listens.
    #[track_caller]
    pub fn start(self) -> Testpmd {
        let directory =
            tempfile::Builder::new().prefix("vmlan-dpdk-").tempdir().expect("a temporary directory");
        let forward = self.forward;
        // Its output waits in a buffer otherwise, and what ends an answer waits as well.
        let mut command = Command::new("stdbuf");
        command.args(["-oL", PROGRAM]).args(self.arguments());
        command.env("RUNTIME_DIRECTORY", directory.path()).env("XDG_RUNTIME_DIR", directory.path());
        let (process, commands) = Process::spawn_with_stdin(command);
        let mut testpmd = Testpmd { process, commands, answered: 0, forward, _directory: directory };
        testpmd.tell(MARK);
        testpmd.answer("start", START_LIMIT);
        testpmd
    }

    fn arguments(&self) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        let mut add = |text: &str| words.extend(text.split(' ').map(str::to_owned));
        match self.processors {
            Some([commands, forwarding]) => add(&format!("--lcores 0@{commands},1@{forwarding}")),
            None => {
                let all = allowed_processors();
                add(&format!("--lcores 0@({all}),1@({all})"));
            }
        }
        add("--no-pci --no-telemetry --log-level=5");
        if self.huge {
            add("--in-memory --single-file-segments");
        } else {
            add(&format!("--no-huge --no-shconf -m {}", self.memory));
        }
        let mut numbers = [0, 0];
        for device in &self.devices {
            let number = &mut numbers[usize::from(device.is_back_end())];
            words.extend(["--vdev".into(), device.argument(*number)]);
            *number += 1;
        }
        let Builder { queues, buffers, frame, .. } = self;
        let mut add = |text: &str| words.extend(text.split(' ').map(str::to_owned));
        add(&format!("-- --interactive --nb-cores=1 --forward-mode={}", self.forward.name()));
        add(&format!("--rxq={queues} --txq={queues} --total-num-mbufs={buffers} --txpkts={frame}"));
        if self.devices.len() == 1 {
            add("--port-topology=loop");
        }
        for (port, mac) in &self.peers {
            add(&format!("--eth-peer={port},{mac}"));
        }
        words
    }
}

/// A running testpmd; killed by its id on drop.
#[derive(Debug)]
pub struct Testpmd {
    process: Process,
    commands: ChildStdin,
    /// Octets of its log that belong to commands before the next one.
    answered: usize,
    forward: Forward,
    _directory: TempDir,
}

impl Testpmd {
    /// Describes one that has no devices yet.
    pub fn builder() -> Builder {
        Builder {
            devices: Vec::new(),
            forward: Forward::Io,
            processors: None,
            queues: 1,
            peers: Vec::new(),
            huge: false,
            memory: MEMORY,
            buffers: BUFFERS,
            frame: 64,
        }
    }

    /// Says a line and returns what was written until its answer's end.
    ///
    /// # Panics
    /// When it has ended, or does not answer within 30 s.
    #[track_caller]
    pub fn say(&mut self, command: &str) -> String {
        self.tell(&format!("{command}\n{MARK}"));
        self.answer(command, COMMAND_LIMIT)
    }

    #[track_caller]
    fn tell(&mut self, lines: &str) {
        let said = writeln!(self.commands, "{lines}").and_then(|()| self.commands.flush());
        said.unwrap_or_else(|error| panic!("testpmd takes no command: {error}\nlog: {}", self.process.log()));
    }

    /// Waits for the mark.
    #[track_caller]
    fn answer(&mut self, command: &str, limit: Duration) -> String {
        let log = self.process.log_file();
        let answered = self.answered;
        let (answer, end) = self.process.wait_while_running(&format!("answer to {command:?}"), limit, || {
            let octets = std::fs::read(&log).ok()?;
            let text = octets.get(answered..)?;
            let end = text.windows(MARKED.len()).position(|octets| octets == MARKED.as_bytes())?;
            Some((String::from_utf8_lossy(&text[..end]).into_owned(), answered + end + MARKED.len()))
        });
        self.answered = end;
        answer
    }

    /// Starts forwarding.
    ///
    /// # Panics
    /// As [`say`](Self::say), or when it refuses.
    #[track_caller]
    pub fn start(&mut self) {
        let answer = self.say("start");
        assert!(answer.contains("packet forwarding"), "testpmd does not forward: {answer}");
    }

    /// Starts forwarding after each port has sent `bursts` times `frames` frames of its own to its peer: with
    /// [`Forward::Io`] at both ends of a path they circulate for ever.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    #[track_caller]
    pub fn start_with(&mut self, bursts: u32, frames: u32) {
        self.say(&format!("set burst {frames}"));
        let answer = self.say(&format!("start tx_first {bursts}"));
        assert!(answer.contains("packet forwarding"), "testpmd does not forward: {answer}");
    }

    /// Stops forwarding. What is in the devices' queues stays there.
    ///
    /// # Panics
    /// As [`say`](Self::say).
    #[track_caller]
    pub fn stop(&mut self) {
        self.say("stop");
    }

    /// Changes the work, for the next start.
    ///
    /// # Panics
    /// As [`say`](Self::say).
    #[track_caller]
    pub fn forward(&mut self, forward: Forward) {
        self.say(&format!("set fwd {}", forward.name()));
        self.forward = forward;
    }

    /// Waits until the links of all its ports are up, which those of guests that listen are only with a back end.
    ///
    /// # Panics
    /// As [`say`](Self::say), and when one is still down after 60 s.
    #[track_caller]
    pub fn wait_up(&mut self) {
        let up = poll_until(START_LIMIT, || !self.say("show port summary all").contains(" down"));
        assert!(up, "a link of testpmd stays down: {}", self.say("show port summary all"));
    }

    /// Counters of all ports since it was started.
    ///
    /// # Panics
    /// As [`say`](Self::say).
    #[track_caller]
    pub fn stats(&mut self) -> Vec<PortStats> {
        PortStats::parse(&self.say("show port stats all"))
    }

    /// Rates of all ports since this or the counters were asked for the last time, or since it was started.
    ///
    /// # Panics
    /// As [`say`](Self::say).
    #[track_caller]
    pub fn rates(&mut self) -> Vec<PortRates> {
        PortRates::parse(&self.say("show port stats all"))
    }

    /// Receives until nothing has come for a moment, and returns the counters. Forwarding has to be stopped, and is
    /// afterwards; the next start has the work of the last one.
    ///
    /// # Panics
    /// As [`say`](Self::say), and when it still receives after 30 s.
    #[track_caller]
    pub fn drain(&mut self) -> Vec<PortStats> {
        let work = self.forward;
        self.forward(Forward::RxOnly);
        self.start();
        let mut before = self.stats();
        let settled = poll_until(COMMAND_LIMIT, || {
            let now = self.stats();
            std::mem::replace(&mut before, now) == before
        });
        assert!(settled, "testpmd still receives: {before:?}");
        self.stop();
        self.forward(work);
        before
    }

    /// Ends it as it wants to be ended, which tells the other ends of its devices.
    ///
    /// # Panics
    /// When it does not end well.
    #[track_caller]
    pub fn quit(mut self) {
        self.tell("quit");
        let (status, log) = self.process.wait_end("quit", COMMAND_LIMIT);
        assert!(status.success(), "testpmd ended with {status}\nlog: {log}");
    }

    /// The program, to look at or to end.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// The processors that the test may use, as `0-3,8`.
fn allowed_processors() -> String {
    let status = std::fs::read_to_string("/proc/self/status").expect("the status of this process");
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.expect("a list of processors").trim().to_owned()
}
