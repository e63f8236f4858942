//! `vmlan vm`: runs a virtual machine of the user's on a network.
//!
//! A port of the machine's own is added before, and removed when its command ends. The port's name is the machine's,
//! and its MAC address follows from that name, so that the machine has the same address whenever it runs.
//!
//! A command that is killed leaves its port, and its machine runs on at it: so the port does not go with the command.
//! The next command for a machine of that name takes the port away when nothing is connected to it any more.

mod child;
mod program;
mod qemu;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::Context;
use serde_json::json;
use vmlan_api::{ApplyReport, ErrorCode, PortState};

use crate::args::{Attach, VmArguments};
use crate::client::{Client, ClientError, encode};
use crate::command::{Failure, port_path, stable_mac};
use crate::mark::Mark;
use crate::output::tell;
use crate::signals::Endings;
use child::Keeper;
use program::{Program, Socket};
use qemu::Memory;

/// vmlan has ports of this kind here.
const HAS_VHOST_USER: bool = cfg!(target_os = "linux");

/// Names that are tried for a machine.
const MOST_NAMES: usize = 1000;

/// Runs the machine; an exit code of its command other than 0 is [`Failure::Exited`].
pub fn run(client: Client, arguments: VmArguments) -> Result<(), Failure> {
    let mut command = arguments.command;
    let Some((program_name, own)) = command.split_first() else {
        return Err(Failure::Usage("name the command that runs the machine".to_owned()));
    };
    let shown = arguments.network.as_deref().unwrap_or("NETWORK");
    let program = Program::of(program_name, shown).map_err(Failure::Usage)?;
    if let Some(network) = program.own_network(own) {
        let added = program.network(program.socket(), &command, "PATH", "MAC").join(" ");
        return Err(Failure::Usage(format!(
            "`{}` gives the machine a network already; leave it out, and vmlan puts in\n  {added}\nor keep it and add a \
             port by hand, whose lines `vmlan port show` has:\n  vmlan port add {shown} NAME stream listen=NAME.sock",
            vmlan_api::escaped(&network)
        )));
    }
    let netdevs = match program {
        Program::Qemu => Netdevs::of(program_name)?,
        Program::Krunkit | Program::Vfkit => Netdevs::default(),
    };
    let (socket, memory) =
        attachment(arguments.attach, program, &command, &netdevs).map_err(Failure::Usage)?;
    if program == Program::Qemu {
        netdevs.check(program_name, socket)?;
    }
    let wanted = program.name(own);
    // From here on a signal is the command's, or ends it before it begins.
    let mut keeper = Keeper::new().context("signals cannot be waited for")?;
    let endings = Arc::new(Endings::new().context("signals cannot be waited for")?);
    let client = &client.ended_by(endings.clone());
    let network = network(client, arguments.network)?;
    let port = Port::add(client, &network, &wanted, socket)?;
    if endings.have_come() {
        port.remove();
        return Err(anyhow::anyhow!("ended by a signal before the machine was started").into());
    }
    let added = program.network(socket, &command, &port.socket, &port.mac);
    let by = if socket == Socket::VhostUser { ", by vhost-user" } else { "" };
    tell(&format!("{} is on network {network} as {}, {}{by}", wanted, port.name, port.mac));
    command.extend(memory.into_iter().chain(added).map(OsString::from));
    let ended = keeper.run(&command);
    // They were the machine's.
    endings.pass_over();
    port.remove();
    let program = command[0].to_string_lossy().into_owned();
    match ended.with_context(|| format!("{program} cannot be run"))? {
        0 => Ok(()),
        code => Err(Failure::Exited(code)),
    }
}

