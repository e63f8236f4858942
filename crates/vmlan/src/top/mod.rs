//! `top`: the traffic of the ports as it goes.
//!
//! This is the shell around [`model`] and [`view`]: three threads send what happens to the one that draws. One reads
//! keys, one asks the daemon, one waits for signals. The terminal is put back once, on every way out: by a guard when
//! the command ends, and by ratatui's hook before the message of a panic is written, so that the message is seen. A
//! thread that panics ends the command.

mod model;
mod rate;
mod view;

use std::io::{self, IsTerminal as _};
use std::mem::ManuallyDrop;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event, KeyEvent};
use ratatui::crossterm::execute;
use vmlan_api::Port;

use self::model::{Action, Model};
use self::view::Theme;
use crate::client::{Client, ClientError, encode};
use crate::command::Failure;
use crate::output::{colours_are_wanted, error_text};
use crate::signals::Endings;

/// Time after which the picture is drawn anew though nothing happened: it may tell how long nothing did.
const TICK: Duration = Duration::from_secs(1);

/// An event for the thread that draws.
enum Happening {
    Key(KeyEvent),
    Resized,
    Answered(Result<Vec<Port>, String>),
    Ended,
    /// A thread panicked, which said so, and put the terminal back.
    Broken,
}

/// Shows the ports of one network or of all until the user ends it.
///
/// # Errors
/// When there is no terminal, or the daemon does not answer the first question.
pub fn run(client: Client, network: Option<&str>) -> Result<(), Failure> {
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        let message = "`vmlan top` needs a terminal; `vmlan counters --watch` writes to files and pipes";
        return Err(Failure::Usage(message.to_owned()));
    }
    let path = match network {
        Some(network) => format!("/v1/ports?network={}", encode(network)),
        None => "/v1/ports".to_owned(),
    };
    // A network that is not there, or no daemon, is an error as of any command.
    let ports: Vec<Port> = client.get(&path)?;
    let start = Instant::now();
    let mut model = Model::new();
    model.take(&ports, start.elapsed());

    let (tell, happenings) = mpsc::channel();
    // Signals are taken before the terminal is changed.
    let endings = Endings::new().context("signals cannot be waited for")?;
    spawn(&tell, move |tell| {
        endings.wait();
        let _ = tell.send(Happening::Ended);
    })?;
    // When it is dropped it tells a terminal that is gone what went wrong with it, and panics for that.
    let mut terminal = ManuallyDrop::new(ratatui::try_init().context("the terminal cannot be used")?);
    let mut restored = Restored { is_due: true };
    let (pace, paces) = mpsc::channel();
    spawn(&tell, keys)?;
    let first = model.interval();
    spawn(&tell, move |tell| poll(&client, &path, first, &paces, tell))?;
    drop(tell);

    let theme = Theme::new(colours_are_wanted());
    loop {
        let drawn = terminal.draw(|frame| view::draw(frame, &mut model, start.elapsed(), theme));
        drawn.context("the terminal cannot be written to")?;
        match happenings.recv_timeout(TICK) {
            Ok(Happening::Key(key)) => match model.press(key) {
                Action::Draw => {}
                // The thread has ended only if it panicked, which is told by itself.
                Action::Interval(interval) => drop(pace.send(interval)),
                Action::End => return Ok(()),
            },
            Ok(Happening::Answered(Ok(ports))) => model.take(&ports, start.elapsed()),
            Ok(Happening::Answered(Err(why))) => model.lose(&why),
            Ok(Happening::Resized) | Err(RecvTimeoutError::Timeout) => {}
            Ok(Happening::Ended) => return Ok(()),
            Ok(Happening::Broken) | Err(RecvTimeoutError::Disconnected) => {
                restored.is_due = false;
                return Err(Failure::Told);
            }
        }
    }
}

/// Puts the terminal back when it goes, unless a panic did. Twice would bring the cursor back over the panic's message.
struct Restored {
    is_due: bool,
}

impl Drop for Restored {
    fn drop(&mut self) {
        // A terminal that was closed has nothing to put back.
        if self.is_due && !thread::panicking() {
            let _ = ratatui::try_restore();
        }
        let _ = execute!(io::stdout(), Show);
    }
}

/// Sends word when its thread panics.
struct Watched(Sender<Happening>);

impl Drop for Watched {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.0.send(Happening::Broken);
        }
    }
}

fn spawn(
    tell: &Sender<Happening>,
    body: impl FnOnce(&Sender<Happening>) + Send + 'static,
) -> Result<(), Failure> {
    let watched = Watched(tell.clone());
    let thread = thread::Builder::new().spawn(move || body(&watched.0));
    thread.context("no thread can be started")?;
    Ok(())
}

/// Sends keys and changes of the terminal's size until nobody takes them.
fn keys(tell: &Sender<Happening>) {
    loop {
        let happening = match event::read() {
            Ok(Event::Key(key)) => Happening::Key(key),
            Ok(_) => Happening::Resized,
            // The terminal was closed.
            Err(_) => Happening::Ended,
        };
        let is_last = matches!(happening, Happening::Ended);
        if tell.send(happening).is_err() || is_last {
            return;
        }
    }
}

/// Asks the daemon again and again, in an interval that may change, until nobody wants to know.
fn poll(
    client: &Client,
    path: &str,
    mut interval: Duration,
    paces: &Receiver<Duration>,
    tell: &Sender<Happening>,
) {
    loop {
        match paces.recv_timeout(interval) {
            // The user sees at once that the interval changed.
            Ok(changed) => interval = changed,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let answer = client.get(path).map_err(|error: ClientError| error_text(&error.into()));
        if tell.send(Happening::Answered(answer)).is_err() {
            return;
        }
    }
}
