//! The laws of the project as tests over its own text: sizes, words, fences, the floors between crates, documents.
//! It ships nothing and depends on nothing.
//!
//! A law is a pure function from one file (or all of them) to its breaches, with a test beside it that shows it biting;
//! `tests/laws.rs` holds every law against the tree. What the compiler and clippy can see is left to them.

pub mod documents;
pub mod fences;
pub mod floors;
pub mod manifest;
pub mod sizes;
pub mod source;
pub mod tree;
pub mod words;

pub use manifest::Manifest;
pub use source::Source;
pub use tree::Tree;

/// A place where a law is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// The file, from the top of the repository.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, as a sentence that says what to do.
    pub what: String,
}

impl std::fmt::Display for Breach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}