/// The network that was named, else the only one, or that of `vmlan up`.
fn network(client: &Client, named: Option<String>) -> Result<String, Failure> {
    if let Some(named) = named {
        return Ok(named);
    }
    let networks: Vec<vmlan_api::Network> = client.get("/v1/networks")?;
    let mut names = networks.into_iter().map(|network| network.network).collect::<Vec<_>>();
    if names.iter().any(|name| name == "lab") {
        return Ok("lab".to_owned());
    }
    match (names.len(), names.pop()) {
        (1, Some(only)) => Ok(only),
        (0, _) => Err(anyhow::anyhow!("there is no network yet; `vmlan up` runs one with a way out").into()),
        (_, last) => {
            names.extend(last);
            Err(Failure::Usage(format!(
                "name the network: vmlan vm NETWORK -- …; there are: {}",
                names.join(", ")
            )))
        }
    }
}

/// Chooses the kind of socket for a machine, and the arguments that share its memory where it needs some.
///
/// # Errors
/// A sentence with the cure where vhost-user was asked for and cannot be.
fn attachment(
    wanted: Attach,
    program: Program,
    command: &[OsString],
    netdevs: &Netdevs,
) -> Result<(Socket, Vec<String>), String> {
    match (wanted, program) {
        (Attach::VhostUser, Program::Qemu) => match qemu::memory(command) {
            Memory::Shared => Ok((Socket::VhostUser, Vec::new())),
            Memory::Plain(Some(size)) => Ok((Socket::VhostUser, qemu::shared_memory(&size).into())),
            Memory::Plain(None) => {
                Err("the machine's memory is to be shared: say how much it has, as `-m 1G`".into())
            }
            Memory::Own(why) => Err(format!(
                "the machine's memory cannot be shared: {why}. Change that, or join it by `--attach socket`"
            )),
        },
        (Attach::VhostUser, Program::Krunkit | Program::Vfkit) => {
            Err("only QEMU is joined by vhost-user; leave out `--attach`".into())
        }
        (Attach::Auto, Program::Qemu)
            if HAS_VHOST_USER
                && netdevs.has(Socket::VhostUser)
                && qemu::memory(command) == Memory::Shared =>
        {
            Ok((Socket::VhostUser, Vec::new()))
        }
        (Attach::Auto | Attach::Socket, _) => Ok((program.socket(), Vec::new())),
    }
}

/// The kinds of network that QEMU has, as it lists them.
#[derive(Default)]
struct Netdevs(String);

