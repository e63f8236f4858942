//! The recipes of docs/recipes: each page's own blocks, run in their order on machines that are namespaces.

mod documents;
mod guest;
mod hosts;
mod interfaces;
mod laptops;
mod libvirt;
mod machine;
#[path = "../support/page.rs"]
mod page;
mod qemu;
mod recipe;
mod replacing_linux_bridge;
mod replacing_open_vswitch;
mod replacing_vde;
mod router;
#[path = "../support/shell.rs"]
mod shell;
#[path = "../support/mod.rs"]
mod support;
mod vlans;

use std::collections::BTreeMap;

use machine::Machine;
use shell::Shell;

/// Makes a test of each page that is run, and a list of these pages.
macro_rules! recipes {
    ($($name:ident: $page:literal, $follow:path;)*) => {
        /// The pages whose blocks a test runs.
        const RUN: &[&str] = &[$($page),*];

        $(
            #[test]
            fn $name() {
                $follow($page);
            }
        )*
    };
}

recipes! {
    containers: "containers.md", interfaces::containers;
    hosts: "several-hosts.md", hosts::follow;
    killed: "killed.md", interfaces::namespaces;
    laptops: "laptops.md", laptops::follow;
    libvirt: "libvirt.md", libvirt::follow;
    namespaces: "namespaces.md", interfaces::namespaces;
    other_user: "other-user.md", interfaces::other_user;
    qemu: "qemu.md", qemu::follow;
    qemu_tap: "qemu-tap.md", qemu::follow;
    replacing_linux_bridge: "replacing-linux-bridge.md", replacing_linux_bridge::follow;
    replacing_open_vswitch: "replacing-open-vswitch.md", replacing_open_vswitch::follow;
    replacing_vde: "replacing-vde.md", replacing_vde::follow;
    router: "router.md", router::follow;
    vlans: "vlans.md", vlans::follow;
}

/// Takes all steps of a page, each on the machines of its names. A machine that is not there is a guest, whose serial
/// port is the socket NAME.console of one of the others.
#[track_caller]
fn follow(page: &str, machines: &mut [&mut Machine]) {
    follow_with(page, machines, |machines, name| {
        let paths = machines.iter().map(|machine| machine.work().join(format!("{name}.console")));
        guest::serial(&paths.collect::<Vec<_>>())
    });
}

/// The same, where a guest's shell is opened by `connect`.
#[track_caller]
fn follow_with(
    page: &str,
    machines: &mut [&mut Machine],
    connect: impl Fn(&mut [&mut Machine], &str) -> Shell,
) {
    let mut guests = BTreeMap::new();
    for step in recipe::steps(&recipe::text(page)) {
        for name in &step.machines {
            if let Some(machine) = machines.iter_mut().find(|machine| machine.name() == name) {
                machine.step(&step.action);
                continue;
            }
            let shell = guests.entry(name.clone()).or_insert_with(|| connect(machines, name));
            machine::step(shell, &step.action);
        }
    }
}
