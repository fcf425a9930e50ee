//! How fast this machine is, said by whoever runs the tests: an emulated guest is some times slower than what the tests'
//! time limits and numbers of rounds are meant for.

use std::time::Duration;

/// How many times slower than usual (`TARE_SLOW`, 1 when unset).
///
/// # Panics
/// When the variable is no number from 1 on.
#[must_use]
pub fn slow() -> u32 {
    match std::env::var("TARE_SLOW") {
        Err(_) => 1,
        Ok(text) => text
            .parse()
            .ok()
            .filter(|factor| *factor > 0)
            .unwrap_or_else(|| unreachable!("TARE_SLOW is {text:?}, not a number from 1 on")),
    }
}

/// A time limit, as long as this machine needs it.
#[must_use]
pub fn patience(limit: Duration) -> Duration {
    limit * slow()
}

/// How often something is repeated here that is repeated `usually` so often; five times at least, if usually so.
#[must_use]
pub fn rounds(usually: usize) -> usize {
    let fewer = usually / usize::try_from(slow()).unwrap_or(usize::MAX);
    fewer.max(usually.min(5))
}
