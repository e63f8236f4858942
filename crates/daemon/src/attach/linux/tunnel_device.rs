//! Devices of tunnels: TUN.

use std::io;
use std::os::fd::OwnedFd;

use drivers::tunnel::message::Prefixed;
use drivers::tunnel::record::Form;
use rustix::io::Errno;
use sys::{netdev, netns};

use super::tunnel::device::Wanted;

/// What failed.
struct Failure {
    call: String,
    error: io::Error,
}

/// Makes or takes over the TUN, gives it MTU and addresses, and brings it up. Answers its name too.
pub(super) async fn open(wanted: &Wanted<'_>) -> Result<(OwnedFd, Form, String), String> {
    let result = match wanted.netns {
        // A thread of its own enters the namespace; this one only waits for it.
        Some(path) => netns::within(path, || Ok(set_up(wanted))).map_err(|error| {
            format!("cannot enter the network namespace {}: {error}; see `ip netns list`", path.display())
        })?,
        None => set_up(wanted),
    };
    let form = if wanted.packet_information { Form::PacketInformation } else { Form::Bare };
    result.map(|(fd, name)| (fd, form, name)).map_err(|failure| failure.explain(wanted))
}

/// In the calling thread's network namespace.
fn set_up(wanted: &Wanted<'_>) -> Result<(OwnedFd, String), Failure> {
    let at = |call: &str| {
        let call = call.to_owned();
        move |error| Failure { call, error }
    };
    let (fd, name) = sys::tunnel::open(wanted.name, wanted.packet_information).map_err(at("open"))?;
    // What is right already needs no right to change it.
    if netdev::mtu(&name).ok() != Some(wanted.mtu as u32) {
        netdev::set_mtu(&name, wanted.mtu as u32).map_err(at("set the MTU of"))?;
    }
    for Prefixed { address, prefix } in wanted.addresses {
        match netdev::add_address(&name, *address, *prefix) {
            Err(error) if error.raw_os_error() == Some(Errno::EXIST.raw_os_error()) => {}
            result => result.map_err(at(&format!("give {address} to")))?,
        }
    }
    netdev::set_up(&name).map_err(at("bring up"))?;
    Ok((fd, name))
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
            Some(Errno::INVAL) => {
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
