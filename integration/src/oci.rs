//! An OCI runtime's command line, driven as a person would: a folder of its own for bundles and state, one command at a time.
//!
//! It knows nothing of tare's code. `TARE_UNDER_TEST` says which runtime; `TARE_CLI`, `TARE_RUNC` and `TARE_CRUN` name
//! other binaries than the usual ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use crate::leftovers::{self, Leftovers};
use crate::{Product, image, pace, shim_binary, spec};

/// What a command said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// The output of a command that must have succeeded.
    ///
    /// # Panics
    /// When it did not.
    #[allow(clippy::must_use_candidate, reason = "that it succeeded is what most callers ask")]
    pub fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }
}

/// A place for containers, with a runtime that keeps its state there. Whatever is left in it is ended when it is dropped.
#[derive(Debug)]
pub struct Host {
    runtime: PathBuf,
    folder: TempDir,
}

impl Host {
    /// A fresh place for the runtime under test, with a root file system.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn new() -> Result<Self> {
        leftovers::sweep_abandoned(Path::new(leftovers::DISK));
        let prefix = format!("{}{}-", leftovers::PREFIX, std::process::id());
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir_in(leftovers::DISK)?;
        let host = Self { runtime: binary(Product::under_test())?, folder };
        // mkdtemp(3) closes it to others, and a user of a container has to pass.
        fs::set_permissions(host.folder(), std::os::unix::fs::PermissionsExt::from_mode(0o711))?;
        fs::create_dir(host.rootfs())?;
        image::unpack(&host.rootfs())?;
        Ok(host)
    }

    /// The folder of everything.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The root file system that bundles have unless they bring another.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.folder().join("rootfs")
    }

    /// The runtime's own folder.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder().join("state")
    }

    /// A bundle that runs `sleep`, as edited.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn bundle(&self, id: &str, edit: impl FnOnce(&mut Value)) -> Result<PathBuf> {
        let bundle = self.folder().join(format!("bundle-{id}"));
        fs::create_dir_all(&bundle)?;
        let mut config = spec::default(&self.name(), id);
        config["root"]["path"] = Value::from(self.rootfs().to_string_lossy());
        spec::args(&mut config, &["sleep", "1000"]);
        edit(&mut config);
        fs::write(bundle.join("config.json"), config.to_string()).context("write config.json")?;
        Ok(bundle)
    }

    /// The command line of the runtime with its root folder, ready for a verb. Standard input is empty.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.runtime);
        command.arg("--root").arg(self.state()).stdin(Stdio::null()).current_dir(self.folder());
        command
    }

    /// The runtime's binary, to be run by something else.
    #[must_use]
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// Runs a command of the runtime to its end.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn say<S: AsRef<str>>(&self, args: &[S]) -> Result<Said> {
        let args: Vec<&str> = args.iter().map(AsRef::as_ref).collect();
        run(self.command().args(&args)).with_context(|| format!("run {args:?}"))
    }

    /// Creates a container of a bundle; its streams are empty, since it would hold a pipe open.
    ///
    /// # Errors
    /// When the runtime cannot be run.
    pub fn create(&self, id: &str, bundle: &Path) -> Result<Said> {
        let errors = self.folder().join("errors");
        let mut command = self.command();
        command.arg("create").arg("--bundle").arg(bundle).arg(id);
        let status = command.stdout(Stdio::null()).stderr(fs::File::create(&errors)?).status().context("create")?;
        Ok(Said { code: status.code(), out: String::new(), err: fs::read_to_string(&errors)? })
    }

    /// Creates and starts a container, and says its init's process.
    ///
    /// # Errors
    /// When the runtime refuses.
    pub fn start(&self, id: &str, edit: impl FnOnce(&mut Value)) -> Result<u32> {
        let bundle = self.bundle(id, edit)?;
        self.create(id, &bundle)?.done();
        self.say(&["start", id])?.done();
        self.pid(id)
    }

    /// The process of a container's init.
    ///
    /// # Errors
    /// When the runtime does not say.
    pub fn pid(&self, id: &str) -> Result<u32> {
        let state: Value = serde_json::from_str(&self.say(&["state", id])?.done())?;
        u32::try_from(state["pid"].as_u64().context("no pid")?).context("a pid")
    }

    /// Ends and removes what is left of containers, so that the next one is judged by itself.
    pub fn sweep(&self) {
        leftovers::end_containers(self.folder());
        let _ = fs::remove_dir_all(self.state());
    }

    /// The control group path below which the bundles' containers are.
    #[must_use]
    pub fn name(&self) -> String {
        leftovers::namespace(self.folder())
    }

    /// What is there of containers after they have been deleted: mounts, control groups, processes, state. Processes
    /// that are about to end get a moment.
    #[must_use]
    pub fn leftovers(&self) -> Leftovers {
        let deadline = Instant::now() + pace::patience(Duration::from_secs(2));
        loop {
            let mut found = leftovers::of(self.folder(), None);
            let mut states = leftovers::subfolders(&self.state());
            // crun keeps a hidden folder of its own; no container is named so.
            states.retain(|state| !state.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")));
            found.0.extend(states.iter().map(|folder| format!("state {}", folder.display())));
            if found.is_empty() || Instant::now() > deadline {
                return found;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        leftovers::purge(self.folder());
    }
}

/// Runs a command to its end and keeps what it said.
///
/// # Errors
/// When it cannot be run.
pub fn run(command: &mut Command) -> Result<Said> {
    let output = command.output().with_context(|| format!("run {}", command.get_program().display()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) })
}

/// The binary of a product's command line.
pub(crate) fn binary(product: Product) -> Result<PathBuf> {
    let (variable, usual) = match product {
        Product::Tare => ("TARE_CLI", shim_binary().map(|shim| shim.with_file_name("tare"))),
        Product::Runc => ("TARE_RUNC", Some(PathBuf::from("runc"))),
        Product::Crun => ("TARE_CRUN", Some(PathBuf::from("/usr/bin/crun"))),
    };
    let found = std::env::var_os(variable).map(PathBuf::from).or(usual);
    found.with_context(|| format!("no {} is built; name one with {variable}", product.name()))
}
