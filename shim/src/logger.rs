//! What the shim says to operators: one line for each event, in the form that containerd's other shims use, on standard
//! error. In the daemon that is the bundle's `log` FIFO; a line that does not fit (containerd is away) is lost, never
//! waited for.

use std::time::{SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::flags::Verbosity;

/// The one logger of the process.
struct Lines;

static LINES: Lines = Lines;

/// Begins logging. Called once in the daemon; `start`, `delete` and `-info` log nothing.
pub(crate) fn begin(verbosity: Verbosity) {
    if log::set_logger(&LINES).is_ok() {
        runtime_core::on_warning(|message| log::warn!("{message}"));
        log::set_max_level(match verbosity {
            Verbosity::Normal => LevelFilter::Info,
            Verbosity::Debug => LevelFilter::Debug,
        });
    }
}

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let level = match record.level() {
            Level::Error => "error",
            Level::Warn => "warning",
            Level::Info => "info",
            Level::Debug | Level::Trace => "debug",
        };
        let time = rfc3339(SystemTime::now());
        let line = format!(
            "time=\"{time}\" level={level} msg={:?} runtime=io.containerd.tare.v2\n",
            record.args().to_string()
        );
        // One write, so that lines do not mix in the FIFO. There is nobody to tell when it cannot be done.
        let _lost = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
    }

    fn flush(&self) {}
}

/// `2026-11-21T18:44:31.000000000Z`.
fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", since.subsec_nanos())
}

/// The date that is `days` after 1970-01-01. The year is taken to begin in March, so that the leap day comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day_of_year - (153 * from_march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_are_right_around_leap_days() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (1_709_251_200, "2024-03-01T00:00:00.000000000Z"),
            (1_795_286_671, "2026-11-21T18:44:31.000000000Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }
}
