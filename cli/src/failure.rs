//! How a command fails: a text for people and programs, and the number that `tare` ends with.

use std::fmt;

/// A command that could not be done.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    /// The exit code.
    pub(crate) code: u8,
}

/// How a command ends when it does not fail: with an exit code, which a foreground container decides.
pub(crate) type Outcome = Result<u8, Failure>;

impl Failure {
    /// A failure with exit code 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }

    /// The system refused `what`, in Go's form: `open /x: no such file or directory`.
    pub(crate) fn io(what: impl fmt::Display, error: impl Into<std::io::Error>) -> Self {
        let text = error.into().to_string();
        let words = text.split(" (os error").next().unwrap_or_default().to_lowercase();
        Self::new(format!("{what}: {words}"))
    }

    /// The same failure, met while doing `what`.
    pub(crate) fn during(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
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
        Self::new(error.to_string())
    }
}
