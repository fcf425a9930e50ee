//! Signals by name and number, as kill(1) and runc take them.

use crate::failure::Failure;

/// The numbers are those of x86_64 and aarch64, which are the same.
const NAMES: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// `SIGRTMIN` and `SIGRTMAX` as the C library shows them: it keeps 32 and 33 for itself.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

pub(crate) const KILL: i32 = 9;
pub(crate) const TERM: i32 = 15;
pub(crate) const PIPE: i32 = 13;
pub(crate) const CHILD: i32 = 17;
pub(crate) const URGENT: i32 = 23;
pub(crate) const WINDOW: i32 = 28;

/// 0 asks whether there is somebody to signal.
///
/// The number of a signal that is given as `9`, `KILL`, `SIGKILL`, `kill`, `RTMIN+3` or `SIGRTMAX-1`.
pub(crate) fn number(text: &str) -> Result<i32, Failure> {
    let unknown = || Failure::new(format!("unknown signal {text:?}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (0..=64).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    real_time(name).filter(|number| REAL_TIME.contains(number)).ok_or_else(unknown)
}

fn real_time(name: &str) -> Option<i32> {
    let steps = |rest: &str, sign| match rest.strip_prefix(sign) {
        Some(steps) => steps.parse::<u8>().ok().map(i32::from),
        None => rest.is_empty().then_some(0),
    };
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return Some(REAL_TIME.start() + steps(rest, '+')?);
    }
    Some(REAL_TIME.end() - steps(name.strip_prefix("RTMAX")?, '-')?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, expected) in [
            ("9", Some(9)),
            ("KILL", Some(9)),
            ("SIGKILL", Some(9)),
            ("sigterm", Some(15)),
            ("winch", Some(28)),
            ("SIGRTMIN", Some(34)),
            ("RTMIN+3", Some(37)),
            ("SIGRTMAX-14", Some(50)),
            ("rtmax", Some(64)),
            ("64", Some(64)),
            ("0", Some(0)),
            ("65", None),
            ("-9", None),
            ("RTMIN+31", None),
            ("RTMIN-1", None),
            ("RTMAX-31", None),
            ("SIGSIGKILL", None),
            ("", None),
        ] {
            assert_eq!(number(text).ok(), expected, "{text}");
        }
        assert_eq!(number("FOO").map_err(|failure| failure.to_string()), Err("unknown signal \"FOO\"".to_owned()));
    }
}
