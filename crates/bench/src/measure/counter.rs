//! The packets that an interface received, as its kernel counts them.

use std::fs::File;
use std::io::{self, Read, Seek};

use anyhow::Context;

use crate::world::{Host, INTERFACE};

/// The counters of a namespace's interfaces. The file belongs to the namespace of the thread that opened it.
pub(super) struct Counter(File);

impl Counter {
    pub(super) fn of(host: &Host) -> anyhow::Result<Counter> {
        let file = vmlan_sys::netns::within(&host.netns.path(), || File::open("/proc/thread-self/net/dev"))
            .with_context(|| format!("the counters of namespace {}", host.netns.name()))?;
        Ok(Counter(file))
    }

    /// Packets received by now.
    pub(super) fn received(&mut self) -> io::Result<u64> {
        let mut text = String::new();
        self.0.rewind()?;
        self.0.read_to_string(&mut text)?;
        parse(&text, INTERFACE)
            .ok_or_else(|| io::Error::other(format!("/proc/net/dev does not tell of {INTERFACE}")))
    }
}

/// The second number of an interface's line (proc_pid_net(5)).
fn parse(text: &str, interface: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, numbers) = line.split_once(':')?;
        (name.trim() == interface).then(|| numbers.split_whitespace().nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_the_second_number_of_the_right_line() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs\n    \
                    lo:     100       1    0    0    0     0          0         0      100       1    0\n   \
                    t01:    900       9    0    0    0     0          0         0      100       1    0\n    \
                    t0:1234567   20576    0    3    0     0          0         0        0       0    0\n";

        assert_eq!(parse(text, "t0"), Some(20576));
        assert_eq!(parse(text, "t1"), None);
        assert_eq!(parse("t0: 5", "t0"), None);
    }
}
