//! What `tare` says to those who log: errors as plain text on standard error, and everything as lines in the file of
//! `--log`, in the two forms of logrus, which containerd, Podman and CRI-O read.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::SystemTime;

use serde::Serialize;

use crate::failure::Failure;
use crate::time;

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Json,
}

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verbosity {
    Normal,
    Debug,
}

/// Where it goes.
#[derive(Debug)]
pub(crate) struct Log {
    file: Option<File>,
    format: Format,
    verbosity: Verbosity,
}

/// The keys and their order are logrus's.
#[derive(Serialize)]
struct Line<'a> {
    level: &'a str,
    msg: &'a str,
    time: &'a str,
}

impl Log {
    /// Opens the file, if there is one: those who gave it read it whatever happens.
    pub(crate) fn new(path: Option<&str>, format: Format, verbosity: Verbosity) -> Result<Self, Failure> {
        let open = |path: &str| {
            let mut options = OpenOptions::new();
            let file = options.append(true).create(true).mode(0o644).open(path);
            file.map_err(|error| Failure::io(format!("open {path}"), error))
        };
        // The default of others, which they write out.
        let file = path.filter(|path| *path != "/dev/stderr").map(open).transpose()?;
        Ok(Self { file, format, verbosity })
    }

    /// What a command failed with.
    pub(crate) fn error(&self, message: &str) {
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(std::io::stderr(), "{message}");
        self.to_file("error", message);
    }

    /// What is odd, and done nevertheless.
    pub(crate) fn warn(&self, message: &str) {
        self.say("warning", message);
    }

    /// What a developer asks for with `--debug`.
    pub(crate) fn debug(&self, message: &str) {
        if self.verbosity == Verbosity::Debug {
            self.say("debug", message);
        }
    }

    fn say(&self, level: &str, message: &str) {
        if self.file.is_none() {
            // As above.
            let _ = std::io::stderr().write_all(line(Format::Text, level, message, SystemTime::now()).as_bytes());
        }
        self.to_file(level, message);
    }

    fn to_file(&self, level: &str, message: &str) {
        if let Some(mut file) = self.file.as_ref() {
            // In one write, so that the lines of several processes do not mix. A full disk must not change the outcome.
            let _ = file.write_all(line(self.format, level, message, SystemTime::now()).as_bytes());
        }
    }
}

fn line(format: Format, level: &str, message: &str, at: SystemTime) -> String {
    let time = &time::rfc3339(at);
    match format {
        Format::Text => format!("time={time:?} level={level} msg={message:?}\n"),
        // Three texts always make JSON.
        Format::Json => serde_json::to_string(&Line { level, msg: message, time }).unwrap_or_default() + "\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn lines_have_the_form_of_logrus() {
        let at = UNIX_EPOCH + Duration::from_secs(1_795_286_671);
        for (format, expected) in [
            (Format::Text, "time=\"2026-11-21T18:44:31Z\" level=error msg=\"exec: \\\"x\\\": no\"\n"),
            (Format::Json, "{\"level\":\"error\",\"msg\":\"exec: \\\"x\\\": no\",\"time\":\"2026-11-21T18:44:31Z\"}\n"),
        ] {
            assert_eq!(line(format, "error", "exec: \"x\": no", at), expected);
        }
    }
}
