//! A moment on the wall clock, written as RFC 3339.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment in UTC to the millisecond, from 1970 to 9999: `2026-03-01T12:00:00.250Z` (RFC 3339).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    milliseconds: u64,
}

/// The last millisecond of the year 9999.
const LATEST: u64 = 253_402_300_799_999;
const MILLISECONDS_PER_DAY: u64 = 86_400_000;

impl Timestamp {
    /// The present moment.
    pub fn now() -> Self {
        Self::from(SystemTime::now())
    }

    /// The time from `earlier` until this moment; none if this one was before.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.milliseconds.saturating_sub(earlier.milliseconds))
    }
}

impl From<SystemTime> for Timestamp {
    /// Moments outside 1970 to 9999 become the nearest one inside.
    fn from(time: SystemTime) -> Self {
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self { milliseconds: u64::try_from(since_epoch.as_millis()).unwrap_or(LATEST).min(LATEST) }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_from_days(self.milliseconds / MILLISECONDS_PER_DAY);
        let in_day = self.milliseconds % MILLISECONDS_PER_DAY;
        let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
        let (second, millisecond) = (in_day / 1_000 % 60, in_day % 1_000);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
    }
}

/// The text is not a moment of the form `2026-03-01T12:00:00.250Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseTimestampError;

impl fmt::Display for ParseTimestampError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a time of the form 2026-03-01T12:00:00.250Z")
    }
}

impl std::error::Error for ParseTimestampError {}

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |from: usize, to: usize| -> Option<u64> {
            let digits = text.get(from..to)?;
            digits.bytes().all(|octet| octet.is_ascii_digit()).then(|| digits.parse().ok())?
        };
        let parsed = (|| {
            let days = days_from_civil(number(0, 4)?, number(5, 7)?, number(8, 10)?)?;
            let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
            let in_day = ((hour * 60 + minute) * 60 + second) * 1_000 + number(20, 23)?;
            Some(Self { milliseconds: days * MILLISECONDS_PER_DAY + in_day })
        })();
        // Writing it again checks separators, length and ranges at once.
        parsed.filter(|time| time.to_string() == text).ok_or(ParseTimestampError)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Year, month and day of the proleptic Gregorian calendar, from days since 1970-01-01.
///
/// The year is counted from March, so that the leap day is its last, in eras of 400 years.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// Days since 1970-01-01; `None` before, or when month or day are not in 1 to 12 and 1 to 31.
fn days_from_civil(year: u64, month: u64, day: u64) -> Option<u64> {
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = year - u64::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, milliseconds: u64) -> Timestamp {
        Timestamp::from(UNIX_EPOCH + Duration::from_millis(seconds * 1_000 + milliseconds))
    }

    #[test]
    fn known_moments_are_written_as_rfc_3339() {
        for (time, text) in [
            (at(0, 0), "1970-01-01T00:00:00.000Z"),
            (at(951_782_400, 0), "2000-02-29T00:00:00.000Z"),
            (at(951_868_799, 999), "2000-02-29T23:59:59.999Z"),
            (at(1_772_366_400, 250), "2026-03-01T12:00:00.250Z"),
            (at(4_107_542_400, 0), "2100-03-01T00:00:00.000Z"),
            (at(253_402_300_799, 999), "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(time.to_string(), text);
            assert_eq!(text.parse(), Ok(time));
        }
    }

    #[test]
    fn moments_out_of_range_become_the_nearest() {
        assert_eq!(Timestamp::from(UNIX_EPOCH - Duration::from_secs(5)), at(0, 0));
        assert_eq!(at(400_000_000_000, 0).to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn other_text_is_no_timestamp() {
        for text in [
            "",
            "now",
            "2026-02-30T12:00:00.000Z",
            "2026-13-01T12:00:00.000Z",
            "2026-01-01T24:00:00.000Z",
            "2026-01-01 12:00:00.000Z",
            "2026-01-01T12:00:00Z",
            "2026-01-01T12:00:00.000Zx",
            "+026-01-01T12:00:00.000Z",
            "2026-01-01T12:00:0\u{e9}.00Z",
        ] {
            assert_eq!(text.parse::<Timestamp>(), Err(ParseTimestampError), "{text}");
        }
    }
}