impl Netdevs {
    fn of(program: &OsString) -> anyhow::Result<Netdevs> {
        let output = Command::new(program).args(["-netdev", "help"]).output();
        let output = output.with_context(|| format!("{} cannot be run", program.to_string_lossy()))?;
        Ok(Netdevs(String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    fn has(&self, socket: Socket) -> bool {
        self.0.lines().any(|line| line.trim() == netdev(socket))
    }

    /// Checks that QEMU can connect to the socket: those before 7.2 cannot to a stream socket, and some are built
    /// without vhost-user.
    fn check(&self, program: &OsString, socket: Socket) -> anyhow::Result<()> {
        if self.has(socket) {
            return Ok(());
        }
        let name = program.to_string_lossy();
        if socket == Socket::VhostUser {
            anyhow::bail!(
                "{name} was built without `-netdev vhost-user`; join the machine by `--attach socket`"
            );
        }
        let version = Command::new(program).arg("--version").output().ok().and_then(|output| {
            String::from_utf8_lossy(&output.stdout)
                .lines()
                .next()
                .map(|line| vmlan_api::escaped(line).into_owned())
        });
        anyhow::bail!(
            "{name} has no `-netdev stream`, which came with QEMU 7.2; it says of itself: {}. An older one joins by \
             VDE (`-netdev vde`) or by a TAP: `vmlan port add` and `vmlan port show`",
            version.as_deref().unwrap_or("nothing")
        )
    }
}

/// QEMU's word for a network by such a socket.
fn netdev(socket: Socket) -> &'static str {
    match socket {
        Socket::Stream => "stream",
        Socket::Datagram => "dgram",
        Socket::VhostUser => "vhost-user",
    }
}

/// The port of a machine.
struct Port<'c> {
    client: &'c Client,
    network: String,
    path: String,
    name: String,
    mac: String,
    socket: String,
    /// Says that this command runs.
    mark: Mark,
}

impl<'c> Port<'c> {
    /// Adds a port of this name, or of the name with the lowest number that is free.
    fn add(client: &'c Client, network: &str, wanted: &str, kind: Socket) -> Result<Port<'c>, Failure> {
        let ports: Vec<vmlan_api::Port> = client.get(&format!("/v1/networks/{}/ports", encode(network)))?;
        let taken: BTreeMap<String, PortState> =
            ports.into_iter().map(|port| (port.port, port.state)).collect();
        let numbered = (2..MOST_NAMES).map(|number| format!("{wanted}-{number}"));
        let names = [wanted.to_owned()].into_iter().chain(numbered);
        let directory = directory(client)?;
        for name in names {
            let state = taken.get(&name);
            if state == Some(&PortState::Up) {
                continue;
            }
            let mark = match Mark::set(client, "vm", (network, &name)) {
                Ok(mark) => mark,
                Err(error) if error.is::<ClientError>() => return Err(error.into()),
                // Another command for that name runs.
                Err(_) => continue,
            };
            if state.is_some() {
                if !mark.was_left() {
                    continue;
                }
                client.delete::<ApplyReport>(&port_path(network, &name))?;
            }
            let mac = stable_mac(network, &name);
            let socket = directory.join(format!("{network}-{name}.sock"));
            let socket = socket.to_str().context("the control socket's path is no text")?.to_owned();
            let listen = json!({ "listen": socket });
            let table = match kind {
                Socket::Stream => json!({ "stream": listen, "mac": mac }),
                Socket::Datagram => json!({ "datagram": listen, "mac": mac }),
                Socket::VhostUser => json!({ "vhost_user": listen, "mac": mac }),
            };
            let (path, network) = (port_path(network, &name), network.to_owned());
            let port = Port { client, network, path, name, mac, socket, mark };
            match client.post::<ApplyReport>(&port.path, &table) {
                Ok(_) => return Ok(port),
                // Another command was faster.
                Err(ClientError::Refused(error)) if error.code == ErrorCode::PortExists => {}
                Err(ClientError::Refused(error)) if error.code == ErrorCode::NotSetUp => {
                    port.remove();
                    return Err(
                        anyhow::anyhow!("the port cannot be made: {}", error.without_staying()).into()
                    );
                }
                Err(error @ ClientError::Ended { .. }) => {
                    let stays = port.stays("is made when the daemon goes on");
                    port.mark.leave();
                    return Err(anyhow::anyhow!("{error}: {stays}").into());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(anyhow::anyhow!("there are too many ports called {wanted}; name the machine with -name").into())
    }

    /// Removes the port. Its machine has ended, so that nothing hangs on it.
    fn remove(self) {
        match self.client.delete::<ApplyReport>(&self.path) {
            Ok(_) => {}
            // Somebody removed it, or the daemon was started again.
            Err(ClientError::Refused(error)) if error.code == ErrorCode::UnknownPort => {}
            // The daemon ends, and the port with it.
            Err(
                ClientError::Closed { .. } | ClientError::Broken { .. } | ClientError::Unreachable { .. },
            ) => {}
            Err(error @ ClientError::Ended { .. }) => {
                tell(&format!("{error}: {}", self.stays("is left behind")));
                self.mark.leave();
            }
            Err(error) => tell(&format!("port {} cannot be removed: {error}", self.name)),
        }
    }
}

impl Port<'_> {
    /// The words of a command that was ended before its port was gone.
    fn stays(&self, how: &str) -> String {
        let Port { network, name, .. } = self;
        format!(
            "port {name} of network {network} {how}; the next `vmlan vm` for a machine of that name takes it away, as \
             does `vmlan port remove {network} {name}`"
        )
    }
}

/// The directory of the control socket, where the daemon may make another one.
fn directory(client: &Client) -> anyhow::Result<PathBuf> {
    let control = std::path::absolute(client.path())?;
    Ok(control.parent().unwrap_or(Path::new("/")).to_owned())
}
