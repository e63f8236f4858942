//! Rates from the differences of counters, and their last minute.

use std::collections::VecDeque;
use std::time::Duration;

/// The time that a [`History`] covers.
pub const MINUTE: Duration = Duration::from_secs(60);
/// Rates that a history keeps at most, whatever the clock says.
const MOST: usize = 600;
/// Bars of an eighth, two eighths … of a line.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Counters of which rates are shown, since the port was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Octets from the guest.
    pub rx_octets: u64,
    /// Octets to the guest.
    pub tx_octets: u64,
    /// Frames from the guest.
    pub rx_frames: u64,
    /// Frames to the guest.
    pub tx_frames: u64,
    /// Frames dropped.
    pub drops: u64,
}

impl Totals {
    /// The totals of a port.
    pub fn of(counters: &vmlan_api::Counters) -> Self {
        Self {
            rx_octets: counters.rx_octets,
            tx_octets: counters.tx_octets,
            rx_frames: counters.rx_frames,
            tx_frames: counters.tx_frames,
            drops: counters.drops.values().fold(0, |sum, count| sum.saturating_add(*count)),
        }
    }
}

/// Changes a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    /// Bits from the guest.
    pub rx_bits: f64,
    /// Bits to the guest.
    pub tx_bits: f64,
    /// Frames from the guest.
    pub rx_frames: f64,
    /// Frames to the guest.
    pub tx_frames: f64,
    /// Frames dropped.
    pub drops: f64,
}

impl Rates {
    /// The rates between two totals; none when one of them went back, for then the port was made anew between them, or
    /// when no time passed.
    pub fn between(before: Totals, after: Totals, elapsed: Duration) -> Option<Self> {
        let seconds = elapsed.as_secs_f64();
        if seconds <= 0.0 {
            return None;
        }
        let rate = |before: u64, after: u64| Some(after.checked_sub(before)? as f64 / seconds);
        Some(Self {
            rx_bits: rate(before.rx_octets, after.rx_octets)? * 8.0,
            tx_bits: rate(before.tx_octets, after.tx_octets)? * 8.0,
            rx_frames: rate(before.rx_frames, after.rx_frames)?,
            tx_frames: rate(before.tx_frames, after.tx_frames)?,
            drops: rate(before.drops, after.drops)?,
        })
    }

    /// Bits both ways.
    pub fn bits(&self) -> f64 {
        self.rx_bits + self.tx_bits
    }
}

/// A rate, and the time that it is of.
#[derive(Debug, Clone, Copy)]
struct Span {
    from: Duration,
    to: Duration,
    rate: f64,
}

/// The rates of the last minute, the oldest first. Where nothing was heard it has gaps.
#[derive(Debug, Clone, Default)]
pub struct History {
    spans: VecDeque<Span>,
}

impl History {
    /// Adds a rate, which was that between two times, and forgets what is older than a minute.
    pub fn add(&mut self, from: Duration, to: Duration, rate: f64) {
        self.spans.push_back(Span { from, to, rate });
        let oldest = to.saturating_sub(MINUTE);
        while self.spans.len() > MOST || self.spans.front().is_some_and(|span| span.to <= oldest) {
            self.spans.pop_front();
        }
    }

    /// The minute before `end` in so many bars, each as high as the largest rate of its time in proportion to the
    /// largest of all. A blank stands for a time of which nothing is known, and for one without traffic.
    pub fn bars(&self, end: Duration, columns: usize) -> String {
        let peaks: Vec<f64> = (0..columns).map(|column| self.peak(end, column, columns)).collect();
        let most = peaks.iter().copied().fold(0.0, f64::max);
        peaks.iter().map(|peak| bar(*peak, most)).collect()
    }

    /// The largest rate in the time of a column. A rate that only grazes it, since answers come a bit early or late,
    /// does not count: its middle is in the column, or the column's middle in its time.
    fn peak(&self, end: Duration, column: usize, columns: usize) -> f64 {
        let width = MINUTE.as_secs_f64() / columns as f64;
        let start = end.as_secs_f64() - MINUTE.as_secs_f64() + width * column as f64;
        let belongs = |span: &&Span| {
            let (from, to) = (span.from.as_secs_f64(), span.to.as_secs_f64());
            let (middle, of_span) = (start + width / 2.0, (from + to) / 2.0);
            (from <= middle && middle < to) || (start <= of_span && of_span < start + width)
        };
        self.spans.iter().filter(belongs).map(|span| span.rate).fold(0.0, f64::max)
    }
}

fn bar(rate: f64, most: f64) -> char {
    if rate <= 0.0 || most <= 0.0 {
        return ' ';
    }
    // The conversion keeps within its type, whatever the quotient is.
    let eighths = (rate / most * BARS.len() as f64).ceil() as usize;
    BARS[eighths.clamp(1, BARS.len()) - 1]
}

