//! Two honest guests that send each other a thousand numbered and time-stamped frames a second.
//!
//! A thread of its own drives both. Between [`Probe::go`] and [`Probe::stop`] it sends, and counts what comes: a frame
//! is lost when it has not come some time after the last was sent, and repeated when it came before. A frame's latency
//! is the time from when it was due to be given to its guest's socket to when the other guest has it.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::thread::CpuSet;
use serde::Serialize;
use vmlan_guest::client::{Client, Transmit};

use crate::shape::stay_on;
use crate::wire::{MacAddr, PROBE, VNET, ethernet};

/// From one frame to the next, in each direction.
const INTERVAL: u64 = 1_000_000;
/// A probe that is later than this leaves out what it did not send.
const LATE: u64 = 50_000_000;
/// Frames taken from one guest before the other's turn.
const TURN: usize = 4096;
/// Octets of a probe's frame.
const LENGTH: usize = 100;
/// Frames that wait for room in a guest's socket.
const WAITING: usize = 4096;
/// How long the two may take to reach each other at first.
const MEETING: Duration = Duration::from_secs(20);

/// The fate of the frames of one measurement, in both directions.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Frames sent.
    pub sent: u64,
    /// Frames that did not come.
    pub lost: u64,
    /// Frames that came more than once.
    pub repeated: u64,
    /// Median latency in microseconds.
    pub p50: f64,
    /// Latency in microseconds that one in a hundred exceeds.
    pub p99: f64,
    /// Largest latency in microseconds.
    pub max: f64,
}

/// One of the two guests.
pub(crate) struct End {
    pub(crate) client: Box<dyn Client>,
    pub(crate) mac: MacAddr,
}

enum Order {
    Go,
    /// Wait so long for frames that are missing.
    Stop(Duration),
}

/// The two guests, until this is dropped.
pub(crate) struct Probe {
    pub(crate) name: &'static str,
    orders: Sender<Order>,
    reports: Receiver<Result<Figures, String>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// The address of one end of the probe with this number.
pub(crate) fn mac(probe: u8, end: u8) -> MacAddr {
    MacAddr([2, 0xaa, 0, 0, probe, end])
}

impl Probe {
    /// Starts with two guests, who must reach each other.
    pub(crate) fn start(
        name: &'static str,
        ends: [End; 2],
        processors: Option<CpuSet>,
        is_real_time: bool,
    ) -> anyhow::Result<Probe> {
        let (orders, taken) = channel();
        let (report, reports) = channel();
        let (ready, is_ready) = channel();
        let run = move || {
            let thread = rustix::thread::gettid().as_raw_nonzero().get();
            let placed = processors.as_ref().map_or(Ok(()), stay_on);
            let mut pair = Pair::new(ends);
            let met = placed.and_then(|()| pair.meet());
            let is_met = met.is_ok();
            if ready.send(met.map(|()| thread)).is_ok() && is_met {
                pair.run(&taken, &report);
            }
        };
        let thread = thread::Builder::new().name(format!("probe {name}")).spawn(run).context("a thread")?;
        let probe = Probe { name, orders, reports, thread: Some(thread) };
        match is_ready.recv().context("the probe ended")? {
            Ok(thread) if is_real_time => real_time(thread),
            Ok(_) => {}
            Err(error) => bail!("the probe's guests ({name}) do not reach each other: {error}"),
        }
        Ok(probe)
    }

    pub(crate) fn go(&self) {
        // One that ended tells so at the stop.
        let _ = self.orders.send(Order::Go);
    }

    /// Stops sending; frames that are missing may come for so long.
    pub(crate) fn stop(&self, patience: Duration) {
        let _ = self.orders.send(Order::Stop(patience));
    }

