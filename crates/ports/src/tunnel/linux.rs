//! Devices of tunnels: TUN.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use vmlan_drivers::tunnel::message::Prefixed;
use vmlan_drivers::tunnel::record::Form;
use vmlan_sys::{netdev, tap};

use super::device::Wanted;
pub(super) use crate::follow::Follow;
use crate::home::{Home, MADE};
use crate::reserved_name;

/// A failed call, with its error.
struct Failure {
    call: String,
    error: io::Error,
}

/// Makes or takes over the TUN, gives it MTU and addresses, and brings it up. Answers its name too, and what follows
/// it.
pub(super) async fn open(wanted: &Wanted<'_>) -> Result<(OwnedFd, Form, String, Follow), String> {
    if let Some(hindrance) = reserved_name(wanted.name) {
        return Err(hindrance.message);
    }
    let home = Home::find(wanted.netns)?;
    let (fd, name) = open_or_make(wanted, &home).await?;
    home.run(|| set_up(wanted, &name))?.map_err(|failure| failure.explain(wanted))?;
    let form = if wanted.packet_information { Form::PacketInformation } else { Form::Bare };
    let follow = Follow::new(&fd, home.residence(), wanted.mtu, &name)?;
    Ok((fd, form, name, follow))
}

/// Opens the TUN where it is, or makes it in our own namespace and moves it.
async fn open_or_make(wanted: &Wanted<'_>, home: &Home) -> Result<(OwnedFd, String), String> {
    let open = |name: &str| vmlan_sys::tunnel::open(name, wanted.packet_information).map_err(at("open"));
    let explain = |failure: Failure| failure.explain(wanted);
    if matches!(home, Home::Here) || home.has(wanted.name)? {
        return home.run(|| open(wanted.name))?.map_err(explain);
    }
    match open(MADE) {
        Ok((fd, made)) => {
            home.move_in(&made, wanted.name).await?;
            let name = tap::name(&fd).map_err(at("find")).map_err(explain)?;
            Ok((fd, name))
        }
        // Without the right to devices here there may be one to those there.
        Err(failure) if Errno::from_io_error(&failure.error) == Some(Errno::PERM) => {
            home.run(|| open(wanted.name))?.map_err(explain)
        }
        Err(failure) => Err(explain(failure)),
    }
}

fn at(call: &str) -> impl Fn(io::Error) -> Failure {
    let call = call.to_owned();
    move |error| Failure { call: call.clone(), error }
}

/// In the calling thread's network namespace.
fn set_up(wanted: &Wanted<'_>, name: &str) -> Result<(), Failure> {
    // What is right already needs no right to change it.
    if netdev::mtu(name).ok() != Some(wanted.mtu as u32) {
        netdev::set_mtu(name, wanted.mtu as u32).map_err(at("set the MTU of"))?;
    }
    for Prefixed { address, prefix } in wanted.addresses {
        match netdev::add_address(name, *address, *prefix) {
            Err(error) if error.raw_os_error() == Some(Errno::EXIST.raw_os_error()) => {}
            result => result.map_err(at(&format!("give {address} to")))?,
        }
    }
    netdev::set_up(name).map_err(at("bring up"))
}

impl Failure {
    fn explain(self, wanted: &Wanted<'_>) -> String {
        let Failure { call, error } = self;
        let cure = match Errno::from_io_error(&error) {
            Some(Errno::BUSY) => "another program has it open; stop that program or choose another name",
            Some(Errno::PERM) => {
                "run vmlan with CAP_NET_ADMIN, or have the device made for you: `ip tuntap add NAME mode tun user USER`, \
                 with its MTU and addresses set and brought up"
            }
            Some(Errno::NOENT | Errno::NODEV | Errno::NXIO) => "load the tun module: `modprobe tun`",
            Some(Errno::INVAL) if call == "open" => {
                "an interface of that name exists and is no such TUN (`packet_information` has to agree with it); \
                 choose another name"
            }
            Some(Errno::ACCESS | Errno::OPNOTSUPP) => {
                "the address family is turned off here; leave its addresses out"
            }
            _ => "see `vmlan doctor`",
        };
        let place = wanted.netns.map(|path| format!(" in {}", path.display())).unwrap_or_default();
        format!("cannot {call} the TUN {}{place}: {error}; {cure}", wanted.name)
    }
}
