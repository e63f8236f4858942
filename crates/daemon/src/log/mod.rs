//! The daemon's log: lines on stderr, which cost no port anything, whatever its reader or a peer does.
//!
//! Theory of operation. An event of `tracing` becomes a text, is compared with what was said before about the same
//! port ([`rate`]), and goes as a line ([`line`], which escapes) to a queue that a thread of its own writes out
//! ([`queue`]). A panic takes the same way. Conventions for those that write events: the field `port` (`trunk`) names
//! the thing concerned and stands in front of the message; `owner = true` marks a line that only the daemon's owner
//! can cause, which no rate holds back. Neither are events of the levels debug and trace, which somebody asked for.
//!
//! Only `vmlan run` installs it. Embedded in another process, the daemon writes events and leaves it to that process
//! what becomes of them.

mod line;
mod queue;
mod rate;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::panic::PanicHookInfo;
use std::time::Duration;

use anyhow::Context as _;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use line::{Fields, Style};
use queue::Queue;
use rate::{Key, Source};

/// How long the end of the process may wait for the reader of its log.
const PATIENCE: Duration = Duration::from_millis(500);

/// The variable that chooses what is said, as in `debug` or `daemon=debug,info`.
const VARIABLE: &str = "VMLAN_LOG";

/// The crates that say something, without the prefix of their names.
const SPEAKERS: [&str; 5] = ["daemon", "dataplane", "drivers", "link", "ports"];

/// The log that this process writes; clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    queue: Queue,
}

impl Log {
    /// Makes stderr the log of this process, panics included, unless the process has another already.
    ///
    /// # Errors
    /// No thread or no descriptor, or a variable that is not understood.
    pub(crate) fn to_stderr() -> anyhow::Result<Log> {
        let stderr = io::stderr();
        let time = !is_journal(stderr.as_fd());
        // https://no-color.org
        let colour =
            stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let log = Log { queue: Queue::new(Style { time, colour }) };
        let filter = match std::env::var_os(VARIABLE) {
            Some(wish) => wanted(&wish.to_string_lossy()).map_err(anyhow::Error::msg)?,
            None => Targets::new().with_default(Level::INFO),
        };
        if tracing_subscriber::registry().with(filter).with(log.clone()).try_init().is_err() {
            return Ok(log);
        }
        // A descriptor of its own: the standard library's is locked while somebody writes to it.
        let descriptor = stderr.as_fd().try_clone_to_owned().context("cannot start the log")?;
        log.queue.start(File::from(descriptor)).context("cannot start the log")?;
        let on_panic = log.clone();
        std::panic::set_hook(Box::new(move |panic| on_panic.panic(panic)));
        Ok(log)
    }

    /// Writes out what waits, as far as the reader takes it within a moment.
    pub(crate) fn flush(&self) {
        self.queue.flush(PATIENCE);
    }

    fn panic(&self, panic: &PanicHookInfo<'_>) {
        let thread = std::thread::current();
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let message = payload.downcast_ref::<&str>().copied();
        let message = message.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let message = message.unwrap_or("no message");
        let text =
            format!("thread {} panicked at {place}: {message}", thread.name().unwrap_or("without a name"));
        let key = Key { source: Source::Panic(place), place: String::new() };
        self.queue.push(Some(key), Level::ERROR, &text);
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            for line in backtrace.to_string().lines() {
                self.queue.push(None, Level::ERROR, line);
            }
        }
    }
}

