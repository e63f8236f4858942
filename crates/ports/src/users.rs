//! Limits on what one user of our sockets may hold, however many clients it runs.
//!
//! Theory of operation. Where clients come by themselves (VDE directories, tunnels' control sockets, the control
//! interface) the number of places is bounded; [`Places`] keeps one user from taking all of them. A user is what the
//! kernel says of the peer (`SO_PEERCRED`), at the moment when it connected. Root and our own user may have more than
//! others, but never all.
//!
//! Ports of one user that joined by one directory or socket are a [`vmlan_lan::Group`], and what waits for all ports of
//! a user has its room together. Both outlive the user's last port for a while: a client that comes and goes does not
//! get new budgets each time.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use vmlan_frame::{Mutex, Share};
use vmlan_lan::{Group, Network};

use crate::UserLimits;
use crate::connection::Connection;

/// How long budgets are kept that no port has: longer than most need to fill.
const KEPT: Duration = Duration::from_secs(60);

/// The user at the other end of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum User {
    /// This one.
    Uid(u32),
    /// One that the system does not tell; they count as one.
    Unknown,
}

impl User {
    /// The user who connected a Unix socket.
    pub fn of(connection: &Connection) -> User {
        connection.peer_cred().map_or(User::Unknown, |peer| User::Uid(peer.uid()))
    }

    /// True if the user is root or our own user.
    fn is_ours(self) -> bool {
        matches!(self, User::Uid(uid) if uid == 0 || uid == rustix::process::geteuid().as_raw())
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            User::Uid(uid) => write!(f, "user {uid}"),
            User::Unknown => f.write_str("a user that the system does not tell"),
        }
    }
}

/// A resource with a bounded number of places.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resource {
    /// Clients of directories and control sockets that are ports.
    Ports,
    /// Connections of clients that may not have a port yet.
    Clients,
    /// Of the control interface.
    Connections,
    /// Streams of events.
    Events,
    /// Captures.
    Captures,
}

impl Resource {
    /// How it is called.
    fn name(self) -> &'static str {
        match self {
            Resource::Ports => "ports (`ports` in [limits.user])",
            Resource::Clients => "connections",
            Resource::Connections => "connections (`connections` in [limits.user])",
            Resource::Events => "streams of events (`events` in [limits.user])",
            Resource::Captures => "captures (`captures` in [limits.user])",
        }
    }
}

/// The users of a daemon, and what each may have.
#[derive(Debug, Default)]
pub struct Users {
    limits: Mutex<UserLimits>,
    budgets: Mutex<Budgets>,
}

#[derive(Default)]
struct Budgets {
    /// By network, port and user.
    groups: HashMap<(String, String, User), (Arc<Group>, Instant)>,
    shares: HashMap<User, (Arc<Share>, Instant)>,
}

impl fmt::Debug for Budgets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budgets").field("groups", &self.groups.len()).finish_non_exhaustive()
    }
}

/// The budget that the ports of one user share.
#[derive(Clone)]
pub struct Budget {
    /// The group that limits what the ports send.
    pub group: Arc<Group>,
    /// Their room for frames that wait.
    pub share: Arc<Share>,
}

impl Users {
    /// Lets users have as much from now on. What they have already stays theirs.
    pub fn set(&self, limits: UserLimits) {
        let budgets = self.budgets.lock();
        budgets.shares.values().for_each(|(share, _)| share.set(limits.backlog));
        drop(budgets);
        *self.limits.lock() = limits;
    }

    /// How many of `total` places one user may have.
    fn most(&self, user: User, resource: Resource, total: usize) -> usize {
        let limits = self.limits.lock();
        let wanted = match resource {
            Resource::Ports => limits.ports,
            Resource::Clients => None,
            Resource::Connections => limits.connections,
            Resource::Events => limits.events,
            Resource::Captures => limits.captures,
        };
        let all_but_some = total - total / 8;
        let usual = if user.is_ours() { all_but_some } else { total.div_ceil(4).max(4) };
        wanted.unwrap_or(usual).min(all_but_some)
    }

    /// Returns the budget for all ports of `user` that joined by the port `port` of `network`.
    pub fn budget(&self, network: &Network, port: &str, user: User) -> Budget {
        let limits = self.limits.lock().clone();
        let addresses = limits.addresses.unwrap_or_else(|| (network.fdb_capacity() / 4).max(1));
        let now = Instant::now();
        let mut budgets = self.budgets.lock();
        let Budgets { groups, shares } = &mut *budgets;
        groups.retain(|_, (group, used)| is_kept(group, used, now));
        shares.retain(|_, (share, used)| is_kept(share, used, now));
        let (share, _) = shares.entry(user).or_insert_with(|| (Arc::new(Share::new(limits.backlog)), now));
        let key = (network.name().to_owned(), port.to_owned(), user);
        let (group, _) = groups.entry(key).or_insert_with(|| (Arc::new(Group::new(addresses)), now));
        group.set_addresses(addresses);
        Budget { group: group.clone(), share: share.clone() }
    }
}

