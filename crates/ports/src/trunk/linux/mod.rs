//! Trunks: how a network is joined to an interface of the host's, and kept joined.
//!
//! Theory of operation. A trunk's task looks for the interface, sets up what its mode needs ([`Joint`]), hands the
//! medium to the data plane, and then follows three things: what the kernel says of the interface, what the network
//! says of its guests, and whether the medium fails. The kernel's words and the network's are only a reason to ask for
//! the present state; the state is asked for every five seconds too, so that nothing stays wrong because a word was
//! lost.
//!
//! ```text
//! initializing ──▶ connected (inactive ◀──▶ active) ──▶ disconnecting
//!      ▲                      │
//!      └──── interface back ── gone
//! ```
//!
//! A trunk is active while a guest is: then the interface is up and promiscuous. Whatever the trunk has set on the
//! host is in its joint, and giving the joint up undoes exactly that. What a killed daemon left is taken over by the
//! next one, or found by [`leftovers`].

mod bridge;
mod filter;
mod follow;
mod joint;
pub(crate) mod leftovers;
mod macvtap;
mod medium;
mod packet;
mod xdp;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use vmlan_api::TrunkState;
use vmlan_drivers::Endpoint;

use crate::apart::Apart;
use crate::kernel::{Kernel, Watch};
use crate::panics::{Relapses, caught};
use crate::task::{Pause, QUARANTINE, relapse};
use crate::{Seat, Trunk, TrunkRow, TrunkWish, too_long};
use follow::Followed;
use joint::Joint;

/// Seconds after which everything is looked at without a reason.
const CHECK: u32 = 5;

/// How often the guests are listed at most.
const SYNC: Duration = Duration::from_millis(100);

/// Keeps the trunk joined until `stop`, and then gives back everything that it took.
pub async fn run(seat: Seat, config: Trunk, wish: Arc<TrunkWish>, stop: oneshot::Receiver<()>) {
    let mut task = Task { seat, config, wish, joint: None, was_there: false, synced: None };
    tokio::select! {
        () = task.persist() => {}
        // An error: whoever would stop it is gone, which stops it as well.
        _ = stop => {}
    }
    task.report(TrunkState::Disconnecting, None);
    if let Some(joint) = &mut task.joint {
        joint.let_go().await;
    }
    task.seat.leave().await;
}

struct Task {
    seat: Seat,
    config: Trunk,
    wish: Arc<TrunkWish>,
    joint: Option<Joint>,
    /// True if the interface was found before; the trunk then waits for it.
    was_there: bool,
    /// When the guests were listed last.
    synced: Option<Instant>,
}

impl Task {
    /// Keeps the trunk, and begins anew after a panic.
    async fn persist(&mut self) {
        let mut relapses = Relapses::default();
        while let Err(panic) = caught(self.keep()).await {
            // What is half done may panic again.
            if let Err(again) = caught(self.part()).await {
                tracing::error!(trunk = %self.config.interface.name(), "it cannot be taken off: {again}");
            }
            self.joint = None;
            self.report(TrunkState::Initializing, Some(panic.clone()));
            relapse(&mut self.seat, panic, &mut relapses).await;
        }
    }

    async fn keep(&mut self) {
        let mut pause = Pause::up_to(QUARANTINE);
        loop {
            let apart = match self.join().await {
                Ok(mut watch) => {
                    pause.reset();
                    self.attend(&mut watch).await
                }
                Err(apart) => apart,
            };
            // What is half set up would be in the way of the next attempt.
            self.part().await;
            match apart {
                Apart::Anew => {}
                Apart::NotThere(reason) => {
                    self.say_absent(reason);
                    self.wait_for_interface().await;
                }
                Apart::Refused(reason) => {
                    self.report(TrunkState::Initializing, Some(reason.clone()));
                    self.seat.failed(reason);
                    pause.wait().await;
                }
                Apart::Fault(fault) => {
                    let reason = format!("the trunk's device failed: {fault}; it is made anew");
                    self.report(TrunkState::Initializing, Some(reason.clone()));
                    self.seat.failed(reason);
                    pause.wait().await;
                }
            }
        }
    }

    /// Finds the interface, sets everything up and opens the trunk for traffic. Changes are listened to from before.
    async fn join(&mut self) -> Result<Watch, Apart> {
        let watch = Watch::open()?;
        let endpoint = match self.prepare(None).await {
            Err(Apart::Refused(reason)) if joint::may_do_with_packet(&self.config) => {
                self.part().await;
                self.prepare(Some(&reason)).await?
            }
            prepared => prepared?,
        };
        let Some(joint) = &self.joint else { return Err(Apart::Anew) };
        let peer = format!("{} ({})", joint.interface.name, joint.mode().as_str());
        self.seat.up(endpoint, Some(peer)).await;
        self.synced = None;
        self.look_after().await?;
        Ok(watch)
    }

