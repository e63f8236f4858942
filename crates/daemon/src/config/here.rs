//! A look at this machine before a configuration is used: what would be missing or taken.
//!
//! Everything is looked at, nothing is changed; what is found may be otherwise a moment later.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;

use rustix::fs::{Access, access};
use vmlan_api::{Error, ErrorCode};

use super::port_path;
use super::valid::ValidConfig;
use vmlan_ports::{Belonging, controlled, join};

/// Looks for what this machine lacks for `config`, each with the dotted path of the port or trunk concerned. Sockets
/// and addresses that a daemon has by its configuration `running` are left alone: whoever looks at a socket connects to
/// it, and the daemon gives up what it has to go on with another configuration.
pub fn here(config: &ValidConfig, running: Option<&ValidConfig>) -> Vec<Error> {
    let running: BTreeSet<Belonging> = running.into_iter().flat_map(sockets).collect();
    let look = |belonging: &Belonging| if running.contains(belonging) { None } else { look(belonging) };
    let mut found = Vec::new();
    for (at, address) in own(config) {
        let fault = look(&Belonging::Tcp(address));
        found.extend(fault.map(|(code, message)| Error::at(code, at, message)));
    }
    for (network, settings) in config.networks() {
        let at = join("network", network);
        if let Some(trunk) = &settings.trunk {
            let at = join(&at, "trunk");
            let fault = interface(trunk.interface.name()).or_else(|| privilege("a trunk"));
            found.extend(fault.map(|(code, message)| Error::at(code, &at, message)));
        }
        for (port, table) in &settings.ports {
            let at = port_path(network, port);
            let faults =
                table.attachment.belongings().into_iter().filter_map(|(belonging, _)| look(&belonging));
            found.extend(faults.map(|(code, message)| Error::at(code, &at, message)));
        }
    }
    found
}

/// The TCP addresses of a daemon itself, and the keys that name them.
fn own(config: &ValidConfig) -> impl Iterator<Item = (&'static str, SocketAddr)> {
    let page = config.ui().map(|page| page.address);
    let named = |(key, address): (_, Option<_>)| Some((key, address?));
    [("daemon.metrics", config.metrics()), ("daemon.ui", page)].into_iter().filter_map(named)
}

/// The sockets and addresses at which a daemon with this configuration listens.
fn sockets(config: &ValidConfig) -> impl Iterator<Item = Belonging> {
    let ports = config.networks().values().flat_map(|network| network.ports.values());
    let of_ports = ports.flat_map(|port| port.attachment.belongings()).map(|(belonging, _)| belonging);
    let own = own(config).map(|(_, address)| Belonging::Tcp(address));
    let is_socket =
        |belonging: &_| matches!(belonging, Belonging::Socket(_) | Belonging::Tcp(_) | Belonging::Udp(_));
    of_ports.chain(own).filter(is_socket)
}

type Fault = (ErrorCode, String);

fn look(belonging: &Belonging) -> Option<Fault> {
    match belonging {
        Belonging::Socket(path) => socket(path),
        Belonging::Directory(path) => directory(path),
        Belonging::Tcp(address) => bindable(TcpListener::bind(address).err(), belonging),
        Belonging::Udp(address) => bindable(UdpSocket::bind(address).err(), belonging),
        Belonging::Device(None, name) => device(name),
        Belonging::Device(Some(file), _) => match file.exists() {
            true => privilege("a device in a namespace"),
            false => {
                let message = format!("the network namespace {} is not there", file.display());
                Some((ErrorCode::BadPath, message))
            }
        },
        Belonging::Interface(name) => free(name).or_else(|| privilege("an interface port")),
        Belonging::Descriptor(_) => None,
    }
}

/// A path where a socket will be made.
fn socket(path: &Path) -> Option<Fault> {
    let parent = path.parent()?;
    if !parent.is_dir() {
        // A directory of a VDE switch is made; its own belonging says whether that works.
        let own = path.file_name().is_some_and(|name| name == "ctl");
        let message = format!("the directory {0} is not there; make it: mkdir -p {0}", parent.display());
        return (!own).then_some((ErrorCode::BadPath, message));
    }
    if access(parent, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let message = format!("this user may not make files in {}", parent.display());
        return Some((ErrorCode::BadPath, message));
    }
    let datagrams = UnixDatagram::unbound().and_then(|socket| socket.connect(path)).is_ok();
    if datagrams || UnixStream::connect(path).is_ok() {
        let message = format!("a program listens at {}; end it, or choose another path", path.display());
        return Some((ErrorCode::Conflict, message));
    }
    let is_other = path.symlink_metadata().is_ok_and(|found| {
        use std::os::unix::fs::FileTypeExt;
        !found.file_type().is_socket()
    });
    is_other.then(|| (ErrorCode::BadPath, format!("{} exists and is no socket; remove it", path.display())))
}

/// The directory of a VDE switch, which is made if need be.
fn directory(path: &Path) -> Option<Fault> {
    let nearest = path.ancestors().find(|directory| directory.exists())?;
    let usable = nearest.is_dir() && access(nearest, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    (!usable).then(|| (ErrorCode::BadPath, format!("this user may not make files in {}", nearest.display())))
}

fn bindable(error: Option<std::io::Error>, belonging: &Belonging) -> Option<Fault> {
    let error = error?;
    let cure = match error.kind() {
        ErrorKind::AddrInUse => "a program uses it; end it, or choose another port",
        ErrorKind::AddrNotAvailable => "no interface of this machine has the address",
        ErrorKind::PermissionDenied => "ports below 1024 are for root",
        _ => "choose another address",
    };
    Some((ErrorCode::BadAddress, format!("{belonging} is not free: {cure}")))
}

/// A TAP or TUN of this namespace.
fn device(name: &str) -> Option<Fault> {
    let found = Path::new("/sys/class/net").join(name);
    // One that an earlier vmlan made is taken over.
    let is_ours =
        || std::fs::read_to_string(found.join("ifalias")).is_ok_and(|alias| alias.starts_with("vmlan:"));
    match (found.exists(), found.join("tun_flags").exists()) {
        (true, false) if is_ours() => privilege("taking an interface over"),
        (true, false) => {
            let message = format!("an interface {name} exists and is no TAP; choose another name");
            Some((ErrorCode::Conflict, message))
        }
        // Its owner may attach to one that is there.
        (true, true) => None,
        (false, _) => privilege("making a device"),
    }
}

/// The interface of a port. It is made, or waited for, where it is not there.
fn free(name: &str) -> Option<Fault> {
    let is_a_part = Path::new("/sys/class/net").join(name).join("master").exists();
    is_a_part.then(|| (ErrorCode::Conflict, controlled(name)))
}

/// The interface of a trunk.
fn interface(name: &str) -> Option<Fault> {
    let there = !cfg!(target_os = "linux") || Path::new("/sys/class/net").join(name).exists();
    (!there).then(|| (ErrorCode::BadDeviceName, format!("there is no interface {name} on this machine")))
}

/// Something that needs root, or CAP_NET_ADMIN.
fn privilege(what: &str) -> Option<Fault> {
    let may = vmlan_sys::rights::over_interfaces();
    (!may).then(|| (ErrorCode::Conflict, format!("{what} needs CAP_NET_ADMIN: run vmlan as root")))
}
