//! The two notations of metrics: Prometheus' text format 0.0.4, and OpenMetrics 1.0.
//!
//! They are written here rather than by a library because the usual one (`prometheus-client`) knows OpenMetrics alone,
//! and wants values registered beforehand, where ours are gathered anew for each scrape. Nothing is parsed.

use std::fmt::Write;
use std::time::Duration;

/// A notation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format, version 0.0.4.
    #[default]
    Plain,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl Format {
    /// Reads a request's `Accept`: OpenMetrics where that is named and not wanted less than text. Anything that is no
    /// list of media types asks for plain text.
    pub fn accepted(accept: &str) -> Format {
        let mut weights = [0_u32; 2];
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let mut weight = 1000;
            let mut is_known = true;
            for (key, value) in parts.filter_map(|part| part.split_once('=')) {
                match (key.trim().to_ascii_lowercase().as_str(), value.trim().trim_matches('"')) {
                    ("q", value) => weight = thousandths(value),
                    ("version", value) if name == "application/openmetrics-text" => {
                        is_known = value == "1.0.0"
                    }
                    _ => {}
                }
            }
            let at = match name.as_str() {
                "application/openmetrics-text" if is_known => 1,
                "text/plain" | "text/*" | "*/*" => 0,
                _ => continue,
            };
            weights[at] = weights[at].max(weight);
        }
        if weights[1] > 0 && weights[1] >= weights[0] { Format::OpenMetrics } else { Format::Plain }
    }

    /// The `Content-Type` of an answer in it.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Plain => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A weight of RFC 9110 section 12.4.2 in thousandths; what is none is no wish.
fn thousandths(weight: &str) -> u32 {
    let weight: f32 = weight.parse().unwrap_or(0.0);
    // The cast saturates, and makes 0 of what is no number.
    (weight.clamp(0.0, 1.0) * 1000.0) as u32
}

/// A kind of metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A number that only grows.
    Counter,
    /// A number that goes up and down.
    Gauge,
    /// Words that say more of something, as labels of the value 1.
    Info,
    /// A count of events by size.
    Histogram,
}

/// Labels of a sample as they are written, without braces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Labels(String);

impl Labels {
    pub(super) fn new(labels: &[(&str, &str)]) -> Labels {
        let mut text = String::new();
        for (name, value) in labels {
            let comma = if text.is_empty() { "" } else { "," };
            text.extend([comma, name, "=\"", &escaped(value), "\""]);
        }
        Labels(text)
    }
}

/// A value of a label: the same three octets are escaped in both notations.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A text that is being written: one metric after the other, each with all its samples.
pub(super) struct Exposition {
    text: String,
    format: Format,
    /// The metric in hand: its name without what its kind adds.
    name: &'static str,
    kind: Kind,
}

impl Exposition {
    pub(super) fn new(format: Format, room: usize) -> Exposition {
        Exposition { text: String::with_capacity(room), format, name: "", kind: Kind::Gauge }
    }

    /// Begins a metric. `name` is the family's, without `_total` and `_info`; a last word that is a base unit is its
    /// unit.
    pub(super) fn begin(&mut self, name: &'static str, kind: Kind, help: &str) {
        (self.name, self.kind) = (name, kind);
        let (suffix, word) = match (self.format, kind) {
            (Format::OpenMetrics, Kind::Counter) => ("", "counter"),
            (Format::OpenMetrics, Kind::Info) => ("", "info"),
            // In the plain notation a metric is called as its samples are.
            (Format::Plain, Kind::Counter) => ("_total", "counter"),
            (Format::Plain, Kind::Info) => ("_info", "gauge"),
            (_, Kind::Gauge) => ("", "gauge"),
            (_, Kind::Histogram) => ("", "histogram"),
        };
        self.text.extend(["# HELP ", name, suffix, " ", help, "\n# TYPE ", name, suffix, " ", word, "\n"]);
        let unit = ["bytes", "seconds"].into_iter().find(|unit| name.ends_with(unit));
        if let Some(unit) = unit.filter(|_| self.format == Format::OpenMetrics) {
            self.text.extend(["# UNIT ", name, " ", unit, "\n"]);
        }
    }

    /// Adds a sample of the metric in hand: `more` are labels besides, as they are written.
    pub(super) fn count(&mut self, labels: &Labels, more: &str, value: u64) {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        self.sample(suffix, labels, more);
        self.number(value);
    }

    /// The same for a time.
    pub(super) fn seconds(&mut self, labels: &Labels, value: Duration) {
        self.sample(if self.kind == Kind::Counter { "_total" } else { "" }, labels, "");
        // Writing to a text does not fail.
        let _ = writeln!(self.text, "{}.{:09}", value.as_secs(), value.subsec_nanos());
    }

