//! Trunks on macOS: a port of a bridge of the host's by a feth pair, or an interface itself.
//!
//! Theory of operation. A trunk's task looks for what it is to be on ([`Target`]), opens a packet filter's device on it
//! or on our end of the pair, and then follows what the kernel says of interfaces, what the network says of its guests,
//! and whether the device fails. Words are only a reason to look; a look once a second finds what no word told, such as
//! a bridge that dropped its member. What a trunk is on may go and come back any number of times; other processes are
//! kept from it for as long as the task lives.
//!
//! On an interface the device shows what the wire brings, and sends to the wire: the host's own stack is not reached,
//! which is what a bridge is for. The interface is up and promiscuous while a guest is active.

use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;
use tokio::sync::oneshot;
use vmlan_api::{TrunkMode, TrunkState};
use vmlan_drivers::packet_filter::{self, Device, Stations};
use vmlan_frame::Sides;
use vmlan_lan::{Diversion, HostAddress, TrunkPolicy};
use vmlan_sys::darwin::InterfaceName;

use crate::lock::Lock;
use crate::macos::{Events, Host, Look, System, Target, Trunk, addresses, hold, leftovers};
use crate::panics::{Relapses, caught};
use crate::task::{Pause, QUARANTINE, recover, relapse};
use crate::{Seat, Trunk as Config, TrunkInterface, TrunkRow, TrunkWish, vlan_role};

/// Where the files are by which interfaces are held; the system empties it when it starts.
const HELD: &str = "/var/run";

/// Keeps the trunk joined until `stop`, and then removes everything that was made for it.
pub async fn run(seat: Seat, config: Config, wish: Arc<TrunkWish>, stop: oneshot::Receiver<()>) {
    let mut task = Task { seat, config, wish, trunk: None, attached: None, was_there: false, hold: None };
    tokio::select! {
        () = task.persist() => {}
        // An error: whoever would stop it is gone, which stops it as well.
        _ = stop => {}
    }
    task.report(TrunkState::Disconnecting, None);
    task.seat.leave().await;
    // The pair goes now, after the device that is open on it.
    task.trunk = None;
}

struct Task {
    seat: Seat,
    config: Config,
    wish: Arc<TrunkWish>,
    trunk: Option<Trunk<System>>,
    attached: Option<Attached>,
    /// True if the interface was found before; the trunk then waits for it.
    was_there: bool,
    /// Keeps other processes from what the trunk is on, until everything else is gone.
    hold: Option<Lock>,
}

/// A device that the data plane has.
struct Attached {
    device: Arc<Device>,
    /// A description of what was made for the device.
    installed: String,
    /// The interface or bridge, as it was at the last look.
    host: Host,
    /// True if a guest was active when the device was opened.
    is_active: bool,
}

impl Task {
    /// Keeps the trunk, and begins anew after a panic.
    async fn persist(&mut self) {
        let mut relapses = Relapses::default();
        while let Err(panic) = caught(self.keep()).await {
            self.report(TrunkState::Initializing, Some(panic.clone()));
            relapse(&mut self.seat, panic, &mut relapses).await;
            // The device first, which is open on the pair; then others may have the interface.
            self.attached = None;
            self.trunk = None;
            self.hold = None;
            self.seat.network().set_host_addresses([]);
        }
    }

    async fn keep(&mut self) {
        if let Err(error) = leftovers::find().and_then(|found| leftovers::clean(&found)) {
            tracing::warn!("cannot remove what an earlier process left: {error}; see `vmlan doctor`");
        }
        let mut pause = Pause::up_to(QUARANTINE);
        loop {
            match self.prepare() {
                Ok((events, target, hold)) => {
                    self.hold = Some(hold);
                    self.trunk = Some(Trunk::new(System, target));
                    return self.follow(&events, target, &mut pause).await;
                }
                Err(reason) => self.refuse(reason),
            }
            pause.wait().await;
        }
    }

    /// Opens what has to be open before the first look, so that nothing that happens after it is missed.
    fn prepare(&self) -> Result<(Events, Target, Lock), String> {
        let name = InterfaceName::new(self.config.interface.name()).map_err(|error| error.to_string())?;
        let target = match (&self.config.interface, self.config.mode) {
            (TrunkInterface::Bridge(_), _) => Target::Bridge(name),
            (TrunkInterface::Interface(_), TrunkMode::Auto | TrunkMode::Packet) => Target::Interface(name),
            (TrunkInterface::Interface(_), mode) => {
                return Err(format!(
                    "macOS has no mode `{}`; leave `mode` away, or name a bridge with `bridge`",
                    mode.as_str()
                ));
            }
        };
        if matches!(target, Target::Interface(_)) && self.config.host == Some(true) {
            return Err(
                "on macOS a trunk on an interface does not reach the host's own stack; write `host = false`, or name \
                 a bridge that the interface is a member of with `bridge`"
                    .into(),
            );
        }
        let events = Events::open().map_err(|error| format!("cannot listen to the kernel: {error}"))?;
        let hold = hold(Path::new(HELD), name).map_err(|hindrance| hindrance.explain(name.as_str()))?;
        Ok((events, target, hold))
    }

