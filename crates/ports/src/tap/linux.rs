use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::task::JoinHandle;
use vmlan_api::PortState;
use vmlan_drivers::tap::{Device, offloads_of, set_offloads};
use vmlan_frame::Takes;
use vmlan_sys::{netdev, tap};

use super::program::{self, Printed, Program};
use super::{Tap, TapSource};
use crate::Seat;
use crate::addresses::Addresses;
use crate::follow::Follow;
use crate::home::{Home, MADE};
use crate::kind::{KeepGuest, Kind, Work};
use crate::{Look, Pause, recover};

/// Keeps a device open for a port, and runs its programs.
pub(super) struct Keep {
    config: Tap,
    opened: Opened,
}

impl Keep {
    pub(super) fn new(config: Tap) -> Keep {
        Keep { config, opened: Opened::default() }
    }
}

impl KeepGuest for Keep {
    fn keep<'a>(&'a mut self, seat: &'a mut Seat) -> Work<'a> {
        Box::pin(keep(seat, &self.config, &mut self.opened))
    }

    fn close(&mut self) -> Work<'_> {
        Box::pin(self.opened.close())
    }
}

/// A device whose programs may have to run still.
///
/// Programs run in tasks of their own, so that a port that is stopped in the middle does not cut them short.
#[derive(Default)]
struct Opened {
    /// The port, in messages.
    port: String,
    /// The addresses that the device has from us.
    addresses: Option<Addresses>,
    /// The program to run after the device was closed, and the device's name.
    terminate: Option<(PathBuf, String)>,
    running: Option<Running>,
}

/// A program that runs.
enum Running {
    /// The setup program, and the terminate program to run once setup has succeeded after all. The argument of the
    /// terminate program is the name in the third field, or the name that setup prints.
    Setup(JoinHandle<Result<Printed, String>>, Option<PathBuf>, Option<String>),
    Terminate(JoinHandle<Result<Printed, String>>),
}

impl Opened {
    /// Runs what has to be run after the device was closed, to its end. Safe to cancel: the next call goes on with it.
    async fn close(&mut self) {
        self.finish().await;
        if let Some(addresses) = self.addresses.take() {
            addresses.remove(&self.port);
        }
        if let Some((path, device)) = self.terminate.take() {
            let program = Program { role: "terminate", path, argument: Some(device) };
            self.running = Some(Running::Terminate(tokio::spawn(program::run(program))));
            self.finish().await;
        }
    }

    /// Waits for the program that runs, if one does.
    async fn finish(&mut self) {
        let ended = match &mut self.running {
            Some(Running::Setup(task, ..) | Running::Terminate(task)) => task.await,
            None => return,
        };
        let ended = ended.unwrap_or_else(|error| Err(format!("the task of a program failed: {error}")));
        match (self.running.take(), ended) {
            // The port was stopped meanwhile, and what the program has set up has to be undone.
            (Some(Running::Setup(_, Some(path), name)), Ok(printed)) => {
                let name = name.or_else(|| printed.device_name().ok());
                self.terminate = name.map(|name| (path, name));
            }
            (_, Ok(_)) => {}
            (_, Err(reason)) => tracing::warn!(port = %self.port, "{reason}"),
        }
    }

    /// Runs the setup program. Answers the device's name.
    async fn set_up(&mut self, path: &Path, config: &Tap, name: Option<&str>) -> Result<String, String> {
        let name = name.map(str::to_owned);
        let program = Program { role: "setup", path: path.to_owned(), argument: name.clone() };
        let task = tokio::spawn(program::run(program));
        let running = Running::Setup(task, config.terminate.clone(), name.clone());
        let Running::Setup(task, ..) = self.running.insert(running) else { unreachable!("just put there") };
        let printed = task.await;
        self.running = None;
        let printed = printed.map_err(|error| format!("the task of the setup program failed: {error}"))??;
        match name {
            Some(name) => Ok(name),
            None => printed.device_name(),
        }
    }

    /// The device's name is another one now.
    fn rename(&mut self, name: &str) {
        if let Some((_, device)) = &mut self.terminate {
            name.clone_into(device);
        }
        if let Some(addresses) = &mut self.addresses {
            name.clone_into(&mut addresses.device);
        }
    }
}

async fn keep(seat: &mut Seat, config: &Tap, opened: &mut Opened) {
    let mut pause = Pause::up_to(Duration::from_secs(1));
    opened.port = seat.place().to_string();
    loop {
        match open(seat, config, opened).await {
            Ok((device, name, follow)) => {
                pause.reset();
                seat.up(Arc::new(device), Some(name)).await;
                attend(seat, follow, opened).await;
                if let TapSource::Fd(number) = config.source {
                    vmlan_sys::disinherit(number);
                    opened.close().await;
                    seat.is_down(format!(
                        "the device of descriptor {number} is gone and cannot be opened again; start vmlan again"
                    ));
                    return std::future::pending().await;
                }
                opened.close().await;
            }
            Err(reason) => {
                seat.failed(reason);
                opened.close().await;
            }
        }
        pause.wait().await;
    }
}

