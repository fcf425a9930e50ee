//! A private dockerd, with its own containerd, folders and socket, and without networks. It starts containers with the runtime
//! under test, by its command line or by its shim.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::Product;
use crate::home::{Home, is_there};
use crate::oci::{Said, run};

/// The image's name in it.
pub const IMAGE: &str = "tare.test/busybox";

/// Which face of the runtime dockerd drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// `"runtimes": {"tested": {"path": …}}`: the command line, below containerd's own shim.
    CommandLine,
    /// `"runtimes": {"tested": {"runtimeType": …}}`: the shim.
    Shim,
}

impl Face {
    /// Both.
    pub const ALL: [Self; 2] = [Self::CommandLine, Self::Shim];
}

/// A running dockerd. It ends with its last user.
#[derive(Debug)]
pub struct Docker {
    /// Where it keeps everything.
    pub home: Home,
    daemon: Child,
}

static SHARED: Mutex<[Weak<Docker>; 2]> = Mutex::new([Weak::new(), Weak::new()]);

/// The dockerd that the tests of one process share; `None`, with the reason said, where it cannot run.
///
/// # Errors
/// When it does not start.
pub fn shared(face: Face) -> Result<Option<Arc<Docker>>> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let slot = match face {
        Face::CommandLine => &mut shared[0],
        Face::Shim => &mut shared[1],
    };
    if let Some(running) = slot.upgrade() {
        return Ok(Some(running));
    }
    let Some(started) = Docker::start(face)?.map(Arc::new) else { return Ok(None) };
    *slot = Arc::downgrade(&started);
    Ok(Some(started))
}

impl Docker {
    fn start(face: Face) -> Result<Option<Self>> {
        let Some(program) = daemon(face) else { return Ok(None) };
        let home = Home::new()?;
        let mut settings = configuration(face, &home)?;
        if version(&program).is_some_and(|major| major < 23) {
            settings["deprecated-key-path"] = json!(home.path("key.json"));
        }
        fs::write(home.path("daemon.json"), settings.to_string())?;
        let daemon = launch(&program, &home)?;
        let docker = Self { home, daemon };
        docker.wait_until_it_answers()?;
        docker.say(&["import", &docker.home.text("rootfs.tar"), IMAGE])?.done();
        Ok(Some(docker))
    }

    fn wait_until_it_answers(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.say(&["version"])?.code != Some(0) {
            if Instant::now() > deadline {
                bail!("dockerd does not answer:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// What the daemon has written.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path("log")).unwrap_or_default()
    }

    /// The client with its options, ready for a command. Standard input is empty.
    #[must_use]
    pub fn command(&self) -> Command {
        let unpacked = peer("docker.io-20.10/bin/docker");
        let mut command = Command::new(if unpacked.is_file() { unpacked } else { "docker".into() });
        command
            .arg("--host")
            .arg(format!("unix://{}", self.home.text("s")))
            .env("DOCKER_CONFIG", self.home.path("client"))
            .env("DOCKER_BUILDKIT", "0")
            .env_remove("DOCKER_HOST")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// When the client cannot be run.
    pub fn say(&self, args: &[&str]) -> Result<Said> {
        run(self.command().args(args)).with_context(|| format!("docker {args:?}"))
    }

    /// `docker run` with options, and a program with its arguments in the image.
    ///
    /// # Errors
    /// When the client cannot be run.
    pub fn run(&self, options: &[&str], program: &[&str]) -> Result<Said> {
        let mut args = vec!["run", "--network", "none"];
        args.extend(options);
        args.push(IMAGE);
        args.extend(program);
        self.say(&args)
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let pid = i32::try_from(self.daemon.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::TERM);
        }
        // It takes its containerd down with it. What stays is ended with the home.
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline && matches!(self.daemon.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// The daemon for a face: Debian 12's own, and for shims, which `daemon.json` can name since version 23, a newer one.
fn daemon(face: Face) -> Option<PathBuf> {
    if !is_there("containerd") {
        return None;
    }
    if face == Face::Shim && Product::under_test() == Product::Crun {
        eprintln!("SKIPPED: crun has no shim of its own");
        return None;
    }
    let given = std::env::var_os("TARE_DOCKERD").map(PathBuf::from);
    let (old, new, installed) =
        (peer("docker.io-20.10/bin/dockerd"), peer("docker.io-26.1/bin/dockerd"), "dockerd".into());
    let candidates = match face {
        Face::CommandLine => [given, Some(old), Some(installed), Some(new)],
        Face::Shim => [given, Some(new), Some(installed), None],
    };
    let able = |program: &PathBuf| version(program).is_some_and(|major| major >= 23 || face == Face::CommandLine);
    let found = candidates.into_iter().flatten().find(able);
    if found.is_none() {
        eprintln!("SKIPPED: no dockerd that can name a runtime for {face:?} (scripts/peers)");
    }
    found
}

/// What scripts/peers has unpacked, if it has.
fn peer(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/peers").join(path)
}

/// The major version of a dockerd.
fn version(program: &Path) -> Option<u32> {
    let said = Command::new(program).arg("--version").env("PATH", search_path(None)).output().ok()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    said.strip_prefix("Docker version ")?.split('.').next()?.parse().ok()
}

fn search_path(home: Option<&Home>) -> String {
    let first = home.map_or_else(String::new, |home| format!("{}:", home.text("bin")));
    format!("{first}{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

fn configuration(face: Face, home: &Home) -> Result<Value> {
    let tested = match (face, Product::under_test()) {
        (Face::CommandLine, _) => json!({ "path": program(&home.runtime)? }),
        (Face::Shim, Product::Tare) => json!({ "runtimeType": "io.containerd.tare.v2" }),
        (Face::Shim, _) => json!({ "runtimeType": "io.containerd.runc.v2" }),
    };
    Ok(json!({
        "runtimes": { "tested": tested },
        "default-runtime": "tested",
        "data-root": home.path("data"),
        "exec-root": home.path("exec"),
        "pidfile": home.path("pid"),
        "hosts": [format!("unix://{}", home.text("s"))],
        "storage-driver": "overlay2",
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "cgroup-parent": home.cgroup(),
        "bridge": "none",
        "iptables": false,
        "ip6tables": false,
        "ip-forward": false,
        "ip-masq": false,
        "userland-proxy": false,
    }))
}

/// `daemon.json` wants a path that exists.
fn program(runtime: &Path) -> Result<PathBuf> {
    if runtime.is_absolute() {
        return Ok(runtime.to_owned());
    }
    let path = search_path(None);
    let found = path.split(':').map(|folder| Path::new(folder).join(runtime)).find(|file| file.is_file());
    found.with_context(|| format!("no {} on the path", runtime.display()))
}

fn launch(program: &Path, home: &Home) -> Result<Child> {
    let log = File::create(home.path("log"))?;
    let mut command = Command::new(program);
    command.arg("--config-file").arg(home.path("daemon.json"));
    command.env("PATH", search_path(Some(home))).env_remove("NOTIFY_SOCKET");
    command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().context("start dockerd")
}
