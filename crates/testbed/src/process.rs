//! Programs that a test runs: to their end with a time limit, or beside the test under a guard.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use tempfile::NamedTempFile;

use crate::wait::poll_for;

/// How a program ended and what it wrote.
#[derive(Debug)]
pub struct Output {
    /// The program, for messages.
    pub program: String,
    /// Exit status.
    pub status: ExitStatus,
    /// Standard output, lossily as UTF-8.
    pub stdout: String,
    /// Standard error, lossily as UTF-8.
    pub stderr: String,
}

impl Output {
    /// True if the exit status was 0.
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// The output of a program that must have succeeded.
    ///
    /// # Panics
    /// When the exit status was not 0; the message shows both outputs.
    #[track_caller]
    pub fn expect_success(self) -> Self {
        assert!(
            self.success(),
            "{} failed ({})\nstdout: {}\nstderr: {}",
            self.program,
            self.status,
            self.stdout,
            self.stderr
        );
        self
    }
}

/// Runs a program to its end, without standard input.
///
/// # Panics
/// When it cannot be started, or runs longer than `limit` (it is killed then).
#[track_caller]
pub fn run(mut command: Command, limit: Duration) -> Output {
    let program = describe(&command);
    // Files instead of pipes: a grandchild that keeps a pipe open cannot hang the test.
    let mut stdout = tempfile::tempfile().expect("a temporary file");
    let mut stderr = tempfile::tempfile().expect("a temporary file");
    command.stdin(Stdio::null()).stdout(share(&stdout)).stderr(share(&stderr));
    let mut child = start(&mut command, &program);
    let ended = poll_for(limit, || child.try_wait().expect("our own child can be waited for"));
    let status = ended.unwrap_or_else(|| {
        end(&mut child);
        panic!("{program} was still running after {limit:?}\nstderr: {}", read_back(&mut stderr))
    });
    Output { program, status, stdout: read_back(&mut stdout), stderr: read_back(&mut stderr) }
}

/// A program that runs beside the test; killed by its id and waited for on drop.
#[derive(Debug)]
pub struct Process {
    program: String,
    child: Child,
    log: NamedTempFile,
}

