//! What a client's words for a stream mean. Pure.

use std::path::PathBuf;

use runtime_core::{Error, Kind};

/// Where output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sink {
    /// Nowhere.
    Null,
    /// A FIFO or a file that exists.
    Path(PathBuf),
    /// A file to append to, made if need be.
    File(PathBuf),
    /// A program that takes it.
    Binary(Program),
}

/// A logging program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    pub(crate) path: PathBuf,
    /// The query's keys and values, in order.
    pub(crate) arguments: Vec<String>,
    /// What tells that it is ready.
    pub(crate) ready: Readiness,
}

/// What tells that a logging program is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    /// A byte, or that it closed the descriptor.
    Either,
    /// A byte, nothing else (`binary-v2`).
    Byte,
}

/// Reads a path or URI.
pub(super) fn read(text: &str) -> Result<Sink, Error> {
    if text.is_empty() {
        return Ok(Sink::Null);
    }
    let Some((scheme, rest)) = text.split_once("://") else { return Ok(Sink::Path(text.into())) };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let path = PathBuf::from(decoded(path)?);
    let ready = match scheme {
        "fifo" => return Ok(Sink::Path(path)),
        "file" => return Ok(Sink::File(path)),
        "binary" => Readiness::Either,
        "binary-v2" => Readiness::Byte,
        other => return Err(Error::new(Kind::Invalid, format!("unknown STDIO scheme {other}"))),
    };
    Ok(Sink::Binary(Program { path, arguments: arguments(query)?, ready }))
}

fn arguments(query: &str) -> Result<Vec<String>, Error> {
    let mut arguments = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        arguments.push(decoded(&key.replace('+', " "))?);
        arguments.push(decoded(&value.replace('+', " "))?);
    }
    Ok(arguments)
}

/// Undoes `%2F` and its like.
fn decoded(text: &str) -> Result<String, Error> {
    let wrong = || Error::new(Kind::Invalid, format!("invalid URL escape in {text:?}"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).ok_or_else(wrong)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_are_told_apart() {
        let program = |ready| {
            let arguments = ["id", "a b", "flag", ""].map(str::to_owned).into();
            Sink::Binary(Program { path: "/usr/bin/log".into(), arguments, ready })
        };
        for (text, expected) in [
            ("", Sink::Null),
            ("/run/c/1/stdout", Sink::Path("/run/c/1/stdout".into())),
            ("fifo:///run/x", Sink::Path("/run/x".into())),
            ("file:///var/log/a%20b", Sink::File("/var/log/a b".into())),
            ("binary:///usr/bin/log?id=a+b&flag", program(Readiness::Either)),
            ("binary-v2:///usr/bin/log?id=a%20b&flag=", program(Readiness::Byte)),
        ] {
            assert_eq!(read(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn the_rest_is_refused() {
        for text in ["ttrpc+unix:///x?streaming_id=1", "file:///a%zz", "file:///a%f"] {
            assert_eq!(read(text).unwrap_err().kind(), Kind::Invalid, "{text}");
        }
    }
}
