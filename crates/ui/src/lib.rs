#![forbid(unsafe_code)]
//! A web page about a running vmlan: a small HTTP server on loopback, and the page, which is in the program.
//!
//! Theory of operation. The server is a process of its user (`vmlan ui`), or a part of the daemon's, and has no rights
//! beside: what the page asks for goes on to the
//! daemon's control socket, each request by a connection of its own, where it is one of a list (`routes`). Whether a
//! request comes from the page is decided before anything looks at it (`gate`), by three secrets that are made anew
//! with each server:
//!
//! - the token, which is in the link that the command prints; for it a browser gets the two others;
//! - the cookie, without which nothing is answered. Browsers send it to all ports of one address, also to those that
//!   another user of the machine listens at, so it opens no more than the page's own files;
//! - the key, which the page keeps in storage of its origin, port included, and sends along with each request for data.
//!
//! Everything that strangers can make the server hold is bounded ([`Limits`]): connections, the octets of a header and
//! a body, and the time for each. A connection that has not shown the cookie gives its place to a new one where all are
//! taken (`places`).

mod assets;
mod gate;
mod patient;
mod places;
mod proxy;
mod routes;
mod secret;
mod server;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

pub use assets::{ASSETS, Asset};
pub use server::{Connections, Server};

/// Reads a configuration file's text: the configuration, or the fault to tell.
pub type ReadConfig = fn(&str) -> Result<vmlan_api::Config, vmlan_api::Error>;

/// The settings of a server.
#[derive(Debug, Clone)]
pub struct Options {
    /// Loopback address to listen at; port 0 is any free one.
    pub listen: SocketAddr,
    /// The daemon's control socket.
    pub control: PathBuf,
    /// True if the page may change the configuration, which may change while the page is served.
    pub writes: Arc<AtomicBool>,
    /// The reader of configuration files.
    pub read_config: ReadConfig,
    /// Bounds.
    pub limits: Limits,
    /// Takes word of each change that a page asked for, with the daemon's answer to it; printable ASCII.
    pub on_change: fn(&str),
}

/// Limits on what a client can make the server hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Time for the header of a request, and between requests.
    pub header: Duration,
    /// Time for the body of a request.
    pub body: Duration,
    /// Time in which a client has to read something of an answer.
    pub answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 48,
            header: Duration::from_secs(10),
            body: Duration::from_secs(10),
            answer: Duration::from_secs(60),
        }
    }
}

/// The reason why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Others than this host could reach the page.
    #[error("{0} is no loopback address; the page is for this host alone, so listen at 127.0.0.1 or [::1]")]
    NotLoopback(SocketAddr),
    /// The address cannot be listened at.
    #[error(
        "cannot listen at {listen}: {source}; name another address with --listen, port 0 for any free one"
    )]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// No secrets can be made.
    #[error("the system gives no random octets: {0}")]
    Random(io::Error),
}
