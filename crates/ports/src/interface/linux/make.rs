//! Interfaces that are found or made, and what killed daemons left of the latter.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage};
use rustix::io::Errno;
use vmlan_sys::{netdev, tap};

use super::super::{Peer, Source};
use crate::addresses::Addresses;
use crate::apart::Apart;
use crate::device::{not_made, silence};
use crate::home::Home;
use crate::interface_lock::is_held;
use crate::kernel::{Interface, Kernel, Kind, MARK};
use crate::task::describe;
use crate::trunk::leftovers::Leftover;

/// The alias of an interface that was made for a guest.
const ALIAS: &str = "vmlan: made for a guest";

/// An interface that was made, or taken over from an earlier daemon.
pub(super) struct Made {
    kernel: Arc<Kernel>,
    name: String,
    index: u32,
    is_tap: bool,
}

impl Made {
    /// Deletes it, but for a TAP that a program has open.
    pub(super) async fn remove(&self) {
        let removed = async {
            let Some(now) = self.kernel.interface_at(self.index).await? else { return Ok(()) };
            if self.is_tap && is_open(&now).await {
                tracing::info!(
                    "the TAP {} stays, for a program has it open; `vmlan doctor --clean` removes it afterwards",
                    now.name
                );
                return Ok(());
            }
            self.kernel.delete(self.index, &now.name).await
        };
        if let Err(error) = removed.await {
            tracing::warn!("{}: {}; see `vmlan doctor`", self.name, describe(&error));
        }
    }
}

/// True if a program has the TAP open. Of one that is down its carrier does not tell.
async fn is_open(tap: &Interface) -> bool {
    tap.running || !tap.up && opener(tap).await.is_some()
}

/// The interface of this name.
pub(super) async fn find(kernel: &Kernel, name: &str) -> Result<Interface, Apart> {
    match kernel.interface(name).await? {
        Some(interface) => Ok(interface),
        None => Err(Apart::NotThere(format!("waiting for an interface {name}, which does not exist yet"))),
    }
}

/// Makes the interface, or takes over the one that an earlier daemon made.
pub(super) async fn make(
    kernel: &Arc<Kernel>,
    name: &str,
    source: &Source,
    mtu: usize,
) -> Result<(Interface, Made), Apart> {
    let is_tap = matches!(source, Source::Tap { .. });
    let mut there = kernel.interface(name).await?;
    if let Some(there_now) = &there {
        let wanted = if is_tap { Kind::Tap } else { Kind::Veth };
        if there_now.alias.as_deref() != Some(ALIAS) || there_now.kind != wanted {
            return Err(Apart::Refused(format!(
                "an interface {name} exists already, which vmlan did not make; leave out `create` to use it as it is, \
                 choose another name, or delete it: `ip link delete {name}`"
            )));
        }
        if is_held(there_now) {
            return Err(Apart::Refused(format!(
                "another vmlan has the interface {name}; choose another name"
            )));
        }
        // Its owner, group and queues may be others than are wanted by now.
        if is_tap && !is_open(there_now).await {
            kernel.delete(there_now.index, name).await?;
            there = None;
        }
    }
    if there.is_none() {
        match source {
            Source::Tap { owner, group, multi_queue } => make_tap(name, *owner, *group, *multi_queue)?,
            Source::Veth(peer) => make_veth(kernel, name, peer, mtu).await?,
            Source::Found => return Err(Apart::Anew),
        }
    }
    let made = kernel.interface(name).await?.ok_or(Apart::Anew)?;
    let index = made.index;
    // The host's stack has no part in it.
    silence(name);
    let what = format!("set {name} up");
    let mtu = u32::try_from(mtu).unwrap_or(u32::MAX);
    let mtu = match source {
        // Neither end takes more than the other; so that what is too long is counted, and not lost between them.
        Source::Veth(peer) => peer.mtu.map_or(mtu, |of_peer| of_peer.min(mtu)),
        _ => mtu,
    };
    let set = kernel.set(index, &what, |link| link.alias(ALIAS).mtu(mtu).arp(false).up()).await;
    if let Err(error) = set {
        if there.is_none() {
            kernel.delete(index, name).await?;
        }
        return Err(error.into());
    }
    if there.is_none()
        && let Source::Veth(peer) = source
        && let Err(reason) = set_up_peer(peer)
    {
        kernel.delete(index, name).await?;
        return Err(Apart::Refused(reason));
    }
    let interface = kernel.interface_at(index).await?.ok_or(Apart::Anew)?;
    Ok((interface, Made { kernel: kernel.clone(), name: name.to_owned(), index, is_tap }))
}