/// The levels that the variable's text asks for: one for all, or for single crates, separated by commas.
fn wanted(text: &str) -> Result<Targets, String> {
    let mut targets = Targets::new().with_default(Level::INFO);
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let (speaker, level) =
            word.split_once('=').map_or((None, word), |(speaker, level)| (Some(speaker), level));
        let level: LevelFilter = level.parse().map_err(|_| {
            format!("{VARIABLE}: `{level}` is no level; write error, warn, info, debug, trace or off")
        })?;
        targets = match speaker.map(|speaker| speaker.strip_prefix("vmlan_").unwrap_or(speaker)) {
            None => targets.with_default(level),
            Some(speaker) if SPEAKERS.contains(&speaker) => {
                targets.with_target(format!("vmlan_{speaker}"), level)
            }
            Some(speaker) => {
                let known = SPEAKERS.join(", ");
                return Err(format!("{VARIABLE}: there is no part `{speaker}`; there are: {known}"));
            }
        };
    }
    Ok(targets)
}

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let level = *metadata.level();
        // Later levels are more verbose.
        let is_limited = level <= Level::INFO && !fields.is_owners;
        let key =
            is_limited.then(|| Key { source: Source::Callsite(metadata.callsite()), place: fields.place() });
        self.queue.push(key, level, &fields.text());
    }
}

/// True if the service manager's journal reads the descriptor (systemd.exec(5), `JOURNAL_STREAM`).
fn is_journal(stderr: impl AsFd) -> bool {
    let Ok(file) = rustix::fs::fstat(stderr) else { return false };
    std::env::var("JOURNAL_STREAM").is_ok_and(|stream| stream == format!("{}:{}", file.st_dev, file.st_ino))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Returns the lines that the log writes for the events of `act`.
    fn lines(act: impl FnOnce()) -> Vec<String> {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let log = Log { queue: Queue::new(Style { time: false, colour: false }) };
        log.queue.start(writer).expect("a thread");
        let subscriber = tracing_subscriber::registry().with(log.clone());
        tracing::subscriber::with_default(subscriber, act);
        log.queue.flush(Duration::from_secs(20));
        log.queue.close();
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("text");
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn an_event_names_its_port_first_and_its_members_last() {
        let lines = lines(|| {
            tracing::warn!(port = %"lab/web", count = 3, peer = ?"x\n", "quarantined: {}", "a\nb\u{1b}[0m");
            tracing::info!(trunk = %"eth0", "joined");
            tracing::debug!("nothing else");
        });
        assert_eq!(
            lines,
            [
                r#" WARN port lab/web: quarantined: a\nb\u{1b}[0m count=3 peer="x\n""#,
                " INFO trunk on eth0: joined",
                "DEBUG nothing else",
            ]
        );
    }

    #[test]
    fn each_port_has_a_rate_and_the_owner_has_none() {
        let lines = lines(|| {
            for number in 0..50 {
                tracing::warn!(port = %format_args!("lab/guests.{number}"), "a client's socket is gone");
                tracing::warn!(port = %"lab/other", "said {number} times");
                tracing::error!(owner = true, "line {number} of a configuration is wrong");
                tracing::debug!("asked for {number}");
            }
            tracing::warn!(port = %"lab/third", "once");
        });
        let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
        assert_eq!(count("a client's socket is gone"), 4);
        assert_eq!(count("47 more like this in the last seconds: port lab/guests.49: a client's"), 1);
        assert_eq!((count("port lab/other: said"), count("port lab/third: once")), (4, 1));
        assert_eq!((count("of a configuration"), count("asked for")), (50, 50));
    }

    #[test]
    fn the_variable_names_levels_for_all_or_for_parts() {
        for (text, target, level, said) in [
            ("debug", "vmlan_ports::tap", Level::DEBUG, true),
            ("", "vmlan_ports", Level::INFO, true),
            ("", "vmlan_ports", Level::DEBUG, false),
            ("daemon=debug, warn", "vmlan_daemon::control", Level::DEBUG, true),
            ("daemon=debug,warn", "vmlan_ports", Level::INFO, false),
            ("vmlan_ports=off", "vmlan_ports", Level::ERROR, false),
        ] {
            let targets = wanted(text).expect(text);
            assert_eq!(targets.would_enable(target, &level), said, "{text}: {target} {level}");
        }
        for (text, complaint) in
            [("loud", "`loud` is no level"), ("deamon=debug", "no part `deamon`; there are: daemon")]
        {
            assert!(wanted(text).is_err_and(|error| error.contains(complaint)), "{text}");
        }
    }
}
