//! The files of the repository, read once. What git ignores is passed over by name: `target`, `.cache`, `.git`.

use std::fs;
use std::io;
use std::path::Path;

use crate::Source;
use crate::manifest::Manifest;

/// Everything the laws look at.
#[derive(Debug, Default)]
pub struct Tree {
    /// All Rust files.
    pub sources: Vec<Source>,
    /// All `Cargo.toml` of packages.
    pub manifests: Vec<Manifest>,
    /// All text files with their paths, the Rust files too.
    pub texts: Vec<(String, String)>,
}

impl Tree {
    /// Reads the repository this crate was built in.
    ///
    /// # Errors
    /// A folder or file that cannot be read.
    pub fn read() -> io::Result<Self> {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
        let mut tree = Self::default();
        let mut folders = vec![top.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() && !path.is_symlink() {
                    folders.extend(is_ours(&path).then_some(path));
                } else if path.is_file() {
                    tree.add(top, &path)?;
                }
            }
        }
        Ok(tree)
    }

    fn add(&mut self, top: &Path, file: &Path) -> io::Result<()> {
        let Ok(text) = String::from_utf8(fs::read(file)?) else { return Ok(()) };
        let path = file.strip_prefix(top).unwrap_or(file).to_string_lossy().into_owned();
        if path.ends_with(".rs") {
            self.sources.push(Source::new(&path, &text));
        }
        if path.ends_with("/Cargo.toml") {
            self.manifests.push(Manifest::new(&path, &text));
        }
        self.texts.push((path, text));
        Ok(())
    }
}

fn is_ours(folder: &Path) -> bool {
    !folder.file_name().is_some_and(|name| name == "target" || name == ".cache" || name == ".git")
}
