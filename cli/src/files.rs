//! Pid files: whole or not there, since their readers wait for them to appear (conmon, containerd, systemd).

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Writes `pid` to a hidden file beside `path`, and gives it its name.
pub(crate) fn write_pid(path: &Path, pid: i32) -> Result<(), Failure> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}"));
    // Exclusively and synchronously, as runc: a file of this name that is not ours stays as it is.
    const O_SYNC: i32 = 0o4_010_000;
    let opened = OpenOptions::new().write(true).create_new(true).custom_flags(O_SYNC).mode(0o666).open(&beside);
    let mut file = opened.map_err(|error| Failure::io(format!("open {}", beside.display()), error))?;
    let written = file.write_all(pid.to_string().as_bytes()).and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|error| {
        // The error to report is the first one.
        let _ = std::fs::remove_file(&beside);
        Failure::io(format!("write {}", path.display()), error)
    })
}

/// A path as the caller meant it, before this process changes its folder.
pub(crate) fn absolute(path: &str) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::io(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_appears_whole_and_replaces_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        write_pid(&path, 12).unwrap();
        write_pid(&path, 345).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "345");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write_pid(&folder.path().join("nowhere/pid"), 1).is_err());
    }
}
