//! Checks of what Linux offers.

mod trunk;
mod vhost_user;

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Check, Subject};

/// Where root's control socket lives.
pub const ROOT_RUNTIME_DIRECTORY: &str = "/run";

/// Datagrams that a Unix socket should queue; the kernel's default is 10.
const WANTED_DATAGRAMS: u64 = 512;
/// Octets of the receive and send buffers that datagram ports ask for.
const WANTED_RMEM: u64 = 4 << 20;
const WANTED_WMEM: u64 = 1 << 20;

pub fn checks() -> Vec<Check> {
    let net_admin = vmlan_sys::rights::over_interfaces();
    let tun = tun();
    let tap_works = net_admin && matches!(tun.status, super::Level::Ok);
    vec![
        match net_admin {
            true => Check::ok(Subject::NetAdmin, "yes"),
            false => Check::warn(
                Subject::NetAdmin,
                "no",
                "making TAP devices needs CAP_NET_ADMIN: run as root, or have root make a persistent device that you own",
            ),
        },
        tun,
        namespaces(),
        trunk::check(),
        at_least(
            Subject::MaxDgramQlen,
            "net/unix/max_dgram_qlen",
            WANTED_DATAGRAMS,
            "datagram guests lose bursts",
        ),
        at_least(
            Subject::RmemMax,
            "net/core/rmem_max",
            WANTED_RMEM,
            "datagram ports get smaller receive buffers",
        ),
        at_least(
            Subject::WmemMax,
            "net/core/wmem_max",
            WANTED_WMEM,
            "datagram ports get smaller send buffers",
        ),
        interface_ports(),
        vhost_user::check(),
        ping(),
        nft(),
        Check::ok(
            Subject::Kinds,
            match tap_works {
                true => "stream, datagram, vde, tunnel, vhost_user, tap",
                false => "stream, datagram, vde, tunnel, vhost_user",
            },
        ),
    ]
}

/// Asks the system for a socket as an uplink sends guests' echo requests by.
fn ping() -> Check {
    use vmlan_sys::inet::{self, Version};
    let name = Subject::PingSockets;
    match (inet::ping(Version::V4), inet::raw(Version::V4)) {
        (Ok(_), _) => Check::ok(name, "yes"),
        (Err(_), Ok(_)) => Check::ok(name, "raw sockets instead"),
        (Err(error), Err(_)) => Check::warn(
            name,
            error.to_string(),
            "guests of an uplink cannot ping the outside: sysctl -w net.ipv4.ping_group_range=\"0 2147483647\"",
        ),
    }
}

/// Asks the kernel for what an interface port needs of it: its tables and its program.
fn interface_ports() -> Check {
    use vmlan_drivers::host::fast::{Tables, from_guest};
    let name = Subject::InterfacePorts;
    let tables = Tables::new(1, 1);
    let loaded =
        tables.and_then(|tables| vmlan_sys::ebpf::load_classifier("vmlan_doctor", &from_guest(&tables)));
    match loaded {
        Ok(_) => Check::ok(name, "possible"),
        Err(error) => Check::warn(
            name,
            error.to_string(),
            "`interface` needs CAP_NET_ADMIN and CAP_BPF, and Linux 5.15 or newer; use `tap`, `stream` or `datagram` else",
        ),
    }
}

/// The program that mode `kernel` of an uplink needs.
fn nft() -> Check {
    let name = Subject::Nft;
    let output = Command::new("nft").arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => {
            let version = String::from_utf8_lossy(&output.stdout);
            Check::ok(name, version.split_whitespace().nth(1).unwrap_or("there").to_owned())
        }
        _ => Check::warn(
            name,
            "missing",
            "`mode = \"kernel\"` of an uplink needs the program nft: install nftables; `mode = \"user\"` does not",
        ),
    }
}

fn tun() -> Check {
    let name = Subject::Tun;
    let device = "/dev/net/tun";
    match OpenOptions::new().read(true).write(true).open(device) {
        Ok(_) => Check::ok(name, device),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound) => Check::warn(
            name,
            "missing",
            "TAP needs it: modprobe tun; in a container pass --device /dev/net/tun",
        ),
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied) => {
            Check::warn(name, "no permission", "TAP needs it: run as root, or chmod 0666 /dev/net/tun")
        }
        Err(error) => Check::warn(name, error.to_string(), "TAP needs it: modprobe tun"),
    }
}

/// Asks util-linux's unshare, because a namespace of our own would be one for good.
fn namespaces() -> Check {
    let name = Subject::Namespaces;
    let user: &[&str] =
        if rustix::process::geteuid().is_root() { &[] } else { &["--user", "--map-root-user"] };
    let made = Command::new("unshare")
        .args(user)
        .args(["--net", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match made {
        Ok(status) if status.success() => Check::ok(name, "can be made"),
        Ok(_) => Check::warn(
            name,
            "cannot be made",
            "tests and the demo's TAP guest need them: as root, or sysctl -w user.max_user_namespaces=10000 \
             kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        Err(_) => {
            Check::warn(name, "not known", "the program `unshare` (util-linux) is not there to find out")
        }
    }
}

fn at_least(name: Subject, key: &str, wanted: u64, consequence: &str) -> Check {
    match sysctl(key) {
        Some(value) if value >= wanted => Check::ok(name, value.to_string()),
        Some(value) => {
            let hint = format!("{consequence}: sysctl -w {}={wanted}", key.replace('/', "."));
            Check::warn(name, value.to_string(), hint)
        }
        None => Check::warn(name, "not known", format!("/proc/sys/{key} cannot be read here")),
    }
}

fn sysctl(key: &str) -> Option<u64> {
    fs::read_to_string(Path::new("/proc/sys").join(key)).ok()?.trim().parse().ok()
}
