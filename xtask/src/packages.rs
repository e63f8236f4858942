//! Debian packages that tests and checks need.

use std::process::Command;

use crate::shell::{Error, has_program, is_root, program, run};

/// A program and the package it is in.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// A program, or an absolute path of a file.
    pub file: &'static str,
    /// Debian's package.
    pub package: &'static str,
}

/// What a program that is linked with libpcap is built with.
pub const LIBPCAP: &str = "/usr/include/pcap/pcap.h";

/// What the tests use. Kernel and busybox of the QEMU guests are downloaded by the tests, not installed.
pub const FOR_TESTS: [Tool; 14] = [
    Tool { file: "ip", package: "iproute2" },
    Tool { file: "ping", package: "iputils-ping" },
    Tool { file: "iperf3", package: "iperf3" },
    Tool { file: "ethtool", package: "ethtool" },
    Tool { file: "tcpdump", package: "tcpdump" },
    Tool { file: "tshark", package: "tshark" },
    Tool { file: LIBPCAP, package: "libpcap-dev" },
    Tool { file: "curl", package: "curl" },
    Tool { file: "cpio", package: "cpio" },
    Tool { file: "qemu-system-x86_64", package: "qemu-system-x86" },
    Tool { file: "vde_plug", package: "vdeplug" },
    Tool { file: "vde_plug2tap", package: "vde2" },
    Tool { file: "vde_switch", package: "vde-switch" },
    Tool { file: "passt", package: "passt" },
];

/// What the benchmark uses.
pub const FOR_BENCH: [Tool; 6] = [
    Tool { file: "ip", package: "iproute2" },
    Tool { file: "ping", package: "iputils-ping" },
    Tool { file: "iperf3", package: "iperf3" },
    Tool { file: "ethtool", package: "ethtool" },
    Tool { file: "vde_switch", package: "vde-switch" },
    Tool { file: "vde_plug2tap", package: "vde2" },
];

impl Tool {
    fn is_missing(&self) -> bool {
        if self.file.starts_with('/') {
            !std::path::Path::new(self.file).exists()
        } else {
            !has_program(self.file)
        }
    }
}

/// Packages of the tools that are missing, each once.
fn missing(tools: &[Tool]) -> Vec<&'static str> {
    let mut packages: Vec<_> =
        tools.iter().filter(|tool| tool.is_missing()).map(|tool| tool.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// Installs what is missing when root. Returns what is missing still, after saying so: `what` names what will be left out.
///
/// # Errors
/// When root, and apt fails.
pub fn ensure(tools: &[Tool], what: &str) -> Result<Vec<&'static str>, Error> {
    let wanted = missing(tools);
    if wanted.is_empty() {
        return Ok(wanted);
    }
    if is_root() && has_program("apt-get") {
        eprintln!("installing packages: {}", wanted.join(" "));
        refresh()?;
        run(apt(["install", "--yes", "--no-install-recommends", "-qq"]).args(&wanted))?;
        return Ok(Vec::new());
    }
    let list = wanted.join(" ");
    eprintln!("MISSING packages: {list}\n  {what}; run this as root, or `sudo apt-get install {list}`");
    Ok(wanted)
}

/// Brings apt's lists up to date: old ones name packages that are gone.
///
/// # Errors
/// When apt fails.
pub fn refresh() -> Result<(), Error> {
    run(apt(["update"]).arg("-qq"))
}

fn apt<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = program("apt-get", ["-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Use-Pty=0"]);
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_package_is_named_once() {
        let tools = [
            Tool { file: "no-such-program-b", package: "two" },
            Tool { file: "no-such-program-a", package: "one" },
            Tool { file: "/no/such/file", package: "two" },
            Tool { file: "sh", package: "dash" },
        ];

        assert_eq!(missing(&tools), ["one", "two"]);
    }
}
