//! Podman with storage, state and configuration of its own. The runtime under test is what it is told to use.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::home::{Home, is_there};
use crate::oci::{Said, run};
use crate::{Product, machine};

/// The image's name in it.
pub const IMAGE: &str = "tare.test/busybox";

/// The most processes that Podman lets itself have, and so its containers.
const PROCESSES: u64 = 32 * 1024;

/// Podman and its folder.
#[derive(Debug)]
pub struct Podman {
    /// Where it keeps everything.
    pub home: Home,
}

impl Podman {
    /// One with the image imported; `None`, with the reason said, where there is no Podman or it cannot do its work.
    ///
    /// # Errors
    /// When the image cannot be imported.
    pub fn new() -> Result<Option<Self>> {
        if !is_there("podman") {
            return Ok(None);
        }
        if Product::under_test() == Product::Crun && machine::hierarchies().len() > 1 {
            eprintln!("SKIPPED: crun 1.8 refuses hosts with control groups of both versions");
            return Ok(None);
        }
        let mut podman = Self { home: Home::new()? };
        podman.home.runtime = podman.rooted()?;
        fs::write(podman.home.path("containers.conf"), podman.configuration())?;
        podman.say(&["import", "-q", &podman.home.text("rootfs.tar"), IMAGE])?.done();
        Ok(Some(podman))
    }

    /// The runtime with its state in this home. Not by `--runtime-flag`: what Podman has conmon do when a container ends
    /// is called without it, deletes in the runtime's common root, and races with Podman's own delete here.
    fn rooted(&self) -> Result<PathBuf> {
        let name = self.home.runtime.file_name().context("the runtime has no name")?;
        let script = self.home.path("runtime").join(name);
        fs::create_dir(self.home.path("runtime"))?;
        let (runtime, state) = (self.home.runtime.display(), self.home.text("state"));
        fs::write(&script, format!("#!/bin/sh\nexec {runtime} --root {state} \"$@\"\n"))?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        Ok(script)
    }

    /// Podman would raise limits, which root without `CAP_SYS_RESOURCE` may not.
    fn configuration(&self) -> String {
        let files = limit("Max open files").unwrap_or(1024);
        let processes = limit("Max processes").unwrap_or(PROCESSES).min(PROCESSES);
        let networks = self.home.text("networks");
        format!(
            "[containers]\ndefault_ulimits = [\"nofile=1024:{files}\", \"nproc={processes}:{processes}\"]\nnetns = \"none\"\n\
             [engine]\nlock_type = \"file\"\n[network]\nnetwork_config_dir = \"{networks}\"\n"
        )
    }

    /// Podman with its global options, ready for a command. Standard input is empty.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new("podman");
        command
            .env("CONTAINERS_CONF", self.home.path("containers.conf"))
            .arg("--root")
            .arg(self.home.path("storage"))
            .arg("--runroot")
            .arg(self.home.path("run"))
            .arg("--tmpdir")
            .arg(self.home.path("tmp"))
            .args(["--storage-driver", "overlay", "--cgroup-manager", "cgroupfs", "--events-backend", "file"])
            .arg("--runtime")
            .arg(&self.home.runtime)
            .current_dir(self.home.path(""))
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// When Podman cannot be run.
    pub fn say(&self, args: &[&str]) -> Result<Said> {
        run(self.command().args(args)).with_context(|| format!("podman {args:?}"))
    }

    /// `podman run` with options, and a program with its arguments in the image.
    ///
    /// # Errors
    /// When Podman cannot be run.
    pub fn run(&self, options: &[&str], program: &[&str]) -> Result<Said> {
        let parent = self.home.cgroup();
        let mut args = vec!["run", "--cgroup-parent", &parent];
        args.extend(options);
        args.push(IMAGE);
        args.extend(program);
        self.say(&args)
    }
}

/// A limit of this process that it may not raise; `None` when there is none.
fn limit(name: &str) -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
