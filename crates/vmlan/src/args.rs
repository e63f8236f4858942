//! The command line.

mod capture;
mod uplink;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use vmlan_api::PortKind;
use vmlan_drivers::tunnel::message::Prefixed;

use crate::{names, version};
pub use capture::CaptureArguments;
pub use uplink::{
    Attach, FlowsArguments, FlowsCommand, ForwardCommand, LeasesArguments, LeasesCommand, VmArguments,
};
pub use watch::Watch;

/// Networks for virtual machines, from user space.
#[derive(Debug, Parser)]
#[command(
    name = "vmlan",
    version,
    long_version = version::long(),
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Arguments {
    /// Control socket of the daemon [default: /run/vmlan/control.sock for root, else
    /// $XDG_RUNTIME_DIR/vmlan/control.sock, or /tmp/vmlan-UID/control.sock without the variable]
    #[arg(long, global = true, value_name = "SOCKET", env = "VMLAN_CONTROL")]
    pub control: Option<PathBuf>,
    /// Write JSON, errors too, instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// A command of vmlan.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon in the foreground
    ///
    /// It logs to stderr, reads its configuration again on SIGHUP, and ends in order on SIGTERM or SIGINT.
    /// Of lines that are alike about one port it writes three, and then one in ten seconds with a count of the rest;
    /// lines that the reader of the log does not take are lost and counted. VMLAN_LOG chooses what is said: `warn`,
    /// `debug`, or `daemon=debug,info`.
    #[command(
        after_help = "Without FILE it takes /etc/vmlan/vmlan.toml for root, $XDG_CONFIG_HOME/vmlan/vmlan.toml \
                            (~/.config without the variable) for others, where that is there; else it starts with no \
                            network, and `vmlan network add` makes one."
    )]
    Run {
        /// Configuration file
        file: Option<PathBuf>,
        /// The same; the earlier form
        #[arg(long, value_name = "FILE", conflicts_with = "file", hide = true)]
        config: Option<PathBuf>,
    },
    /// Run a network with a way out, without a file and without root
    ///
    /// It is a daemon in the foreground: guests get addresses, names and a way out, by a stream socket, a datagram
    /// socket and a VDE directory, all in one private directory. It tells what to write for QEMU, vfkit and krunkit.
    #[command(
        after_help = "Example: vmlan up, and in another terminal: vmlan vm -- qemu-system-x86_64 -m 1G disk.img"
    )]
    Up {
        /// Name of the network
        #[arg(default_value = "lab")]
        name: String,
    },
    /// Run a virtual machine on a network
    ///
    /// The command gets the arguments for its network, by a port with the machine's name and an address that stays the
    /// same. The port goes when the command ends, whose exit code is that of this command.
    #[command(
        after_help = "Example: vmlan vm lab -- qemu-system-x86_64 -name web -m 1G -drive file=web.qcow2,if=virtio"
    )]
    Vm(VmArguments),
    /// Check a configuration file
    Check {
        /// Configuration file
        file: PathBuf,
        /// Look at this machine too: whether directories, interfaces, names and rights are there, and addresses free
        #[arg(long)]
        here: bool,
    },
    /// Make a configuration the running one
    ///
    /// Only what changed is touched. With errors in the file nothing is.
    Apply {
        /// Configuration file; without one the daemon reads its own again
        file: Option<PathBuf>,
        /// Only show what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Show the state of the daemon
    Status {
        /// Show what the kernel carries of interface ports, past the daemon; of two ports, why it does not
        #[arg(long, num_args = 0..=2, value_name = "NETWORK/PORT")]
        fast: Option<Vec<String>>,
        #[command(flatten)]
        watch: Watch,
    },
    /// Show the configuration that runs, as a file: with what was added and changed since it was read
    Config,
    /// List the networks
    Networks {
        #[command(flatten)]
        watch: Watch,
    },
    /// List the ports
    Ports {
        /// Only those of this network
        #[arg(add = ArgValueCompleter::new(names::networks))]
        network: Option<String>,
        /// Show everything: address, MTU, and by what means frames are moved
        #[arg(short, long)]
        verbose: bool,
        #[command(flatten)]
        watch: Watch,
    },
    /// List the forwarding database of a network
    Fdb {
        /// Network
        #[arg(add = ArgValueCompleter::new(names::networks))]
        network: String,
        #[command(flatten)]
        watch: Watch,
    },
    /// Show how networks are joined to the host's interfaces
    Trunk {
        /// Only this network's
        #[arg(add = ArgValueCompleter::new(names::networks))]
        network: Option<String>,
        #[command(flatten)]
        watch: Watch,
    },
    /// Show the uplinks: what guests get by them, and what is in the way
    Uplink {
        /// Only this network's
        #[arg(add = ArgValueCompleter::new(names::networks))]
        network: Option<String>,
        #[command(flatten)]
        watch: Watch,
    },
    /// List the addresses that guests have, or take one back
    Leases(LeasesArguments),
    /// List what guests have open to the outside, or end it
    Flows(FlowsArguments),
    /// Let others reach guests by addresses of this host
    #[command(subcommand)]
    Forward(ForwardCommand),
    /// Show what went through the ports
    Counters {
        /// Only these: NETWORK, NETWORK/PORT, or the ports of this name
        #[arg(value_name = "NETWORK[/PORT]", add = ArgValueCompleter::new(names::places))]
        which: Option<String>,
        #[command(flatten)]
        watch: Watch,
    },
    /// Show the traffic of the ports as it goes
    ///
    /// The busiest port is first; `?` shows the keys. It asks the daemon once a second, and needs a terminal:
    /// `vmlan counters --watch` is for a pipe.
    Top {
        /// Only those of this network
        #[arg(add = ArgValueCompleter::new(names::networks))]
        network: Option<String>,
    },
    /// Follow what happens
    Events,
    /// Capture what passes ports, or what they drop
    ///
    /// Without -w it is listed, a line a frame: time of day in UTC, port, rx (from the guest) or tx (to it), addresses
    /// and content. Ports that come later are captured too. A frame is there once, where it came in; a port that is
    /// named is captured in both directions. Ctrl-C ends the capture; when it was read too slowly,
    /// frames are lost and counted, and the traffic goes on.
    #[command(
        after_help = "Examples:\n  vmlan capture lab -w lab.pcapng\n  vmlan capture lab/web -f icmp\n  \
                            vmlan capture lab -w - | wireshark -k -i -\n  vmlan capture --drops"
    )]
    Capture(CaptureArguments),
    /// Show the networks in a web browser, until Ctrl-C
    ///
    /// It serves a page on this host alone and prints the link that opens it. Without the token in the link nothing is
    /// answered, so other users of this machine see nothing. The page only reads, and captures.
    Ui {
        /// Address of this host to listen at; port 0 is any free one
        #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// Let the page apply a configuration, and take ports down and up
        #[arg(long)]
        writes: bool,
        /// Print the link to the page that the daemon itself serves, where its configuration has `ui`
        #[arg(long, conflicts_with_all = ["listen", "writes"])]
        link: bool,
    },
    /// Add or remove a network
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Add, remove, change or show a port of a running network
    #[command(subcommand)]
    Port(PortCommand),
    /// Say which frames may pass a port
    ///
    /// The rules of a port are asked in their order, and the first that matches a frame decides; what none matches
    /// passes.
    #[command(subcommand)]
    Filter(FilterCommand),
    /// Give this machine an interface on a network
    ///
    /// On Linux it is a TAP in the network namespace of this command, on macOS a utun. It is there until Ctrl-C. What a
    /// killed `vmlan host` left of the same port is replaced. An interface at boot is a `tap` port of the configuration
    /// with `address`.
    #[command(after_help = "Example: vmlan host lab --address 10.0.0.1/24 --address fd00::1/64")]
    Host(HostArguments),
    /// Join a network by a tunnel socket
    #[command(subcommand)]
    Tunnel(TunnelCommand),
    /// Show what vmlan does, without root and without any virtual machine
    #[cfg(feature = "demo")]
    Demo,
    /// Check this machine for what vmlan needs, and for what a killed vmlan left
    Doctor {
        /// Remove what a killed vmlan left on the host's interfaces, and nothing else
        #[arg(long)]
        clean: bool,
    },
    /// Explain an error's code, a drop reason or a finding of doctor, and what to do about it
    #[command(after_help = "Example: vmlan explain source_guard")]
    Explain {
        /// The word, as errors, counters and doctor have it
        #[arg(add = ArgValueCompleter::new(names::explained))]
        word: String,
    },
    /// Write an archive for a bug report, and say what is in it
    ///
    /// It has versions, configuration, doctor's findings, counters twice, listings, events that come meanwhile, and
    /// facts about the daemon's process: vmlan-support-DATE.tar.gz, which only its owner can read. Nothing is sent. It
    /// needs no running daemon. Secrets of the configuration are never in it.
    #[command(after_help = "Example: vmlan support --mask --seconds 10")]
    Support(SupportArguments),
    /// Write the completions for a shell, which know the networks and ports that run
    #[command(after_help = "Example, for ~/.bashrc: source <(vmlan completions bash)")]
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Show the version, the commit and the features
    Version,
    /// Write the manual page: `vmlan man | man -l -`
    Man {
        /// Write a page for each command into this directory instead, as packages have them
        #[arg(long, value_name = "DIRECTORY")]
        directory: Option<PathBuf>,
    },
}

