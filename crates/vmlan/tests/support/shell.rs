//! A shell that runs the blocks of a page one after the other, as a reader pastes them.

use std::io::{BufRead, BufReader, Read, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// A shell that takes commands as lines and writes what they wrote.
pub struct Shell {
    input: Box<dyn Write>,
    lines: Receiver<String>,
    runs: u32,
}

impl Shell {
    /// Makes one of the standard input and output of a shell that shows no prompt.
    pub fn new(input: impl Write + 'static, output: impl Read + Send + 'static) -> Shell {
        let (tell, lines) = channel();
        let output = BufReader::new(output);
        let pass = move || {
            output.lines().map_while(Result::ok).try_for_each(|line| tell.send(line.trim_end().to_owned()))
        };
        std::thread::spawn(pass);
        Shell { input: Box::new(input), lines, runs: 0 }
    }

    /// Runs commands, and returns what they wrote, or why there is no answer. One that fails ends the shell.
    pub fn try_run(&mut self, commands: &str, limit: Duration) -> Result<String, String> {
        self.pass(&format!("set -e\n{}\nset +e\n", commands.trim_end()), limit)
    }

    /// Runs commands, any of which may fail, and returns what they wrote.
    #[track_caller]
    pub fn attempt(&mut self, commands: &str, limit: Duration) -> String {
        self.pass(commands, limit).unwrap_or_else(|error| panic!("{commands}\n{error}"))
    }

    fn pass(&mut self, commands: &str, limit: Duration) -> Result<String, String> {
        self.runs += 1;
        let (begin, end) = (format!("-- {} begins --", self.runs), format!("-- {} ended --", self.runs));
        let text = format!("echo '{begin}'\n{commands}echo '{end}'\n");
        self.input.write_all(text.as_bytes()).map_err(|error| error.to_string())?;
        let mut output = String::new();
        loop {
            match self.lines.recv_timeout(limit) {
                Ok(line) if line == begin => output.clear(),
                Ok(line) if line == end => return Ok(output),
                Ok(line) => output.push_str(&(line + "\n")),
                Err(RecvTimeoutError::Timeout) => return Err(format!("no end after {limit:?}\n{output}")),
                Err(RecvTimeoutError::Disconnected) => return Err(format!("a command failed\n{output}")),
            }
        }
    }

    /// Does the same as [`Shell::try_run`], where a failure is one of the test's.
    #[track_caller]
    pub fn run(&mut self, commands: &str, limit: Duration) -> String {
        match self.try_run(commands, limit) {
            Ok(output) => output,
            Err(error) => panic!("{commands}\n{error}"),
        }
    }
}