    /// Makes the joint, up to the programs that divert. Mode `auto` makes do with packet when there is a reason why
    /// filter is not possible.
    async fn prepare(&mut self, not_filter: Option<&str>) -> Result<Arc<dyn Endpoint>, Apart> {
        let kernel = Kernel::open()?;
        let made = Joint::make(kernel, &self.seat, &self.config, self.was_there, not_filter);
        let (joint, endpoint) = made.await?;
        let joint = self.joint.insert(joint);
        self.was_there = true;
        joint.tell_network(&self.seat)?;
        joint.follow(&self.seat).await?;
        joint.sync(&self.seat)?;
        joint.divert(&self.seat).await?;
        if let Some(reason) = not_filter {
            let name = &joint.interface.name;
            tracing::warn!(trunk = %name, "mode packet, since filter is not possible: {reason}");
        }
        Ok(endpoint)
    }

    /// Does what the present guests want.
    async fn look_after(&mut self) -> Result<(), Apart> {
        let Some(joint) = &mut self.joint else { return Ok(()) };
        joint.activate(self.seat.network().is_trunk_wanted()).await?;
        let due = self.synced.is_none_or(|synced| synced.elapsed() >= SYNC);
        if due && self.wish.take_stations() {
            self.synced = Some(Instant::now());
            joint.sync(&self.seat)?;
        }
        joint.divert(&self.seat).await?;
        self.report(TrunkState::Connected, None);
        Ok(())
    }

    /// Follows the interface, the guests and the medium until the trunk has to be given up.
    async fn attend(&mut self, watch: &mut Watch) -> Apart {
        let mut seconds = 0;
        loop {
            let Some(joint) = &self.joint else { return Apart::Anew };
            let (names, indices) = joint.watched();
            let look = tokio::select! {
                fault = self.seat.fault_or_tick() => match fault {
                    Some(fault) => return Apart::Fault(fault),
                    None => {
                        seconds += 1;
                        seconds % CHECK == 0
                    }
                },
                () = self.wish.changed() => false,
                () = watch.changed(&names, &indices) => true,
            };
            if look && let Err(apart) = self.look().await {
                return apart;
            }
            if let Err(apart) = self.look_after().await {
                return apart;
            }
        }
    }

    /// Asks what the interface is now, and follows it.
    async fn look(&mut self) -> Result<(), Apart> {
        let Some(joint) = &mut self.joint else { return Err(Apart::Anew) };
        match joint.follow(&self.seat).await? {
            Followed::There => joint.repair().await,
            Followed::Gone(reason) => Err(Apart::NotThere(reason)),
            Followed::Another => Err(Apart::Anew),
        }
    }

    /// Gives the joint up, if there is one, whole or not.
    async fn part(&mut self) {
        if let Some(joint) = &mut self.joint {
            joint.let_go().await;
        }
        self.seat.down().await;
        self.joint = None;
        self.seat.network().set_host_addresses([]);
    }

    fn say_absent(&mut self, reason: String) {
        self.report(TrunkState::Gone, Some(reason.clone()));
        if self.was_there || self.config.wait {
            self.seat.waiting(Some(reason));
        } else {
            self.seat.failed(reason);
        }
    }

    /// Waits until there is word of an interface of that name, or it is time to look.
    async fn wait_for_interface(&mut self) {
        let (names, indices) = (BTreeSet::from([self.config.interface.name().to_owned()]), BTreeSet::new());
        let Ok(mut watch) = Watch::open() else { return tokio::time::sleep(QUARANTINE).await };
        // It may have come before the listening began.
        if let Ok(kernel) = Kernel::open()
            && let Ok(Some(_)) = kernel.interface(self.config.interface.name()).await
        {
            return;
        }
        let check = async {
            for _ in 0..CHECK {
                self.seat.fault_or_tick().await;
            }
        };
        tokio::select! {
            () = watch.changed(&names, &indices) => {}
            () = check => {}
        }
    }

    fn report(&self, state: TrunkState, reason: Option<String>) {
        let place = self.seat.place();
        let mut report = vmlan_api::Trunk {
            network: place.network.clone(),
            interface: self.config.interface.name().to_owned(),
            mode: self.config.mode,
            state,
            reason,
            active: false,
            sides: Vec::new(),
            host_mac: None,
            mtu: None,
            carrier: false,
            host_addresses: Vec::new(),
            shared_mac: false,
            stations: 0,
            installed: Vec::new(),
            host: vmlan_api::TrunkFlow::default(),
            wire: vmlan_api::TrunkFlow::default(),
        };
        let mut flows = None;
        if let Some(joint) = &self.joint {
            joint.describe(&mut report);
            let mtus = (self.seat.mtu(), joint.interface.mtu as usize);
            if let Some(note) = too_long(&joint.interface.name, mtus) {
                report.reason =
                    Some(report.reason.take().map_or(note.clone(), |reason| format!("{reason}; {note}")));
            }
            report.host_addresses =
                self.seat.network().host_addresses().iter().map(ToString::to_string).collect();
            flows = Some(joint.flows.clone());
        }
        self.seat.report(TrunkRow { report, flows });
    }
}
