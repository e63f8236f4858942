//! Commands over a guest's second serial port.
//!
//! The guest says `ready` once. From then on each command gets a number; its answer is everything between the lines
//! `begin NUMBER` and `end NUMBER STATUS`, so what is left of an answer that was given up on is never taken for the
//! next one.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// An answer may not be longer than this many octets.
const ANSWER_BOUND: usize = 1 << 20;
const READ_TIMEOUT: Duration = Duration::from_millis(200);

/// The outcome of a command in a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestOutput {
    /// Exit status.
    pub status: i32,
    /// Standard output and standard error, as they came.
    pub output: String,
}

/// The test's end of the serial port.
#[derive(Debug)]
pub(super) struct Console {
    stream: UnixStream,
    received: Vec<u8>,
    ready: bool,
    commands: u32,
}

impl Console {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(READ_TIMEOUT))?;
        Ok(Self { stream, received: Vec::new(), ready: false, commands: 0 })
    }

    /// Goes on with the commands of another console, whose guest is here now.
    pub(super) fn resume(&mut self, other: &Console) {
        (self.ready, self.commands) = (other.ready, other.commands);
    }

    /// Waits until the guest takes commands.
    pub(super) fn wait_ready(&mut self, deadline: Instant) -> io::Result<()> {
        while !self.ready {
            let line = self.line(deadline)?;
            self.ready = line == "ready";
        }
        Ok(())
    }

    /// Runs one line of shell in the guest.
    pub(super) fn run(&mut self, command: &str, deadline: Instant) -> io::Result<GuestOutput> {
        assert!(!command.contains('\n'), "a command for a guest is one line");
        self.wait_ready(deadline)?;
        self.commands += 1;
        let number = self.commands;
        writeln!(self.stream, "{number} {command}")?;
        let begin = format!("begin {number}");
        while self.line(deadline)? != begin {}
        let end = format!("end {number} ");
        let mut output = String::new();
        loop {
            let line = self.line(deadline)?;
            if let Some(status) = line.strip_prefix(&end) {
                let status = status.parse().map_err(|_| invalid("a status that is no number"))?;
                // The guest puts a newline before its end mark, which is not the command's.
                output.pop();
                return Ok(GuestOutput { status, output });
            }
            if output.len() + line.len() >= ANSWER_BOUND {
                return Err(invalid("an answer that is too long"));
            }
            output.push_str(&line);
            output.push('\n');
        }
    }

    /// The next line, without its end.
    fn line(&mut self, deadline: Instant) -> io::Result<String> {
        loop {
            if let Some(end) = self.received.iter().position(|octet| *octet == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned());
            }
            if self.received.len() >= ANSWER_BOUND {
                return Err(invalid("a line that is too long"));
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.received.extend_from_slice(&chunk[..length]),
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error),
            }
            if Instant::now() >= deadline {
                return Err(ErrorKind::TimedOut.into());
            }
        }
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the guest sent {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A console whose guest has already said all this and says no more, and the guest's end.
    fn console(said: &str) -> (Console, UnixStream) {
        let (ours, mut guest) = UnixStream::pair().expect("a socket pair");
        guest.write_all(said.as_bytes()).expect("a short write");
        guest.shutdown(std::net::Shutdown::Write).expect("a shutdown");
        (Console::new(ours).expect("a console"), guest)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn an_answer_is_what_stands_between_its_marks() {
        let (mut console, _guest) = console("noise\r\nready\nstale\nbegin 1\none\n\ntwo\n\nend 1 3\n");

        let answer = console.run("anything", soon()).expect("an answer");

        assert_eq!(answer, GuestOutput { status: 3, output: "one\n\ntwo\n".into() });
    }

    #[test]
    fn an_answer_without_output_is_empty() {
        let (mut console, _guest) = console("ready\nbegin 1\n\nend 1 0\n");

        let answer = console.run("true", soon()).expect("an answer");

        assert_eq!(answer, GuestOutput { status: 0, output: String::new() });
    }

    #[test]
    fn marks_of_another_command_are_not_ours() {
        let (mut console, _guest) = console("ready\nbegin 1\nend 1 0\nbegin 2\nend 1 9\n\nend 2 0\n");
        console.commands = 1;

        let answer = console.run("true", soon()).expect("an answer");

        assert_eq!(answer.output, "end 1 9\n");
    }

    #[test]
    fn a_guest_that_is_gone_is_an_error() {
        let (mut console, _guest) = console("ready\nbegin 1\nhal");

        let error = console.run("true", soon()).expect_err("no answer");

        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_silent_guest_is_given_up_on() {
        let (ours, _guest) = UnixStream::pair().expect("a socket pair");
        let mut console = Console::new(ours).expect("a console");

        let error = console.wait_ready(Instant::now()).expect_err("no answer");

        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}
