//! How answers and errors are written.
//!
//! Answers hold text that guests and other peers chose. So everything for people passes [`vmlan_api::escaped`], and no
//! terminal obeys it; a value that must not break its line is escaped before it is put into one
//! ([`table`](crate::table), `line`).

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use vmlan_daemon::config::ConfigErrors;

use crate::args::Output;
use crate::client::ClientError;
use crate::command::Failure;

/// How long the end of the daemon may wait for the reader of its last words.
const PATIENCE: Duration = Duration::from_millis(500);

/// The answer of a command, as text for people or as JSON. No terminal obeys anything in it.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer(String);

impl Answer {
    /// A text for people.
    pub fn text(text: &str) -> Self {
        Self(plain(text))
    }

    /// A value as JSON.
    pub fn json(value: &impl Serialize, output: Output) -> Result<Self, Failure> {
        let text = match output.compact {
            true => serde_json::to_string(value),
            false => serde_json::to_string_pretty(value),
        };
        Ok(Self(json(&text.map_err(anyhow::Error::new)?) + "\n"))
    }

    /// The text with its line ends.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Writes it to stdout.
    pub fn write(&self) -> Result<(), Failure> {
        print_verbatim(&self.0)
    }
}

/// Writes a text for people to stdout.
pub fn print(text: &str) -> Result<(), Failure> {
    print_verbatim(&plain(text))
}

/// Writes a text to stdout as it is: one that we made up, or that a program reads.
pub fn print_verbatim(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::Failed(anyhow::Error::new(error).context("the output cannot be written")),
    })
}

/// Writes a value to stdout as JSON.
pub fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(anyhow::Error::new)?;
    print_verbatim(&(json(&text) + "\n"))
}

/// Writes a text for people to stderr. One that nobody can read any more is lost.
pub fn tell(text: &str) {
    let _ = io::stderr().write_all(format!("{}\n", plain(text)).as_bytes());
}

/// Writes an error to stderr as JSON.
pub fn tell_json(error: &vmlan_api::Error) {
    // Plain data is written without errors.
    let text = serde_json::to_string_pretty(error).unwrap_or_default();
    let _ = io::stderr().write_all((json(&text) + "\n").as_bytes());
}

/// An error in the form of the control interface.
pub fn error_for_programs(error: &anyhow::Error) -> vmlan_api::Error {
    if let Some(own) = error.downcast_ref::<vmlan_api::Error>() {
        return own.clone();
    }
    match error.downcast_ref::<ClientError>() {
        Some(error) => error.to_api(),
        None => vmlan_api::Error::new(vmlan_api::ErrorCode::Internal, format!("{error:#}")),
    }
}

/// The same as [`tell`], but waits for the reader a moment only: a daemon has to end.
pub fn tell_in_passing(text: &str) {
    let (done, ended) = mpsc::channel();
    let text = text.to_owned();
    // Without a thread nothing is said, and nothing waits.
    let thread = thread::Builder::new().spawn(move || {
        tell(&text);
        let _ = done.send(());
    });
    if thread.is_ok() {
        let _ = ended.recv_timeout(PATIENCE);
    }
}

/// The text with its line ends, and everything else in it only shown.
fn plain(text: &str) -> String {
    text.split('\n').map(vmlan_api::escaped).collect::<Vec<Cow<'_, str>>>().join("\n")
}

/// JSON whose texts no terminal obeys: the same to every reader, since JSON may write a character as `\u009b` as well.
/// JSON has line ends between its texts only.
pub fn json(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        if character == '\n' || vmlan_api::is_plain(character) {
            plain.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to text cannot fail.
                let _ = write!(plain, "\\u{unit:04x}");
            }
        }
    }
    plain
}

/// `NAME  VALUE`, with the name as wide as `width`, on one line whatever the value is.
pub fn line(name: &str, width: usize, value: &str) -> String {
    format!("{name:width$}  {}\n", vmlan_api::escaped(value))
}

/// True unless the user set `NO_COLOR` (<https://no-color.org>).
pub fn colours_are_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// `-` for what is not there.
pub fn or_dash(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or("-").to_owned()
}

/// An error with its causes, the faults of a configuration one a line, and what to do.
pub fn error_text(error: &anyhow::Error) -> String {
    // Its faults say themselves that they are errors, and the caller says so of the first.
    if let Some(faults) = error.downcast_ref::<ConfigErrors>() {
        let text = faults.to_string();
        return text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned();
    }
    let Some(client) = error.downcast_ref::<ClientError>() else { return format!("{error:#}") };
    let mut text = vmlan_api::escaped(&client.to_string()).into_owned();
    match client {
        ClientError::Refused(error) if !error.details.is_empty() => {
            text = format!("{} errors in the configuration:", error.details.len());
            for fault in &error.details {
                let _ = write!(text, "\n  {}", vmlan_api::escaped(&fault.to_string()));
            }
        }
        _ => {}
    }
    if let Some(hint) = client.hint() {
        let _ = write!(text, "\n{hint}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_terminal_obeys_an_answer() {
        let peer = "uid 5 (red\u{1b}[2J\u{9b}1m\u{202e}\nFAKE  ROW\u{e0041})";
        let shown = r"uid 5 (red\u{1b}[2J\u{9b}1m\u{202e}\nFAKE  ROW\u{e0041})";
        assert_eq!(line("peer", 5, peer), format!("peer   {shown}\n"));
        assert_eq!(plain("a\u{1b}[2J\nb\n"), "a\\u{1b}[2J\nb\n");
        let text = serde_json::to_string_pretty(&[peer]).expect("text");
        let safe = json(&text);
        assert!(safe.chars().all(|c| c == '\n' || vmlan_api::is_plain(c)), "{safe}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&safe).expect("JSON"), [peer]);
        let error = vmlan_api::Error::new(vmlan_api::ErrorCode::Internal, "a\nb\u{1b}");
        let text = error_text(&anyhow::Error::new(ClientError::Refused(Box::new(error))));
        assert_eq!(text, r"a\nb\u{1b}");
    }

    #[test]
    fn all_faults_of_a_configuration_are_listed() {
        let fault = |field: &str| vmlan_api::Error::at(vmlan_api::ErrorCode::BadMac, field, "no MAC address");
        let error = vmlan_api::Error::from_faults(vec![fault("a"), fault("b")]);
        let text = error_text(&anyhow::Error::new(ClientError::Refused(Box::new(error))));
        assert_eq!(text, "2 errors in the configuration:\n  a: no MAC address\n  b: no MAC address");
    }
}
