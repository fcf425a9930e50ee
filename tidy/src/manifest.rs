//! What a `Cargo.toml` depends on. It reads the few forms that Cargo accepts for a dependency, not all of TOML.

/// The manifest of one package.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// From the top of the repository.
    pub path: String,
    /// The package's name.
    pub package: String,
    /// What its product is built of: `[dependencies]` and `[build-dependencies]`, of any target.
    pub dependencies: Vec<Dependency>,
    /// What its tests need.
    pub dev_dependencies: Vec<Dependency>,
}

/// A crate that is depended on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// Its name here.
    pub name: String,
    /// The line of the manifest, from 1.
    pub line: usize,
}

impl Manifest {
    /// Reads `text`.
    #[must_use]
    pub fn new(path: &str, text: &str) -> Self {
        let mut manifest =
            Self { path: path.into(), package: String::new(), dependencies: Vec::new(), dev_dependencies: Vec::new() };
        let mut section = "";
        for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_matches(['[', ']']);
                let (table, name) = section.rsplit_once('.').unwrap_or(("", section));
                manifest.depend(table, name, number);
            } else if let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
                let key = key.trim().split('.').next().unwrap_or_default();
                if section == "package" && key == "name" {
                    manifest.package = value.trim().trim_matches('"').into();
                }
                manifest.depend(section, key, number);
            }
        }
        manifest
    }

    fn depend(&mut self, table: &str, name: &str, line: usize) {
        let list = match table.rsplit('.').next().unwrap_or_default() {
            "dependencies" | "build-dependencies" => &mut self.dependencies,
            "dev-dependencies" => &mut self.dev_dependencies,
            _ => return,
        };
        list.push(Dependency { name: name.trim_matches('"').into(), line });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_dependency_is_seen() {
        let manifest = Manifest::new(
            "x/Cargo.toml",
            r#"
[package]
name = "x"
# tokio = "1"
[dependencies]
libc.workspace = true
serde = { version = "1" }
[target.'cfg(unix)'.dependencies]
rustix = "1"
[build-dependencies.protos]
path = "../protos"
[dev-dependencies]
tempfile = "3"
[lints]
workspace = true
"#,
        );
        let names = |list: &[Dependency]| list.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
        assert_eq!(manifest.package, "x");
        assert_eq!(names(&manifest.dependencies), ["libc", "serde", "rustix", "protos"]);
        assert_eq!(names(&manifest.dev_dependencies), ["tempfile"]);
    }
}
