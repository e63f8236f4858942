//! Programs that prepare a device before it is opened and clean up after it: executed directly, never by a shell.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long a program may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Octets of its output that are looked at, of each stream.
const OUTPUT: usize = 64 << 10;

/// Octets of the longest interface name.
const NAME: usize = 15;

/// A program to run.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// The purpose of the program, in messages.
    pub(super) role: &'static str,
    /// The file to execute.
    pub(super) path: PathBuf,
    /// Its only argument.
    pub(super) argument: Option<String>,
}

/// The standard output of a program that succeeded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Printed {
    program: String,
    text: String,
}

impl Printed {
    /// The device name in its first line, which has to end.
    pub(super) fn device_name(&self) -> Result<String, String> {
        let program = &self.program;
        let Some((name, _)) = self.text.split_once('\n') else {
            return Err(format!(
                "{program} printed no whole line; it has to print the device's name and a newline"
            ));
        };
        if name.is_empty() || name.len() > NAME || name.contains(|c: char| c.is_whitespace() || c == '/') {
            let name: String = name.escape_debug().take(40).collect();
            return Err(format!(
                "{program} printed `{name}`, which is no interface name of 1 to {NAME} characters"
            ));
        }
        Ok(name.to_owned())
    }
}

/// Runs a program to its end. What it leaves running is not waited for, and can write to a pipe that nothing reads.
///
/// # Errors
/// When it cannot be started, takes too long or fails, with the last line that it wrote.
pub(super) async fn run(program: Program) -> Result<Printed, String> {
    let name = format!("the {} program {}", program.role, program.path.display());
    let mut command = Command::new(program.path);
    // A group of its own: a signal from the terminal is for the daemon, and a program that is killed is killed with all
    // that it waits for.
    command.args(program.argument).kill_on_drop(true).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{name} cannot be started: {error}"))?;
    let (mut out, mut err) = (Output::new(child.stdout.take()), Output::new(child.stderr.take()));
    let ended = async {
        tokio::select! {
            biased;
            status = child.wait() => status,
            () = async { tokio::join!(out.follow(), err.follow()); std::future::pending().await } => unreachable!(),
        }
    };
    let Ok(status) = timeout(PATIENCE, ended).await else {
        kill_group(&child);
        return Err(format!("{name} did not end within {} s and was killed", PATIENCE.as_secs()));
    };
    let status: ExitStatus = status.map_err(|error| format!("{name} cannot be waited for: {error}"))?;
    let (out, err) = (out.text(), err.text());
    if !status.success() {
        let last = last_line(&err).or_else(|| last_line(&out));
        let said = last.map(|line| format!("; it said: {line}")).unwrap_or_default();
        return Err(format!("{name} failed with {status}{said}"));
    }
    Ok(Printed { program: name, text: out })
}

fn kill_group(child: &Child) {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(group) = group {
        // An error: it has ended.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// A stream of a program's output.
struct Output<S> {
    stream: Option<S>,
    /// Its beginning.
    octets: Vec<u8>,
}

impl<S: AsyncRead + AsFd + Unpin> Output<S> {
    fn new(stream: Option<S>) -> Output<S> {
        Output { stream, octets: Vec::new() }
    }

    /// Reads to the end, and keeps the beginning. The rest has to go somewhere, or the program would wait for ever.
    async fn follow(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        let mut buffer = [0; 4096];
        // What could be read before an error is what there is to say.
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            keep(&mut self.octets, &buffer[..count]);
        }
    }

    /// The beginning of all that was written by now. A program that left another one behind is at its end, though the
    /// stream is not.
    fn text(mut self) -> String {
        let mut buffer = [0; 4096];
        while let Some(stream) = &self.stream
            && self.octets.len() < OUTPUT
            && let Ok(count @ 1..) = rustix::io::read(stream, &mut buffer)
        {
            keep(&mut self.octets, &buffer[..count]);
        }
        String::from_utf8_lossy(&self.octets).into_owned()
    }
}

fn keep(kept: &mut Vec<u8>, octets: &[u8]) {
    let room = OUTPUT.saturating_sub(kept.len()).min(octets.len());
    kept.extend_from_slice(&octets[..room]);
}

fn last_line(text: &str) -> Option<String> {
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.chars().filter(|c| !c.is_control()).take(200).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Runs one of the programs in `tests/programs`.
    async fn fixture(name: &str) -> Result<Printed, String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(name);
        run(Program { role: "setup", path, argument: Some("tap7".into()) }).await
    }

    #[tokio::test]
    async fn its_first_line_is_the_device() {
        let printed = fixture("prints-its-argument").await.unwrap();
        assert_eq!(printed.device_name(), Ok("tap7".into()));
    }

    #[tokio::test]
    async fn case_06_a_name_without_a_newline_is_an_error() {
        let reason = fixture("prints-no-newline").await.unwrap().device_name().unwrap_err();
        assert!(reason.contains("newline"), "{reason}");
    }

    #[tokio::test]
    async fn a_name_that_is_none_is_an_error() {
        for program in ["prints-nothing", "prints-a-long-name", "prints-two-words"] {
            assert!(fixture(program).await.unwrap().device_name().is_err(), "{program}");
        }
    }

    #[tokio::test]
    async fn failure_names_the_program_its_status_and_its_last_line() {
        let reason = fixture("fails").await.unwrap_err();
        assert!(reason.contains("setup program") && reason.contains("exit status: 3"), "{reason}");
        assert!(reason.ends_with("it said: no such bridge"), "{reason}");
    }

    #[tokio::test]
    async fn a_missing_program_is_an_error() {
        let program = Program { role: "setup", path: "/nonexistent/program".into(), argument: None };
        assert!(run(program).await.unwrap_err().contains("/nonexistent/program cannot be started"));
    }

    #[tokio::test]
    async fn endless_output_is_cut() {
        let printed = fixture("prints-too-much").await.unwrap();
        assert_eq!(printed.text.len(), OUTPUT);
    }

    #[tokio::test]
    async fn a_child_that_it_leaves_behind_is_not_waited_for() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/leaves-a-child");
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
        let argument = Some(fifo.to_str().unwrap().to_owned());
        let printed = run(Program { role: "setup", path, argument }).await.unwrap();
        assert_eq!(printed.device_name(), Ok("tap9".into()));
        // The child waits to write until the fifo is read; so it was there all the time.
        assert_eq!(std::fs::read_to_string(&fifo).unwrap(), "still here\n");
    }
}
