//! Frames that an interface's own driver dropped on the way out, as the kernel counts them: those for a guest that does
//! not read its TAP.

use std::collections::HashMap;

/// How many each interface of this network namespace has dropped, by its name. Nothing when that cannot be read.
pub(super) fn dropped() -> HashMap<String, u64> {
    // The file is that of the thread's namespace, other than what is below /sys.
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    text.lines().filter_map(parse).collect()
}

/// The twelfth number of a line is what was dropped on the way out (proc_pid_net(5)).
fn parse(line: &str) -> Option<(String, u64)> {
    let (name, numbers) = line.rsplit_once(':')?;
    Some((name.trim().to_owned(), numbers.split_whitespace().nth(11)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dropped_on_the_way_out_is_the_twelfth_number() {
        let line = "  tap:1: 100 1 2 3 4 5 6 7 200 8 9 77 11 12 13 14";
        assert_eq!(parse(line), Some(("tap:1".to_owned(), 77)));
        assert_eq!(parse(" face |bytes    packets errs drop"), None);
        assert_eq!(parse("t0: 5"), None);
        assert!(dropped().contains_key("lo"));
    }
}
