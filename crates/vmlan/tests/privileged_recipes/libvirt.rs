//! Domains of Debian's libvirt, without KVM and without systemd: the daemons are started here.

use std::fs::File;
use std::path::Path;

use testbed::require;

use crate::guest;
use crate::machine::{Machine, needs};
use crate::shell::Shell;

/// Starts what a system with libvirt has, with directories as the package makes them.
const LIBVIRT: &str = "\
install -d /var/lib/libvirt/images /var/log/libvirt
virtlogd --daemon
libvirtd --daemon
until virsh -c qemu:///system list > /dev/null 2>&1; do sleep 0.1; done
";

#[track_caller]
pub fn follow(page: &str) {
    require!(needs(), qemu());
    require!(tool("virsh"), tool("libvirtd"), tool("virtlogd"), file("/etc/libvirt/qemu.conf"));
    let mut host = Machine::new("host");
    guest::write_system(&host.work());
    host.run(LIBVIRT);
    crate::follow_with(page, &mut [&mut host], terminal);
}

/// The shell of a domain, on the terminal that `virsh console` opens.
#[track_caller]
fn terminal(machines: &mut [&mut Machine], domain: &str) -> Shell {
    let name = machines[0].run(&format!("virsh ttyconsole {domain}"));
    let terminal = File::options().read(true).write(true).open(Path::new(name.trim()));
    let terminal = terminal.unwrap_or_else(|error| panic!("{name}: {error}"));
    guest::shell(terminal.try_clone().expect("a descriptor"), terminal)
}
