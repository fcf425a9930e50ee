//! How a command fails: a text for people and programs, and the number that `tare` ends with.

use std::fmt;

/// A command that could not be done.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    /// The exit code.
    pub(crate) code: u8,
    said_by: Speaker,
}

/// Who it is that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaker {
    Command,
    /// The container's process, which is no longer the runtime's business: runc's says it alone, and clients compare.
    Process,
}

/// How a command ends when it does not fail: with an exit code, which a foreground container decides.
pub(crate) type Outcome = Result<u8, Failure>;

impl Failure {
    /// A failure with exit code 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1, said_by: Speaker::Command }
    }

    /// The system refused `what`, in Go's form: `open /x: no such file or directory`.
    pub(crate) fn io(what: impl fmt::Display, error: impl Into<std::io::Error>) -> Self {
        let text = error.into().to_string();
        let words = text.split(" (os error").next().unwrap_or_default().to_lowercase();
        Self::new(format!("{what}: {words}"))
    }

    /// The same failure, met while doing `what`.
    pub(crate) fn during(mut self, what: impl fmt::Display) -> Self {
        if self.said_by == Speaker::Command {
            self.message = format!("{what}: {}", self.message);
        }
        self
    }

    /// The same failure with another exit code.
    pub(crate) fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<runtime_core::Error> for Failure {
    fn from(error: runtime_core::Error) -> Self {
        // The kernel refuses to execute a program that was found.
        let executing = error.kind() == runtime_core::Kind::Program && error.errno().is_some();
        let said_by = if executing { Speaker::Process } else { Speaker::Command };
        Self { said_by, ..Self::new(error.to_string()) }
    }
}
