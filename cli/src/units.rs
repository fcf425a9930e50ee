//! Amounts as people and Go's libraries write them: bytes (`512m`, `-1`) and durations (`1m30s`).

use std::time::Duration;

/// `512`, `64k`, `1.5GiB`, `100 MB`: powers of 1024 whatever the spelling, as Docker counts memory.
pub(crate) fn bytes(text: &str) -> Option<i64> {
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, suffix) = text.split_at_checked(digits)?;
    let suffix = suffix.strip_prefix(' ').unwrap_or(suffix).to_lowercase();
    let power = match suffix.strip_suffix("ib").or_else(|| suffix.strip_suffix('b')).unwrap_or(&suffix) {
        "" if suffix != "ib" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let unit = 1_i64 << (10 * power);
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(unit);
    }
    // A fraction: exact to the thousandth is more than anybody writes.
    let (whole, fraction) = number.split_once('.')?;
    let whole = if whole.is_empty() { 0 } else { whole.parse::<i64>().ok()? };
    let places = u32::try_from(fraction.len()).ok().filter(|places| (1..=9).contains(places))?;
    let part = fraction.parse::<i64>().ok()?;
    let part = i128::from(part) * i128::from(unit) / i128::from(10_i64.pow(places));
    whole.checked_mul(unit)?.checked_add(i64::try_from(part).ok()?)
}

/// Go's `time.ParseDuration` without fractions: `5s`, `300ms`, `1h2m`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at_checked(digits)?;
        let letters = after.bytes().take_while(|byte| !byte.is_ascii_digit()).count();
        let (unit, next) = after.split_at_checked(letters)?;
        let number = number.parse::<u64>().ok()?;
        total = total.checked_add(match unit {
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "s" => Duration::from_secs(number),
            "ms" => Duration::from_millis(number),
            "us" | "µs" => Duration::from_micros(number),
            "ns" => Duration::from_nanos(number),
            "" if number == 0 && text == "0" => Duration::ZERO,
            _ => return None,
        })?;
        rest = next;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory() {
        for (text, expected) in [
            ("0", Some(0)),
            ("33554432", Some(33_554_432)),
            ("32M", Some(33_554_432)),
            ("32mb", Some(33_554_432)),
            ("32 MiB", Some(33_554_432)),
            ("1.5g", Some(1_610_612_736)),
            (".5k", Some(512)),
            ("7b", Some(7)),
            ("2t", Some(2 << 40)),
            ("8p", Some(8 << 50)),
            ("9999999p", None),
            ("ib", None),
            ("7ib", None),
            ("7x", None),
            ("m", None),
            ("", None),
            ("-5", None),
            ("1.m", None),
        ] {
            assert_eq!(bytes(text), expected, "{text:?}");
        }
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("5s", Some(5_000)),
            ("300ms", Some(300)),
            ("1m30s", Some(90_000)),
            ("1h", Some(3_600_000)),
            ("0", Some(0)),
            ("5", None),
            ("s", None),
            ("", None),
            ("5d", None),
        ] {
            assert_eq!(duration(text), expected.map(Duration::from_millis), "{text:?}");
        }
    }
}
