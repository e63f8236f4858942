//! The program at a terminal, which is a pseudo-terminal of the test: `vmlan top`, and listings with `--watch`.

#[path = "../support/mod.rs"]
mod support;

mod pty;
mod screen;
mod top;
mod wait;
mod watch;

/// Two ports, of which one has a long path.
const CONFIG: &str = "[network.lab.port.web]\nstream = { listen = \"web.sock\" }\n\
                      [network.lab.port.db]\nstream = { listen = \"a-long-name-for-the-socket-of-a-database.sock\" }\n";