/// True if the budget is still in use, or was lately.
fn is_kept<T>(budget: &Arc<T>, used: &mut Instant, now: Instant) -> bool {
    if Arc::strong_count(budget) > 1 {
        *used = now;
    }
    now.saturating_duration_since(*used) < KEPT
}

/// Places of one kind, of which a user has a part at most.
#[derive(Debug)]
pub struct Places {
    users: Arc<Users>,
    resource: Resource,
    total: usize,
    taken: Mutex<HashMap<User, usize>>,
    refused: AtomicU64,
}

/// A user's place, given back when dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    user: User,
}

/// That a user has as many places as one user may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{user} has {most}, as many as one user may have of {}", resource.name())]
pub struct Full {
    user: User,
    most: usize,
    resource: Resource,
    /// True if the refusal should be logged: the first, and then ever fewer, so that a stubborn user does not fill the
    /// log.
    pub tell: bool,
}

impl Places {
    /// So many places, none taken.
    pub fn new(users: Arc<Users>, resource: Resource, total: usize) -> Arc<Places> {
        Arc::new(Places { users, resource, total, taken: Mutex::default(), refused: AtomicU64::new(0) })
    }

    /// Takes a place for `user`.
    ///
    /// # Errors
    /// When it has as many as one user may have.
    pub fn take(self: &Arc<Self>, user: User) -> Result<Place, Full> {
        let most = self.users.most(user, self.resource, self.total);
        let mut taken = self.taken.lock();
        let count = taken.get(&user).copied().unwrap_or(0);
        if count >= most {
            let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
            return Err(Full { user, most, resource: self.resource, tell: refused.is_power_of_two() });
        }
        taken.insert(user, count + 1);
        Ok(Place { places: self.clone(), user })
    }
}

impl Place {
    /// The user that has it.
    pub fn user(&self) -> User {
        self.user
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        if let Some(count) = taken.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: User = User::Uid(u32::MAX - 7);
    const BOB: User = User::Uid(u32::MAX - 8);
    const ROOT: User = User::Uid(0);

    fn take_all(places: &Arc<Places>, user: User) -> Vec<Place> {
        std::iter::from_fn(|| places.take(user).ok()).collect()
    }

    #[test]
    fn one_user_leaves_places_to_others() {
        for (total, of_alice, of_root) in [(1024, 256, 896), (64, 16, 56), (8, 4, 7), (2, 2, 2), (1, 1, 1)] {
            let places = Places::new(Arc::default(), Resource::Ports, total);
            let alice = take_all(&places, ALICE);
            assert_eq!(alice.len(), of_alice, "of {total}");
            assert_eq!(take_all(&places, BOB).len(), of_alice, "of {total}");
            assert_eq!(take_all(&places, ROOT).len(), of_root, "of {total}");
        }
    }

    #[test]
    fn places_are_given_back() {
        let places = Places::new(Arc::default(), Resource::Captures, 16);
        let mut alice = take_all(&places, ALICE);
        let full = places.take(ALICE).expect_err("she has all that she may have");
        assert_eq!((full.most, full.resource), (4, Resource::Captures));
        alice.pop();
        assert_eq!(take_all(&places, ALICE).len(), 1);
        drop(alice);
        assert!(places.taken.lock().is_empty());
    }

    #[test]
    fn a_limit_that_is_set_holds_for_everybody_and_at_once() {
        let users = Arc::new(Users::default());
        let places = Places::new(users.clone(), Resource::Events, 32);
        users.set(UserLimits { events: Some(2), ..UserLimits::default() });
        let (alice, root) = (take_all(&places, ALICE), take_all(&places, ROOT));
        assert_eq!((alice.len(), root.len()), (2, 2));
        users.set(UserLimits { events: Some(1000), ..UserLimits::default() });
        assert_eq!(take_all(&places, ALICE).len(), 26, "never all");
    }

    #[test]
    fn ever_fewer_refusals_are_told() {
        let places = Places::new(Arc::default(), Resource::Connections, 8);
        let _taken = take_all(&places, ALICE);
        let told = (0..1000).filter(|_| places.take(ALICE).expect_err("no place is left").tell).count();
        assert!(told <= 10, "{told}");
    }

    #[test]
    fn a_user_that_comes_again_has_the_budgets_that_it_had() {
        let network = Network::new(vmlan_lan::NetworkConfig {
            name: "lab".into(),
            mtu: 1500,
            fdb: vmlan_lan::FdbConfig::new([1, 2]),
            pass_reserved: false,
        });
        let users = Users::default();
        let first = users.budget(&network, "guests", ALICE);
        let (group, share) = (Arc::as_ptr(&first.group), Arc::as_ptr(&first.share));
        drop(first);
        let again = users.budget(&network, "guests", ALICE);
        assert_eq!((Arc::as_ptr(&again.group), Arc::as_ptr(&again.share)), (group, share));
        let elsewhere = users.budget(&network, "others", ALICE);
        assert!(!std::ptr::eq(Arc::as_ptr(&elsewhere.group), group), "each directory has its own");
        assert!(std::ptr::eq(Arc::as_ptr(&elsewhere.share), share), "what waits has its room in common");
        let other = users.budget(&network, "guests", BOB);
        assert!(!std::ptr::eq(Arc::as_ptr(&other.group), group));
    }
}
