use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use vmlan_frame::MacAddr;

use crate::device::{Counters, Device, Tally};
use crate::dhcp::{Board, Heard, LeaseTask};
use crate::ping::{Ping, PingReport, PingTask};
use crate::resolve::ResolveTask;
use crate::stack::Stack;
use crate::tcp::{Amount, FetchTask, SendTask, ServeTask, TcpServer, TransferReport};
use crate::worker::{Command, Task, Worker};
use crate::{Attachment, Error, Lease};

/// Smallest MTU of a link that carries IPv6 (RFC 8200 5).
const MIN_MTU: u16 = 1280;
/// Largest MTU whose packets the 16-bit length of IPv4 can tell.
const MAX_MTU: u16 = 65_535 - 14;

/// An IPv4 address with its prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4 {
    /// The guest's address.
    pub address: Ipv4Addr,
    /// Bits of the network's prefix, at most 32.
    pub prefix: u8,
}

/// An IPv6 address with its prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6 {
    /// The guest's address; it has a link-local address besides.
    pub address: Ipv6Addr,
    /// Bits of the network's prefix, at most 128.
    pub prefix: u8,
}

/// The configuration of a guest.
#[derive(Debug)]
pub struct GuestConfig {
    /// Name in errors, and what a VDE switch is told.
    pub name: String,
    /// The guest's address on the network.
    pub mac: MacAddr,
    /// IPv4 address, if it has any.
    pub ipv4: Option<Ipv4>,
    /// IPv6 address, if it has any.
    pub ipv6: Option<Ipv6>,
    /// True if it asks for an IPv4 address by DHCP, instead of having one.
    pub dhcp: bool,
    /// Octets of the largest IP packet: 1280 to 65,521.
    pub mtu: u16,
    /// Where it is attached.
    pub attachment: Attachment,
    /// How long attaching may take, and how long an operation waits when nothing moves.
    pub timeout: Duration,
}

impl GuestConfig {
    /// A guest without addresses, with an MTU of 1500 and a timeout of five seconds.
    pub fn new(name: impl Into<String>, mac: MacAddr, attachment: Attachment) -> GuestConfig {
        GuestConfig {
            name: name.into(),
            mac,
            ipv4: None,
            ipv6: None,
            dhcp: false,
            mtu: 1500,
            attachment,
            timeout: Duration::from_secs(5),
        }
    }

    /// With this IPv4 address.
    pub fn ipv4(mut self, address: Ipv4Addr, prefix: u8) -> GuestConfig {
        self.ipv4 = Some(Ipv4 { address, prefix });
        self
    }

    /// With this IPv6 address.
    pub fn ipv6(mut self, address: Ipv6Addr, prefix: u8) -> GuestConfig {
        self.ipv6 = Some(Ipv6 { address, prefix });
        self
    }

    /// With an IPv4 address, a router and DNS servers by DHCP ([`Guest::lease`]).
    pub fn dhcp(mut self) -> GuestConfig {
        self.dhcp = true;
        self
    }

    fn check(&self) -> Result<(), Error> {
        let unicast4 = |address: Ipv4Addr| {
            !address.is_unspecified() && !address.is_multicast() && !address.is_broadcast()
        };
        let unicast6 = |address: Ipv6Addr| !address.is_unspecified() && !address.is_multicast();
        let reason = if !self.mac.is_station() {
            format!("{} is no station's address; use one such as 52:54:00:00:00:01", self.mac)
        } else if !(MIN_MTU..=MAX_MTU).contains(&self.mtu) {
            format!("an MTU of {} is not possible; use {MIN_MTU} to {MAX_MTU}", self.mtu)
        } else if self.dhcp && self.ipv4.is_some() {
            "an IPv4 address and DHCP exclude each other; use one of them".to_owned()
        } else if let Some(Ipv4 { address, prefix }) = self.ipv4
            && (prefix > 32 || !unicast4(address))
        {
            format!("{address}/{prefix} is no IPv4 address of a host; use one such as 10.0.0.1/24")
        } else if let Some(Ipv6 { address, prefix }) = self.ipv6
            && (prefix > 128 || !unicast6(address))
        {
            format!("{address}/{prefix} is no IPv6 address of a host; use one such as fd00::1/64")
        } else {
            return Ok(());
        };
        Err(Error::Config { guest: self.name.clone(), reason })
    }
}

/// The name and the addresses of a guest.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) mac: MacAddr,
    pub(crate) ipv4: Option<Ipv4>,
    pub(crate) ipv6: Option<Ipv6>,
}

