//! How a port is kept attached to an interface of this host's.
//!
//! Theory of operation. The task finds or makes the interface (`make`), takes it for the port (`joint`: the hold that
//! keeps others away, a TAP of ours that carries frames to and from the workers, and the programs at the interface's
//! hooks), and then follows what the kernel says of it. Word of changes comes by one listener for all ports (`shared`)
//! and is only a reason to ask for the present state, which is asked for every five seconds too. The port is up while
//! the interface is up and has a carrier; the programs stay while it does not, so that nothing of the guest's ever
//! reaches the host's own stack.

mod fast;
mod inherit;
mod joint;
mod lost;
mod make;
mod member;
mod pins;
mod shared;
mod trunk;

pub(crate) use make::leftovers;
pub(crate) use pins::leftovers as left_pins;
pub(crate) use shared::Shared;
pub(crate) use trunk::{Parts, TrunkPlace};

use std::sync::Arc;
use std::time::Duration;

use super::{Interface, Source};
use crate::Seat;
use crate::apart::Apart;
use crate::kind::{KeepGuest, Work};
use crate::task::{Pause, QUARANTINE, describe};
use joint::Joint;
use make::Made;
use shared::Listener;

/// Seconds after which everything is looked at without a reason, at least: with many ports later, so that not more than
/// [`LOOKS`] are looked at in a second.
const CHECK: usize = 5;
const LOOKS: usize = 16;

/// A pause before an interface that somebody deleted is made anew.
const ANEW: Duration = Duration::from_millis(100);

/// Keeps a port attached to an interface.
pub(super) struct Keep {
    config: Interface,
    /// The interface, where it was made, which has to be given back.
    made: Option<Made>,
    joint: Option<Joint>,
}

impl Keep {
    pub(super) fn new(config: Interface) -> Keep {
        Keep { config, made: None, joint: None }
    }
}

impl KeepGuest for Keep {
    fn keep<'a>(&'a mut self, seat: &'a mut Seat) -> Work<'a> {
        Box::pin(self.keep_up(seat))
    }

    fn close(&mut self) -> Work<'_> {
        Box::pin(async {
            self.let_go().await;
            if let Some(made) = &self.made {
                made.remove().await;
            }
            self.made = None;
        })
    }
}

impl Keep {
    async fn keep_up(&mut self, seat: &mut Seat) {
        let mut pause = Pause::up_to(QUARANTINE);
        let shared = seat.interfaces().clone();
        let mut listener = shared.listen(&self.config.name);
        let mut was_there = false;
        loop {
            let apart = match self.join(seat, &shared).await {
                Ok(()) => {
                    was_there = true;
                    self.attend(seat, &mut listener, &mut pause).await
                }
                Err(apart) => apart,
            };
            seat.down().await;
            self.let_go().await;
            if !was_there && !matches!(apart, Apart::Anew) {
                shared.forget(seat.network(), &seat.place().port);
            }
            match apart {
                Apart::Anew => pause.wait().await,
                Apart::NotThere(reason) => {
                    seat.waiting(Some(reason));
                    self.wait(seat, &mut listener, was_there).await;
                }
                Apart::Refused(reason) => {
                    seat.failed(reason);
                    tokio::select! {
                        () = pause.wait() => {}
                        () = listener.changed() => {}
                    }
                }
                Apart::Fault(fault) => {
                    seat.failed(format!(
                        "the device that carries its frames failed: {fault}; it is made anew"
                    ));
                    pause.wait().await;
                }
            }
        }
    }

    /// Finds or makes the interface, and takes it for the port.
    async fn join(&mut self, seat: &Seat, shared: &Arc<Shared>) -> Result<(), Apart> {
        let kernel = shared.kernel()?;
        let interface = match &self.config.source {
            Source::Found => make::find(&kernel, &self.config.name).await?,
            source => {
                let (interface, made) = make::make(&kernel, &self.config.name, source, seat.mtu()).await?;
                self.made = Some(made);
                interface
            }
        };
        let joint = Joint::make(kernel, shared, seat, interface, &self.config.source).await?;
        self.joint = Some(joint);
        Ok(())
    }

    /// Lets the port's state follow the interface until that is of no more use.
    async fn attend(&mut self, seat: &mut Seat, listener: &mut Listener, pause: &mut Pause) -> Apart {
        let Some(joint) = &mut self.joint else { return Apart::Anew };
        listener.follow(joint.indices());
        loop {
            if let Err(apart) = joint.follow(seat).await {
                return apart;
            }
            pause.reset();
            let mut seconds = 0;
            loop {
                tokio::select! {
                    fault = seat.fault_or_tick() => match fault {
                        Some(fault) => return Apart::Fault(fault),
                        None => {
                            seconds += 1;
                            if seconds >= CHECK.max(listener.ports() / LOOKS) { break; }
                        }
                    },
                    () = listener.changed() => break,
                }
            }
        }
    }

    /// Waits until there is word of an interface of that name, or it is time to look.
    async fn wait(&self, seat: &mut Seat, listener: &mut Listener, was_there: bool) {
        // One that was made and is gone is made anew; whoever deletes it again and again waits a little.
        if was_there && self.config.source != Source::Found {
            return tokio::time::sleep(ANEW).await;
        }
        let check = async {
            for _ in 0..CHECK {
                seat.fault_or_tick().await;
            }
        };
        tokio::select! {
            () = listener.changed() => {}
            () = check => {}
        }
    }

    /// Takes what is ours off the interface.
    async fn let_go(&mut self) {
        if let Some(joint) = &mut self.joint
            && let Err(error) = joint.let_go().await
        {
            tracing::warn!(interface = %self.config.name, "{}; see `vmlan doctor`", describe(&error));
        }
        self.joint = None;
    }
}
