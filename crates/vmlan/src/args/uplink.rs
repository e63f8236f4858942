//! Arguments of the commands about uplinks.

use std::ffi::OsString;
use std::net::IpAddr;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

use super::Watch;
use crate::names;

/// Whose leases.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct LeasesArguments {
    /// Only those of this network
    #[arg(add = ArgValueCompleter::new(names::networks))]
    pub network: Option<String>,
    #[command(flatten)]
    pub watch: Watch,
    /// The command about one lease.
    #[command(subcommand)]
    pub command: Option<LeasesCommand>,
}

/// A command about one lease.
#[derive(Debug, Subcommand)]
pub enum LeasesCommand {
    /// End a lease, so that another guest may get the address
    ///
    /// A guest that still uses the address loses its connections through the uplink, and asks again when its lease is
    /// due.
    Release {
        /// Network
        #[arg(add = ArgValueCompleter::new(names::networks))]
        network: String,
        /// The address, as `vmlan leases` shows it
        address: IpAddr,
    },
}

/// Whose flows.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct FlowsArguments {
    /// Only those of this network, or of the guest at this port
    #[arg(value_name = "NETWORK[/PORT]", add = ArgValueCompleter::new(names::places))]
    pub which: Option<String>,
    #[command(flatten)]
    pub watch: Watch,
    /// The command about one flow.
    #[command(subcommand)]
    pub command: Option<FlowsCommand>,
}

/// A command about one flow.
#[derive(Debug, Subcommand)]
pub enum FlowsCommand {
    /// End a flow: both sides see a reset
    Close {
        /// Network
        #[arg(add = ArgValueCompleter::new(names::networks))]
        network: String,
        /// Which flow, as `vmlan flows` numbers them
        id: u64,
    },
}

/// A command about forwards.
#[derive(Debug, Subcommand)]
pub enum ForwardCommand {
    /// Let others reach a guest by an address of this host
    ///
    /// The configuration file stays as it is, and what it says is put back when it is applied.
    #[command(after_help = "Examples:\n  vmlan forward add lab 2222=web:22\n  vmlan forward add lab \
                            0.0.0.0:53=dns:53/udp\n  vmlan forward add lab 8000-8010=web\n  vmlan forward add lab \
                            ./db.sock=db:5432")]
    Add {
        /// Network
        #[arg(add = ArgValueCompleter::new(names::networks))]
        network: String,
        /// Where to listen, and which port's guest it leads to, as in the examples. Without an address it listens for
        /// this host alone (127.0.0.1 and ::1)
        #[arg(value_name = "FORWARD")]
        forward: String,
    },
    /// List the forwards
    List {
        /// Only those of this network
        #[arg(add = ArgValueCompleter::new(names::networks))]
        network: Option<String>,
        #[command(flatten)]
        watch: Watch,
    },
    /// Remove a forward, and end what it carries
    Remove {
        /// Network
        #[arg(add = ArgValueCompleter::new(names::networks))]
        network: String,
        /// Which forward, as `vmlan forward list` numbers them
        id: u64,
    },
}

/// How a machine is joined to a network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Attach {
    /// By vhost-user where the command of QEMU shares the machine's memory already, else by a socket
    #[default]
    Auto,
    /// By a stream or datagram socket
    Socket,
    /// By vhost-user: vmlan works in the memory of QEMU's machine, which is shared for that
    VhostUser,
}

/// Which virtual machine, on which network.
#[derive(Debug, Args)]
pub struct VmArguments {
    /// Network [default: the only one, or `lab`]
    #[arg(add = ArgValueCompleter::new(names::networks))]
    pub network: Option<String>,
    /// How the machine is joined to the network
    #[arg(long, value_name = "WAY", value_enum, default_value_t)]
    pub attach: Attach,
    /// The command that runs the machine: qemu-system-…, krunkit or vfkit, without anything about networks
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}
