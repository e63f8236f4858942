//! Word of changes of a file, by inotify.

use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::net::unix::pipe::Receiver;

/// Links that are followed.
const MOST_LINKS: usize = 8;

/// A watch over a file, and over each link by which its name leads there.
pub(super) struct Watch {
    /// It is read as a pipe is.
    inotify: Option<Receiver>,
}

impl Watch {
    /// Begins to watch. Without inotify, nothing is told.
    pub(super) fn new(path: &Path) -> Watch {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok();
        let inotify = inotify.and_then(|inotify| Receiver::from_owned_fd_unchecked(inotify).ok());
        if let Some(inotify) = &inotify {
            let flags = WatchFlags::CREATE
                | WatchFlags::CLOSE_WRITE
                | WatchFlags::DELETE
                | WatchFlags::MOVED_FROM
                | WatchFlags::MOVED_TO
                | WatchFlags::DELETE_SELF
                | WatchFlags::MOVE_SELF
                | WatchFlags::ONLYDIR;
            // A directory is watched rather than the file, which others replace as a whole.
            for directory in directories(path) {
                let _ = inotify::add_watch(inotify, &directory, flags);
            }
        }
        Watch { inotify }
    }

    /// Waits for a change. Safe to cancel.
    pub(super) async fn changed(&mut self) {
        let Some(inotify) = &mut self.inotify else { return std::future::pending().await };
        // All that there is: what is told is that something changed.
        let mut events = [0; 4096];
        if inotify.readable().await.is_err() {
            return std::future::pending().await;
        }
        while inotify.try_read(&mut events).is_ok_and(|len| len > 0) {}
    }
}

/// The directories of a file's name and of each link on its way.
fn directories(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut path = path.to_owned();
    for _ in 0..=MOST_LINKS {
        let Some(directory) = path.parent().map(Path::to_owned) else { break };
        let link = std::fs::read_link(&path);
        found.push(directory.clone());
        match link {
            Ok(target) => path = directory.join(target),
            Err(_) => break,
        }
    }
    found
}

/// The number of an interface, which an address's scope is.
pub(super) fn scope_of(interface: &str) -> Option<u32> {
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None).ok()?;
    rustix::net::netdevice::name_to_index(&socket, interface).ok()
}
