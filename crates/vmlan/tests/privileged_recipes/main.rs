//! The recipes of docs/recipes: each page's own blocks, run in their order on machines that are namespaces.

mod documents;
mod guest;
mod hosts;
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
    ($($name:ident: $page:literal;)*) => {
        /// The pages whose blocks a test runs.
        const RUN: &[&str] = &[$($page),*];

        $(
            #[test]
            fn $name() {
                $name::run($page);
            }
        )*
    };
}

recipes! {
    laptops: "laptops.md";
    vlans: "vlans.md";
    libvirt: "libvirt.md";
    qemu: "qemu.md";
    hosts: "several-hosts.md";
    replacing_linux_bridge: "replacing-linux-bridge.md";
    replacing_open_vswitch: "replacing-open-vswitch.md";
    replacing_vde: "replacing-vde.md";
    router: "router.md";
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
