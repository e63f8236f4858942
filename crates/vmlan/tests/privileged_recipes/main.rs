//! The recipes of docs/recipes: each page's own blocks, run in their order on machines that are namespaces.

mod documents;
mod guest;
mod libvirt;
mod machine;
#[path = "../support/page.rs"]
mod page;
mod qemu;
mod recipe;
mod router;
#[path = "../support/shell.rs"]
mod shell;
#[path = "../support/mod.rs"]
mod support;

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
    libvirt: "libvirt.md";
    qemu: "qemu.md";
    router: "router.md";
}

/// Takes all steps of a page, each on the machine of its name. A machine that is not there is a guest of the first one,
/// whose serial port is the socket NAME.console.
#[track_caller]
fn follow(page: &str, machines: &mut [&mut Machine]) {
    follow_with(page, machines, |host, name| guest::serial(&host.work().join(format!("{name}.console"))));
}

/// The same, where a guest's shell is opened by `connect`.
#[track_caller]
fn follow_with(page: &str, machines: &mut [&mut Machine], connect: impl Fn(&mut Machine, &str) -> Shell) {
    let mut guests = BTreeMap::new();
    for step in recipe::steps(&recipe::text(page)) {
        match machines.iter_mut().find(|machine| machine.name() == step.machine) {
            Some(machine) => machine.step(&step.action),
            None => {
                let name = &step.machine;
                let shell = guests.entry(name.clone()).or_insert_with(|| connect(machines[0], name));
                machine::step(shell, &step.action);
            }
        }
    }
}
