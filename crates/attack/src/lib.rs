#![forbid(unsafe_code)]
//! Attacks on a running vmlan, beside honest guests that must not notice anything.
//!
//! [`run`] starts a daemon with two probes' ports and those of an [`Attack`], and lets attackers loose on it while the
//! probes exchange a thousand numbered frames a second. Afterwards it looks whether frames were lost or repeated, how
//! much later they came than without the attack, and whether process, descriptors, memory, ports, books and log are as
//! they have to be. What an attack is to break beside that, it looks at itself.
//!
//! | Module | Is |
//! |---|---|
//! | `attack` | an attack, and the field on which it takes place |
//! | `themes` | all attacks, a module for each theme |
//! | `arena` | one attack from start to end |
//! | `probe` | two honest guests, their losses and latencies |
//! | `daemon` | the daemon, seen from outside |
//! | `books` | the rule by which its books balance |
//! | `peers`, `wire` | attackers' clients and frames |
//! | `vhost` | a front end of vhost-user and its guest |
//! | `shape` | the machine's processors, and so the bound for latencies |
//! | `report` | outcomes as a table, Markdown and JSON |
//!
//! Attackers are threads of this process, each of the lowest priority and on other processors than the daemon; those
//! that are another user change their thread's ids.

mod arena;
mod attack;
pub mod books;
mod daemon;
mod peers;
mod probe;
mod report;
mod shape;
pub mod themes;
mod vhost;
mod wire;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub use arena::{Outcome, Settings, Suffered, run};
pub use attack::{Attack, Card, Field, Held, Judged, Stage, Start};
pub use peers::Honest;
pub use probe::Figures;
pub use report::{Report, line};
pub use shape::Shape;

/// Lets this process, and what it starts, have as many descriptors as it may.
///
/// # Errors
/// Errors of setrlimit(2).
pub fn raise_limit() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).context("the limit of open files")
}

/// The names of the attacks that need privileges, or of those that need none.
pub fn names(privileged: bool) -> Vec<&'static str> {
    let cards = themes::ALL.iter().flat_map(|theme| theme.attacks).map(|attack| attack.card());
    cards.filter(|card| (card.stage != Stage::Sockets) == privileged).map(|card| card.name).collect()
}

/// Tries an attack for a moment, and judges no time.
///
/// # Panics
/// When there is no such attack, when it cannot be carried out, and when a promise does not hold.
#[track_caller]
pub fn try_briefly(vmlan: &Path, name: &str) {
    let settings = Settings {
        vmlan: vmlan.to_owned(),
        rounds: 1,
        time: Duration::from_millis(300),
        limit: None,
        patience: Duration::from_secs(20),
        is_short: true,
    };
    let chosen = themes::choose(&[name.to_owned()]);
    let attack = chosen.ok().and_then(|attacks| attacks.first().copied()).expect("there is such an attack");
    let outcome = run(attack, &settings);
    assert!(outcome.holds(), "{} ({}): {}", outcome.name, outcome.about, line(&outcome));
}
