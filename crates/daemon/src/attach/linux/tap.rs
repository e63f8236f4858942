//! TAP devices: made or taken over by name, or inherited.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use drivers::tap::{Device, set_offloads};
use rustix::io::Errno;
use sys::{netdev, netns, tap};

use super::program::{self, Program};
use super::{Pause, recover};
use crate::config::{Tap, TapSource};
use crate::supervisor::Station;

/// A device that may need its terminate program.
#[derive(Default)]
pub(super) struct Opened {
    terminate: Option<(PathBuf, String)>,
}

impl Opened {
    /// Runs what has to be run after the device was closed.
    pub(super) async fn close(&mut self) {
        let Some((path, device)) = self.terminate.take() else { return };
        if let Err(reason) =
            program::run(Program { role: "terminate", path: &path, argument: Some(&device) }).await
        {
            tracing::warn!("{reason}");
        }
    }
}

pub(super) async fn keep(station: &mut Station, config: &Tap, opened: &mut Opened) {
    let mut pause = Pause::up_to(Duration::from_secs(1));
    loop {
        match open(station, config, opened).await {
            Ok((device, name)) => {
                pause.reset();
                station.up(Arc::new(device), Some(name)).await;
                let fault = station.fault().await;
                recover(station, fault).await;
                opened.close().await;
                if let TapSource::Fd(number) = config.source {
                    station.is_down(format!(
                        "the device of descriptor {number} is gone and cannot be opened again; start vmlan again"
                    ));
                    return std::future::pending().await;
                }
            }
            Err(reason) => {
                station.failed(reason);
                opened.close().await;
            }
        }
        pause.wait().await;
    }
}

/// Opens the device's queues, after its setup program, and answers the device's name.
async fn open(station: &Station, config: &Tap, opened: &mut Opened) -> Result<(Device, String), String> {
    let (name, owner, persistent, netns) = match &config.source {
        TapSource::Named { name, owner, persistent, netns } => (name, *owner, *persistent, netns),
        TapSource::Fd(number) => return adopt(*number, config.offloads),
    };
    let mut name = name.clone();
    if let Some(path) = &config.setup {
        let printed = program::run(Program { role: "setup", path, argument: name.as_deref() }).await?;
        if name.is_none() {
            name = Some(printed.device_name()?);
        }
    }
    let name = name.ok_or("a TAP needs a name or a setup program that prints one")?;
    if let Some(path) = &config.terminate {
        opened.terminate = Some((path.clone(), name.clone()));
    }
    let wanted = Wanted {
        name: &name,
        owner,
        persistent,
        workers: station.workers(),
        mtu: station.mtu(),
        offloads: config.offloads,
    };
    let result = match netns {
        // A thread of its own enters the namespace; this one only waits for it.
        Some(path) => netns::within(path, || Ok(wanted.open())).map_err(|error| {
            format!("cannot enter the network namespace {}: {error}; see `ip netns list`", path.display())
        })?,
        None => wanted.open(),
    };
    result.map_err(|failure| failure.explain(&name, netns.as_deref()))
}

/// What a device shall be.
struct Wanted<'a> {
    name: &'a str,
    owner: Option<u32>,
    persistent: bool,
    workers: usize,
    mtu: usize,
    offloads: bool,
}

/// What failed.
struct Failure {
    call: &'static str,
    error: io::Error,
}

impl Wanted<'_> {
    /// In the calling thread's network namespace.
    fn open(&self) -> Result<(Device, String), Failure> {
        let at = |call| move |error| Failure { call, error };
        let (first, name) = self.open_first().map_err(at("open"))?;
        if let Some(owner) = self.owner {
            tap::set_owner(&first.fd, owner).map_err(at("set the owner of"))?;
        }
        if self.persistent {
            tap::set_persistent(&first.fd, true).map_err(at("make persistent"))?;
        }
        // An MTU that is right already, or an interface that is up, needs no right to change it.
        if netdev::mtu(&name).ok() != Some(self.mtu as u32) {
            netdev::set_mtu(&name, self.mtu as u32).map_err(at("set the MTU of"))?;
        }
        netdev::set_up(&name).map_err(at("bring up"))?;
        let mut queues = vec![first.fd];
        while first.multi_queue && queues.len() < self.workers {
            let options = tap::Options { multi_queue: true, ..Default::default() };
            queues.push(tap::open(&name, options).map_err(at("open another queue of"))?.0);
        }
        // They belong to the device, whichever of its queues they are set through.
        let takes = set_offloads(&queues[0], self.offloads).map_err(at("set the offloads of"))?;
        Ok((Device::new(queues, takes), name))
    }

    /// With several workers, several queues, unless the device was made with one.
    fn open_first(&self) -> io::Result<(First, String)> {
        let open = |multi_queue| {
            tap::open(self.name, tap::Options { multi_queue, ..Default::default() })
                .map(|(fd, name)| (First { fd, multi_queue }, name))
        };
        match open(self.workers > 1) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => open(self.workers <= 1),
            result => result,
        }
    }
}

struct First {
    fd: OwnedFd,
    multi_queue: bool,
}

impl Failure {
    fn explain(self, name: &str, netns: Option<&Path>) -> String {
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
            Some(Errno::INVAL) => "an interface of that name exists and is no TAP; choose another name",
            _ => "see `vmlan doctor`",
        };
        let place = netns.map(|path| format!(" in {}", path.display())).unwrap_or_default();
        format!("cannot {call} the TAP {name}{place}: {error}; {cure}")
    }
}

fn adopt(number: i32, offloads: bool) -> Result<(Device, String), String> {
    let explain = |error: io::Error| {
        format!(
            "descriptor {number} is no TAP that this process was started with: {error}; \
             open it with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR"
        )
    };
    let fd = sys::inherit(number).map_err(explain)?;
    let name = tap::adopt(&fd).map_err(explain)?;
    let takes = set_offloads(&fd, offloads).map_err(explain)?;
    Ok((Device::new(vec![fd], takes), name))
}
