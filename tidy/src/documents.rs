//! Documents point at things that are there: links, the paths of the code map, the tests of the compatibility table.
//! Decision records are numbered once.

use std::collections::BTreeMap;

use crate::manifest::Dependency;
use crate::{Breach, Tree};

const MAP: &str = "docs/architecture.md";
const DIFFERENCES: &str = "docs/compatibility.md";
const DEPENDENCIES: &str = "docs/decisions/0005-dependencies.md";
const DECISIONS: &str = "docs/decisions/";

/// Each relative link in a document leads to a file.
#[must_use]
pub fn links(tree: &Tree) -> Vec<Breach> {
    let documents = tree.texts.iter().filter(|(path, _)| path.ends_with(".md"));
    let broken = documents.flat_map(|(path, text)| {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let targets = numbered(text).flat_map(|(number, line)| link_targets(line).map(move |target| (number, target)));
        let lost = targets.filter(move |(_, target)| !exists(tree, &resolve(folder, target)));
        lost.map(move |(line, target)| Breach { path: path.clone(), line, what: format!("{target} is not there") })
    });
    broken.collect()
}

/// Each path of the code map is there: a word in backquotes that holds a slash.
#[must_use]
pub fn code_map(tree: &Tree) -> Vec<Breach> {
    let is_path = |word: &&str| {
        word.contains('/')
            && !word.starts_with('/')
            && !word.contains(':')
            && word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
    };
    let lost =
        numbered(text(tree, MAP)).flat_map(|(line, text)| quoted(text).filter(is_path).map(move |word| (line, word)));
    let lost = lost.filter(|(_, word)| !exists(tree, word.trim_end_matches('/')));
    lost.map(|(line, word)| Breach { path: MAP.into(), line, what: format!("{word} is not there") }).collect()
}

/// Each test that the table of differences names is a function of the tree: the last column of a row.
#[must_use]
pub fn difference_tests(tree: &Tree) -> Vec<Breach> {
    let rows = numbered(text(tree, DIFFERENCES)).filter(|(_, line)| line.starts_with('|'));
    let names = rows.flat_map(|(line, row)| {
        let last = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        quoted(last).map(move |name| (line, name))
    });
    let lost = names.filter(|(_, name)| {
        let declaration = format!("fn {name}(");
        !tree.sources.iter().any(|source| source.code.contains(&declaration))
    });
    lost.map(|(line, name)| Breach { path: DIFFERENCES.into(), line, what: format!("no test is named {name}") })
        .collect()
}

/// Each foreign crate that a manifest names has its row in the table of dependencies: one line that says why.
#[must_use]
pub fn dependencies(tree: &Tree) -> Vec<Breach> {
    let is_ours = |name: &str| tree.manifests.iter().any(|manifest| manifest.package == name);
    let named = tree.manifests.iter().flat_map(|manifest| {
        let all = manifest.dependencies.iter().chain(&manifest.dev_dependencies);
        all.map(|one| (manifest.path.clone(), one))
    });
    let table = text(tree, DEPENDENCIES);
    let unexplained = named.filter(|(_, one)| !is_ours(&one.name) && !table.contains(&format!("| `{}` |", one.name)));
    let breach = |(path, one): (String, &Dependency)| Breach {
        path,
        line: one.line,
        what: format!("`{}` has no row in {DEPENDENCIES}", one.name),
    };
    unexplained.map(breach).collect()
}

/// A decision record is `NNNN-title.md`, begins with its title, and has its number alone.
#[must_use]
pub fn decisions(tree: &Tree) -> Vec<Breach> {
    let mut seen = BTreeMap::new();
    let mut breaches = Vec::new();
    for (path, text) in tree.texts.iter().filter(|(path, _)| path.starts_with(DECISIONS)) {
        let name = path.trim_start_matches(DECISIONS);
        let (number, title) = name.split_at_checked(4).unwrap_or((name, ""));
        let breach = |what: String| Breach { path: path.clone(), line: 1, what };
        if !number.chars().all(|c| c.is_ascii_digit()) || !title.starts_with('-') || !title.ends_with(".md") {
            breaches.push(breach("a decision is named NNNN-title.md".into()));
        } else if let Some(other) = seen.insert(number.to_owned(), path) {
            breaches.push(breach(format!("{other} has this number, too")));
        }
        if !text.starts_with("# ") {
            breaches.push(breach("a decision begins with its title".into()));
        }
    }
    breaches
}

fn text<'a>(tree: &'a Tree, path: &str) -> &'a str {
    tree.texts.iter().find(|(at, _)| at == path).map_or("", |(_, text)| text)
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// The words in backquotes of a line.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    targets.filter(|target| !target.is_empty() && !target.contains("://"))
}

fn resolve(folder: &str, target: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn exists(tree: &Tree, path: &str) -> bool {
    let folder = format!("{path}/");
    tree.texts.iter().any(|(at, _)| at == path || at.starts_with(&folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Manifest, Source};

    fn tree(path: &str, text: &str) -> Tree {
        let texts = vec![(path.to_owned(), text.to_owned()), ("shim/src/main.rs".into(), String::new())];
        Tree { texts, sources: vec![Source::new("a/tests/x.rs", "fn it_differs() {}")], ..Tree::default() }
    }

    #[test]
    fn a_link_to_nothing_is_found() {
        assert_eq!(links(&tree("docs/a.md", "[x](../shim/src/main.rs) [y](https://e.org)")), []);
        assert_eq!(links(&tree("docs/a.md", "[x](../shim/lost.rs)")).len(), 1);
    }

    #[test]
    fn a_path_that_has_moved_is_found() {
        assert_eq!(code_map(&tree(MAP, "`shim/` `shim/src/main.rs` `/proc/self` `unix:a/b`")), []);
        assert_eq!(code_map(&tree(MAP, "`shim/src/lost.rs`")).len(), 1);
    }

    #[test]
    fn a_difference_without_its_test_is_found() {
        assert_eq!(difference_tests(&tree(DIFFERENCES, "| a | `b` | `it_differs` |\n")), []);
        assert_eq!(difference_tests(&tree(DIFFERENCES, "| a | b | `it_does_not` |\n")).len(), 1);
    }

    #[test]
    fn a_dependency_without_a_reason_is_found() {
        let manifest =
            "[package]\nname = \"x\"\n[dependencies]\nlibc = \"0.2\"\n[dev-dependencies]\ntempfile = \"3\"\n";
        let mut tree = tree(DEPENDENCIES, "| `libc` | numbers |\n");
        tree.manifests.push(Manifest::new("x/Cargo.toml", manifest));
        let found: Vec<_> = dependencies(&tree).iter().map(|breach| breach.line).collect();
        assert_eq!(found, [6]);
    }

    #[test]
    fn a_decision_without_a_number_of_its_own_is_found() {
        let mut tree = tree("docs/decisions/0001-a.md", "# a\n");
        assert_eq!(decisions(&tree), []);
        tree.texts.push(("docs/decisions/0001-b.md".into(), "# b\n".into()));
        tree.texts.push(("docs/decisions/third.md".into(), "# c\n".into()));
        assert_eq!(decisions(&tree).len(), 2);
    }
}