/// Lets the port's state follow the device, until it is of no more use and was taken down.
async fn attend(seat: &mut Seat, mut follow: Follow, opened: &mut Opened) {
    loop {
        if let Some(fault) = seat.fault_or_tick().await {
            let fault = follow.explain(fault);
            drop(follow);
            return recover(seat, fault).await;
        }
        match follow.look() {
            Look::Same => {}
            Look::Changed { state, reason, name } => {
                opened.rename(&name);
                // The kernel takes IPv6 addresses away from a device that is taken down.
                if state == PortState::Up
                    && let Some(addresses) = &opened.addresses
                    && let Err(reason) = addresses.set()
                {
                    tracing::warn!(port = %opened.port, "{reason}");
                }
                seat.device_is(state, reason, name);
            }
            Look::Gone(reason) => {
                drop(follow);
                seat.down().await;
                return seat.waiting(Some(reason));
            }
        }
    }
}

/// Opens the device's queues, after its setup program. Answers the device's name too.
async fn open(seat: &Seat, config: &Tap, opened: &mut Opened) -> Result<(Device, String, Follow), String> {
    let (name, owner, persistent, netns, addresses, up) = match &config.source {
        TapSource::Named { name, owner, persistent, netns, addresses, up } => {
            (name.as_deref(), *owner, *persistent, netns.as_deref(), addresses, *up)
        }
        TapSource::Fd(number) => return adopt(seat, *number, config, opened),
    };
    if let Some(hindrance) = config.hindrance(seat.mtu()) {
        return Err(hindrance.message);
    }
    let name = match (&config.setup, name) {
        (Some(path), name) => opened.set_up(path, config, name).await?,
        (None, Some(name)) => name.to_owned(),
        (None, None) => return Err("a TAP needs a name or a setup program that prints one".into()),
    };
    opened.terminate = config.terminate.clone().map(|path| (path, name.clone()));
    let wanted = Wanted {
        name: &name,
        owner,
        persistent,
        workers: seat.workers(),
        mtu: seat.mtu(),
        offloads: config.offloads,
    };
    let home = Home::find(netns)?;
    let queues = wanted.open(&home, netns).await?;
    opened.rename(&queues.name);
    let residence = home.residence();
    if !addresses.is_empty() {
        let (device, addresses) = (queues.name.clone(), addresses.clone());
        // Before the device is up, so that it never is without.
        opened.addresses.insert(Addresses { residence: residence.clone(), device, addresses }).set()?;
    }
    if up {
        let explain = |failure: Failure| failure.explain(&wanted, netns);
        let brought = || netdev::set_up(&queues.name).map_err(Failure::at("bring up"));
        home.run(brought)?.map_err(explain)?;
    }
    let follow = Follow::new(&queues.fds[0], residence, wanted.mtu, &queues.name)?;
    Ok((Device::new(queues.fds, queues.takes), queues.name, follow))
}

/// The wanted properties of a device.
struct Wanted<'a> {
    name: &'a str,
    owner: Option<u32>,
    persistent: bool,
    workers: usize,
    mtu: usize,
    offloads: bool,
}

/// The open queues of a device.
struct Queues {
    fds: Vec<OwnedFd>,
    name: String,
    takes: Takes,
}

/// A failed call, with its error.
struct Failure {
    call: &'static str,
    error: io::Error,
}

impl Failure {
    fn at(call: &'static str) -> impl Fn(io::Error) -> Failure {
        move |error| Failure { call, error }
    }

    fn is_denied(&self) -> bool {
        matches!(Errno::from_io_error(&self.error), Some(Errno::PERM | Errno::ACCESS))
    }
}