    /// Attaches, and attaches again, for ever.
    async fn follow(&mut self, events: &Events, target: Target, pause: &mut Pause) {
        loop {
            match self.look() {
                Look::There { interface, .. } => {
                    self.was_there = true;
                    match self.attach(interface, target) {
                        Ok(attached) => {
                            pause.reset();
                            let device = attached.device.clone();
                            let peer = attached.installed.clone();
                            self.attached = Some(attached);
                            self.seat.up(device, Some(peer)).await;
                            self.report(TrunkState::Connected, None);
                            self.attend(events, target).await;
                            self.attached = None;
                            self.seat.network().set_host_addresses([]);
                        }
                        Err(reason) => self.refuse(reason),
                    }
                }
                Look::Missing(reason) => self.say_absent(reason),
                Look::Failed(reason) => self.refuse(reason),
            }
            tokio::select! {
                () = concern(self.trunk.as_ref(), events) => {}
                () = pause.wait() => {}
            }
        }
    }

    fn look(&mut self) -> Look {
        let wanted = self.seat.network().is_trunk_wanted();
        self.trunk.as_mut().map_or(Look::Failed(String::new()), |trunk| trunk.look(wanted))
    }

    /// Opens the device on `interface`, and tells the network what the trunk is.
    fn attach(&self, interface: InterfaceName, target: Target) -> Result<Attached, String> {
        let is_active = self.seat.network().is_trunk_wanted();
        let host = System.host(target.name())?;
        self.tell_network(&host, target)?;
        let (sides, is_promiscuous) = match target {
            // Which of the two a frame is of is not told: the bridge joins them.
            Target::Bridge(_) => (Sides::NONE, false),
            Target::Interface(_) => (Sides::WIRE, is_active),
        };
        let stations = self.stations(&host, target);
        let opened = packet_filter::open(interface, stations, sides, is_promiscuous).map_err(|error| {
            let source = &error.source;
            let cure = match Errno::from_io_error(source) {
                Some(Errno::BUSY) => "all packet filters are in use; stop a program that captures",
                Some(Errno::PERM | Errno::ACCESS) => "run vmlan as root",
                _ => "it is tried again",
            };
            format!("{error} for {interface}: {source}; {cure}")
        })?;
        let way = format!("packet filter on {interface} of {} octets", opened.buffer);
        let installed = match target {
            Target::Bridge(bridge) => format!("feth pair, a member of {bridge}; {way}"),
            Target::Interface(_) => way,
        };
        Ok(Attached { device: Arc::new(opened.device), installed, host, is_active })
    }

    fn tell_network(&self, host: &Host, target: Target) -> Result<(), String> {
        let mut enabled = if self.config.wire { Sides::WIRE } else { Sides::NONE };
        if self.config.host.unwrap_or(matches!(target, Target::Bridge(_))) {
            enabled = enabled.with(Sides::HOST);
        }
        let reaches = match target {
            Target::Bridge(_) => Sides::BOTH,
            Target::Interface(_) => Sides::WIRE,
        };
        let policy = TrunkPolicy {
            macs: host.mac.into_iter().collect(),
            enabled,
            promiscuous: Sides::NONE,
            reaches,
            diversion: Diversion::Nothing,
            vlan: vlan_role(&self.config.vlan),
            shared_mac: self.shares_mac(),
            ..TrunkPolicy::default()
        };
        self.seat
            .network()
            .update_trunk(self.seat.id(), policy)
            .map_err(|error| format!("{} does not fit the network: {error}", target.name()))?;
        let addresses = addresses(target.name().as_str()).unwrap_or_default();
        self.seat.network().set_host_addresses(addresses.into_iter().map(HostAddress::from));
        Ok(())
    }

    /// Wi-Fi is not told from other interfaces here: it has to be said.
    fn shares_mac(&self) -> bool {
        self.config.shared_mac == vmlan_api::SharedMac::On
    }

