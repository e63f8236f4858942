//! Theory of operation. Each connection has a thread of its own (`vmlan_drivers::vhost_user::connection`), which reads
//! the machine monitor's messages, maps its guest's memory, and starts and stops rings. What the thread has to say
//! comes here as [`News`]: only the latest state is kept, so a guest that starts and stops its rings for ever fills no
//! queue, and states are passed on at a bounded rate. The endpoint is the workers' from the beginning, since frames of
//! rings that are not enabled have to be taken too, and are dropped; the network sends to the port while a ring of each
//! direction is enabled, or after the machine monitor announced its guest, as it does behind a migration. From the
//! first time on that it does, frames of enabled rings are received: what the guest says before stays in its ring.
//!
//! Where packed rings are offered, the positions of the rings are noted in a file that outlives the daemon
//! (`vmlan_drivers::vhost_user::checkpoint`). Without one the port works as well, and says so once.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;
use vmlan_api::{ConfigSpace, PortState};
use vmlan_drivers::Fault;
use vmlan_drivers::vhost_user::checkpoint::{Checkpoints, Process};
use vmlan_drivers::vhost_user::connection::{
    self, ConfigOffer, Connection, Lingering, Offer, Options, Report, State,
};
use vmlan_drivers::vhost_user::counters::RingCounters;
use vmlan_frame::Mutex;

use super::{VhostUser, VhostUserSource};
use crate::connection::Connection as Peer;
use crate::guests::{self, AttachGuest, Descriptors, Guest};
use crate::kind::{Hindrance, KeepGuest, Work};
use crate::throttle::Throttle;
use crate::{Address, Allow, Seat, StateDirectory};

/// Words for a guest that has not started its rings, where the connection's thread has none.
const NO_RINGS: &str = "the guest does not use its device yet";

/// Said once where the positions of packed rings do not outlive the daemon.
const NOT_KEPT: &str = "positions of packed rings are not kept, and guests with packed rings have to load their \
                        drivers again after a restart of vmlan";

/// How often, and after which time, the file is tried that the connection before this attachment has not let go of yet.
const TRIES: usize = 20;
const AGAIN: Duration = Duration::from_millis(50);

/// Nothing hinders these ports here.
pub(super) fn hindrance() -> Option<Hindrance> {
    None
}

/// Keeps a port attached to one machine monitor after the other.
pub(super) struct Keep {
    config: VhostUser,
    lingering: Lingering,
    /// The port's counters, from the first connection on: that one says how many workers there are.
    counters: OnceLock<RingCounters>,
    checkpoints: Option<Arc<Checkpoints>>,
}

impl Keep {
    pub(super) fn new(config: VhostUser) -> Keep {
        Keep { config, lingering: Lingering::default(), counters: OnceLock::new(), checkpoints: None }
    }

    /// Opens the file for the positions of packed rings, if there are such rings and the daemon keeps anything.
    async fn open_checkpoints(&mut self, seat: &Seat) {
        let state = &seat.fabric().state;
        if !self.config.packed || *state == StateDirectory::None {
            return;
        }
        let Some(path) = state.rings_file(seat.place()) else {
            tracing::info!(port = %seat.place(), "{NOT_KEPT}: there is no runtime directory; set XDG_RUNTIME_DIR");
            return;
        };
        for left in (0..TRIES).rev() {
            match Checkpoints::open(&path) {
                Ok(checkpoints) => {
                    self.checkpoints = Some(Arc::new(checkpoints));
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && left > 0 => sleep(AGAIN).await,
                Err(error) => {
                    tracing::info!(port = %seat.place(), "{NOT_KEPT}: {}: {error}", path.display());
                    return;
                }
            }
        }
    }

    fn offer(&self, seat: &Seat) -> Offer {
        let VhostUser { queues, packed, offloads, config, .. } = self.config;
        let config = match config {
            ConfigSpace::Auto => ConfigOffer::Auto,
            ConfigSpace::On => ConfigOffer::On,
            ConfigSpace::Off => ConfigOffer::Off,
        };
        let mtu = u16::try_from(seat.mtu()).unwrap_or(u16::MAX);
        Offer { pairs: queues, packed, offloads, config, mac: seat.mac(), mtu }
    }
}

impl KeepGuest for Keep {
    fn keep<'a>(&'a mut self, seat: &'a mut Seat) -> Work<'a> {
        Box::pin(async move {
            if self.checkpoints.is_none() {
                self.open_checkpoints(seat).await;
            }
            let keep = &*self;
            match &keep.config.source {
                VhostUserSource::Listen(path, access) => {
                    let (address, allow) = (Address::Unix(path.clone()), Allow::default());
                    guests::listen(seat, keep, (&address, &allow, *access)).await
                }
                VhostUserSource::Connect(path) => {
                    guests::connect(seat, keep, &Address::Unix(path.clone())).await
                }
                VhostUserSource::Fd(number) => guests::inherited(seat, keep, *number).await,
            }
        })
    }
}

impl AttachGuest for Keep {
    type Attached = Attached;

    const PORT: &'static str = "a vhost-user port";
    const DESCRIPTORS: Descriptors = Descriptors::Taken;

