//! Why a specification cannot become a plan. It names the field and the problem; it is not an I/O error.

use std::fmt;

/// A specification that cannot be honoured, and where it says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The field, as a path in `config.json`: `process.user.uid`, `mounts[3].options`.
    pub field: String,
    /// What is wrong with it, as half a sentence without a full stop.
    pub problem: String,
}

impl Refusal {
    /// A refusal of `field` because of `problem`.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

impl std::error::Error for Refusal {}
