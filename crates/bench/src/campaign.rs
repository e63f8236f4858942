//! Who is measured when.
//!
//! In each round every peer is measured once, so that whatever changes from minute to minute changes for all of them alike, and each round
//! begins with another peer. A peer that fails in a round is left out of that round and tried again in the next. A request to end is
//! looked at between measurements.

use std::fmt::Display;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::attempt::attempt;
use crate::interrupt;
use crate::machine::wait_for_quiet;
use crate::measure::{self, Placement};
use crate::peer::{Peer, Programs};
use crate::progress::Progress;
use crate::report::{Figures, Run, Sample, Settings};
use crate::world::World;

/// Measurements of a peer in a round.
const MEASUREMENTS: u32 = 4;

/// A benchmark to run.
pub struct Campaign {
    settings: Settings,
    patience: Duration,
    peers: Vec<Peer>,
    programs: Programs,
    progress: Progress,
}

impl Campaign {
    /// Of these peers.
    pub fn new(settings: Settings, patience: Duration, peers: Vec<Peer>, programs: Programs) -> Campaign {
        // Namespaces and programs take a second or so for each peer.
        let guess = Duration::from_secs_f64(settings.seconds + 1.0);
        let progress = Progress::new(settings.rounds * peers.len() as u32 * MEASUREMENTS, guess);
        Campaign { settings, patience, peers, programs, progress }
    }

    /// Runs all rounds, or those until the user has enough.
    pub fn run(mut self) -> Vec<Run> {
        let mut runs = Vec::new();
        for round in 1..=self.settings.rounds {
            for peer in order(&self.peers, round) {
                let before = self.progress.done();
                let result = attempt(|| self.measure(round, peer));
                // What Ctrl-C broke did not fail.
                if interrupt::requested() {
                    return runs;
                }
                let figures = result.map_err(|error| {
                    eprintln!("\nerror: round {round}: {}: {error:#}", peer.name());
                    format!("{error:#}")
                });
                self.progress.advance(before + MEASUREMENTS - self.progress.done());
                runs.push(Run { round, peer, figures });
            }
        }
        runs
    }

    fn measure(&mut self, round: u32, peer: Peer) -> anyhow::Result<Figures> {
        let duration = Duration::from_secs_f64(self.settings.seconds);
        let mut world = World::new()?;
        peer.join(&mut world, &self.programs)?;
        world.settle()?;
        let tcp = self.step(round, peer, "TCP", || measure::tcp(&world, duration))?;
        let rate = self.step(round, peer, "64-octet packets", || measure::packet_rate(&world, duration))?;
        let round_trip =
            self.step(round, peer, "round trip", || measure::round_trip(&world, Placement::Apart))?;
        let round_trip_one_cpu = self.step(round, peer, "round trip on one processor", || {
            measure::round_trip(&world, Placement::Together)
        })?;
        world.check()?;
        Ok(Figures { tcp, rate, round_trip, round_trip_one_cpu })
    }

    fn step<T: Display>(
        &mut self,
        round: u32,
        peer: Peer,
        what: &str,
        measure: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<Sample<T>> {
        let (name, rounds) = (peer.name(), self.settings.rounds);
        eprint!("{} round {round} of {rounds}, {name}, {what}: ", self.progress.prefix());
        // Only for the eye; a closed standard error shall not end the measurement.
        let _ = io::stderr().flush();
        let quiet = wait_for_quiet(self.patience, interrupt::requested).context("/proc/stat")?;
        if interrupt::requested() {
            bail!("interrupted");
        }
        let value = measure().context(what.to_owned())?;
        if quiet.is_noisy() {
            eprintln!("{value}  (noisy: the machine was {:.0} % busy before)", quiet.busy * 100.0);
        } else {
            eprintln!("{value}");
        }
        self.progress.advance(1);
        Ok(Sample { value, busy_before: quiet.busy, noisy: quiet.is_noisy() })
    }
}

/// Each round begins with another peer, since the first may find the machine otherwise than the last.
fn order(peers: &[Peer], round: u32) -> Vec<Peer> {
    let mut peers = peers.to_vec();
    let first = (round as usize - 1) % peers.len().max(1);
    peers.rotate_left(first);
    peers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_begins_with_another_peer() {
        let peers = [Peer::Vmlan, Peer::Bridge, Peer::RelayUring];

        let first: Vec<Peer> = (1..=4).map(|round| order(&peers, round)[0]).collect();

        assert_eq!(first, [Peer::Vmlan, Peer::Bridge, Peer::RelayUring, Peer::Vmlan]);
        assert_eq!(order(&peers, 2), [Peer::Bridge, Peer::RelayUring, Peer::Vmlan]);
    }
}
