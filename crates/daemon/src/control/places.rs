//! The connections that are served, and how a new one comes to a place when all are taken.
//!
//! Theory of operation. Every connection has a turn: the time for which it may keep its place while it waits for its
//! client. When a connection comes and there is no place, the one that has waited longest beyond its turn is ended. If
//! none has, some that have had an answer are asked to leave behind the next, and the new one waits: for a turn at
//! most, unless everything is being served or streams, which is bounded elsewhere. The same goes for the part of the
//! places that one user may have, among the connections of that user. So clients that say nothing, or read nothing,
//! keep nobody away, however many connections they make.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep};

use super::life::Life;
use vmlan_ports::panics;
use vmlan_ports::users::User;

/// The connections that there are.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    turn: Duration,
    tasks: JoinSet<()>,
    open: HashMap<Id, Connection>,
}

#[derive(Debug)]
struct Connection {
    user: User,
    life: Arc<Life>,
    task: AbortHandle,
    /// Counts connections; the smaller, the older.
    number: u64,
}

impl Places {
    pub(super) fn new(most: usize, turn: Duration) -> Places {
        Places { most, turn, tasks: JoinSet::new(), open: HashMap::new() }
    }

    /// Serves a connection; there is a place when [`Places::make_room`] has answered.
    pub(super) fn add(
        &mut self,
        user: User,
        life: Arc<Life>,
        connection: impl Future<Output = ()> + Send + 'static,
    ) {
        let task = self.tasks.spawn(connection);
        let number = self.open.values().map(|connection| connection.number + 1).max().unwrap_or(0);
        self.open.insert(task.id(), Connection { user, life, task, number });
    }

    /// Waits until there is a place, and sees to it that there is. Safe to cancel.
    pub(super) async fn make_room(&mut self) {
        // Connections that ended give back their memory here.
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.forget(ended);
        }
        while self.open.len() >= self.most {
            let wait = self.send_away(|_| true).unwrap_or(self.turn);
            self.wait_for_an_end(wait).await;
        }
    }

    /// Sees to it that a connection of `user` leaves, and waits for that a moment; false when none can. Safe to cancel.
    pub(super) async fn make_room_of(&mut self, user: User) -> bool {
        let Some(wait) = self.send_away(|connection| connection.user == user) else { return false };
        self.wait_for_an_end(wait).await;
        true
    }

    /// Ends the connection that has waited longest, if its turn is over, or asks some to leave: how long to wait then.
    /// `None` when all stream, or were asked already and are being served.
    fn send_away(&self, of: impl Fn(&Connection) -> bool) -> Option<Duration> {
        let candidates = || self.open.values().filter(|connection| of(connection));
        let waiting =
            candidates().filter_map(|it| Some((it.life.turn_ends(self.turn)?, it.number, &it.task)));
        let first = waiting.min_by_key(|(end, number, _)| (*end, *number));
        let left = first.map(|(end, _, task)| {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                task.abort();
            }
            left
        });
        if left == Some(Duration::ZERO) {
            return Some(self.turn);
        }
        let mut by_age: Vec<_> = candidates().collect();
        by_age.sort_unstable_by_key(|connection| connection.number);
        // Several, for where clients are busy all others have a request before the first of them can leave.
        let askable = by_age.iter().filter(|connection| connection.life.ask_to_leave());
        let asked = askable.take((self.most / 8).max(1)).count();
        left.or((asked > 0).then_some(self.turn))
    }

    async fn wait_for_an_end(&mut self, patience: Duration) {
        tokio::select! {
            Some(ended) = self.tasks.join_next_with_id() => self.forget(ended),
            () = sleep(patience) => {}
        }
    }

    /// Waits until all have ended, for `patience` at most; then ends the rest.
    pub(super) async fn end(mut self, patience: Duration) {
        let finish = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, finish).await.is_err() {
            self.tasks.shutdown().await;
        }
    }

    fn forget(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                let id = error.id();
                // Otherwise it had to make room.
                if let Ok(payload) = error.try_into_panic() {
                    tracing::error!("a control connection is closed by {}", panics::message(&*payload));
                }
                id
            }
        };
        self.open.remove(&id);
    }
}
