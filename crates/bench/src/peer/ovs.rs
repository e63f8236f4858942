//! Open vSwitch with its datapath in user space: a database and a switch of our own in a namespace, told through
//! sockets in our own directory. Nothing of a system's Open vSwitch is touched, and the kernel's module is not used.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use testbed::{Process, run};

use super::bridge::{PORTS, pairs, plain_pairs};
use crate::row::Unavailable;
use crate::world::{INTERFACE, World};

pub(super) const PROGRAMS: [&str; 5] = ["ovsdb-tool", "ovsdb-server", "ovs-vswitchd", "ovs-vsctl", "ethtool"];

/// The programs for vhost-user sockets, where the switch is another one.
pub(super) const DPDK_PROGRAMS: [&str; 4] = ["ovsdb-tool", "ovsdb-server", DPDK, "ovs-vsctl"];

/// Which Debian's package installs beside the other one.
const DPDK: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";

const USUAL: &str = "ovs-vswitchd";

const LIMIT: Duration = Duration::from_secs(20);

/// For segments of up to 64 KiB.
const TSO: [&str; 1] = ["userspace-tso-enable=true"];

/// Which the package installs; ovsdb-tool takes it from nowhere else.
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// A TAP for each namespace, made by the switch and moved.
pub fn taps(world: &mut World, tso: bool) -> anyhow::Result<()> {
    let control = start(world, USUAL, if tso { &TSO } else { &[] })?;
    let mut words = Vec::new();
    for port in PORTS {
        words.extend(["--", "add-port", "br0", port, "--", "set", "interface", port, "type=tap"]);
    }
    control.say(&words)?;
    let hosts = [&world.a, &world.b].map(|host| host.netns.name().to_owned());
    for (port, host) in PORTS.into_iter().zip(hosts) {
        world.between().ip(["link", "set", port, "netns", &host, "name", INTERFACE]);
    }
    Ok(())
}

/// The ends of two veth pairs, through AF_PACKET, with TSO.
pub fn veth(world: &mut World) -> anyhow::Result<()> {
    pairs(world);
    let control = start(world, USUAL, &TSO)?;
    control.say(&["--", "add-port", "br0", PORTS[0], "--", "add-port", "br0", PORTS[1]])
}

/// The ends of two veth pairs, through AF_XDP, with a thread that polls.
pub fn af_xdp(world: &mut World) -> anyhow::Result<()> {
    plain_pairs(world);
    let control = start(world, USUAL, &[])?;
    // The second processor, if there is one.
    let mut words = vec!["--", "set", "Open_vSwitch", ".", "other_config:pmd-cpu-mask=2"];
    for port in PORTS {
        words.extend(["--", "add-port", "br0", port]);
        words.extend(["--", "set", "interface", port, "type=afxdp", "options:xdp-mode=native"]);
    }
    let asked = control.say(&words);
    let errors: String = control.get(&["--columns=error", "list", "interface", PORTS[0], PORTS[1]])?;
    match asked {
        Ok(()) if !errors.contains("error") || errors.matches("[]").count() == PORTS.len() => Ok(()),
        Ok(()) => Err(Unavailable(format!("Open vSwitch has no AF_XDP here: {}", errors.trim())).into()),
        Err(error) => Err(Unavailable(format!("Open vSwitch has no AF_XDP here: {error:#}")).into()),
    }
}