fn make_tap(name: &str, owner: Option<u32>, group: Option<u32>, multi_queue: bool) -> Result<(), Apart> {
    let made = || -> std::io::Result<()> {
        let (device, _) = tap::open(name, tap::Options { multi_queue, exclusive: true })?;
        // A TAP with neither takes everybody who may open /dev/net/tun.
        let ours = group.is_none().then(tap::ours);
        if let Some(owner) = owner.or(ours) {
            tap::set_owner(&device, owner)?;
        }
        if let Some(group) = group {
            tap::set_group(&device, group)?;
        }
        tap::set_persistent(&device, true)
    };
    made().map_err(|error| not_made(name, &error))
}

/// Makes both ends at once, the guest's in its namespace.
async fn make_veth(kernel: &Kernel, name: &str, peer: &Peer, mtu: usize) -> Result<(), Apart> {
    let home = Home::find(peer.netns.as_deref()).map_err(Apart::Refused)?;
    let mut other = LinkMessage::default();
    other.attributes.push(LinkAttribute::IfName(peer.name.clone()));
    let mtu = peer.mtu.unwrap_or(u32::try_from(mtu).unwrap_or(u32::MAX));
    other.attributes.push(LinkAttribute::Mtu(mtu));
    if let Some(mac) = peer.mac {
        other.attributes.push(LinkAttribute::Address(mac.0.to_vec()));
    }
    if let Home::There { namespace, .. } = &home {
        other.attributes.push(LinkAttribute::NetNsFd(namespace.as_raw_fd()));
    }
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(other))),
    ]));
    let place = peer.netns.as_deref().map(|path| format!(" in {}", path.display())).unwrap_or_default();
    let what = format!("make the veth {name} with its other end {}{place}", peer.name);
    kernel.add(&what, message).await.map_err(|error| match error.is(Errno::EXIST) {
        true => Apart::Refused(format!(
            "{}: an interface {} exists there already; delete it, or choose another `peer.name`",
            describe(&error),
            peer.name
        )),
        false => error.into(),
    })
}

/// Gives the guest's end its addresses and brings it up.
fn set_up_peer(peer: &Peer) -> Result<(), String> {
    let home = Home::find(peer.netns.as_deref())?;
    home.run(|| netdev::set_up(&peer.name))?
        .map_err(|error| format!("cannot bring up {}: {error}; run vmlan with CAP_NET_ADMIN", peer.name))?;
    let residence = home.residence();
    Addresses { residence, device: peer.name.clone(), addresses: peer.addresses.clone() }.set()
}

/// The program that has a TAP open, as far as this process may see: its name and number.
pub(super) async fn opener(interface: &Interface) -> Option<String> {
    if interface.kind != Kind::Tap {
        return None;
    }
    let name = interface.name.clone();
    tokio::task::spawn_blocking(move || find_opener(&name)).await.ok().flatten()
}

/// Most processes that are looked at.
const MOST_PROCESSES: usize = 65_536;

fn find_opener(name: &str) -> Option<String> {
    let own = std::process::id();
    let processes = std::fs::read_dir("/proc").ok()?.flatten().take(MOST_PROCESSES);
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|number| *number != own).find_map(|number| {
        let process = PathBuf::from(format!("/proc/{number}"));
        let has_it = std::fs::read_dir(process.join("fd")).ok()?.flatten().any(|descriptor| {
            let is_tun =
                std::fs::read_link(descriptor.path()).is_ok_and(|to| to == Path::new("/dev/net/tun"));
            is_tun && is_queue_of(&process.join("fdinfo").join(descriptor.file_name()), name)
        });
        let command = std::fs::read_to_string(process.join("comm")).unwrap_or_default();
        has_it.then(|| format!("{}, process {number}", command.trim_end()))
    })
}

/// True if the descriptor belongs to the TAP of this name.
fn is_queue_of(fdinfo: &Path, name: &str) -> bool {
    let Ok(text) = std::fs::read_to_string(fdinfo) else { return false };
    text.lines().any(|line| line.strip_prefix("iff:").is_some_and(|found| found.trim() == name))
}

/// Interfaces of killed daemons, in the calling thread's network namespace.
pub(crate) mod leftovers {
    use super::*;

    /// Finds those that no running daemon has, and that no program has open.
    pub(crate) fn find(interfaces: &[Interface]) -> Vec<Leftover> {
        let is_left =
            |interface: &&Interface| interface.alias.as_deref() == Some(ALIAS) && !is_held(interface);
        let left = interfaces.iter().filter(is_left);
        let is_open = |interface: &Interface| {
            interface.running || (!interface.up && find_opener(&interface.name).is_some())
        };
        left.filter(|interface| interface.kind == Kind::Veth || !is_open(interface))
            .map(|interface| {
                let kind = if interface.kind == Kind::Tap { "TAP" } else { "veth" };
                Leftover::device(
                    interface,
                    format!("the {kind} {} that was made for a guest", interface.name),
                )
            })
            .collect()
    }
}

impl Interface {
    /// True if it carries frames of a trunk or a port of vmlan's, and is no guest's.
    pub(super) fn is_carrier(&self) -> bool {
        self.alias.as_deref().is_some_and(|alias| alias.starts_with(MARK) && alias != ALIAS)
    }
}
