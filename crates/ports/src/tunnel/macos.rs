//! Devices of tunnels: utun. Addresses, MTU and routes are set with the system's own programs, which know how.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use tokio::process::Command;
use vmlan_drivers::Fault;
use vmlan_drivers::tunnel::message::Prefixed;
use vmlan_drivers::tunnel::record::Form;

use super::device::Wanted;
use crate::Look;

/// Follows a device: a utun is gone with its descriptor, and nothing else is looked at.
pub(super) struct Follow;

impl Follow {
    /// Nothing.
    pub(super) fn look(&mut self) -> Look {
        Look::Same
    }

    /// Returns the fault as it is.
    pub(super) fn explain(&self, fault: Fault) -> Fault {
        fault
    }
}

/// Makes the utun, gives it MTU and addresses, and brings it up. Answers its name too.
pub(super) async fn open(wanted: &Wanted<'_>) -> Result<(OwnedFd, Form, String, Follow), String> {
    if wanted.netns.is_some() || wanted.packet_information {
        return Err("macOS has neither network namespaces nor packet information; remove those keys".into());
    }
    let unit = wanted.name.strip_prefix("utun").and_then(|number| match number {
        "" => Some(0),
        number => number.parse::<u32>().ok().and_then(|number| number.checked_add(1)),
    });
    let unit =
        unit.ok_or_else(|| format!("`{}` is no name of a tunnel here; write utun or utun7", wanted.name))?;
    let (fd, name) = vmlan_sys::tunnel::open(unit).map_err(|error| explain(wanted.name, &error))?;
    let mtu = wanted.mtu.to_string();
    run("/sbin/ifconfig", &[&name, "mtu", &mtu, "up"]).await?;
    for Prefixed { address, prefix } in wanted.addresses {
        let (own, network) = (address.to_string(), format!("{address}/{prefix}"));
        if address.is_ipv4() {
            // A point-to-point interface has a peer; the route is what makes a network of it.
            run("/sbin/ifconfig", &[&name, "inet", &network, &own, "alias"]).await?;
            run("/sbin/route", &["-n", "add", "-inet", "-net", &network, "-interface", &name]).await?;
        } else {
            run("/sbin/ifconfig", &[&name, "inet6", &network, "alias"]).await?;
        }
    }
    Ok((fd, Form::Family, name, Follow))
}

async fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().await;
    let output = output.map_err(|error| format!("cannot run {program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("`{program} {}` failed: {}", arguments.join(" "), said.trim()))
        }
    }
}

fn explain(name: &str, error: &io::Error) -> String {
    let cure = match Errno::from_io_error(error) {
        Some(Errno::PERM | Errno::ACCESS) => "run vmlan as root",
        Some(Errno::BUSY) => "that number is taken; write utun, and the system chooses one",
        _ => "see `vmlan doctor`",
    };
    format!("cannot make {name}: {error}; {cure}")
}