/// A number in at most six columns: `0`, `0.4`, `999`, `1.2k`, `940M`.
pub fn short(number: f64) -> String {
    let mut number = number.max(0.0);
    let mut unit = "";
    for next in ["k", "M", "G", "T", "P", "E"] {
        if number < 999.5 {
            break;
        }
        (number, unit) = (number / 1_000.0, next);
    }
    match number {
        0.0 => "0".to_owned(),
        _ if unit.is_empty() && number >= 9.95 => format!("{number:.0}"),
        _ if number < 99.95 => format!("{number:.1}{unit}"),
        _ => format!("{number:.0}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn totals(rx_octets: u64, drops: u64) -> Totals {
        Totals { rx_octets, drops, ..Totals::default() }
    }

    #[test]
    fn rates_are_differences_by_the_time_between() {
        let rates = Rates::between(totals(1_000, 1), totals(3_000, 5), 2 * SECOND).expect("rates");
        assert_eq!((rates.rx_bits, rates.tx_bits, rates.drops), (8_000.0, 0.0, 2.0));
    }

    #[test]
    fn a_counter_that_goes_back_gives_no_rate() {
        for after in [totals(999, 5), totals(5_000, 0), totals(0, 0)] {
            assert_eq!(Rates::between(totals(1_000, 1), after, SECOND), None);
        }
        assert_eq!(Rates::between(totals(0, 0), totals(9, 9), Duration::ZERO), None);
    }

    #[test]
    fn the_largest_counters_there_are_give_finite_rates() {
        let most = Totals { rx_octets: u64::MAX, tx_octets: u64::MAX, ..Totals::default() };
        let rates = Rates::between(Totals::default(), most, Duration::from_nanos(1)).expect("rates");
        assert!(rates.bits().is_finite());
        assert!(short(rates.bits()).len() < 40);
        let drops = [("a".to_owned(), u64::MAX), ("b".to_owned(), 1)].into();
        assert_eq!(Totals::of(&vmlan_api::Counters { drops, ..Default::default() }).drops, u64::MAX);
    }

    #[test]
    fn bars_are_in_proportion_to_the_largest() {
        let mut history = History::default();
        for (second, rate) in [(57, 1.0), (58, 4.0), (59, 0.0), (60, 8.0)] {
            history.add(SECOND * (second - 1), SECOND * second, rate);
        }
        assert_eq!(history.bars(60 * SECOND, 60), format!("{}▁▄ █", " ".repeat(56)));
        // A bar of several seconds is as high as the highest of them.
        assert_eq!(history.bars(60 * SECOND, 30), format!("{}▄█", " ".repeat(28)));
        assert_eq!(history.bars(60 * SECOND, 0), "");
        assert_eq!(history.bars(3_600 * SECOND, 4), "    ");
    }

    #[test]
    fn a_rate_of_several_seconds_fills_their_bars() {
        let mut history = History::default();
        history.add(50 * SECOND, 60 * SECOND, 5.0);
        assert_eq!(history.bars(60 * SECOND, 60), format!("{}{}", " ".repeat(50), "█".repeat(10)));
    }

    #[test]
    fn answers_that_come_a_bit_early_or_late_have_a_bar_each() {
        let at = |milliseconds| Duration::from_millis(milliseconds);
        let mut history = History::default();
        for (from, to, rate) in [(56_990, 58_010, 8.0), (58_010, 58_995, 4.0), (58_995, 60_000, 8.0)] {
            history.add(at(from), at(to), rate);
        }
        assert_eq!(history.bars(at(60_000), 60), format!("{}█▄█", " ".repeat(57)));
    }

    #[test]
    fn what_is_older_than_a_minute_is_forgotten() {
        let mut history = History::default();
        for second in 1..1_000 {
            history.add(SECOND * second, SECOND * (second + 1), 1.0);
        }
        assert_eq!(history.spans.len(), 60);
        for _ in 0..2_000 {
            history.add(SECOND * 1_000, SECOND * 1_000, 1.0);
        }
        assert_eq!(history.spans.len(), MOST);
    }

    #[test]
    fn numbers_are_short() {
        for (number, text) in [
            (0.0, "0"),
            (-1.0, "0"),
            (0.4, "0.4"),
            (12.0, "12"),
            (999.0, "999"),
            (999.6, "1.0k"),
            (12_345.0, "12.3k"),
            (940e6, "940M"),
            (1.0e10, "10.0G"),
            (f64::NAN, "0"),
        ] {
            assert_eq!(short(number), text);
        }
    }
}
