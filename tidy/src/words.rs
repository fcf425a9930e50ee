//! What is written: module docs, names, notes for later, ends of lines.

use crate::source::words;
use crate::{Breach, Source};

/// Words that say nothing, in names of files, modules and items.
const EMPTY: [&str; 12] = [
    "util", "utils", "common", "misc", "helper", "helpers", "manager", "managers", "handler", "handlers", "impl",
    "inner",
];

/// Words that say nothing as a whole name.
const EMPTY_ALONE: [&str; 2] = ["base", "data"];

/// Words after which a name is given by us. A `let` or a parameter may be forced by what it holds.
const GIVES_NAME: [&str; 8] = ["fn", "struct", "enum", "union", "trait", "type", "mod", "macro_rules"];

/// Every file begins with `//!`.
#[must_use]
pub fn module_doc(source: &Source) -> Vec<Breach> {
    let kept = source.text.starts_with("//! ") || source.is_generated();
    let what = "begin with `//!`: what this is, what it is not, the one thing to know";
    if kept { Vec::new() } else { vec![source.breach(0, what)] }
}

/// No file, module or item is named with a word that says nothing.
#[must_use]
pub fn names(source: &Source) -> Vec<Breach> {
    if source.is_generated() {
        return Vec::new();
    }
    let stem = source.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
    let file = Some((0, stem));
    let mut giver = "";
    // A test is named with a sentence, in which "a signal handler" may well stand.
    let code = if source.is_test() { "" } else { source.product() };
    let items = words(code).filter_map(|(offset, word)| {
        let given = GIVES_NAME.contains(&giver) && !GIVES_NAME.contains(&word);
        giver = word;
        given.then_some((offset, word))
    });
    let found = file.into_iter().chain(items).filter(|(_, name)| is_empty(name));
    found.map(|(offset, name)| source.breach(offset, format!("`{name}` says nothing; say what it is"))).collect()
}

fn is_empty(name: &str) -> bool {
    let lower = name.to_lowercase();
    EMPTY_ALONE.contains(&&*lower) || parts(name).iter().any(|part| EMPTY.contains(&&**part))
}

/// The words of a name in snake or camel case, in lower case.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for c in name.chars() {
        if c == '_' || c.is_uppercase() {
            parts.push(String::new());
        }
        if let Some(part) = parts.last_mut().filter(|_| c != '_') {
            part.extend(c.to_lowercase());
        }
    }
    parts
}

/// A note for later names an issue; other marks of unfinished work are not kept.
#[must_use]
pub fn notes(source: &Source) -> Vec<Breach> {
    let is_note = |word: &str| matches!(word, "TODO" | "FIXME" | "XXX" | "HACK");
    let has_issue = |offset: usize| {
        let line = source.comments.get(offset..).unwrap_or_default().lines().next().unwrap_or_default();
        line.split('#').skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let bare =
        words(&source.comments).filter(|(offset, word)| is_note(word) && (*word != "TODO" || !has_issue(*offset)));
    bare.map(|(offset, word)| source.breach(offset, format!("{word} without an issue: `TODO(#12): ...`, or do it")))
        .collect()
}

/// No line ends with a blank, and the last one ends. What was recorded or comes from elsewhere stays as it is.
#[must_use]
pub fn line_ends(path: &str, text: &str) -> Vec<Breach> {
    if path.split('/').any(|folder| matches!(folder, "golden" | "fixtures" | "vendor")) {
        return Vec::new();
    }
    let breach = |line: usize, what: &str| Breach { path: path.into(), line, what: what.into() };
    let blank = text.lines().enumerate().filter(|(_, line)| line.ends_with([' ', '\t']));
    let mut breaches: Vec<_> = blank.map(|(index, _)| breach(index + 1, "the line ends with a blank")).collect();
    if !text.is_empty() && !text.ends_with('\n') {
        breaches.push(breach(text.lines().count(), "the last line does not end"));
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(law: fn(&Source) -> Vec<Breach>, text: &str, lines: &[usize]) {
        let found: Vec<_> = law(&Source::new("a/src/x.rs", text)).iter().map(|breach| breach.line).collect();
        assert_eq!(found, lines, "{text}");
    }

    #[test]
    fn a_file_without_module_doc_is_found() {
        check(module_doc, "use std::fs;\n", &[1]);
        check(module_doc, "//! What it is.\n", &[]);
    }

    #[test]
    fn a_name_that_says_nothing_is_found() {
        check(names, "struct TaskManager;", &[1]);
        check(names, "mod mount_utils;\nfn do_it_inner() {}", &[1, 2]);
        check(names, "pub fn data(&self) {}", &[1]);
        check(names, "impl signal::Handler for X {}\nlet manager = foreign::Manager::new();", &[]);
        check(names, "fn commonly(simplify: u8) {}\n// fn utils()", &[]);
        check(names, "#[cfg(test)]\nmod tests {\n    fn a_signal_reaches_its_handler() {}\n}\n", &[]);
        assert_eq!(names(&Source::new("a/src/utils.rs", "")).len(), 1);
    }

    #[test]
    fn a_note_without_an_issue_is_found() {
        check(notes, "// TODO: later\n", &[1]);
        check(notes, "// TODO(#12): later\n// FIXME #3\n", &[2]);
        check(notes, "let x = \"TODO\";\n", &[]);
    }

    #[test]
    fn a_blank_at_a_line_end_is_found() {
        assert_eq!(line_ends("x.md", "a\nb \n").len(), 1);
        assert_eq!(line_ends("x.md", "a\nb").len(), 1);
        assert_eq!(line_ends("x.md", "a\n\nb\n"), []);
        assert_eq!(line_ends("x/golden/y.txt", "a \n"), []);
    }
}
