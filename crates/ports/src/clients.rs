use std::collections::BTreeSet;
use std::sync::Arc;

use vmlan_api::PortState;
use vmlan_drivers::inject;
use vmlan_frame::Mutex;
use vmlan_lan::Network;

use super::directory::{Place, Row, Unrest};
use super::fabric::{Fabric, Joining};
use super::seat::{Ready, Seat};
use crate::PortSettings;
use crate::users::{Full, Places, Resource, User};

type Numbers = Arc<Mutex<BTreeSet<usize>>>;

/// The number of a client's port, which is free for the next one when this is dropped.
pub struct ClientNumber {
    numbers: Numbers,
    number: usize,
}

impl ClientNumber {
    /// The lowest free one.
    fn take(numbers: &Numbers) -> Option<ClientNumber> {
        let mut taken = numbers.lock();
        let number = (0..).find(|number| !taken.contains(number))?;
        taken.insert(number);
        Some(ClientNumber { numbers: numbers.clone(), number })
    }

    pub fn get(&self) -> usize {
        self.number
    }
}

impl Drop for ClientNumber {
    fn drop(&mut self) {
        self.numbers.lock().remove(&self.number);
    }
}

/// A port whose clients become ports of their own: `guests.0`, `guests.1`, …
///
/// The port itself is no part of the network; it stands in the directory so that one can see that it is there.
#[derive(Clone)]
pub struct Clients {
    fabric: Arc<Fabric>,
    network: Arc<Network>,
    place: Place,
    kind: vmlan_api::PortKind,
    numbers: Numbers,
    ready: Arc<Mutex<Option<Ready>>>,
}

impl Clients {
    /// Puts the port into the directory. `ready` hears how setting it up goes.
    pub fn new(
        fabric: Arc<Fabric>,
        network: Arc<Network>,
        (place, kind): (Place, vmlan_api::PortKind),
        settings: PortSettings,
        ready: Ready,
    ) -> Clients {
        let row = Row {
            kind,
            state: PortState::Waiting,
            address: None,
            reason: None,
            unrest: Unrest::default(),
            peer: None,
            endpoint: None,
            settings,
            mtu: network.mtu(),
            member: None,
            parent: None,
            rules: None,
        };
        fabric.directory.insert(&place, row);
        Clients {
            fabric,
            network,
            place,
            kind,
            numbers: Arc::default(),
            ready: Arc::new(Mutex::new(Some(ready))),
        }
    }

    /// Clients can come, to `address`.
    pub fn up(&self, address: String) {
        self.tell(Ok(()));
        self.fabric.directory.set_state(
            &self.place,
            PortState::Up,
            Some(format!("clients connect to {address}")),
            None,
        );
    }

    /// It could not be set up. The log has each reason once, until another one or success follows.
    pub fn failed(&self, reason: String) {
        self.tell(Err(reason.clone()));
        if self.fabric.directory.set_state(&self.place, PortState::Failed, Some(reason.clone()), None) {
            tracing::warn!(port = %self.place, "{reason}");
        }
    }

    /// Says that the socket which clients connect to is gone and is made again.
    pub fn swept(&self, notice: &str) {
        tracing::warn!(port = %self.place, "{notice}");
    }

    /// So many places, of which a user has a part.
    pub fn places(&self, resource: Resource, total: usize) -> Arc<Places> {
        Places::new(self.fabric.users.clone(), resource, total)
    }

    /// Says that a client has no place, unless enough was said of it.
    pub fn refuse(&self, full: &Full) {
        if full.tell {
            tracing::warn!(port = %self.place, "a client is refused: {full}");
        }
    }

    /// Makes a port for a client of `user`, with the lowest free number; `None`, and a word in the log, when it cannot
    /// be.
    pub fn join(&self, user: User) -> Option<(ClientNumber, Seat)> {
        let settings = self.fabric.directory.settings(&self.place)?;
        let number = ClientNumber::take(&self.numbers)?;
        let port = format!("{}.{}", self.place.port, number.get());
        let place = Place { network: self.place.network.clone(), port };
        let kind = self.kind;
        let parent = Some(self.place.port.clone());
        let budget = Some(self.fabric.users.budget(&self.network, &self.place.port, user));
        let joining =
            Joining { network: &self.network, place, kind, settings: &settings, parent, budget, trunk: None };
        match self.fabric.join(joining) {
            Ok(seat) => Some((number, seat)),
            Err(error) => {
                tracing::warn!(port = %self.place, "a client cannot join: {error}");
                None
            }
        }
    }

    /// The port's network and name.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Panics where a test asks for it.
    pub fn inject(&self, at: &str) {
        inject::panic_at(|| format!("{at}.{}", self.place.port));
    }

    /// Takes the port out of the directory.
    pub fn leave(self) {
        self.fabric.directory.remove(&self.place);
    }

    fn tell(&self, outcome: Result<(), String>) {
        if let Some(ready) = self.ready.lock().take() {
            // Whoever asked may have gone.
            let _ = ready.send(outcome);
        }
    }
}
