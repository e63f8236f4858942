//! Programs that prepare a device before it is opened and clean up after it: executed directly, never by a shell.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

/// How long a program may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Octets of its output that are looked at, of each stream.
const OUTPUT: u64 = 64 << 10;

/// Octets of the longest interface name.
const NAME: usize = 15;

/// What to run.
#[derive(Clone, Copy)]
pub(super) struct Program<'a> {
    /// What it is for, in messages.
    pub(super) role: &'static str,
    /// The file to execute.
    pub(super) path: &'a Path,
    /// Its only argument.
    pub(super) argument: Option<&'a str>,
}

/// What a program that succeeded wrote to its standard output.
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

/// Runs a program to its end.
///
/// # Errors
/// When it cannot be started, takes too long or fails, with the last line that it wrote.
pub(super) async fn run(program: Program<'_>) -> Result<Printed, String> {
    let name = format!("the {} program {}", program.role, program.path.display());
    let mut command = Command::new(program.path);
    command.args(program.argument).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{name} cannot be started: {error}"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let finished = async { tokio::join!(read(stdout), read(stderr), child.wait()) };
    let Ok((out, err, status)) = timeout(PATIENCE, finished).await else {
        return Err(format!("{name} did not end within {} s and was killed", PATIENCE.as_secs()));
    };
    let status = status.map_err(|error| format!("{name} cannot be waited for: {error}"))?;
    if !status.success() {
        let last = last_line(&err).or_else(|| last_line(&out));
        let said = last.map(|line| format!("; it said: {line}")).unwrap_or_default();
        return Err(format!("{name} failed with {status}{said}"));
    }
    Ok(Printed { program: name, text: out })
}

/// Reads to the end, and keeps the beginning.
async fn read(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let mut octets = Vec::new();
    // What could be read before an error is what there is to say.
    let _ = (&mut stream).take(OUTPUT).read_to_end(&mut octets).await;
    // The rest has to go somewhere, or the program would wait for ever.
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&octets).into_owned()
}

fn last_line(text: &str) -> Option<String> {
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.chars().filter(|c| !c.is_control()).take(200).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs one of the programs in `tests/programs`.
    async fn fixture(name: &str) -> Result<Printed, String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(name);
        run(Program { role: "setup", path: &path, argument: Some("tap7") }).await
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
        let program = Program { role: "setup", path: Path::new("/nonexistent/program"), argument: None };
        assert!(run(program).await.unwrap_err().contains("/nonexistent/program cannot be started"));
    }

    #[tokio::test]
    async fn endless_output_is_cut() {
        let printed = fixture("prints-too-much").await.unwrap();
        assert_eq!(printed.text.len() as u64, OUTPUT);
    }
}
