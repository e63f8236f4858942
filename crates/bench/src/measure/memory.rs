//! How much memory a process has.

use std::fs;

use anyhow::Context;

/// Resident memory in MiB.
///
/// # Errors
/// When there is no such process.
pub fn memory(process: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{process}/status");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let kib = parse(&text).with_context(|| format!("{path}: no VmRSS"))?;
    Ok(kib / 1024.0)
}

fn parse(text: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_found() {
        assert_eq!(parse("VmHWM:\t 900 kB\nVmRSS:\t    512 kB\n"), Some(512.0));
        assert_eq!(parse("Name: kthreadd\n"), None);
        assert!(memory(std::process::id()).expect("we are there") > 0.1);
    }
}
