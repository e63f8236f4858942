//! Network namespaces: one stands for one machine with its own interfaces, addresses and routes.
//!
//! A namespace is named `vmlan-PID-N-HINT` after the process that made it. Drop removes it; what a killed test run
//! left behind is removed by the first namespace of a later run, which knows by the process id that nobody owns it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::{Output, Process, run};
use crate::wait::wait_until;

const DIRECTORY: &str = "/run/netns";
const PREFIX: &str = "vmlan-";
const LIMIT: Duration = Duration::from_secs(30);

static NEXT: AtomicU32 = AtomicU32::new(0);
static SWEEP: Once = Once::new();

/// A network namespace of its own, with `lo` up; removed on drop.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

/// The settings that [`Netns::configure`] makes on an interface.
#[derive(Clone, Debug, Default)]
pub struct Interface {
    mac: Option<String>,
    mtu: Option<u32>,
    addresses: Vec<String>,
}

impl Interface {
    /// Nothing but "up".
    pub fn new() -> Self {
        Self::default()
    }

    /// The MAC address, as `52:54:00:00:00:01`.
    pub fn mac(mut self, mac: &str) -> Self {
        self.mac = Some(mac.to_owned());
        self
    }

    /// The MTU in octets, without the Ethernet header.
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = Some(mtu);
        self
    }

    /// An IPv4 or IPv6 address with its prefix length, as `10.9.0.1/24`; may be given several times.
    pub fn address(mut self, address: &str) -> Self {
        self.addresses.push(address.to_owned());
        self
    }
}

impl Netns {
    /// Makes a namespace; `hint` becomes part of its name.
    ///
    /// IPv6 addresses are usable at once (no duplicate address detection) and no router is asked for.
    ///
    /// # Panics
    /// Without root or `ip`.
    #[track_caller]
    pub fn new(hint: &str) -> Self {
        SWEEP.call_once(sweep);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}-{hint}", std::process::id());
        ip(["netns", "add", &name]);
        let namespace = Self { name };
        namespace.ip(["link", "set", "lo", "up"]);
        for scope in ["all", "default"] {
            namespace.sysctl(&format!("net.ipv6.conf.{scope}.accept_dad"), "0");
            namespace.sysctl(&format!("net.ipv6.conf.{scope}.router_solicitations"), "0");
        }
        namespace
    }

    /// The name, as `ip netns` lists it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path that stands for the namespace, for `tap = { netns = "…" }`.
    pub fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.name)
    }

    /// A command that will run a program in the namespace; arguments can be added.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs a program in the namespace to its end, at most 30 s.
    ///
    /// # Panics
    /// When it does not end in time; see [`run`] for another limit.
    #[track_caller]
    pub fn exec<S: AsRef<OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = S>) -> Output {
        let mut command = self.command(program);
        command.args(arguments);
        run(command, LIMIT)
    }

    /// Starts a program in the namespace, beside the test.
    #[track_caller]
    pub fn spawn<S: AsRef<OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = S>) -> Process {
        let mut command = self.command(program);
        command.args(arguments);
        Process::spawn(command)
    }

    /// Does some work in the namespace, in a thread of its own; sockets that it makes stay there.
    ///
    /// # Panics
    /// As the work does, or without root.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let thread = || {
            let place = File::open(self.path()).expect("our own namespace");
            move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root may enter a namespace");
            work()
        };
        std::thread::scope(|scope| match scope.spawn(thread).join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Runs `ip` on the namespace: `ns.ip(["link", "set", "t0", "down"])`.
    ///
    /// # Panics
    /// When `ip` fails.
    #[track_caller]
    pub fn ip<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Output {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name]).args(arguments);
        run(command, LIMIT).expect_success()
    }

    /// Sets a kernel variable of the namespace, as `net.ipv4.ip_forward`; dots separate.
    #[track_caller]
    pub fn sysctl(&self, variable: &str, value: &str) {
        let path = format!("/proc/sys/{}", variable.replace('.', "/"));
        self.exec("sh", ["-c", "printf %s \"$1\" > \"$2\"", "sh", value, &path]).expect_success();
    }

    /// True if the namespace has an interface of this name.
    pub fn has_interface(&self, interface: &str) -> bool {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name, "link", "show", "dev", interface]);
        run(command, LIMIT).success()
    }

    /// Waits for an interface to appear, then sets MAC address, MTU and addresses and brings it up.
    ///
    /// # Panics
    /// When there is no such interface after 10 s, or a value is refused.
    #[track_caller]
    pub fn configure(&self, interface: &str, wanted: &Interface) {
        let what = format!("interface {interface} in namespace {}", self.name);
        wait_until(&what, Duration::from_secs(10), || self.has_interface(interface));
        if let Some(mac) = &wanted.mac {
            self.ip(["link", "set", "dev", interface, "address", mac]);
        }
        if let Some(mtu) = wanted.mtu {
            self.ip(["link", "set", "dev", interface, "mtu", &mtu.to_string()]);
        }
        self.ip(["link", "set", "dev", interface, "up"]);
        for address in &wanted.addresses {
            self.ip(["address", "add", address, "dev", interface]);
        }
    }

    /// Joins two namespaces with a veth pair of one interface name in each.
    #[track_caller]
    pub fn veth(&self, interface: &str, other: &Netns, other_interface: &str) {
        self.ip([
            "link",
            "add",
            interface,
            "type",
            "veth",
            "peer",
            "name",
            other_interface,
            "netns",
            &other.name,
        ]);
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

#[track_caller]
fn ip<const N: usize>(arguments: [&str; N]) {
    let mut command = Command::new("ip");
    command.args(arguments);
    run(command, LIMIT).expect_success();
}

/// Best effort, since it also runs while a panic unwinds.
fn remove(name: &str) {
    let _ = Command::new("ip").args(["netns", "delete", name]).status();
}

fn sweep() {
    let Ok(entries) = fs::read_dir(DIRECTORY) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if owner(&name).is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            eprintln!("testbed: removing namespace {name}, whose test run is gone");
            remove(&name);
        }
    }
}

/// The process that made a namespace, when the name is one of ours.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_read_from_our_names_only() {
        let owners = ["vmlan-812-0-web", "vmlan-812", "vmlan-web", "lab-812-0-web", ""].map(owner);

        assert_eq!(owners, [Some(812), Some(812), None, None, None]);
    }

    #[test]
    fn a_namespace_lives_as_long_as_its_guard() {
        crate::require!(namespaces());
        let namespace = Netns::new("guard");
        let path = namespace.path();
        assert!(path.exists());

        drop(namespace);

        assert!(!path.exists());
    }
}
