//! Machines of a recipe: a shell with namespaces of its own.
//!
//! A machine has its own network, mounts and processes: a fresh /run, /var/lib, /var/log and /var/cache, and a copy of
//! /etc. Everything that was started in it ends with its first process. What a recipe writes elsewhere it writes to
//! this system, so recipes stay within those directories and their own.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testbed::poll_until;
use testbed::require::{Need, namespaces, tool};

use crate::page::form;
use crate::recipe::Action;
use crate::shell::Shell;
use crate::support::VMLAN;

/// How long a command may take, and what it shows may take to come.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How long a machine may take to end.
const END: Duration = Duration::from_secs(10);

/// Makes the namespaces a system of their own, and says so when that is done.
const BEGIN: &str = "\
for place in /run /var/lib /var/log /var/cache; do mount -t tmpfs none $place; done
mkdir -p /var/lib/misc
cp --archive /etc /run/etc
mount --bind /run/etc /etc
umount --recursive --lazy /sys
mount -t sysfs none /sys
mount -t cgroup2 none /sys/fs/cgroup
ip link set lo up
cd work
";

/// A shell in namespaces of its own; all processes in them end with it.
pub struct Machine {
    name: String,
    directory: TempDir,
    child: Child,
    shell: Shell,
}

/// The needs of every machine.
pub fn needs() -> Vec<Need> {
    [&namespaces()[..], &[tool("unshare"), tool("bash")]].concat()
}

impl Machine {
    #[track_caller]
    pub fn new(name: &str) -> Machine {
        let directory =
            tempfile::Builder::new().prefix("vmlan-recipe-").tempdir_in("/tmp").expect("a directory");
        let path = directory.path();
        for part in ["bin", "work"] {
            std::fs::create_dir(path.join(part)).expect("a directory");
        }
        // Recipes have programs of other users in it.
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("a mode");
        // Its own directory may be one that is covered.
        std::fs::copy(VMLAN, path.join("bin/vmlan")).expect("the program");
        let search = std::env::var("PATH").expect("a search path");
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash"])
            .env("PATH", format!("{}:{search}:/usr/sbin:/sbin", path.join("bin").display()))
            .env("HOME", path)
            .env_remove("XDG_RUNTIME_DIR")
            .current_dir(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("unshare");
        let (stdin, stdout) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        let mut shell = Shell::new(stdin, stdout);
        shell.run(BEGIN, PATIENCE);
        Machine { name: name.to_owned(), directory, child, shell }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory in which the recipe's commands are run.
    pub fn work(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    /// Runs commands, and returns what they wrote. One that fails is a failure of the test.
    #[track_caller]
    pub fn run(&mut self, commands: &str) -> String {
        self.shell.run(commands, PATIENCE)
    }

    /// Takes one step of a recipe.
    #[track_caller]
    pub fn step(&mut self, action: &Action) {
        match action {
            Action::File { name, content } => {
                std::fs::write(self.work().join(name), content).expect("a file of the recipe's");
            }
            Action::Run(_) | Action::Watch { .. } => step(&mut self.shell, action),
        }
    }

    /// Joins two machines with a veth, of these names.
    #[track_caller]
    pub fn join(&self, interface: &str, other: &Machine, others: &str) {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.child.id()));
        command.args(["ip", "link", "add", interface, "type", "veth", "peer", "name", others, "netns"]);
        command.arg(other.child.id().to_string());
        testbed::run(command, PATIENCE).expect_success();
    }
}

/// Takes a step in a shell.
#[track_caller]
pub fn step(shell: &mut Shell, action: &Action) {
    match action {
        Action::Run(commands) => drop(shell.run(commands, PATIENCE)),
        Action::Watch { commands, shows } => watch(shell, commands, shows),
        Action::File { name, .. } => panic!("{name}: a guest's files are its own"),
    }
}

/// Runs commands until they write what the page shows, in form.
#[track_caller]
fn watch(shell: &mut Shell, commands: &str, shows: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let output = shell.attempt(commands, PATIENCE);
        let (is, wanted) = (form(&output), form(shows));
        if is == wanted {
            return;
        }
        let late = Instant::now() >= deadline;
        assert!(!late, "{commands}shows\n{output}\nin form {is:#?}\nand not {wanted:#?}");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // All processes of a namespace end with its first one. A shell that is busy does not hear of it.
        let _ = self.shell.try_run("exit", END);
        let ended = poll_until(END, || !matches!(self.child.try_wait(), Ok(None)));
        if ended {
            return;
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