/// How to write the archive of `vmlan support`.
#[derive(Debug, Args)]
pub struct SupportArguments {
    /// The archive, which must not be there yet; `-` is standard output [default: vmlan-support-DATE.tar.gz]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Replace MAC and IP addresses, names of hosts and users, and paths: everywhere the same by the same
    #[arg(long)]
    pub mask: bool,
    /// Seconds between the two looks at counters and threads, in which events are collected
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=600))]
    pub seconds: u64,
}

/// Which interface this machine gets.
#[derive(Debug, Args)]
pub struct HostArguments {
    /// Network
    #[arg(add = ArgValueCompleter::new(names::networks))]
    pub network: String,
    /// An address of the interface and the bits of its network; several times for several
    #[arg(short, long, required = true, value_name = "ADDRESS/BITS")]
    pub address: Vec<Prefixed>,
    /// Name of the interface [default: vmlan0 or the next free number; on macOS utun with one]
    #[arg(short, long, value_name = "NAME")]
    pub device: Option<String>,
    /// VLAN that the interface is in, without a tag [default: 1 in a network with VLANs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4094))]
    pub vlan: Option<u64>,
    /// Name of the port
    #[arg(long, default_value = "this-host")]
    pub port: String,
    /// End at once and leave port and interface, until `vmlan port remove` or the end of the daemon
    #[arg(long)]
    pub keep: bool,
}

