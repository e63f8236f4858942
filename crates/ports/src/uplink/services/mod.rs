//! The task that gives the guests of a network addresses and names.
//!
//! The data path hands it the frames that are for it, and takes frames for guests, both by one socket of messages
//! ([`Setup::channel`]); connections to the resolver come one by one ([`Setup::streams`]). All decisions are those of
//! `vmlan_services`; here are the sockets, the clock, the lease file and the host's list of resolvers. The state is the
//! task's alone, so nothing is locked; the [`Handle`] sends commands.
//!
//! Nothing in the task waits for a file or a server. An answer that binds a lease waits for the file that has it, at
//! most one of which is written in ten milliseconds; a file that cannot be written is told, and the guest is answered
//! all the same.

mod channel;
mod file;
mod handle;
mod resolvers;
mod stream;
mod task;
#[cfg(test)]
mod tests;
mod upstream;

#[cfg(target_os = "linux")]
#[path = "linux/watch.rs"]
mod watch;
#[cfg(target_os = "macos")]
#[path = "macos/watch.rs"]
mod watch;

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use vmlan_services::names::Learned;
use vmlan_services::{Client, Event, Port, Settings};

pub use channel::{HEADER, LONGEST};
pub use handle::{Handle, Stopped};

/// The resolvers that questions are passed on to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Servers {
    /// Those that the host uses, as its file says at the time.
    #[default]
    Host,
    /// These.
    Fixed(Vec<SocketAddr>),
}

/// The part of the settings that may change while the task runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The settings of the services.
    pub settings: Settings,
    /// The resolvers.
    pub servers: Servers,
}

/// Everything that the task begins with.
#[derive(Debug)]
pub struct Setup {
    /// The settings.
    pub config: Config,
    /// The ports that are there.
    pub ports: Vec<Port>,
    /// The file that keeps leases, as `$STATE/leases/NETWORK.json`; its directory is made. `None` keeps none.
    pub lease_file: Option<PathBuf>,
    /// The file that names the host's resolvers.
    pub resolv_conf: PathBuf,
    /// A socket of messages that does not wait, of type SEQPACKET or DGRAM, whose other end the data path has. A
    /// message is the number of a port and a zero, 16 bits each, most significant octet first, and a frame of at most
    /// [`LONGEST`] octets with complete checksums. To the data path, port 0 is all ports.
    pub channel: OwnedFd,
    /// Connections to the resolver, as they are accepted, which the sender keeps from being too many.
    pub streams: mpsc::Receiver<(UnixStream, Client)>,
}

/// A thing that happened, for a listing or the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// An event of the services.
    Event(Event),
    /// Other resolvers are asked now.
    Resolvers(Vec<SocketAddr>),
    /// The file of leases could not be read; it is kept under another name, if that was possible.
    LeasesUnreadable(String),
    /// Leases cannot be written; guests get them all the same.
    LeasesUnwritten(String),
}

/// Callbacks of the task. They must not wait.
pub struct Callbacks {
    /// Is told what happens.
    pub notice: Box<dyn Fn(Notice) + Send>,
    /// Is told addresses that a guest may reach since it got them for an allowed name, and for how long, before the
    /// guest has them.
    pub learned: Box<dyn Fn(Learned, Duration) + Send>,
    /// Is told of each address that a guest gets or renews by DHCP, before the guest has the answer.
    pub bound: Box<dyn Fn(Client, Ipv4Addr) + Send>,
}

/// The task.
#[derive(Debug)]
pub struct Services;

impl Services {
    /// Starts the task. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// The channel cannot be watched.
    pub fn start(setup: Setup, callbacks: Callbacks) -> std::io::Result<Handle> {
        let channel = channel::Channel::new(setup.channel)?;
        let (commands, receiver) = mpsc::channel(handle::QUEUE);
        let task = task::Start {
            config: setup.config,
            ports: setup.ports,
            lease_file: setup.lease_file,
            resolv_conf: setup.resolv_conf,
            channel,
            streams: setup.streams,
            callbacks,
            commands: receiver,
        };
        Ok(Handle::new(commands, tokio::spawn(task.run())))
    }
}
