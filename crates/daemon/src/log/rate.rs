//! How often the log says the same.
//!
//! Theory of operation. Lines are alike when one place of the program writes them about one port ([`Key`]). Of lines
//! that are alike the first [`BURST`] pass within a [`WINDOW`], the first one at once; the rest is counted. When the
//! window ends with lines held back, a summary tells how many, and the next window lets one through. A window in which
//! nothing was held back ends the account: what comes then is new. Pure: the time is an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tracing::Level;
use tracing::callsite::Identifier;

/// Lines that are alike and pass at first.
pub(super) const BURST: u32 = 3;
/// How long a window is.
pub(super) const WINDOW: Duration = Duration::from_secs(10);
/// Accounts at most; lines beyond share one.
const ROWS: usize = 1024;
/// How often all accounts are looked at, at most.
const SWEEP: Duration = Duration::from_secs(1);

/// The source of a line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Source {
    Callsite(Identifier),
    /// A panic, by file and line.
    Panic(String),
    /// All for which there is no account.
    Others,
}

/// The source and the place that similar lines share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) source: Source,
    /// The port or trunk; the clients of a port count as the port.
    pub(super) place: String,
}

/// Lines that were held back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) count: u64,
    pub(super) level: Level,
    /// The text of the last one.
    pub(super) sample: String,
}

#[derive(Debug)]
struct Row {
    until: Instant,
    left: u32,
    held: Option<Held>,
}

/// The accounts of all lines.
#[derive(Debug, Default)]
pub(super) struct Rates {
    rows: HashMap<Key, Row>,
    swept: Option<Instant>,
}

impl Rates {
    /// Counts a line; true if it may pass. Ask [`Rates::due`] first, so that no window is over.
    pub(super) fn admit(&mut self, mut key: Key, level: Level, text: &str, now: Instant) -> bool {
        if self.rows.len() >= ROWS && !self.rows.contains_key(&key) {
            key = Key { source: Source::Others, place: String::new() };
        }
        let row = self.rows.entry(key).or_insert(Row { until: now + WINDOW, left: BURST, held: None });
        if row.left > 0 {
            row.left -= 1;
            return true;
        }
        let count = row.held.as_ref().map_or(0, |held| held.count) + 1;
        row.held = Some(Held { count, level, sample: text.to_owned() });
        false
    }

    /// Takes the lines that were held back in windows that are over.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Held> {
        if self.swept.is_some_and(|swept| now < swept + SWEEP) {
            return Vec::new();
        }
        self.swept = Some(now);
        let mut due = Vec::new();
        self.rows.retain(|_, row| {
            if now < row.until {
                return true;
            }
            let Some(held) = row.held.take() else { return false };
            due.push(held);
            (row.until, row.left) = (now + WINDOW, 1);
            true
        });
        due
    }

    /// When there is a summary to write next.
    pub(super) fn next(&self) -> Option<Instant> {
        let until = self.rows.values().filter(|row| row.held.is_some()).map(|row| row.until).min()?;
        Some(self.swept.map_or(until, |swept| until.max(swept + SWEEP)))
    }

    /// Everything that is held back, for the end.
    pub(super) fn rest(&mut self) -> Vec<Held> {
        self.rows.drain().filter_map(|(_, row)| row.held).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(source: usize, place: &str) -> Key {
        Key { source: Source::Panic(source.to_string()), place: place.to_owned() }
    }

    /// Asks as the log does.
    fn say(rates: &mut Rates, key: &Key, now: Instant) -> (bool, u64) {
        let due = rates.due(now).iter().map(|held| held.count).sum();
        (rates.admit(key.clone(), Level::WARN, "text", now), due)
    }

    #[test]
    fn the_first_pass_at_once_and_the_rest_is_counted() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        let (a, b) = (key(1, "lab/a"), key(1, "lab/b"));
        let passed = (0..100).filter(|_| say(&mut rates, &a, start).0).count();
        assert_eq!(passed, BURST as usize);
        assert!(say(&mut rates, &b, start).0, "another port has an account of its own");
        assert!(say(&mut rates, &key(2, "lab/a"), start).0, "and so has another place of the program");
        assert_eq!(rates.next(), Some(start + WINDOW));
        assert_eq!(
            rates.due(start + WINDOW),
            [Held { count: 97, level: Level::WARN, sample: "text".into() }]
        );
        assert_eq!(rates.next(), None);
    }

    #[test]
    fn what_goes_on_is_said_once_a_window_and_none_is_forgotten() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        let a = key(1, "lab/a");
        let (mut passed, mut summaries, mut counted) = (0, 0, 0);
        for step in 0..6_000_u32 {
            let (admitted, due) = say(&mut rates, &a, start + Duration::from_millis(10) * step);
            passed += u64::from(admitted);
            summaries += u64::from(due > 0);
            counted += due;
        }
        counted += rates.rest().iter().map(|held| held.count).sum::<u64>();
        assert_eq!(passed + counted, 6_000);
        assert!(passed + summaries <= 16, "{passed} lines and {summaries} summaries in a minute");
    }

    #[test]
    fn after_a_quiet_window_everything_is_new() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        let a = key(1, "lab/a");
        for _ in 0..10 {
            say(&mut rates, &a, start);
        }
        rates.due(start + WINDOW);
        rates.due(start + WINDOW * 2);
        let later = start + WINDOW * 3;
        let passed = (0..10).filter(|_| say(&mut rates, &a, later).0).count();
        assert_eq!(passed, BURST as usize);
    }

    #[test]
    fn the_accounts_are_bounded() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        let passed = (0..10_000).filter(|number| say(&mut rates, &key(*number, ""), start).0).count();
        assert_eq!(passed, ROWS + BURST as usize);
        assert_eq!(rates.rows.len(), ROWS + 1);
    }
}
