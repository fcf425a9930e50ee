//! A folder in which Podman or Docker keep everything, with the root file system to import. Not what they do there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::oci::{self, Said};
use crate::{Product, image, leftovers, shim_binary};

/// Where hierarchies of control groups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// The folder. What is left in it is ended and removed when it is dropped.
#[derive(Debug)]
pub struct Home {
    folder: TempDir,
    /// The command line under test.
    pub runtime: PathBuf,
}

impl Home {
    /// A fresh one, with `rootfs.tar` and a folder of programs that come first on a daemon's path.
    ///
    /// # Errors
    /// When the runtime is not built or the folder cannot be written.
    pub fn new() -> Result<Self> {
        leftovers::sweep_abandoned(Path::new(leftovers::DISK));
        let prefix = format!("{}{}-", leftovers::PREFIX, std::process::id());
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir_in(leftovers::DISK)?;
        let home = Self { folder, runtime: oci::binary(Product::under_test())? };
        fs::set_permissions(home.path(""), fs::Permissions::from_mode(0o755))?;
        fs::create_dir(home.path("bin"))?;
        if let Some(shim) = shim_binary().filter(|shim| shim.is_file()) {
            symlink(shim, home.path("bin/containerd-shim-tare-v2"))?;
        }
        fs::write(home.path("rootfs.tar"), image::layer()?).context("write rootfs.tar")?;
        Ok(home)
    }

    /// A path in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same as text.
    #[must_use]
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    /// The control group below which its containers are.
    #[must_use]
    pub fn cgroup(&self) -> String {
        format!("/{}", leftovers::namespace(self.folder.path()))
    }

    /// The processes that belong to it.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        leftovers::processes(self.folder.path())
    }

    /// Podman makes the control groups of controllers that are mounted nowhere, too: as plain folders.
    fn remove_false_cgroups(&self) {
        for hierarchy in leftovers::subfolders(Path::new(CGROUPS)) {
            let group = hierarchy.join(self.cgroup().trim_start_matches('/'));
            if group.is_dir() && !group.join("cgroup.procs").exists() {
                let _ = fs::remove_dir_all(&group);
                let _ = fs::remove_dir(&hierarchy);
            }
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        leftovers::purge(self.folder.path());
        self.remove_false_cgroups();
    }
}

/// Whether a program is there; says that what needs it is skipped when it is not.
#[must_use]
pub fn is_there(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = path.split(':').chain(["/usr/sbin"]).any(|folder| Path::new(folder).join(program).is_file());
    if !found {
        eprintln!("SKIPPED: {program} is not installed (scripts/setup tests)");
    }
    found
}

/// Whether a command did what it should and ended with this code.
///
/// # Panics
/// When it ended otherwise; what it said is in the message.
pub fn ended(said: &Said, code: i32) {
    assert_eq!(said.code, Some(code), "{said:?}");
}
