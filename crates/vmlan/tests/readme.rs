//! The README as a newcomer follows it: its commands, in its order, in one shell of an ordinary user, and what it says
//! that they show.
//!
//! A block behind `<!-- readme-run -->` is run. One behind `<!-- readme-watch -->` is run until it shows what the block
//! behind it says, in form: numbers, users and directories differ, and what is on the way may still come.

#[path = "support/page.rs"]
mod page;
#[path = "support/shell.rs"]
mod shell;

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use page::{block, form, word};
use testbed::{poll_until, require};

/// An ordinary user, whom no system knows.
const USER: u32 = 64_321;
/// How long a command may take, and what it shows may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A block that is run, and what it shows in the end.
struct Step {
    commands: String,
    shows: Option<String>,
}

#[test]
fn commands_do_what_the_readme_says() {
    require!(qemu(), tool("bash"));
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md"));
    let text = text.expect("the README");
    let steps = steps(&text);
    assert!(steps.len() >= 6, "blocks to run: {}", steps.len());
    let mut shell = Shell::start();
    for Step { commands, shows } in &steps {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Some(expected) = shows else {
                shell.run(commands);
                break;
            };
            let output = shell.shell.attempt(commands, PATIENCE);
            let (is, wanted) = (form(&output), form(expected));
            if is == wanted {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "{commands}shows\n{output}\nin form {is:#?}\nand not {wanted:#?}"
            );
        }
    }
    let output = shell.run("vmlan demo 2> /dev/null");
    assert_eq!(form(&output), form(&demo(&text)));
}

/// The blocks to run, in their order.
fn steps(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = text;
    while let Some((_, behind)) = rest.split_once("<!-- readme-") {
        let (kind, behind) = behind.split_once(" -->").expect("the end of a comment");
        rest = behind;
        if kind == "output" {
            continue;
        }
        let (commands, behind) = block(behind);
        let shows = (kind == "watch").then(|| block(behind).0.to_owned());
        steps.push(Step { commands: commands.to_owned(), shows });
    }
    steps
}

/// Returns the demo's output as the README shows it.
fn demo(text: &str) -> String {
    let (_, behind) = text.split_once("<!-- readme-output -->").expect("the demo's output");
    block(behind).0.to_owned()
}

/// A shell, in a directory of its own, that ends what it started.
struct Shell {
    _directory: tempfile::TempDir,
    child: Child,
    shell: shell::Shell,
}

impl Shell {
    fn start() -> Shell {
        let directory =
            tempfile::Builder::new().prefix("vmlan-readme-").tempdir_in("/tmp").expect("a directory");
        let path = directory.path();
        let program = path.join("bin/vmlan");
        std::fs::create_dir(path.join("bin")).expect("a directory");
        std::fs::copy(env!("CARGO_BIN_EXE_vmlan"), program).expect("the program");
        let home = path.join("home");
        std::fs::create_dir(&home).expect("a directory");
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("a mode");
        std::fs::set_permissions(&home, PermissionsExt::from_mode(0o700)).expect("a mode");
        let search = std::env::var("PATH").expect("a search path");
        let mut command = Command::new("bash");
        command
            .env_clear()
            .env("PATH", format!("{}:{search}", path.join("bin").display()))
            .env("HOME", &home)
            .env("XDG_RUNTIME_DIR", &home)
            .env("TMPDIR", &home)
            .current_dir(&home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if rustix::process::geteuid().is_root() {
            chown(&home, Some(USER), Some(USER)).expect("root");
            command.uid(USER).gid(USER);
        }
        let mut child = command.spawn().expect("bash");
        let (stdin, stdout) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        Shell { _directory: directory, child, shell: shell::Shell::new(stdin, stdout) }
    }

    /// Runs commands, and returns what they wrote. One that fails is a failure of the test.
    #[track_caller]
    fn run(&mut self, commands: &str) -> String {
        self.shell.run(commands, PATIENCE)
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // It may have ended already, by a command that failed.
        let _ = self.shell.try_run("set +e\nkill $(jobs -p)\nwait\nexit", PATIENCE);
        poll_until(PATIENCE, || !matches!(self.child.try_wait(), Ok(None)));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_differs_between_runs_is_no_form() {
    assert_eq!(
        form("lab  db  up  4  peer 12,345  at /home/you/x.sock\n\n"),
        form("lab db up 17 peer 9 at /tmp/vmlan-1/x.sock")
    );
    assert_ne!(form("lab db up"), form("lab db waiting"));
    assert_eq!(word("user=you"), word("user=64321"));
    assert_ne!(form("0% packet loss"), form("33% packet loss"));
}