impl Process {
    /// Starts a program without standard input; both its outputs go to its log.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::null());
        Self::spawn_logged(command)
    }

    /// The same for a program that ends when its standard input does: it stays open and silent.
    #[track_caller]
    pub(crate) fn spawn_with_open_stdin(mut command: Command) -> Self {
        command.stdin(Stdio::piped());
        Self::spawn_logged(command)
    }

    /// The same for a program that takes commands: its standard input is a pipe of the test.
    #[track_caller]
    pub(crate) fn spawn_with_stdin(mut command: Command) -> (Self, ChildStdin) {
        command.stdin(Stdio::piped());
        let mut process = Self::spawn_logged(command);
        let stdin = process.child.stdin.take().expect("standard input was asked to be a pipe");
        (process, stdin)
    }

    #[track_caller]
    fn spawn_logged(mut command: Command) -> Self {
        let log = NamedTempFile::new().expect("a temporary file");
        command.stdout(append(&log)).stderr(append(&log));
        Self::start(command, log)
    }

    /// Starts a program whose standard input and output are pipes of the test; standard error goes to its log.
    #[track_caller]
    pub(crate) fn spawn_piped(mut command: Command) -> (Self, ChildStdin, ChildStdout) {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let log = NamedTempFile::new().expect("a temporary file");
        command.stderr(append(&log));
        let mut process = Self::start(command, log);
        let stdin = process.child.stdin.take().expect("standard input was asked to be a pipe");
        let stdout = process.child.stdout.take().expect("standard output was asked to be a pipe");
        (process, stdin, stdout)
    }

    #[track_caller]
    fn start(mut command: Command, log: NamedTempFile) -> Self {
        let program = describe(&command);
        let child = start(&mut command, &program);
        Self { program, child, log }
    }

    /// The process id; of `ip netns exec` it is that of the program itself, which takes its place.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the output of the program so far.
    pub fn log(&self) -> String {
        let octets = std::fs::read(self.log.path()).expect("our own log can be read");
        String::from_utf8_lossy(&octets).into_owned()
    }

    /// The path of the log, for one who waits for something in it.
    pub(crate) fn log_file(&self) -> PathBuf {
        self.log.path().to_owned()
    }

    /// True if the program has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("our own child can be waited for").is_none()
    }

    /// Waits until the condition gives a value, while the program runs.
    ///
    /// # Panics
    /// When the program ends or `limit` passes before that; the message shows the log.
    #[track_caller]
    pub fn wait_while_running<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut() -> Option<T>,
    ) -> T {
        let found =
            poll_for(limit, || condition().map(Ok).or_else(|| (!self.is_running()).then_some(Err(()))));
        let problem = match found {
            Some(Ok(value)) => return value,
            Some(Err(())) => "ended before",
            None => "has not come to",
        };
        panic!("{} {problem}: {what} (limit {limit:?})\nlog: {}", self.program, self.log())
    }

    /// Waits until the log contains a text.
    ///
    /// # Panics
    /// As [`wait_while_running`](Self::wait_while_running).
    #[track_caller]
    pub fn wait_for_log(&mut self, text: &str, limit: Duration) {
        let path = self.log.path().to_owned();
        self.wait_while_running(&format!("{text:?} in its log"), limit, || {
            let octets = std::fs::read(&path).ok()?;
            String::from_utf8_lossy(&octets).contains(text).then_some(())
        });
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When the program has ended.
    #[track_caller]
    pub fn signal(&mut self, signal: Signal) {
        // Its id may belong to another process once it has been waited for.
        assert!(self.is_running(), "{} has ended and takes no {signal:?}\nlog: {}", self.program, self.log());
        kill_process(pid_of(&self.child), signal)
            .expect("our own child, not waited for yet, can be signalled");
    }

    /// Asks the program to end (SIGTERM), waits, and returns its status and log.
    ///
    /// # Panics
    /// When it has not ended within `limit`.
    #[track_caller]
    pub fn terminate(mut self, limit: Duration) -> (ExitStatus, String) {
        if self.is_running() {
            self.signal(Signal::TERM);
        }
        self.wait_end("SIGTERM", limit)
    }

    /// Waits until the program ends by itself, and returns its status and log; `cause` is why it is to end.
    ///
    /// # Panics
    /// When it has not ended within `limit`.
    #[track_caller]
    pub(crate) fn wait_end(mut self, cause: &str, limit: Duration) -> (ExitStatus, String) {
        let ended = poll_for(limit, || self.child.try_wait().expect("our own child can be waited for"));
        let Some(status) = ended else {
            panic!("{} did not end within {limit:?} of {cause}\nlog: {}", self.program, self.log())
        };
        (status, self.log())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

#[track_caller]
fn start(command: &mut Command, program: &str) -> Child {
    command.spawn().unwrap_or_else(|error| panic!("cannot start {program}: {error}; is it installed?"))
}

/// Kills by id and reaps; a child that has ended already is only reaped.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn pid_of(child: &Child) -> Pid {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id is a positive i32")
}

fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(command.get_args().map(|argument| argument.to_string_lossy()));
    words.join(" ")
}

fn share(file: &File) -> File {
    file.try_clone().expect("a descriptor can be duplicated")
}

fn append(log: &NamedTempFile) -> File {
    File::options().append(true).open(log.path()).expect("our own log can be opened")
}

fn read_back(file: &mut File) -> String {
    let mut octets = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut octets)).expect("our own temporary file can be read");
    String::from_utf8_lossy(&octets).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn outputs_and_status_are_kept_apart() {
        let output = run(shell("echo out; echo err >&2; exit 3"), LIMIT);

        assert_eq!(output.status.code(), Some(3));
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    }

    #[test]
    #[should_panic(expected = "was still running after")]
    fn a_program_that_does_not_end_is_killed() {
        run(shell("exec tail -f /dev/null"), Duration::from_millis(100));
    }

    #[test]
    #[should_panic(expected = "is it installed?")]
    fn a_program_that_is_not_there_is_named() {
        run(Command::new("/no/such/program"), LIMIT);
    }

    #[test]
    fn drop_kills_by_id_and_reaps() {
        let process = Process::spawn(shell("exec tail -f /dev/null"));
        let entry = format!("/proc/{}", process.pid());

        drop(process);

        assert!(!std::path::Path::new(&entry).exists());
    }

    #[test]
    fn terminate_returns_what_the_handler_wrote() {
        let mut process =
            Process::spawn(shell("trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done"));
        process.wait_for_log("ready", LIMIT);

        let (status, log) = process.terminate(LIMIT);

        assert_eq!((status.code(), log.as_str()), (Some(7), "ready\nbye\n"));
    }

    #[test]
    #[should_panic(expected = "ended before: \"ready\" in its log")]
    fn waiting_for_a_program_that_ended_does_not_wait_for_the_limit() {
        Process::spawn(shell("echo oops")).wait_for_log("ready", LIMIT);
    }
}
