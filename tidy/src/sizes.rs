//! How long a file and a function may be. Tests and generated code may be longer, since nobody reads them from the top.

use crate::{Breach, Source};

/// The lines of a file without its unit tests.
pub const FILE: usize = 500;

/// The lines of code of a function, from its name to its closing brace.
pub const FUNCTION: usize = 80;

/// A file has at most [`FILE`] lines before its unit tests.
#[must_use]
pub fn file(source: &Source) -> Vec<Breach> {
    let lines = source.product().lines().count();
    let short = lines <= FILE || source.is_test() || source.is_generated();
    let what = format!("{lines} lines, and {FILE} are allowed; one noun per file");
    if short { Vec::new() } else { vec![source.breach(0, what)] }
}

/// A function has at most [`FUNCTION`] lines of code.
#[must_use]
pub fn function(source: &Source) -> Vec<Breach> {
    if source.is_generated() {
        return Vec::new();
    }
    let long = |start: &usize| -> Option<Breach> {
        let text = body(source.code.get(*start..)?)?;
        let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
        let what = format!("a function of {lines} lines, and {FUNCTION} are allowed; does it both choose and act?");
        (lines > FUNCTION).then(|| source.breach(*start, what))
    };
    source.find_word("fn").iter().filter_map(long).collect()
}

/// The text of a function up to its closing brace; `None` for a declaration or a function pointer's type.
fn body(text: &str) -> Option<&str> {
    let mut depth = 0_usize;
    let mut nested = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' | b'[' => nested += 1,
            b')' | b']' => nested = nested.checked_sub(1)?,
            b';' | b',' | b'=' if depth == 0 && nested == 0 => return None,
            b'{' => depth += 1,
            b'}' if depth <= 1 => return text.get(..=at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_found_and_its_tests_are_not_counted() {
        let long = Source::new("a/src/x.rs", &"const A: u8 = 1;\n".repeat(FILE + 1));
        assert_eq!(file(&long).len(), 1);
        let tested = format!("fn a() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n", "// x\n".repeat(FILE));
        assert_eq!(file(&Source::new("a/src/x.rs", &tested)), []);
        assert_eq!(file(&Source::new("a/tests/x.rs", &long.text)), []);
    }

    #[test]
    fn a_long_function_is_found_and_comments_are_not_counted() {
        let long = format!("fn f(a: [u8; 2]) -> u8 {{\n{}}}\n", "    if a {}\n".repeat(FUNCTION - 1));
        assert_eq!(function(&Source::new("x.rs", &long)).len(), 1);
        let short = format!("fn f() {{\n{}}}\n", "    // why\n".repeat(FUNCTION));
        assert_eq!(function(&Source::new("x.rs", &short)), []);
    }
}
