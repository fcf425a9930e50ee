//! Who may depend on whom: the floors of docs/architecture.md. Cargo forbids circles; the law here is about height.

use crate::{Breach, Manifest, Source};

/// Our crates, and which of ours each may be built of.
const FLOORS: [(&str, &[&str]); 9] = [
    ("containerd-shim-tare-v2", &["protos", "runtime-core"]),
    ("tare", &["runtime-core"]),
    ("runtime-core", &["tare-plan", "tare-init"]),
    ("tare-plan", &[]),
    ("tare-init", &[]),
    ("protos", &[]),
    ("integration", &["protos"]),
    ("tidy", &[]),
    ("tare-fuzz", &["runtime-core", "tare-plan", "tare-init"]),
];

/// Foreign crates that only some of ours may name: what speaks the wire, what waits, what reads flags.
const RESERVED: [(&str, &[&str]); 10] = [
    ("ttrpc", &["containerd-shim-tare-v2", "protos"]),
    ("containerd-shim", &["containerd-shim-tare-v2", "protos"]),
    ("containerd-shim-protos", &["containerd-shim-tare-v2", "protos"]),
    ("protobuf", &["containerd-shim-tare-v2", "protos"]),
    ("tokio", &["containerd-shim-tare-v2", "integration"]),
    ("tracing", &["containerd-shim-tare-v2", "tare"]),
    ("lexopt", &["tare"]),
    ("clap", &["tare"]),
    ("anyhow", &["integration"]),
    ("containerd-client", &["integration"]),
];

/// What a pure crate may not name of the standard library.
const IMPURE: [&str; 6] = ["fs", "net", "env", "process", "time", "thread"];

/// Each crate of ours is built only of those below it.
#[must_use]
pub fn ours(manifest: &Manifest) -> Vec<Breach> {
    let Some((_, allowed)) = FLOORS.iter().find(|(name, _)| *name == manifest.package) else {
        let what = format!("`{}` has no floor; a new crate needs a law it enforces, and a line here", manifest.package);
        return vec![Breach { path: manifest.path.clone(), line: 1, what }];
    };
    let is_ours = |name: &str| FLOORS.iter().any(|(ours, _)| *ours == name);
    let wrong = manifest.dependencies.iter().filter(|one| is_ours(&one.name) && !allowed.contains(&&*one.name));
    wrong.map(|one| breach(manifest, one.line, format!("`{}` may not know `{}`", manifest.package, one.name))).collect()
}

/// A foreign crate that belongs to one floor is named there alone, and the stub has none at all.
#[must_use]
pub fn foreign(manifest: &Manifest) -> Vec<Breach> {
    let is_allowed = |name: &str| {
        let reserved = RESERVED.iter().find(|(foreign, _)| *foreign == name);
        manifest.package != "tare-init" && reserved.is_none_or(|(_, users)| users.contains(&&*manifest.package))
    };
    let wrong = manifest.dependencies.iter().filter(|one| !is_allowed(&one.name));
    wrong.map(|one| breach(manifest, one.line, format!("`{}` may not use `{}`", manifest.package, one.name))).collect()
}

fn breach(manifest: &Manifest, line: usize, what: String) -> Breach {
    Breach { path: manifest.path.clone(), line, what }
}

/// The planner does no I/O: it names no part of `std` that could, outside its tests.
#[must_use]
pub fn pure_plan(source: &Source) -> Vec<Breach> {
    if !source.path.starts_with("runtime-core/plan/src/") {
        return Vec::new();
    }
    let named = std_modules(source.product()).into_iter().filter(|(_, module)| IMPURE.contains(&module.as_str()));
    named.map(|(offset, module)| source.breach(offset, format!("the planner may not name `std::{module}`"))).collect()
}

/// The modules of `std` that code names, in paths and in nested imports.
fn std_modules(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (offset, start) in code.match_indices("std::") {
        let rest = code.get(offset + start.len()..).unwrap_or_default();
        let list = rest.strip_prefix('{').and_then(|rest| rest.split_once(';')).map_or(rest, |(list, _)| list);
        let nested = rest.starts_with('{');
        let mut depth = 0_usize;
        let mut at_start = true;
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                ',' if depth == 0 => at_start = true,
                c if at_start && c.is_alphabetic() => {
                    let tail = list.get(at..).unwrap_or_default();
                    let name = tail.split(|c: char| c != '_' && !c.is_alphanumeric()).next().unwrap_or_default();
                    found.push((offset, name.to_owned()));
                    at_start = false;
                }
                _ => {}
            }
            if !nested && !at_start {
                break;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(package: &str, dependency: &str) -> Manifest {
        Manifest::new(
            "x/Cargo.toml",
            &format!("[package]\nname = \"{package}\"\n[dependencies]\n{dependency} = \"1\"\n"),
        )
    }

    #[test]
    fn a_crate_that_knows_one_above_it_is_found() {
        assert_eq!(ours(&manifest("runtime-core", "protos")).len(), 1);
        assert_eq!(ours(&manifest("tare-plan", "tare-init")).len(), 1);
        assert_eq!(ours(&manifest("containerd-shim-tare-v2", "runtime-core")), []);
        assert_eq!(ours(&manifest("drawer", "libc")).len(), 1);
    }

    #[test]
    fn a_foreign_crate_on_the_wrong_floor_is_found() {
        assert_eq!(foreign(&manifest("runtime-core", "tokio")).len(), 1);
        assert_eq!(foreign(&manifest("tare", "ttrpc")).len(), 1);
        assert_eq!(foreign(&manifest("tare-init", "libc")).len(), 1);
        assert_eq!(foreign(&manifest("runtime-core", "rustix")), []);
    }

    #[test]
    fn a_planner_that_reads_is_found() {
        let check = |text: &str| pure_plan(&Source::new("runtime-core/plan/src/x.rs", text)).len();
        assert_eq!(check("use std::fs;"), 1);
        assert_eq!(check("use std::{collections::{BTreeMap, BTreeSet}, env, fs::File};"), 2);
        assert_eq!(check("let now = std::time::SystemTime::now();"), 1);
        assert_eq!(check("use std::{ffi::CString, path::PathBuf};\nfn f(fs: u8) {}"), 0);
        assert_eq!(check("fn a() {}\n#[cfg(test)]\nmod tests { use std::fs; }"), 0);
    }
}
