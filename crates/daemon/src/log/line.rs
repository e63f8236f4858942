//! A line of the log: the one place where text becomes a line, and so the one where it is escaped.

use std::fmt::{self, Write as _};

use tracing::Level;
use tracing::field::{Field, Visit};
use vmlan_api::{Timestamp, escaped};

/// Octets of the text of a line; a longer one is cut.
const LONGEST: usize = 2048;

/// The parts of a line besides its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    /// The time; the journal has its own.
    pub(super) time: bool,
    /// The level in colours.
    pub(super) colour: bool,
}

/// The whole line with its end. Whatever `text` has in it, it stays one line, and no terminal obeys it.
pub(super) fn line(level: Level, text: &str, style: Style) -> String {
    let mut line = String::with_capacity(text.len() + 64);
    if style.time {
        let _ = write!(line, "{} ", Timestamp::now());
    }
    let colour = match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    };
    let _ = match style.colour {
        true => write!(line, "\u{1b}[{colour}m{level:>5}\u{1b}[0m "),
        false => write!(line, "{level:>5} "),
    };
    let end = (0..=LONGEST.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    line.push_str(&escaped(&text[..end]));
    if end < text.len() {
        let _ = write!(line, "… ({} octets more)", text.len() - end);
    }
    line.push('\n');
    line
}

/// The content of an event: its place, its message and its other members.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// `port lab/web` or `trunk on eth0`: the thing concerned.
    place: Option<String>,
    message: String,
    others: String,
    /// The owner caused the line, so no rate holds it back.
    pub(super) is_owners: bool,
}

impl Fields {
    /// `port lab/web: message member=value`.
    pub(super) fn text(&self) -> String {
        let Fields { place, message, others, .. } = self;
        match place {
            Some(place) => format!("{place}: {message}{others}"),
            None => format!("{message}{others}"),
        }
    }

    /// The thing concerned, for the rate; a client of a port counts as the port: `guests.7` as `guests`.
    pub(super) fn place(&self) -> String {
        let place = self.place.as_deref().unwrap_or_default();
        match place.strip_prefix("port ").and_then(|port| port.split_once('.')) {
            Some((port, _)) => format!("port {port}"),
            None => place.to_owned(),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            "port" => {
                self.place = Some(format!("port {value:?}"));
                Ok(())
            }
            "trunk" => {
                self.place = Some(format!("trunk on {value:?}"));
                Ok(())
            }
            name => write!(self.others, " {name}={value:?}"),
        };
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        match field.name() {
            "owner" => self.is_owners = value,
            _ => self.record_debug(field, &value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { time: false, colour: false };

    #[test]
    fn a_text_is_one_line_that_no_terminal_obeys() {
        let text = "the socket /tmp/x\n2026-01-01T00:00:00.000Z ERROR forged\u{1b}[2J\u{202e}";
        assert_eq!(
            line(Level::WARN, text, PLAIN),
            " WARN the socket /tmp/x\\n2026-01-01T00:00:00.000Z ERROR forged\\u{1b}[2J\\u{202e}\n"
        );
        let coloured = line(Level::INFO, "x", Style { time: true, colour: true });
        assert!(coloured.ends_with("Z \u{1b}[32m INFO\u{1b}[0m x\n"), "{coloured:?}");
    }

    #[test]
    fn a_long_text_is_cut() {
        let text = "é".repeat(2000);
        let line = line(Level::INFO, &text, PLAIN);
        assert_eq!(line, format!(" INFO {}… (1952 octets more)\n", "é".repeat(1024)));
    }

    #[test]
    fn clients_count_as_their_port() {
        for (place, expected) in [
            (None, ""),
            (Some("port lab/web"), "port lab/web"),
            (Some("port lab/guests.17"), "port lab/guests"),
            (Some("trunk on eth0.5"), "trunk on eth0.5"),
        ] {
            let fields = Fields { place: place.map(str::to_owned), ..Fields::default() };
            assert_eq!(fields.place(), expected);
        }
    }
}
