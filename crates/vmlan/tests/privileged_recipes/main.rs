//! The recipes of docs/recipes: each page's own blocks, run in their order on machines that are namespaces.

mod documents;
mod machine;
#[path = "../support/page.rs"]
mod page;
mod recipe;
mod router;
#[path = "../support/shell.rs"]
mod shell;
#[path = "../support/mod.rs"]
mod support;

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
    router: "router.md";
}

/// Takes all steps of a page, each on the machine of its name.
#[track_caller]
fn follow(page: &str, machines: &mut [&mut Machine]) {
    for step in recipe::steps(&recipe::text(page)) {
        let machine = machines.iter_mut().find(|machine| machine.name() == step.machine);
        machine.unwrap_or_else(|| panic!("{page} has a step on {}", step.machine)).step(&step.action);
    }
}
