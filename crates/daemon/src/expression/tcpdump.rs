//! Expressions by tcpdump.

use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::BadFilter;

/// Name of the compiler of expressions.
pub(super) const COMPILER: &str = "tcpdump";

/// How long it may take: names of hosts and ports may have to be looked up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Compiles an expression for Ethernet with tcpdump, into the form of `tcpdump -ddd`.
pub(super) fn compile(expression: &str) -> Result<String, BadFilter> {
    run("tcpdump", expression, PATIENCE)
}

fn run(tcpdump: &str, expression: &str, patience: Duration) -> Result<String, BadFilter> {
    let failed = |error: io::Error| BadFilter::Failed(format!("tcpdump cannot be run: {error}"));
    let mut command = Command::new(tcpdump);
    command.args(["-ddd", "-y", "EN10MB", "--", expression]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => BadFilter::Failed(format!(
            "`{expression}` is an expression, and tcpdump, which makes a program of it, is not installed; install it, \
             or do it on another machine: tcpdump -ddd -y EN10MB '{expression}' > FILE, and name that file instead"
        )),
        _ => failed(error),
    })?;
    let (tell, told) = mpsc::channel();
    let gather = |stream: Option<Box<dyn Read + Send>>| {
        let tell = tell.clone();
        let read = move || {
            let mut text = Vec::new();
            // What cannot be read is missing below.
            let _ = stream.map(|stream| stream.take(super::LARGEST).read_to_end(&mut text));
            // Nobody waits for what comes too late.
            let _ = tell.send(String::from_utf8_lossy(&text).into_owned());
        };
        thread::Builder::new().name("expression".into()).spawn(read).map(|_| told.recv_timeout(patience))
    };
    let program = child.stdout.take().map(|stream| Box::new(stream) as _);
    let complaint = child.stderr.take().map(|stream| Box::new(stream) as _);
    let (program, complaint) = (gather(program), gather(complaint));
    let (Ok(Ok(program)), Ok(Ok(complaint))) = (program, complaint) else {
        // Fails when it has just ended by itself.
        let _ = child.kill();
        child.wait().map_err(failed)?;
        return Err(BadFilter::Failed(format!("tcpdump did not come to an end with `{expression}`")));
    };
    if !child.wait().map_err(failed)?.success() {
        return Err(BadFilter::Wrong(format!("tcpdump does not take `{expression}`: {}", complaint.trim())));
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_tcpdump_the_message_says_what_to_do() {
        match run("/no/such/tcpdump", "icmp", PATIENCE) {
            Err(BadFilter::Failed(message)) => {
                assert!(message.contains("tcpdump -ddd -y EN10MB 'icmp' > FILE"), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_compiler_that_does_not_end_is_ended() {
        let directory = tempfile::tempdir().expect("a directory");
        let program = directory.path().join("hangs");
        std::fs::write(&program, "#!/bin/sh\nexec sleep 1000\n").expect("room");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).expect("our file");
        let program = program.to_str().expect("a path");
        match run(program, "icmp", Duration::from_millis(50)) {
            Err(BadFilter::Failed(message)) => assert!(message.contains("`icmp`"), "{message}"),
            other => panic!("{other:?}"),
        }
    }
}