/// Two vhost-user sockets that it connects to, with a thread that polls on the second of these processors.
pub fn vhost(world: &mut World, sockets: &[PathBuf; 2], [first, second]: [usize; 2]) -> anyhow::Result<()> {
    // In hexadecimal digits, of however many processors.
    let mask = |processor: usize| format!("{}{}", 1 << (processor % 4), "0".repeat(processor / 4));
    let control = start(
        world,
        DPDK,
        &[
            "dpdk-init=true",
            "dpdk-socket-mem=512",
            "dpdk-extra=\"--in-memory --single-file-segments --no-pci --no-telemetry\"",
            &format!("dpdk-lcore-mask={}", mask(first)),
            &format!("pmd-cpu-mask={}", mask(second)),
        ],
    )?;
    let mut words = Vec::new();
    let paths = sockets.each_ref().map(|socket: &PathBuf| option_of(socket));
    for (port, path) in PORTS.into_iter().zip(&paths) {
        words.extend(["--", "add-port", "br0", port]);
        words.extend(["--", "set", "interface", port, "type=dpdkvhostuserclient", path]);
    }
    control.say(&words)
}

fn option_of(socket: &Path) -> String {
    format!("options:vhost-server-path={}", socket.display())
}

struct Control {
    directory: PathBuf,
}

/// A bridge `br0` of this program in the namespace between, with these settings of `other_config`.
fn start(world: &mut World, program: &str, settings: &[&str]) -> anyhow::Result<Control> {
    let directory = world.directory().join("ovs");
    std::fs::create_dir_all(&directory).context("a directory for Open vSwitch")?;
    let control = Control { directory };
    let at = |name: &str| control.directory.join(name).display().to_string();

    let mut create = control.command("ovsdb-tool");
    create.args(["create", &at("conf.db"), SCHEMA]);
    run(create, LIMIT).expect_success();

    let unix = |name: &str| format!("unix:{}", at(name));
    let database = world.between().command("ovsdb-server");
    let database = control.own(database, &[&at("conf.db"), &format!("--remote=p{}", unix("db.sock"))], "db");
    let mut database = Process::spawn(database);
    let socket = control.directory.join("db.sock");
    database.wait_while_running("its socket", LIMIT, || socket.exists().then_some(()));
    world.keep(database);

    control.run(&["--no-wait", "init"])?;
    for setting in settings {
        control.run(&["--no-wait", "set", "Open_vSwitch", ".", &format!("other_config:{setting}")])?;
    }
    let switch = world.between().command(program);
    let switch = control.own(switch, &[&unix("db.sock")], "vswitchd");
    world.keep(Process::spawn(switch));
    control.say(&["--", "add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev"])?;
    Ok(control)
}

impl Control {
    /// With all that it keeps in our directory.
    fn command(&self, program: &str) -> Command {
        self.at_home(Command::new(program))
    }

    fn at_home(&self, mut command: Command) -> Command {
        for variable in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"] {
            command.env(variable, &self.directory);
        }
        // DPDK's own.
        command.env("RUNTIME_DIRECTORY", &self.directory);
        command
    }

    fn own(&self, command: Command, arguments: &[&str], name: &str) -> Command {
        let mut command = self.at_home(command);
        let at = |what: &str| self.directory.join(format!("{name}.{what}")).display().to_string();
        command.args(arguments);
        command.args([format!("--unixctl={}", at("ctl")), format!("--pidfile={}", at("pid"))]);
        command.args(["--no-chdir", "-vsyslog:off", "-vconsole:warn"]);
        command
    }

    /// Tells the switch, and waits until it has done so.
    fn say(&self, words: &[&str]) -> anyhow::Result<()> {
        self.run(words).map(drop)
    }

    fn get(&self, words: &[&str]) -> anyhow::Result<String> {
        self.run(words)
    }

    fn run(&self, words: &[&str]) -> anyhow::Result<String> {
        let mut command = self.command("ovs-vsctl");
        command.arg("--timeout=10").arg(format!("--db=unix:{}", self.directory.join("db.sock").display()));
        command.args(words);
        let output = run(command, LIMIT);
        anyhow::ensure!(output.success(), "ovs-vsctl {}: {}", words.join(" "), output.stderr.trim());
        // It reports a port that cannot be as it should here, and still succeeds.
        anyhow::ensure!(!output.stderr.contains("Error"), "ovs-vsctl: {}", output.stderr.trim());
        Ok(output.stdout)
    }
}
