//! The state behind `vmlan top`: ports with their rates, and what the user chose to see.
//!
//! It does no I/O and reads no clock: answers of the daemon, keys and the time come in by calls, and [`super::view`]
//! draws what is there. Times count from the start of the command. All texts of the daemon are escaped on their way in.
//!
//! A rate is the difference between two answers in a row. After an answer that did not come nothing is compared: the
//! daemon may have been another one in between.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use vmlan_api::{Port, PortState, escaped, is_plain};

use super::rate::{History, Rates, Totals};

/// Times between two questions to the daemon.
pub const INTERVALS: [Duration; 5] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];
/// The first of them that is used: one second.
const FIRST_INTERVAL: usize = 1;
/// Characters of a filter.
const LONGEST_FILTER: usize = 64;
/// Time without an answer after which the daemon is said to be slow.
const PATIENCE: Duration = Duration::from_secs(3);

/// The network and the name of a port, escaped.
pub type Name = (String, String);

/// A port as it is shown.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// Its kind, state, peer and reason, for people.
    pub about: String,
    /// State of the port.
    pub state: PortState,
    /// Its drops by reason: `storm=2 queue_full=1`.
    pub reasons: String,
    /// Counters of the last answer.
    pub totals: Totals,
    /// Changes a second at the last answer.
    pub rates: Rates,
    /// Bits a second, both ways, in the last minute.
    pub history: History,
}

/// The order of ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// The most bits a second first.
    #[default]
    Rate,
    /// The most drops a second first; of those alike the most drops ever.
    Drops,
    /// By network and name.
    Name,
}

impl Order {
    /// The order as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Drops => "drops",
            Self::Name => "name",
        }
    }
}

/// Something that the terminal's side has to do after a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Draw, and nothing else.
    Draw,
    /// Ask the daemon so often.
    Interval(Duration),
    /// End.
    End,
}

/// The ports, and the user's view of them.
#[derive(Debug, Default)]
pub struct Model {
    rows: BTreeMap<Name, Row>,
    order: Order,
    filter: String,
    /// The filter as it was before it is typed in, while it is.
    typing: Option<String>,
    help: bool,
    selected: Option<Name>,
    /// The first row that is drawn, and how many were last time.
    offset: usize,
    page: usize,
    interval: usize,
    /// The time of the last answer, if there was one, and whether the next can be compared with it.
    answered: Option<Duration>,
    is_comparable: bool,
    trouble: Option<String>,
}

impl Model {
    /// A model without ports.
    pub fn new() -> Self {
        Self { interval: FIRST_INTERVAL, ..Self::default() }
    }

    /// Takes an answer of the daemon, which came at `now`.
    pub fn take(&mut self, ports: &[Port], now: Duration) {
        let before = self.answered.filter(|_| self.is_comparable);
        let mut old = std::mem::take(&mut self.rows);
        for port in ports {
            let name = (escaped(&port.network).into_owned(), escaped(&port.port).into_owned());
            let known = old.remove(&name);
            let totals = Totals::of(&port.counters);
            let rates = before.zip(known.as_ref()).and_then(|(before, known)| {
                let rates = Rates::between(known.totals, totals, now.saturating_sub(before))?;
                Some((before, rates))
            });
            let mut history = known.map(|known| known.history).unwrap_or_default();
            if let Some((before, rates)) = rates {
                history.add(before, now, rates.bits());
            }
            let rates = rates.map(|(_, rates)| rates).unwrap_or_default();
            let row =
                Row { about: about(port), state: port.state, reasons: reasons(port), totals, rates, history };
            self.rows.insert(name, row);
        }
        if self.selected.as_ref().is_some_and(|name| !self.rows.contains_key(name)) {
            self.selected = None;
        }
        (self.answered, self.is_comparable, self.trouble) = (Some(now), true, None);
    }

    /// Notes that there was no answer, and why. The ports stay as they were, without rates.
    pub fn lose(&mut self, why: &str) {
        self.trouble = Some(escaped(why.lines().next().unwrap_or_default()).into_owned());
        self.is_comparable = false;
        for row in self.rows.values_mut() {
            row.rates = Rates::default();
        }
    }

    /// The trouble with the daemon, if there is any.
    pub fn trouble(&self, now: Duration) -> Option<String> {
        if let Some(trouble) = &self.trouble {
            return Some(format!("trying again: {trouble}"));
        }
        let silent = now.saturating_sub(self.answered.unwrap_or_default());
        let is_long = silent > PATIENCE + INTERVALS[self.interval];
        is_long.then(|| format!("no answer of the daemon for {} s", silent.as_secs()))
    }