    /// Adds a histogram: the counts by size, each with the largest that it is for, and the sum of all sizes.
    pub(super) fn histogram(
        &mut self,
        labels: &Labels,
        counts: impl Iterator<Item = (Option<usize>, u64)>,
        sum: u64,
    ) {
        let mut total = 0;
        for (limit, count) in counts {
            total += count;
            let limit = limit.map_or("le=\"+Inf\"".to_owned(), |limit| format!("le=\"{limit}.0\""));
            self.sample("_bucket", labels, &limit);
            self.number(total);
        }
        self.sample("_sum", labels, "");
        self.number(sum);
        self.sample("_count", labels, "");
        self.number(total);
    }

    fn sample(&mut self, suffix: &str, labels: &Labels, more: &str) {
        self.text.extend([self.name, suffix]);
        let Labels(labels) = labels;
        if !(labels.is_empty() && more.is_empty()) {
            let comma = if labels.is_empty() || more.is_empty() { "" } else { "," };
            self.text.extend(["{", labels, comma, more, "}"]);
        }
        self.text.push(' ');
    }

    fn number(&mut self, value: u64) {
        // Writing to a text does not fail.
        let _ = writeln!(self.text, "{value}");
    }

    pub(super) fn end(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notation_is_the_one_asked_for() {
        // The first is what Prometheus 2.42 sends.
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, expected) in [
            (prometheus, Format::OpenMetrics),
            ("", Format::Plain),
            ("*/*", Format::Plain),
            ("text/plain", Format::Plain),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("Application/OpenMetrics-Text; version=\"1.0.0\"; charset=utf-8", Format::OpenMetrics),
            ("application/openmetrics-text;version=0.0.1", Format::Plain),
            ("application/openmetrics-text;version=1.0.0;q=0.2, text/plain;q=0.9", Format::Plain),
            ("application/openmetrics-text;q=0", Format::Plain),
            ("application/openmetrics-text;q=NaN", Format::Plain),
            (";;,,=,q=,\u{fffd}", Format::Plain),
        ] {
            assert_eq!(Format::accepted(accept), expected, "{accept}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_client_accepts_there_is_an_answer(accept in "([a-zA-Z/*;=q.,\"0-9 -]|application/openmetrics-text|\\PC){0,60}") {
            let format = Format::accepted(&accept);
            let named = accept.to_ascii_lowercase().contains("application/openmetrics-text");
            proptest::prop_assert!(format == Format::Plain || named);
        }
    }

    fn written(format: Format) -> String {
        let mut text = Exposition::new(format, 0);
        let labels = Labels::new(&[("network", "lab"), ("port", "a\"b\\c\nd")]);
        text.begin("x_bytes", Kind::Counter, "Octets.");
        text.count(&labels, "direction=\"rx\"", 7);
        text.begin("x", Kind::Info, "Words.");
        text.count(&Labels::new(&[("version", "1")]), "", 1);
        text.begin("x_busy_seconds", Kind::Gauge, "Time.");
        text.seconds(&Labels::default(), Duration::from_millis(1050));
        text.begin("x_frames", Kind::Histogram, "Sizes.");
        text.histogram(&Labels::default(), [(Some(1), 2), (Some(2), 0), (None, 3)].into_iter(), 99);
        text.end()
    }

    #[test]
    fn plain_text_names_a_metric_as_its_samples() {
        let expected = "\
            # HELP x_bytes_total Octets.\n# TYPE x_bytes_total counter\n\
            x_bytes_total{network=\"lab\",port=\"a\\\"b\\\\c\\nd\",direction=\"rx\"} 7\n\
            # HELP x_info Words.\n# TYPE x_info gauge\nx_info{version=\"1\"} 1\n\
            # HELP x_busy_seconds Time.\n# TYPE x_busy_seconds gauge\nx_busy_seconds 1.050000000\n\
            # HELP x_frames Sizes.\n# TYPE x_frames histogram\n\
            x_frames_bucket{le=\"1.0\"} 2\nx_frames_bucket{le=\"2.0\"} 2\nx_frames_bucket{le=\"+Inf\"} 5\n\
            x_frames_sum 99\nx_frames_count 5\n";
        assert_eq!(written(Format::Plain), expected);
    }

    #[test]
    fn openmetrics_names_the_family_its_unit_and_the_end() {
        let text = written(Format::OpenMetrics);
        assert!(
            text.starts_with("# HELP x_bytes Octets.\n# TYPE x_bytes counter\n# UNIT x_bytes bytes\n"),
            "{text}"
        );
        assert!(text.contains("\n# TYPE x info\nx_info{version=\"1\"} 1\n"), "{text}");
        assert!(text.contains("\n# UNIT x_busy_seconds seconds\nx_busy_seconds 1.050000000\n"), "{text}");
        assert!(text.ends_with("\nx_frames_count 5\n# EOF\n"), "{text}");
    }
}
