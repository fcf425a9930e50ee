//! Times as RFC 3339 writes them, in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

/// To the second: `2026-11-21T18:44:31Z`.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    format!("{}Z", to_the_second(time))
}

/// With as many digits of a second as it needs, as Go writes them: `2026-11-21T18:44:31.5Z`.
pub(crate) fn rfc3339_nano(time: SystemTime) -> String {
    let nanoseconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    let digits = format!(".{nanoseconds:09}");
    format!("{}{}Z", to_the_second(time), digits.trim_end_matches('0').trim_end_matches('.'))
}

fn to_the_second(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// The date that is `days` after 1970-01-01. The year is taken to begin in March, so that the leap day comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day_of_year - (153 * from_march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_are_right_around_leap_days() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_200, "2024-03-01T00:00:00Z"),
            (1_795_286_671, "2026-11-21T18:44:31Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn parts_of_a_second_are_as_long_as_they_need_to_be() {
        for (nanoseconds, expected) in [
            (0, "1970-01-01T00:00:01Z"),
            (500_000_000, "1970-01-01T00:00:01.5Z"),
            (120, "1970-01-01T00:00:01.00000012Z"),
        ] {
            assert_eq!(rfc3339_nano(UNIX_EPOCH + Duration::new(1, nanoseconds)), expected);
        }
    }
}
