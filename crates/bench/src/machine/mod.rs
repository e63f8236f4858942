//! What the figures were measured on.

mod quiet;

pub use quiet::wait_for_quiet;

use std::{fs, io, thread};

use serde::Serialize;

/// What has to be known of a machine to read its figures.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor, as it calls itself.
    pub cpu: String,
    /// Processors that this process may use.
    pub cores: usize,
    /// Linux' release.
    pub kernel: String,
}

impl Machine {
    /// # Errors
    /// When /proc cannot be read.
    pub fn look() -> io::Result<Machine> {
        let cpu = model(&fs::read_to_string("/proc/cpuinfo")?);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
        Ok(Machine { cpu, cores: thread::available_parallelism()?.get(), kernel })
    }

    /// All of it in a line.
    pub fn line(&self) -> String {
        let Machine { cpu, cores, kernel } = self;
        format!("{cpu}, {cores} cores, Linux {kernel}")
    }
}

/// The first "model name"; other architectures than x86 have none.
fn model(cpuinfo: &str) -> String {
    let value =
        |line: &str| line.strip_prefix("model name")?.split_once(':').map(|(_, v)| v.trim().to_owned());
    cpuinfo.lines().find_map(value).unwrap_or_else(|| format!("unnamed {} processor", std::env::consts::ARCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_named() {
        let x86 = "processor\t: 0\nmodel\t\t: 85\nmodel name\t: Fast CPU @ 2:1\nmodel name\t: other\n";

        assert_eq!(model(x86), "Fast CPU @ 2:1");
        assert!(model("processor\t: 0\n").contains("unnamed"));
    }
}
