//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Networks for virtual machines, from user space.
#[derive(Debug, Parser)]
#[command(
    name = "vmlan",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Arguments {
    /// Control socket of the daemon [default: /run/vmlan/control.sock for root, else
    /// $XDG_RUNTIME_DIR/vmlan/control.sock]
    #[arg(long, global = true, value_name = "SOCKET")]
    pub control: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon in the foreground
    ///
    /// It logs to stderr, reads its configuration again on SIGHUP, and ends in order on SIGTERM or SIGINT.
    Run {
        /// Configuration file; without one the daemon starts with no network
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Check a configuration file
    Check {
        /// Configuration file
        file: PathBuf,
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
        #[command(flatten)]
        output: Output,
    },
    /// Show the state of the daemon
    Status {
        #[command(flatten)]
        output: Output,
    },
    /// List the networks
    Networks {
        #[command(flatten)]
        output: Output,
    },
    /// List the ports
    Ports {
        /// Only those of this network
        network: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// List the forwarding database of a network
    Fdb {
        /// Network
        network: String,
        #[command(flatten)]
        output: Output,
    },
    /// Show what went through the ports
    Counters {
        /// Only this port: PORT or NETWORK/PORT
        port: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Follow what happens
    Events {
        #[command(flatten)]
        output: Output,
    },
    /// Add or remove a port of a running network
    #[command(subcommand)]
    Port(PortCommand),
    /// Show what vmlan does, without root and without any virtual machine
    Demo,
    /// Check this machine for what vmlan needs
    Doctor {
        #[command(flatten)]
        output: Output,
    },
    /// Write a completion script for a shell
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Show the version
    Version {
        #[command(flatten)]
        output: Output,
    },
    /// Write the manual page
    #[command(hide = true)]
    Man,
}

/// What to do with a port.
#[derive(Debug, Subcommand)]
pub enum PortCommand {
    /// Add a port to a running network
    ///
    /// Keys are those of the configuration file: of the kind's table (name=vm-web), or of the port (mac, vlan.access,
    /// vlan.trunk, vlan.native, guard, promiscuous, queue, quota). Lists have commas. The configuration file stays as
    /// it is.
    #[command(
        after_help = "Example: vmlan port add lab web tap name=vm-web mac=52:54:00:00:00:01 vlan.access=10"
    )]
    Add {
        /// Network
        network: String,
        /// Name of the new port
        name: String,
        /// Kind of its attachment
        #[arg(value_parser = ["tap", "stream", "datagram", "vde"])]
        kind: String,
        /// What the configuration file would say
        #[arg(value_name = "KEY=VALUE")]
        settings: Vec<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Remove a port of a running network
    Remove {
        /// Network
        network: String,
        /// Name of the port
        name: String,
        #[command(flatten)]
        output: Output,
    },
}

/// How to write the answer.
#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// Write JSON instead of a table
    #[arg(long)]
    pub json: bool,
}