    /// The figures after a stop, when all frames have come or may come no more.
    pub(crate) fn figures(&self) -> Result<Figures, String> {
        self.reports.recv().unwrap_or_else(|_| Err("the probe ended".into()))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // The thread ends when no order can come.
        self.orders = channel().0;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Gives a thread real-time priority, so that its latency is the daemon's and not the scheduler's.
fn real_time(thread: i32) {
    let mut command = std::process::Command::new("chrt");
    command.args(["--fifo", "--pid", "50", &thread.to_string()]);
    let quiet = std::process::Stdio::null;
    let status = command.stdin(quiet()).stdout(quiet()).stderr(quiet()).status();
    if !status.is_ok_and(|status| status.success()) {
        eprintln!(
            "warning: probes have no real-time priority (chrt of util-linux failed); latencies have more noise"
        );
    }
}

struct Pair {
    ends: [End; 2],
    waiting: [VecDeque<Vec<u8>>; 2],
    /// Numbers that came, and at which end.
    came: HashSet<(usize, u64)>,
    latencies: Vec<u64>,
    /// The first number of this measurement, and the next.
    first: u64,
    next: u64,
    /// Frames made in this measurement.
    made: u64,
    repeated: u64,
}

impl Pair {
    fn new(ends: [End; 2]) -> Pair {
        let (waiting, came, latencies) = Default::default();
        Pair { ends, waiting, came, latencies, first: 0, next: 0, made: 0, repeated: 0 }
    }

    /// Frames go both ways until both have come, so that the network knows both guests.
    fn meet(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + MEETING;
        while Instant::now() < deadline {
            self.send();
            for _ in 0..10 {
                self.wait(Duration::from_millis(10))?;
                self.flush()?;
                self.receive()?;
            }
            if (0..2).all(|end| self.came.iter().any(|(at, _)| *at == end)) {
                return Ok(());
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "no frame came"))
    }

    fn run(&mut self, orders: &Receiver<Order>, reports: &Sender<Result<Figures, String>>) {
        let (mut due, mut end) = (None, None);
        let mut fault = None;
        loop {
            match orders.try_recv() {
                Ok(Order::Go) => {
                    self.begin();
                    due = Some(vmlan_sys::monotonic_nanos());
                }
                Ok(Order::Stop(patience)) => {
                    due = None;
                    end = Some(Instant::now() + patience);
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return,
            }
            let now = vmlan_sys::monotonic_nanos();
            if let Some(at) = due.filter(|at| now >= *at) {
                self.send();
                due = Some(if now - at > LATE { now } else { at + INTERVAL });
            }
            let exchanged = self.flush().and_then(|()| self.receive());
            if let Err(error) = exchanged
                && fault.is_none()
            {
                fault = Some(error.to_string());
            }
            let is_missing = self.came.len() as u64 + self.unsent() < self.made;
            if let Some(deadline) = end
                && (!is_missing || fault.is_some() || Instant::now() >= deadline)
            {
                end = None;
                let report = fault.clone().map_or_else(|| Ok(self.figures()), Err);
                if reports.send(report).is_err() {
                    return;
                }
            }
            let rest = due.map_or(INTERVAL, |at| at.saturating_sub(vmlan_sys::monotonic_nanos()));
            let waited = match &fault {
                None => self.wait(Duration::from_nanos(rest)),
                Some(_) => {
                    thread::sleep(Duration::from_millis(1));
                    Ok(())
                }
            };
            if let Err(error) = waited {
                fault = Some(error.to_string());
            }
        }
    }

    fn begin(&mut self) {
        self.waiting.iter_mut().for_each(VecDeque::clear);
        self.came.clear();
        self.latencies.clear();
        (self.made, self.repeated) = (0, 0);
        self.first = self.next;
    }

    /// Frames that no socket had room for. They are nobody's loss.
    fn unsent(&self) -> u64 {
        self.waiting.iter().map(VecDeque::len).sum::<usize>() as u64
    }

    /// A frame each way, as soon as there is room.
    fn send(&mut self) {
        let now = vmlan_sys::monotonic_nanos();
        for end in 0..2 {
            let payload = [self.next.to_be_bytes(), now.to_be_bytes()].concat();
            let mut frame = ethernet(self.ends[1 - end].mac, self.ends[end].mac, PROBE, &payload);
            frame.resize(LENGTH, 0);
            if self.waiting[end].len() < WAITING {
                self.waiting[end].push_back(frame);
                self.made += 1;
            }
        }
        self.next += 1;
    }

    fn flush(&mut self) -> io::Result<()> {
        for (end, waiting) in self.ends.iter_mut().zip(&mut self.waiting) {
            while let Some(frame) = waiting.front() {
                if end.client.transmit(frame)? == Transmit::Full {
                    break;
                }
                waiting.pop_front();
            }
            end.client.flush()?;
        }
        Ok(())
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut frame = Vec::new();
        for end in 0..2 {
            for _ in 0..TURN {
                if !self.ends[end].client.receive(&mut frame)? {
                    break;
                }
                self.take(end, &frame);
            }
        }
        Ok(())
    }

    fn take(&mut self, end: usize, frame: &[u8]) {
        let now = vmlan_sys::monotonic_nanos();
        let is_ours = frame.len() == LENGTH
            && frame[6..12] == self.ends[1 - end].mac.0
            && frame[12..14] == PROBE.to_be_bytes();
        if !is_ours {
            return;
        }
        let word =
            |at: usize| u64::from_be_bytes(*frame[at..].first_chunk().expect("the length was checked"));
        let (number, sent) = (word(14), word(22));
        if number < self.first {
            return;
        }
        if self.came.insert((end, number)) {
            self.latencies.push(now.saturating_sub(sent));
        } else {
            self.repeated += 1;
        }
    }

    fn wait(&self, limit: Duration) -> io::Result<()> {
        let mut fds = Vec::with_capacity(2);
        for (end, waiting) in self.ends.iter().zip(&self.waiting) {
            let wanted = if waiting.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
            fds.push(PollFd::from_borrowed_fd(end.client.descriptors().0, wanted));
        }
        let timeout = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn figures(&mut self) -> Figures {
        self.latencies.sort_unstable();
        let sent = self.made - self.unsent();
        let at = |share: f64| {
            let index = (self.latencies.len() as f64 * share) as usize;
            let last = self.latencies.len().checked_sub(1);
            last.map_or(f64::NAN, |last| self.latencies[index.min(last)] as f64 / 1000.0)
        };
        Figures {
            sent,
            lost: sent.saturating_sub(self.came.len() as u64),
            repeated: self.repeated,
            p50: at(0.5),
            p99: at(0.99),
            max: at(1.0),
        }
    }
}

/// A guest that is an interface of a namespace: its frames are those that the interface sends and receives.
pub(crate) struct Interface {
    fd: OwnedFd,
    octets: Vec<u8>,
}

impl Interface {
    /// The frames of one EtherType at the interface `name` of a namespace.
    pub(crate) fn open(netns: &testbed::Netns, name: &str, ether_type: u16) -> io::Result<Interface> {
        // ldh [12]; jeq type; ret all; ret nothing (BPF of packet(7)).
        let filter =
            [(0x28, 0, 0, 12), (0x15, 0, 1, u32::from(ether_type)), (0x06, 0, 0, 0x4_0000), (0x06, 0, 0, 0)];
        Interface::with(netns, name, &filter)
    }

    /// All frames at the interface `name` of a namespace.
    pub(crate) fn open_all(netns: &testbed::Netns, name: &str) -> io::Result<Interface> {
        Interface::with(netns, name, &[(0x06, 0, 0, 0x4_0000)])
    }

    fn with(
        netns: &testbed::Netns,
        name: &str,
        filter: &[vmlan_sys::packet::Instruction],
    ) -> io::Result<Interface> {
        let open = || {
            let any = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
            vmlan_sys::packet::listener(rustix::net::netdevice::name_to_index(&any, name)?, filter)
        };
        Ok(Interface { fd: vmlan_sys::netns::within(&netns.path(), open)?, octets: vec![0; 70_000] })
    }

    /// Sends a virtio-net header and a frame.
    pub(crate) fn send_raw(&self, octets: &[u8]) -> io::Result<()> {
        rustix::io::write(&self.fd, octets)?;
        Ok(())
    }

    /// Sends a frame.
    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.send_raw(&[&[0; VNET][..], frame].concat())
    }
}

impl Client for Interface {
    fn receive(&mut self, frame: &mut Vec<u8>) -> io::Result<bool> {
        match rustix::io::read(&self.fd, &mut self.octets) {
            Ok(length) => {
                frame.clear();
                frame.extend_from_slice(self.octets[..length].get(VNET..).unwrap_or_default());
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::INTR | Errno::NETDOWN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn transmit(&mut self, frame: &[u8]) -> io::Result<Transmit> {
        match self.send(frame) {
            Ok(()) => Ok(Transmit::Taken),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => Ok(Transmit::Full),
                _ => Err(error),
            },
        }
    }

    fn flush(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    fn descriptors(&self) -> (BorrowedFd<'_>, Option<BorrowedFd<'_>>) {
        (self.fd.as_fd(), None)
    }
}