    /// Whose frames the device is to show.
    fn stations(&self, host: &Host, target: Target) -> Stations {
        let (unknown, everything) = self.seat.wants();
        // A bridge brings nothing but what nobody is known to have; an interface all that the host receives.
        if everything || unknown && matches!(target, Target::Bridge(_)) {
            return Stations::everybody();
        }
        let stations = self.seat.network().stations();
        // What is for guests that share the host's address comes to that.
        let shared = host.mac.filter(|_| self.shares_mac());
        Stations::new(stations.into_iter().map(|station| station.mac).chain(shared))
    }

    /// Keeps the trunk as it is until it is of no more use, and takes it down.
    async fn attend(&mut self, events: &Events, target: Target) {
        loop {
            tokio::select! {
                fault = self.seat.fault_or_tick() => if let Some(fault) = fault {
                    self.report(TrunkState::Initializing, Some(fault.to_string()));
                    return recover(&mut self.seat, fault).await;
                },
                () = concern(self.trunk.as_ref(), events) => {}
                () = self.wish.changed() => {}
            }
            match self.look() {
                Look::There { rejoined, .. } => {
                    if rejoined {
                        tracing::info!("{}: the bridge had dropped the trunk; joined again", target.name());
                    }
                }
                Look::Missing(reason) => {
                    self.seat.down().await;
                    return self.say_absent(reason);
                }
                Look::Failed(reason) => {
                    self.seat.down().await;
                    return self.refuse(reason);
                }
            }
            if let Err(reason) = self.keep_up(target) {
                self.seat.down().await;
                return self.refuse(reason);
            }
            let wanted = self.seat.network().is_trunk_wanted();
            let was_wanted = self.attached.as_ref().map(|attached| attached.is_active);
            if matches!(target, Target::Interface(_)) && was_wanted != Some(wanted) {
                // Another device, for promiscuity ends with the one that asked for it.
                return self.seat.down().await;
            }
        }
    }

    /// Follows what changed about the host and the guests.
    fn keep_up(&mut self, target: Target) -> Result<(), String> {
        let host = System.host(target.name())?;
        self.tell_network(&host, target)?;
        let stations = self.stations(&host, target);
        if let Some(attached) = &mut self.attached {
            attached.host = host;
            let set = attached.device.set_stations(stations);
            set.map_err(|error| format!("cannot set the receive filter: {error}; it is tried again"))?;
        }
        self.report(TrunkState::Connected, None);
        Ok(())
    }

    fn refuse(&mut self, reason: String) {
        self.report(TrunkState::Initializing, Some(reason.clone()));
        self.seat.failed(reason);
    }

    fn say_absent(&mut self, reason: String) {
        self.report(TrunkState::Gone, Some(reason.clone()));
        if self.was_there || self.config.wait {
            self.seat.waiting(Some(reason));
        } else {
            self.seat.failed(format!("{reason}; write `wait = true` to start without it"));
        }
    }

    fn report(&self, state: TrunkState, reason: Option<String>) {
        let network = self.seat.network();
        let is_bridge = matches!(self.config.interface, TrunkInterface::Bridge(_));
        let host = self.attached.as_ref().map(|attached| &attached.host);
        let sides: &[&str] = match (is_bridge && self.config.host != Some(false), self.config.wire) {
            (true, true) => &["host", "wire"],
            (true, false) => &["host"],
            (false, true) => &["wire"],
            (false, false) => &[],
        };
        let report = vmlan_api::Trunk {
            network: self.seat.place().network.clone(),
            interface: self.config.interface.name().to_owned(),
            mode: if is_bridge { TrunkMode::Bridge } else { TrunkMode::Packet },
            state,
            reason,
            active: network.is_trunk_wanted(),
            sides: sides.iter().map(|side| (*side).to_owned()).collect(),
            host_mac: host.and_then(|host| host.mac).map(|mac| mac.to_string()),
            mtu: host.map(|host| host.mtu.into()),
            carrier: host.is_some_and(|host| host.is_running),
            host_addresses: network.host_addresses().iter().map(ToString::to_string).collect(),
            shared_mac: self.shares_mac(),
            stations: network.stations().len() as u64,
            installed: self.attached.iter().map(|attached| attached.installed.clone()).collect(),
            host: vmlan_api::TrunkFlow::default(),
            wire: vmlan_api::TrunkFlow::default(),
        };
        self.seat.report(TrunkRow { report, flows: None });
    }
}

/// Waits for an event of what the trunk is on.
async fn concern(trunk: Option<&Trunk<System>>, events: &Events) {
    loop {
        let event = events.next().await;
        if trunk.is_some_and(|trunk| trunk.concerns(event.interface)) {
            return;
        }
    }
}
