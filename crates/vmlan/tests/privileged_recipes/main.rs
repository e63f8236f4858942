//! The recipes of docs/recipes: each page's own blocks, run in their order on machines that are namespaces.

mod documents;
mod guest;
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
    qemu: "qemu.md";
    router: "router.md";
}

/// Takes all steps of a page, each on the machine of its name. A machine that is not there yet is a guest of the first
/// one, whose serial port is the socket NAME.console.
#[track_caller]
fn follow(page: &str, machines: &mut [&mut Machine]) {
    let mut guests = BTreeMap::new();
    for step in recipe::steps(&recipe::text(page)) {
        if let Some(machine) = machines.iter_mut().find(|machine| machine.name() == step.machine) {
            machine.step(&step.action);
            continue;
        }
        let serial = machines[0].work().join(format!("{}.console", step.machine));
        let shell = guests.entry(step.machine).or_insert_with(|| guest::shell(&serial));
        machine::step(shell, &step.action);
    }
}