    /// Takes a key.
    pub fn press(&mut self, key: KeyEvent) -> Action {
        if key.kind == KeyEventKind::Release {
            return Action::Draw;
        }
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        if is_control && matches!(key.code, KeyCode::Char('c')) {
            return Action::End;
        }
        if self.help {
            self.help = false;
            return if key.code == KeyCode::Char('q') { Action::End } else { Action::Draw };
        }
        if self.typing.is_some() {
            self.type_in(key.code, is_control);
            return Action::Draw;
        }
        let page = isize::try_from(self.page.max(1)).unwrap_or(isize::MAX);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Action::End,
            KeyCode::Char('?') | KeyCode::F(1) => self.help = true,
            KeyCode::Char('/') => self.typing = Some(self.filter.clone()),
            KeyCode::Char('r') => self.sort(Order::Rate),
            KeyCode::Char('d') => self.sort(Order::Drops),
            KeyCode::Char('n') => self.sort(Order::Name),
            KeyCode::Char('+' | '=') => return self.ask(self.interval + 1),
            KeyCode::Char('-') => return self.ask(self.interval.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::PageDown | KeyCode::Char(' ') => self.step(page),
            KeyCode::PageUp => self.step(-page),
            KeyCode::End => self.step(isize::MAX),
            KeyCode::Home => (self.selected, self.offset) = (None, 0),
            _ => {}
        }
        Action::Draw
    }

    /// Takes a key that belongs to the filter.
    fn type_in(&mut self, code: KeyCode, is_control: bool) {
        match code {
            KeyCode::Enter => self.typing = None,
            KeyCode::Esc => self.filter = self.typing.take().unwrap_or_default(),
            KeyCode::Char('u') if is_control => self.filter.clear(),
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(character)
                if !is_control && is_plain(character) && self.filter.chars().count() < LONGEST_FILTER =>
            {
                self.filter.push(character);
            }
            _ => {}
        }
        self.offset = 0;
    }

    fn sort(&mut self, order: Order) {
        (self.order, self.offset) = (order, 0);
    }

    fn ask(&mut self, interval: usize) -> Action {
        self.interval = interval.min(INTERVALS.len() - 1);
        Action::Interval(INTERVALS[self.interval])
    }

    /// Selects another row; the first step selects the first row that is seen.
    fn step(&mut self, by: isize) {
        let shown = self.shown();
        let Some(last) = shown.len().checked_sub(1) else { return };
        let place = shown.iter().position(|(name, _)| Some(*name) == self.selected.as_ref());
        let place = match place {
            Some(place) => place.saturating_add_signed(by),
            None => self.offset.saturating_add_signed(by.saturating_sub(by.signum())),
        };
        self.selected = Some(shown[place.min(last)].0.clone());
    }

    /// The ports that pass the filter, in their order.
    pub fn shown(&self) -> Vec<(&Name, &Row)> {
        let wanted = self.filter.to_lowercase();
        let passes = |(network, port): &Name| format!("{network}/{port}").to_lowercase().contains(&wanted);
        let mut shown: Vec<_> = self.rows.iter().filter(|(name, _)| passes(name)).collect();
        // The map is in the order of names, which a stable sort keeps for rows that are alike.
        let larger_first = |a: f64, b: f64| b.total_cmp(&a);
        match self.order {
            Order::Rate => shown.sort_by(|(_, a), (_, b)| larger_first(a.rates.bits(), b.rates.bits())),
            Order::Drops => shown.sort_by(|(_, a), (_, b)| {
                let now = larger_first(a.rates.drops, b.rates.drops);
                if now == Ordering::Equal { b.totals.drops.cmp(&a.totals.drops) } else { now }
            }),
            Order::Name => {}
        }
        shown
    }

    /// Brings the part of `count` rows that is seen to where the selected one is, for a page of so many rows. Returns
    /// its first row.
    pub fn scroll(&mut self, page: usize, count: usize, selected: Option<usize>) -> usize {
        self.page = page;
        if let Some(selected) = selected {
            self.offset = self.offset.min(selected).max((selected + 1).saturating_sub(page));
        }
        self.offset = self.offset.min(count.saturating_sub(page));
        self.offset
    }

    /// The time of the last answer.
    pub fn answered(&self) -> Duration {
        self.answered.unwrap_or_default()
    }

    /// Every port, whether it passes the filter or not.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    /// The port that is selected.
    pub fn selected(&self) -> Option<&Name> {
        self.selected.as_ref()
    }

    /// The order of the ports.
    pub fn order(&self) -> Order {
        self.order
    }

    /// The part of names that is looked for, and whether it is being typed.
    pub fn filter(&self) -> (&str, bool) {
        (&self.filter, self.typing.is_some())
    }

    /// True while the keys are explained.
    pub fn help(&self) -> bool {
        self.help
    }

    /// Time between two questions to the daemon.
    pub fn interval(&self) -> Duration {
        INTERVALS[self.interval]
    }
}

fn about(port: &Port) -> String {
    let mut about = format!("{}, {}", port.kind.as_str(), port.state.as_str());
    for text in [&port.peer, &port.reason].into_iter().flatten() {
        about.push_str(", ");
        about.push_str(&escaped(text));
    }
    about
}

fn reasons(port: &Port) -> String {
    let counted = port.counters.drops.iter().filter(|(_, count)| **count > 0);
    let reasons: Vec<_> = counted.map(|(reason, count)| format!("{}={count}", escaped(reason))).collect();
    reasons.join(" ")
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
