//! The argument of listings that are shown again and again.

use std::time::Duration;

use clap::Args;

/// The interval at which a listing is shown again.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Watch {
    /// Show it again and again, every SECONDS, until Ctrl-C [default: every 2 seconds]
    ///
    /// A terminal shows the newest; elsewhere they follow one another, each below a line with the time. With --json
    /// each is a line.
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2",
        value_parser = seconds
    )]
    pub watch: Option<Duration>,
}

/// Seconds, with a fraction or without.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.1..=86_400.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "write seconds from 0.1 to 86400".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_bounded() {
        for (text, milliseconds) in [("0.1", 100), ("2", 2_000), ("1.5", 1_500), ("86400", 86_400_000)] {
            assert_eq!(seconds(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "0", "0.01", "-1", "86401", "inf", "NaN", "1s"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
