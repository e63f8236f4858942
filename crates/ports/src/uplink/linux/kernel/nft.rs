//! The program `nft`, and the table of a network that lives as long as it.
//!
//! Theory of operation. The table has the flag `owner` (Linux 5.12): only the netlink socket that made it may change
//! it, and the kernel removes it when that socket is closed. So one interactive nft keeps it, which reads commands from
//! a pipe and ends with the pipe: when the daemon ends, however it does, the program ends and the table goes. The flush
//! of all rules by another program leaves it.

use std::io;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{sleep, timeout};

use crate::uplink::rules::{self, Plan};

/// The time that the program may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Time between two questions for the rules that it was given.
const AGAIN: Duration = Duration::from_millis(20);

/// Octets of a listing that are read.
const LONGEST: u64 = 32 << 20;

/// Octets of a line of complaint that are kept.
const COMPLAINT: usize = 300;

/// A running nft that owns a table.
pub(super) struct Table {
    child: Child,
    commands: ChildStdin,
    complaint: Arc<Mutex<Option<String>>>,
}

impl Table {
    /// Starts the program. There is no table before the first [`Table::replace`].
    pub(super) fn start() -> Result<Table, String> {
        let mut child = Command::new("nft")
            .arg("-i")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .process_group(0)
            .spawn()
            .map_err(|error| explain(&error))?;
        let commands = child.stdin.take().ok_or("nft has no input")?;
        let complaint = Arc::new(Mutex::new(None));
        if let Some(errors) = child.stderr.take() {
            let complaint = complaint.clone();
            // Ends with the program.
            tokio::spawn(async move {
                let mut lines = BufReader::new(errors.take(LONGEST)).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    let mut held = complaint.lock().unwrap_or_else(PoisonError::into_inner);
                    if held.is_none() && line.contains("rror") {
                        *held = Some(line.chars().take(COMPLAINT).collect());
                    }
                }
            });
        }
        Ok(Table { child, commands, complaint })
    }

    /// Replaces the table's rules in one step, and waits until the kernel has them.
    pub(super) async fn replace(&mut self, plan: &Plan<'_>) -> Result<(), String> {
        self.take_complaint();
        let line = rules::in_one_line(&rules::text(plan));
        let written = timeout(PATIENCE, async {
            self.commands.write_all(line.as_bytes()).await?;
            self.commands.flush().await
        });
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(format!("nft takes no commands: {error}")),
            Err(_) => return Err("nft takes no commands: it does not read them".to_owned()),
        }
        let mark = rules::mark(plan.generation);
        let known = timeout(PATIENCE, async {
            loop {
                let chain = ["list", "chain", "inet", plan.table, rules::GENERATION];
                if output("nft", &chain).await.is_ok_and(|text| text.contains(&mark)) {
                    return Ok(());
                }
                if let Some(complaint) = self.take_complaint() {
                    return Err(complaint);
                }
                if let Ok(Some(status)) = self.child.try_wait() {
                    return Err(format!("it ended ({status})"));
                }
                sleep(AGAIN).await;
            }
        });
        known.await.unwrap_or_else(|_| Err("the rules are not there".to_owned())).map_err(|why| {
            format!(
                "nft did not make the table {}: {why}; it needs Linux 5.12 with nf_tables and nftables 1.0, and \
                 CAP_NET_ADMIN; `mode = \"user\"` needs none of it",
                plan.table
            )
        })
    }

    /// True while the program runs, and with it the table is there.
    pub(super) fn is_there(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn take_complaint(&self) -> Option<String> {
        self.complaint.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "the program nft is not there; install nftables, or write `mode = \"user\"`".to_owned()
        }
        _ => format!("nft cannot be started: {error}"),
    }
}

/// The standard output of a program that succeeds, as far as it is read.
pub(super) async fn output(program: &str, arguments: &[&str]) -> io::Result<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .process_group(0)
        .spawn()?;
    let mut text = Vec::new();
    let ended = timeout(PATIENCE, async {
        if let Some(out) = &mut child.stdout {
            out.take(LONGEST).read_to_end(&mut text).await?;
        }
        child.wait().await
    });
    match ended.await {
        Ok(Ok(status)) if status.success() => Ok(String::from_utf8_lossy(&text).into_owned()),
        Ok(Ok(status)) => Err(io::Error::other(format!("{program} failed ({status})"))),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