/// A guest that lives in this process, on a thread of its own.
///
/// It answers ARP, neighbour solicitations and echo requests by itself. Operations block the caller, who may run
/// several at once from several threads; each ends by itself: with its result, or with an error once nothing moved for
/// the configured timeout. Dropping the guest stops it.
#[derive(Debug)]
pub struct Guest {
    identity: Identity,
    tally: Arc<Tally>,
    /// Where its lease is seen.
    board: Arc<Board>,
    /// None once the guest is being stopped.
    commands: Option<Sender<Command>>,
    waker: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl Guest {
    /// Attaches the guest and starts it; returns when it is attached.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::Attach`] when the other side is not there before the timeout, or [`Error::Start`].
    pub fn spawn(config: GuestConfig) -> Result<Guest, Error> {
        config.check()?;
        let GuestConfig { name, mac, ipv4, ipv6, dhcp, mtu, attachment, timeout } = config;
        let text = attachment.to_string();
        let client = attachment.open(&name, Instant::now() + timeout).map_err(|source| Error::Attach {
            guest: name.clone(),
            attachment: text,
            source,
        })?;

        let start = |source| Error::Start { guest: name.clone(), source };
        let (waker, woken) = UnixStream::pair().map_err(start)?;
        waker.set_nonblocking(true).map_err(start)?;
        woken.set_nonblocking(true).map_err(start)?;
        let (commands, inbox) = mpsc::channel();
        let tally = Arc::new(Tally::default());
        let identity = Identity { name: name.clone(), mac, ipv4, ipv6 };
        let mut stack = Stack::new(&identity, timeout, Device::new(client, mtu, tally.clone()));
        let board = Arc::<Board>::default();
        if dhcp {
            stack.device.heard = Some(Heard::new(mac));
            let task: Command = Box::new(LeaseTask::new(board.clone()));
            commands.send(task).expect("its receiver is here");
        }
        let worker = Worker::new(stack, inbox, woken);
        let thread = std::thread::Builder::new()
            .name(format!("guest {name}"))
            .spawn(move || worker.run())
            .map_err(start)?;
        Ok(Guest { identity, tally, board, commands: Some(commands), waker, thread: Some(thread) })
    }

    /// The guest's name.
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// The guest's MAC address.
    pub fn mac(&self) -> MacAddr {
        self.identity.mac
    }

    /// The guest's IPv4 address, the one that is set or leased.
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        let set = self.identity.ipv4.map(|ipv4| ipv4.address);
        set.or_else(|| self.board.lease().map(|lease| lease.address))
    }

    /// The guest's IPv6 address, not the link-local one.
    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        self.identity.ipv6.map(|ipv6| ipv6.address)
    }

    /// Returns the traffic through the attachment until now.
    pub fn counters(&self) -> Counters {
        self.tally.read()
    }

    /// Sends echo requests and waits for the replies (RFC 792, RFC 4443 4).
    ///
    /// A neighbour that does not answer is no error: the report says how many replies came.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Disconnected`] or [`Error::Stopped`].
    pub fn ping(&self, address: IpAddr, ping: Ping) -> Result<PingReport, Error> {
        self.run(|reply| PingTask::new(address, ping, reply))?
    }

    /// Takes connections on `port`, both families, and discards what they bring, comparing it with the pattern that
    /// [`Guest::tcp_send`] sends. It serves until the guest stops.
    ///
    /// # Errors
    /// [`Error::Disconnected`] or [`Error::Stopped`].
    pub fn tcp_serve(&self, port: u16) -> Result<TcpServer, Error> {
        self.run(|reply| ServeTask::new(port, reply))?
    }

    /// Connects to `address`, sends octets of the pattern, and returns when all are acknowledged.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Reset`], [`Error::Timeout`], [`Error::Disconnected`] or [`Error::Stopped`].
    pub fn tcp_send(&self, address: SocketAddr, amount: Amount) -> Result<TransferReport, Error> {
        self.run(|reply| SendTask::new(address, amount, reply))?
    }

    /// Waits until the guest has a lease, and returns it. It asks as long as it lives, if it is configured with
    /// [`GuestConfig::dhcp`].
    ///
    /// # Errors
    /// [`Error::Timeout`] when there is none until then, or [`Error::Disconnected`].
    pub fn lease(&self, timeout: Duration) -> Result<Lease, Error> {
        self.board.wait(&self.identity.name, timeout)
    }

    /// Returns the addresses of a name, those of IPv4 first, by the DNS servers of the guest's lease. The name has to
    /// be whole: no domain is searched.
    ///
    /// # Errors
    /// [`Error::Unresolved`], [`Error::Timeout`] when no server answers, [`Error::Disconnected`] or [`Error::Stopped`].
    pub fn resolve(&self, name: &str, timeout: Duration) -> Result<Vec<IpAddr>, Error> {
        self.run(|reply| ResolveTask::new(name.to_owned(), timeout, reply))?
    }

    /// Connects to `address`, sends `request`, and returns what the other side sends until it closes; at most `limit`
    /// octets, with which the connection ends.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Reset`], [`Error::Timeout`] when it is not closed until then,
    /// [`Error::Disconnected`] or [`Error::Stopped`].
    pub fn fetch(
        &self,
        address: SocketAddr,
        request: &[u8],
        limit: usize,
        timeout: Duration,
    ) -> Result<Vec<u8>, Error> {
        self.run(|reply| FetchTask::new(address, request.to_vec(), limit, timeout, reply))?
    }

    /// Stops the guest and waits until its attachment is closed, as dropping it does.
    pub fn stop(self) {}

    /// Hands a task over and waits for its answer.
    fn run<T: 'static, K: Task + 'static>(&self, task: impl FnOnce(Reply<T>) -> K) -> Result<T, Error> {
        let (reply, answer): (Sender<T>, Receiver<T>) = mpsc::channel();
        let stopped = || Error::Stopped { guest: self.identity.name.clone() };
        let commands = self.commands.as_ref().ok_or_else(stopped)?;
        commands.send(Box::new(task(reply))).map_err(|_| stopped())?;
        self.wake();
        answer.recv().map_err(|_| stopped())
    }

    fn wake(&self) {
        // A full pipe wakes as well.
        let _ = (&self.waker).write(&[1]);
    }
}

/// Where a task tells its result.
pub(crate) type Reply<T> = Sender<T>;

impl Drop for Guest {
    fn drop(&mut self) {
        self.commands = None;
        self.wake();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported by it, and must not become an abort here.
            let _ = thread.join();
        }
    }
}
