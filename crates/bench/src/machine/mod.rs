//! The machine that the figures were measured on.

mod quiet;

pub use quiet::{Quiet, wait_for_quiet};

use std::hint::black_box;
use std::process::{Command, Stdio};
use std::time::Instant;
use std::{fs, io, thread};

use serde::Serialize;

/// Programs whose version matters, and how they tell it.
const PROGRAMS: [(&str, &str); 3] =
    [("iperf3", "--version"), ("vde_switch", "--version"), ("ovs-vswitchd", "--version")];

/// The facts about a machine that one needs to read its figures.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor, as it calls itself.
    pub cpu: String,
    /// Processors that this process may use.
    pub cores: usize,
    /// Memory in GiB.
    pub memory_gib: f64,
    /// True if the processor says that it belongs to a hypervisor.
    pub virtual_machine: bool,
    /// Linux' release.
    pub kernel: String,
    /// The time of a system call that does nothing, in nanoseconds; everything here is made of system calls.
    pub system_call_ns: f64,
    /// The versions of the programs that vmlan is compared with, as they name themselves.
    pub programs: Vec<String>,
}

impl Machine {
    /// # Errors
    /// When /proc cannot be read.
    pub fn look() -> io::Result<Machine> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        Ok(Machine {
            cpu: model(&cpuinfo),
            cores: thread::available_parallelism()?.get(),
            memory_gib: memory(&fs::read_to_string("/proc/meminfo")?),
            virtual_machine: is_virtual(&cpuinfo),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            system_call_ns: system_call(),
            programs: PROGRAMS.iter().filter_map(|(program, option)| version(program, option)).collect(),
        })
    }

    /// All of it in a line.
    pub fn line(&self) -> String {
        let Machine { cpu, cores, memory_gib, virtual_machine, kernel, system_call_ns, programs } = self;
        let kind = if *virtual_machine { "virtual machine: " } else { "" };
        let mut line = format!(
            "{kind}{cpu}, {cores} cores, {memory_gib:.1} GiB, Linux {kernel}, an empty system call takes {system_call_ns:.0} ns"
        );
        for program in programs {
            line.push_str("; ");
            line.push_str(program);
        }
        line
    }
}

/// The first "model name"; other architectures than x86 have none.
fn model(cpuinfo: &str) -> String {
    let value =
        |line: &str| line.strip_prefix("model name")?.split_once(':').map(|(_, v)| v.trim().to_owned());
    cpuinfo.lines().find_map(value).unwrap_or_else(|| format!("unnamed {} processor", std::env::consts::ARCH))
}

fn is_virtual(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .any(|line| line.starts_with("flags") && line.split_whitespace().any(|flag| flag == "hypervisor"))
}

fn memory(meminfo: &str) -> f64 {
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
    total.unwrap_or(0.0) / f64::from(1 << 20)
}

/// The best of several tries, since whatever else runs makes it only slower.
fn system_call() -> f64 {
    const CALLS: u32 = 20_000;
    let once = |_| {
        let start = Instant::now();
        for _ in 0..CALLS {
            black_box(rustix::process::getppid());
        }
        start.elapsed().as_nanos() as f64 / f64::from(CALLS)
    };
    (0..5).map(once).fold(f64::INFINITY, f64::min)
}

fn version(program: &str, option: &str) -> Option<String> {
    let output = Command::new(program).arg(option).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| !line.trim().is_empty())?;
    // Some add what they were built with.
    Some(line.split(" (cJSON").next().unwrap_or(line).trim().to_owned())
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

    #[test]
    fn virtual_machines_and_memory_are_told() {
        assert!(is_virtual("flags\t\t: fpu hypervisor sse\n"));
        assert!(!is_virtual("flags\t\t: fpu sse\nbugs\t: hypervisor\n"));
        assert_eq!(memory("MemTotal:        2097152 kB\nMemFree: 1 kB\n"), 2.0);
    }

    #[test]
    fn an_empty_system_call_takes_some_time() {
        assert!((1.0..1e6).contains(&system_call()));
    }
}