impl Wanted<'_> {
    /// Opens the device where it is, or makes it, and sets it up.
    async fn open(&self, home: &Home, netns: Option<&Path>) -> Result<Queues, String> {
        let explain = |failure: Failure| failure.explain(self, netns);
        let queues = match home {
            Home::There { .. } if !home.has(self.name)? => self.move_in(home, netns).await?,
            _ => home.run(|| self.open_queues(self.name))?.map_err(explain)?,
        };
        if self.persistent {
            tap::set_persistent(&queues.fds[0], true)
                .map_err(Failure::at("make persistent"))
                .map_err(explain)?;
        }
        home.run(|| self.set_mtu(&queues.name))?.map_err(explain)?;
        Ok(queues)
    }

    /// Makes the device in our own namespace and moves it.
    async fn move_in(&self, home: &Home, netns: Option<&Path>) -> Result<Queues, String> {
        let explain = |failure: Failure| failure.explain(self, netns);
        match self.open_queues(MADE) {
            Ok(mut queues) => {
                home.move_in(&queues.name, self.name).await?;
                let name = tap::name(&queues.fds[0]).map_err(Failure::at("find"));
                queues.name = name.map_err(explain)?;
                Ok(queues)
            }
            // Without the right to devices here there may be one to those there.
            Err(failure) if failure.is_denied() => home.run(|| self.open_queues(self.name))?.map_err(explain),
            Err(failure) => Err(explain(failure)),
        }
    }

    /// Opens every queue of the device `name` in the calling thread's network namespace.
    fn open_queues(&self, name: &str) -> Result<Queues, Failure> {
        let was_there = netdev::exists(name);
        let (first, name, multi_queue, shared) = self.open_first(name).map_err(Failure::at("open"))?;
        // A device without an owner lets everybody in who may open /dev/net/tun. Of one that others made it is
        // theirs to say.
        let ours = (!was_there).then(tap::ours);
        if let Some(owner) = self.owner.or(ours) {
            tap::set_owner(&first, owner).map_err(Failure::at("set the owner of"))?;
        }
        // They belong to the device, whichever of its queues they are set through, and whoever holds the others.
        let takes = if shared { offloads_of(&name) } else { set_offloads(&first, self.offloads) };
        let takes = takes.map_err(Failure::at("set the offloads of"))?;
        let mut fds = vec![first];
        while multi_queue && fds.len() < self.workers {
            fds.push(tap::open_another(&name).map_err(Failure::at("open another queue of"))?);
        }
        Ok(Queues { fds, name, takes })
    }

    /// With several workers, several queues, unless the device was made with one. Answers the device's name, whether it
    /// has several queues, and whether another program holds some.
    fn open_first(&self, name: &str) -> io::Result<(OwnedFd, String, bool, bool)> {
        let open = |multi_queue| {
            if multi_queue && tap::is_shared(name)? {
                return Ok((tap::open_another(name)?, name.to_owned(), true, true));
            }
            let (fd, name) = tap::open(name, tap::Options { multi_queue, ..Default::default() })?;
            Ok((fd, name, multi_queue, false))
        };
        match open(self.workers > 1) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => open(self.workers <= 1),
            result => result,
        }
    }

    /// Gives the device its MTU, in the calling thread's network namespace.
    fn set_mtu(&self, name: &str) -> Result<(), Failure> {
        // An MTU that is right already needs no right to change it.
        if netdev::mtu(name).ok() == Some(self.mtu as u32) {
            return Ok(());
        }
        netdev::set_mtu(name, self.mtu as u32).map_err(Failure::at("set the MTU of"))
    }
}

impl Failure {
    fn explain(self, wanted: &Wanted<'_>, netns: Option<&Path>) -> String {
        let Failure { call, error } = self;
        let cure = match Errno::from_io_error(&error) {
            Some(Errno::BUSY) => {
                "another program has it open (a machine monitor that was given the same name?); \
                 stop that program or choose another name"
            }
            Some(Errno::PERM | Errno::ACCESS) => {
                "run vmlan with CAP_NET_ADMIN, or have the device made for you: \
                 `ip tuntap add NAME mode tap user USER vnet_hdr`, with its MTU set and brought up"
            }
            Some(Errno::NOENT | Errno::NODEV | Errno::NXIO) => "load the tun module: `modprobe tun`",
            Some(Errno::INVAL) if call == "open" => {
                "an interface of that name exists and is no TAP; choose another name"
            }
            Some(Errno::INVAL) if call == "set the MTU of" => "choose another `mtu` of the network",
            None => "stop that program or choose another name",
            _ => "see `vmlan doctor`",
        };
        let place = netns.map(|path| format!(" in {}", path.display())).unwrap_or_default();
        format!("cannot {call} the TAP {}{place}: {error}; {cure}", wanted.name)
    }
}

fn adopt(
    seat: &Seat,
    number: RawFd,
    config: &Tap,
    opened: &mut Opened,
) -> Result<(Device, String, Follow), String> {
    let explain = |error: io::Error| {
        format!(
            "descriptor {number} is no TAP that this process was started with: {error}; \
             open it with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR"
        )
    };
    let fd = vmlan_sys::inherit(number).map_err(explain)?;
    let name = tap::adopt(&fd).map_err(explain)?;
    let takes = set_offloads(&fd, config.offloads).map_err(explain)?;
    let follow = Follow::new(&fd, Home::Here.residence(), seat.mtu(), &name)?;
    opened.terminate = config.terminate.clone().map(|path| (path, name.clone()));
    Ok((Device::new(vec![fd], takes), name, follow))
}