/// A command about tunnels.
#[derive(Debug, Subcommand)]
pub enum TunnelCommand {
    /// Connect this machine, or a program, to a tunnel socket
    ///
    /// Makes a TUN with the tunnel's addresses, or moves records on stdin and stdout, each with its length in front
    /// (32 bits, most significant octet first). It ends with the tunnel, and everything ends with it.
    #[command(after_help = "Example: vmlan tunnel connect /run/vmlan/vpn.sock --address 10.0.0.130/24")]
    Connect(ConnectArguments),
}

/// Which tunnel, and what is joined to it.
#[derive(Debug, Args)]
pub struct ConnectArguments {
    /// The tunnel socket: `listen` of the port's tunnel
    pub socket: PathBuf,
    /// The unit wanted; 0 is the lowest free one
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub unit: u32,
    /// An address wanted and the bits of its network, where the port lets clients choose; several times for several
    #[arg(short, long, value_name = "ADDRESS/BITS")]
    pub address: Vec<Prefixed>,
    /// Name of the TUN [default: tun0 or the next free number]
    #[arg(short, long, value_name = "NAME", conflicts_with = "stdio")]
    pub device: Option<String>,
    /// Move records on stdin and stdout instead of making a TUN
    #[arg(long)]
    pub stdio: bool,
}

fn port_add() -> String {
    format!(
        "Add a port to a running network\n\nKeys are those of the configuration file: of the kind's table (name=vm-web), \
         or of the port ({}); `port.` in front of a key says that it is the port's where both have it. Lists have commas. The configuration file stays as it is.",
        crate::command::port_keys().join(", ")
    )
}

/// A command about rules for frames.
#[derive(Debug, Subcommand)]
pub enum FilterCommand {
    /// List the rules, and what they matched
    List {
        /// Only those of this network
        #[arg(add = ArgValueCompleter::new(names::networks))]
        network: Option<String>,
        #[command(flatten)]
        watch: Watch,
    },
    /// Add a rule about a port's frames
    ///
    /// The configuration file stays as it is.
    #[command(
        after_help = "Examples:\n  vmlan filter add lab web drop \"udp src port 67\" --direction in\n  \
                            vmlan filter add lab web pass \"host 10.0.0.1\" --at 1"
    )]
    Add {
        /// Network
        #[arg(add = ArgValueCompleter::new(names::networks))]
        network: String,
        /// Name of the port
        #[arg(add = ArgValueCompleter::new(names::ports))]
        port: String,
        /// Action on the frames
        #[arg(value_parser = ["drop", "pass"])]
        action: String,
        /// Which frames: an expression, as tcpdump takes it
        #[arg(required_unless_present = "program")]
        expression: Option<String>,
        /// A file with a program as `tcpdump -ddd -y EN10MB` writes it, instead of an expression
        #[arg(long, value_name = "FILE", conflicts_with = "expression")]
        program: Option<PathBuf>,
        /// Which way the frames go: in is from the guest
        #[arg(long, value_parser = ["in", "out", "both"], default_value = "both")]
        direction: String,
        /// In front of which rule, counted from 1 [default: behind all]
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
        at: Option<u64>,
    },
    /// Remove a rule about a port's frames
    Remove {
        /// Network
        #[arg(add = ArgValueCompleter::new(names::networks))]
        network: String,
        /// Name of the port
        #[arg(add = ArgValueCompleter::new(names::ports))]
        port: String,
        /// Which rule, as `vmlan filter list` counts them
        number: u64,
    },
}