    async fn attach(&self, seat: &mut Seat, guest: Guest) -> Result<Attached, String> {
        let Guest { socket, peer, .. } = guest;
        let failed = |error: io::Error| format!("{peer} cannot be served: {error}; it is tried again");
        // One that was inherited may be one that waits.
        rustix::io::ioctl_fionbio(&socket, true).map_err(|error| failed(error.into()))?;
        let connection = Peer::new(socket).map_err(failed)?;
        let process = connection.peer_cred().ok().and_then(|peer| u32::try_from(peer.pid()?).ok());
        let front_end = process.and_then(Process::of);
        let socket = connection.into_socket().map_err(failed)?;
        let options = Options {
            socket: socket.into_parts().0,
            offer: self.offer(seat),
            memory: self.config.memory,
            sealed: self.config.sealed,
            workers: seat.workers(),
            lingering: self.lingering.clone(),
            counters: self.counters.get_or_init(|| RingCounters::new(seat.workers())).clone(),
            checkpoints: self.checkpoints.clone().zip(front_end),
        };
        let news = Arc::new(News::default());
        let teller = news.clone();
        let served = connection::serve(options, move |report| teller.tell(report));
        let (endpoint, connection) = served.map_err(failed)?;
        seat.attach(endpoint).await;
        seat.open();
        let attached = Attached { news, throttle: Throttle::new(), peer, connection };
        attached.show(seat, State::default());
        Ok(attached)
    }

    async fn end(&self, seat: &mut Seat, attached: &mut Attached) -> Fault {
        loop {
            let report = tokio::select! {
                fault = seat.fault() => return fault,
                report = attached.report() => report,
            };
            match report {
                Report::State(state) => attached.show(seat, state),
                Report::Ended(fault) => return fault,
            }
        }
    }
}

/// A machine monitor that is connected.
pub(super) struct Attached {
    news: Arc<News>,
    throttle: Throttle,
    peer: String,
    /// Ends the connection's thread when it is dropped.
    connection: Connection,
}

impl Attached {
    /// The next report. Safe to cancel.
    async fn report(&mut self) -> Report {
        loop {
            self.news.wait().await;
            self.throttle.pass().await;
            if let Some(report) = self.news.take() {
                return report;
            }
        }
    }

    /// Gives the port the state of its connection.
    fn show(&self, seat: &mut Seat, State { up, announced, reason }: State) {
        let (state, reason) = match up {
            true => (PortState::Up, reason),
            false => (PortState::Waiting, reason.or_else(|| Some(NO_RINGS.into()))),
        };
        seat.set_part(up || announced, state, reason, Some(self.peer.clone()));
        if up || announced {
            self.connection.admit();
        }
    }
}

/// The latest word of a connection's thread.
#[derive(Default)]
struct News {
    latest: Mutex<Latest>,
    came: Notify,
}

#[derive(Default)]
struct Latest {
    state: Option<State>,
    end: Option<Fault>,
}

impl News {
    /// Notes a report, in place of what was not taken yet. Does not wait.
    fn tell(&self, report: Report) {
        let mut latest = self.latest.lock();
        match report {
            Report::State(state) => latest.state = Some(state),
            Report::Ended(fault) => latest.end = Some(fault),
        }
        drop(latest);
        self.came.notify_one();
    }

    /// Waits until there is something to take. Safe to cancel.
    async fn wait(&self) {
        while !self.latest.lock().is_there() {
            self.came.notified().await;
        }
    }

    /// Takes the end before a state that came in front of it.
    fn take(&self) -> Option<Report> {
        let mut latest = self.latest.lock();
        let end = latest.end.take().map(Report::Ended);
        end.or_else(|| latest.state.take().map(Report::State))
    }
}

impl Latest {
    fn is_there(&self) -> bool {
        self.state.is_some() || self.end.is_some()
    }
}

#[cfg(test)]
mod tests {
    use vmlan_api::VhostUserConfig;
    use vmlan_api::keys::{self, Keyed};

    use super::*;

    fn state(up: bool) -> Report {
        Report::State(State { up, announced: false, reason: None })
    }

    #[test]
    fn the_range_of_queues_ends_at_the_pairs_that_are_served() {
        let (range, _) = keys::range(VhostUserConfig::KEYS, "queues");
        assert_eq!(range, 1..=u64::from(Offer::MOST_PAIRS));
    }

    #[tokio::test]
    async fn only_the_latest_state_is_kept_and_the_end_comes_first() {
        let news = News::default();
        (0..1000).for_each(|turn| news.tell(state(turn % 2 == 1)));
        news.wait().await;
        assert!(matches!(news.take(), Some(Report::State(State { up: true, .. }))));
        assert!(news.take().is_none());
        news.tell(state(false));
        news.tell(Report::Ended(Fault::Closed));
        assert!(matches!(news.take(), Some(Report::Ended(Fault::Closed))));
    }

    #[tokio::test]
    async fn a_wait_that_was_cancelled_loses_no_word() {
        let news = News::default();
        tokio::select! {
            biased;
            () = news.wait() => unreachable!("nothing has come"),
            () = std::future::ready(()) => {}
        }
        news.tell(state(true));
        news.wait().await;
        news.wait().await;
        assert!(news.take().is_some());
    }
}
