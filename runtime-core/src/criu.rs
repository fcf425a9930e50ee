//! Driving CRIU, which writes processes to disk and brings them back: finding it, what it is asked, how it is talked to,
//! what its log says. What of a container is written and how it is put back is `container::checkpoint` and
//! `container::restore`; nothing here knows a plan.

pub(crate) mod log;
pub(crate) mod options;
pub(crate) mod session;
mod wire;

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::{Error, Kind};

pub use options::{CgroupMode, CriuOptions, NetworkLock};

/// Names the program, where it is not the first `criu` of `$PATH`.
const PROGRAM: &str = "TARE_CRIU";

/// The program: `$TARE_CRIU`, or the first `criu` in `$PATH`.
///
/// # Errors
/// [`Kind::Unsupported`] when there is none.
pub(crate) fn program() -> Result<PathBuf, Error> {
    let named = std::env::var_os(PROGRAM).filter(|name| !name.is_empty());
    find(named.as_deref(), std::env::var_os("PATH").as_deref())
}

/// Whether there is a CRIU to drive.
pub(crate) fn is_installed() -> bool {
    program().is_ok()
}

/// Paths in CRIU's messages are texts.
pub(crate) trait Utf8 {
    /// The path as text.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when it is none.
    fn utf8(&self) -> Result<&str, Error>;
}

impl Utf8 for Path {
    fn utf8(&self) -> Result<&str, Error> {
        let invalid = || Error::new(Kind::Invalid, format!("{}: criu takes paths in UTF-8", self.display()));
        self.to_str().ok_or_else(invalid)
    }
}

fn find(named: Option<&OsStr>, path: Option<&OsStr>) -> Result<PathBuf, Error> {
    let missing = |why: String| Error::new(Kind::Unsupported, format!("{why}: checkpoint and restore need CRIU"));
    let executable = |path: &PathBuf| {
        path.is_absolute()
            && path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    if let Some(named) = named {
        let program = PathBuf::from(named);
        let why = || missing(format!("{PROGRAM}={}: not an absolute path of a program", program.display()));
        return if executable(&program) { Ok(program) } else { Err(why()) };
    }
    let mut places = std::env::split_paths(path.unwrap_or_default()).map(|folder| folder.join("criu"));
    places.find(executable).ok_or_else(|| missing("criu: executable file not found in $PATH".into()))
}

#[cfg(test)]
mod tests {
    use super::find;
    use std::ffi::OsStr;
    use std::path::PathBuf;

    #[test]
    fn the_program_is_the_one_that_is_named_or_the_first_in_path() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("criu");
        let path = std::env::join_paths([PathBuf::from("/nowhere"), folder.path().into()]).unwrap();
        let missing = find(None, Some(&path)).unwrap_err().to_string();
        assert_eq!(missing, "criu: executable file not found in $PATH: checkpoint and restore need CRIU");
        std::os::unix::fs::symlink("/bin/true", &program).unwrap();
        assert_eq!(find(None, Some(&path)).unwrap(), program);
        assert_eq!(find(Some(program.as_os_str()), None).unwrap(), program);
        for wrong in ["criu", "/nowhere/criu", "/etc/passwd"] {
            let error = find(Some(OsStr::new(wrong)), Some(&path)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("TARE_CRIU={wrong}: not an absolute path of a program")), "{error}");
        }
    }
}
