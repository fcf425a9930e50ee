//! One Rust file, split into what is code and what is comment. Not a parser: a lexer that knows strings, characters and
//! comments, so that a law about words is not fooled by a text that mentions them.

use crate::Breach;

/// A Rust file.
#[derive(Debug, Clone)]
pub struct Source {
    /// From the top of the repository, `shim/src/main.rs`.
    pub path: String,
    /// As it is.
    pub text: String,
    /// With comments and the insides of literals blanked; byte for byte as long as `text`.
    pub code: String,
    /// With all but comments blanked.
    pub comments: String,
}

/// What the lexer is inside of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Code,
    Line,
    Block(usize),
    Text,
    Raw(usize),
}

impl Source {
    /// Reads `text` as Rust.
    #[must_use]
    pub fn new(path: &str, text: &str) -> Self {
        let kinds = classify(text.as_bytes());
        let keep = |wanted: Kind| -> String {
            let bytes = text.bytes().zip(&kinds).map(|(byte, kind)| match byte {
                b'\n' => b'\n',
                byte if *kind == wanted && byte.is_ascii() => byte,
                _ => b' ',
            });
            bytes.map(char::from).collect()
        };
        Self { path: path.into(), text: text.into(), code: keep(Kind::Code), comments: keep(Kind::Comment) }
    }

    /// The code without the module of unit tests at its end.
    #[must_use]
    pub fn product(&self) -> &str {
        let end = self.code.find("#[cfg(test)]\nmod ").unwrap_or(self.code.len());
        self.code.get(..end).unwrap_or_default()
    }

    /// It was written by a program, and says so at its top.
    #[must_use]
    pub fn is_generated(&self) -> bool {
        self.text.lines().take(5).any(|line| line.contains("@generated"))
    }

    /// It holds tests only.
    #[must_use]
    pub fn is_test(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "tests.rs" || part == "benches")
    }

    /// A breach of this file at byte `offset`.
    #[must_use]
    pub fn breach(&self, offset: usize, what: impl Into<String>) -> Breach {
        let before = self.text.as_bytes().get(..offset).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Breach { path: self.path.clone(), line, what: what.into() }
    }

    /// Where the whole word `word` stands in the code.
    #[must_use]
    pub fn find_word(&self, word: &str) -> Vec<usize> {
        words(&self.code).filter(|(_, found)| *found == word).map(|(offset, _)| offset).collect()
    }
}

/// The identifiers and keywords of a text, with their offsets.
pub fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_part = |c: char| c == '_' || c.is_ascii_alphanumeric();
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = text.get(at..)?;
        let start = at + rest.find(is_part)?;
        let tail = text.get(start..)?;
        let end = start + tail.find(|c| !is_part(c)).unwrap_or(tail.len());
        at = end;
        Some((start, text.get(start..end)?))
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

fn classify(bytes: &[u8]) -> Vec<Kind> {
    let mut kinds = Vec::with_capacity(bytes.len());
    let mut inside = Inside::Code;
    while kinds.len() < bytes.len() {
        let rest = bytes.get(kinds.len()..).unwrap_or_default();
        let last = kinds.len().checked_sub(1).and_then(|at| bytes.get(at)).copied().unwrap_or(b' ');
        let (length, kind, next) = step(inside, rest, last);
        kinds.resize((kinds.len() + length).min(bytes.len()), kind);
        inside = next;
    }
    kinds
}

/// How many bytes come next, of which kind, and what follows them.
fn step(inside: Inside, rest: &[u8], last: u8) -> (usize, Kind, Inside) {
    match inside {
        Inside::Code => open(rest, last),
        Inside::Line if rest.starts_with(b"\n") => (1, Kind::Code, Inside::Code),
        Inside::Line => (1, Kind::Comment, Inside::Line),
        Inside::Block(depth) if rest.starts_with(b"/*") => (2, Kind::Comment, Inside::Block(depth + 1)),
        Inside::Block(1) if rest.starts_with(b"*/") => (2, Kind::Comment, Inside::Code),
        Inside::Block(depth) if rest.starts_with(b"*/") => (2, Kind::Comment, Inside::Block(depth - 1)),
        Inside::Block(depth) => (1, Kind::Comment, Inside::Block(depth)),
        Inside::Text if rest.starts_with(b"\\") => (2, Kind::Literal, Inside::Text),
        Inside::Text if rest.starts_with(b"\"") => (1, Kind::Code, Inside::Code),
        Inside::Text => (1, Kind::Literal, Inside::Text),
        Inside::Raw(hashes) if closes_raw(rest, hashes) => (1 + hashes, Kind::Code, Inside::Code),
        Inside::Raw(hashes) => (1, Kind::Literal, Inside::Raw(hashes)),
    }
}

/// What begins here, in code.
fn open(rest: &[u8], last: u8) -> (usize, Kind, Inside) {
    let part_of_word = last == b'_' || last.is_ascii_alphanumeric();
    match rest {
        [b'/', b'/', ..] => (2, Kind::Comment, Inside::Line),
        [b'/', b'*', ..] => (2, Kind::Comment, Inside::Block(1)),
        [b'"', ..] => (1, Kind::Code, Inside::Text),
        [b'r', ..] | [b'b' | b'c', b'r', ..] if !part_of_word => raw(rest),
        [b'\'', b'\\', tail @ ..] => (3 + end_of_character(tail), Kind::Literal, Inside::Code),
        [b'\'', _, b'\'', ..] => (3, Kind::Literal, Inside::Code),
        _ => (1, Kind::Code, Inside::Code),
    }
}

fn raw(rest: &[u8]) -> (usize, Kind, Inside) {
    let prefix = rest.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let hashes = rest.iter().skip(prefix).take_while(|byte| **byte == b'#').count();
    let is_raw = prefix <= 2 && rest.get(prefix + hashes) == Some(&b'"');
    if is_raw { (prefix + hashes + 1, Kind::Code, Inside::Raw(hashes)) } else { (1, Kind::Code, Inside::Code) }
}

fn closes_raw(rest: &[u8], hashes: usize) -> bool {
    rest.first() == Some(&b'"') && rest.iter().skip(1).take_while(|byte| **byte == b'#').count() >= hashes
}

/// How far behind `'\` and the character after it the literal's closing quote lies.
fn end_of_character(tail: &[u8]) -> usize {
    tail.iter().skip(1).position(|byte| *byte == b'\'').unwrap_or(0) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, code: &str, comments: &str) {
        let source = Source::new("x.rs", text);
        assert_eq!((source.code.trim_end(), source.comments.trim_end()), (code, comments), "{text}");
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        check("a // b", "a", "  // b");
        check("a /* b /* c */ d */ e", "a                   e", "  /* b /* c */ d */");
        check(r#"f("// no", x)"#, r#"f("     ", x)"#, "");
        check(r##"f(r#"a " b"#)"##, r###"f(r#"     "#)"###, "");
        check(r"g('\'', '/') // c", r"g(    ,    )", "             // c");
        check("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)", "");
        check("for r in raw {}", "for r in raw {}", "");
    }

    #[test]
    fn the_product_ends_where_unit_tests_begin() {
        let source = Source::new("x.rs", "fn a() {}\n#[cfg(test)]\nmod tests {}\n");
        assert_eq!(source.product(), "fn a() {}\n");
    }

    #[test]
    fn words_are_whole() {
        assert_eq!(Source::new("x.rs", "unsafe_code unsafe {}").find_word("unsafe"), [12]);
    }
}