/// A command about ports.
#[derive(Debug, Subcommand)]
pub enum PortCommand {
    /// Add a port to a running network
    #[command(
        long_about = port_add(),
        after_help = "Example: vmlan port add lab web tap name=vm-web mac=52:54:00:00:00:01 vlan.access=10"
    )]
    Add {
        /// Network
        #[arg(add = ArgValueCompleter::new(names::networks))]
        network: String,
        /// Name of the new port
        name: String,
        /// Kind of its attachment
        #[arg(value_parser = PossibleValuesParser::new(PortKind::ALL.map(PortKind::as_str)))]
        kind: String,
        /// Settings as in the configuration file
        #[arg(value_name = "KEY=VALUE", add = ArgValueCompleter::new(names::keys))]
        settings: Vec<String>,
        /// Only show what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Show a port, and what to write on the other side
    Show {
        #[command(flatten)]
        port: PortName,
        #[command(flatten)]
        watch: Watch,
    },
    /// Let everything pass a port again that `port down` or `enabled = false` stopped
    ///
    /// The configuration file stays as it is.
    Up {
        #[command(flatten)]
        port: PortName,
    },
    /// Let nothing pass a port, as when its cable is pulled out
    ///
    /// A TAP loses its carrier; a guest at a socket keeps its connection and is not told. The configuration file stays
    /// as it is: `enabled = false` there lasts.
    Down {
        #[command(flatten)]
        port: PortName,
    },
    /// Remove a port of a running network
    Remove {
        #[command(flatten)]
        port: PortName,
        /// Only show what would be done
        #[arg(long)]
        dry_run: bool,
    },
}

/// The name of a port, as one word or as two.
#[derive(Debug, Clone, Args)]
pub struct PortName {
    /// Network, or NETWORK/PORT
    #[arg(value_name = "NETWORK[/PORT]", add = ArgValueCompleter::new(names::places))]
    network: String,
    /// Name of the port
    #[arg(value_name = "PORT", add = ArgValueCompleter::new(names::ports))]
    port: Option<String>,
}

impl PortName {
    /// The names of the network and of the port.
    ///
    /// # Errors
    /// When there is no name of a port, or two.
    pub fn parts(&self) -> Result<(&str, &str), String> {
        match (self.network.split_once('/'), &self.port) {
            (Some((network, port)), None) => Ok((network, port)),
            (None, Some(port)) => Ok((&self.network, port)),
            (None, None) => Err(format!("name the port as well: {}/PORT", self.network)),
            (Some(_), Some(_)) => {
                Err("the port is named twice; write NETWORK/PORT or NETWORK PORT".to_owned())
            }
        }
    }
}

/// A command about networks.
#[derive(Debug, Subcommand)]
pub enum NetworkCommand {
    /// Add a network
    ///
    /// The configuration file stays as it is; `vmlan config` shows what to keep.
    #[command(after_help = "Example: vmlan network add lab mtu=9000")]
    Add {
        /// Name of the new network
        #[arg(add = ArgValueCompleter::new(names::networks))]
        network: String,
        /// Settings as in the configuration file: mtu, pass_reserved
        #[arg(value_name = "KEY=VALUE")]
        settings: Vec<String>,
        /// Only show what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove a network, its ports and its trunk
    Remove {
        /// Network
        #[arg(add = ArgValueCompleter::new(names::networks))]
        network: String,
        /// Only show what would be done
        #[arg(long)]
        dry_run: bool,
    },
}

/// How to write the answer.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// JSON instead of text.
    pub json: bool,
    /// JSON without line ends in it: a document a line.
    pub compact: bool,
}
