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

/// The packages for a program that is linked with libpcap.
pub const LIBPCAP: &str = "/usr/include/pcap/pcap.h";

/// The tools of the tests. Kernel and busybox of the QEMU guests are downloaded by the tests, not installed.
pub const FOR_TESTS: [Tool; 37] = [
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
    Tool { file: "tc", package: "iproute2" },
    Tool { file: "bpftool", package: "bpftool" },
    Tool { file: "nft", package: "nftables" },
    Tool { file: "iptables", package: "iptables" },
    Tool { file: "dnsmasq", package: "dnsmasq-base" },
    Tool { file: "busybox", package: "busybox" },
    Tool { file: "dhclient", package: "isc-dhcp-client" },
    Tool { file: "dhcpcd", package: "dhcpcd-base" },
    Tool { file: "/usr/lib/systemd/systemd-networkd", package: "systemd" },
    Tool { file: "dig", package: "bind9-dnsutils" },
    Tool { file: "traceroute", package: "traceroute" },
    Tool { file: "hping3", package: "hping3" },
    Tool { file: "dpdk-testpmd", package: "dpdk-dev" },
    Tool { file: "promtool", package: "prometheus" },
    Tool { file: "chromium", package: "chromium" },
    Tool { file: "node", package: "nodejs" },
    Tool { file: "npm", package: "npm" },
    Tool { file: "python3", package: "python3-venv" },
    Tool { file: "crun", package: "crun" },
    Tool { file: "virsh", package: "libvirt-clients" },
    Tool { file: "/etc/libvirt/qemu.conf", package: "libvirt-daemon-system" },
    Tool { file: "vtysh", package: "frr" },
    Tool { file: "ovs-vswitchd", package: "openvswitch-switch" },
];

/// The tools that the benchmark cannot do without.
pub const FOR_BENCH: [Tool; 4] = [
    Tool { file: "ip", package: "iproute2" },
    Tool { file: "ping", package: "iputils-ping" },
    Tool { file: "iperf3", package: "iperf3" },
    Tool { file: "ethtool", package: "ethtool" },
];

/// The programs that the benchmark compares with.
pub const PEERS: [Tool; 9] = [
    Tool { file: "vde_switch", package: "vde-switch" },
    Tool { file: "vde_plug2tap", package: "vde2" },
    Tool { file: "ovs-vswitchd", package: "openvswitch-switch" },
    Tool { file: "slirp4netns", package: "slirp4netns" },
    Tool { file: "pasta", package: "passt" },
    Tool { file: "dnsmasq", package: "dnsmasq-base" },
    Tool { file: "nft", package: "nftables" },
    Tool { file: "dpdk-testpmd", package: "dpdk-dev" },
    Tool { file: "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk", package: "openvswitch-switch-dpdk" },
];

/// Forbids packages to start their services (policy-rc.d of invoke-rc.d(8)) while the command in its arguments runs,
/// and puts back what was there, also when it is interrupted.
const WITHOUT_SERVICES: &str = "\
policy=/usr/sbin/policy-rc.d
kept=
restore() { rm -f \"$policy\"; [ -z \"$kept\" ] || mv \"$kept\" \"$policy\"; }
trap 'exit 130' INT TERM HUP
trap restore EXIT
if [ -e \"$policy\" ]; then kept=$policy.vmlan; mv \"$policy\" \"$kept\"; fi
printf '#!/bin/sh\\nexit 101\\n' >\"$policy\"
chmod 755 \"$policy\"
\"$@\"
";

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

/// Installs what is missing when root. Returns what is missing still, after saying so: `what` names what will be left
/// out.
///
/// # Errors
/// When root, and apt fails.
pub fn ensure(tools: &[Tool], what: &str) -> Result<Vec<&'static str>, Error> {
    install(tools, what, |command| command)
}

/// The same for packages whose services nobody wants: they are not started.
///
/// # Errors
/// When root, and apt fails.
pub fn ensure_without_services(tools: &[Tool], what: &str) -> Result<Vec<&'static str>, Error> {
    install(tools, what, without_services)
}

fn install(
    tools: &[Tool],
    what: &str,
    wrapped: impl FnOnce(Command) -> Command,
) -> Result<Vec<&'static str>, Error> {
    let wanted = missing(tools);
    if wanted.is_empty() {
        return Ok(wanted);
    }
    if is_root() && has_program("apt-get") {
        eprintln!("installing packages: {}", wanted.join(" "));
        refresh()?;
        let mut install = apt(["install", "--yes", "--no-install-recommends", "-qq"]);
        install.args(&wanted);
        run(&mut wrapped(install))?;
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

fn without_services(command: Command) -> Command {
    let mut shell = program("sh", ["-e", "-c", WITHOUT_SERVICES, "sh"]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            shell.env(name, value);
        }
    }
    shell
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrapped_keeps_its_arguments_and_environment() {
        let wrapped = without_services(apt(["install", "a package"]));

        let arguments: Vec<_> = wrapped.get_args().collect();
        assert_eq!(arguments[3..5], ["sh", "apt-get"]);
        assert_eq!(arguments[arguments.len() - 2..], ["install", "a package"]);
        assert!(wrapped.get_envs().any(|(name, _)| name == "DEBIAN_FRONTEND"));
    }

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
