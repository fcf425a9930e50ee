//! Podman as an ordinary user, who has subordinate ids and a session of systemd: the guest of `make test-vm` has such a user.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use integration::Product;
use integration::home::{Home, ended};
use integration::oci::{Said, run};
use integration::podman::IMAGE;

/// The guest's user.
const USER: &str = "user";
const ID: u32 = 1000;

struct Rootless {
    home: Home,
    /// Who makes the control groups.
    manager: &'static str,
}

impl Rootless {
    fn new(manager: &'static str) -> Result<Option<Self>> {
        let ids = fs::read_to_string("/etc/subuid").unwrap_or_default();
        let session = Path::new("/run/user/1000/bus").exists();
        if !session || !ids.lines().any(|line| line.starts_with("user:")) || !integration::home::is_there("podman") {
            eprintln!(
                "SKIPPED: no user \"{USER}\" with a session and subordinate ids, as the guest of make test-vm has"
            );
            return Ok(None);
        }
        let rootless = Self { home: Home::new()?, manager };
        // Where the binary was built may be closed to others.
        fs::copy(&rootless.home.runtime, rootless.runtime()).context("copy the runtime")?;
        fs::create_dir(rootless.home.path("user"))?;
        chown(rootless.home.path("user"), Some(ID), Some(ID))?;
        fs::write(rootless.home.path("containers.conf"), "[containers]\nnetns = \"none\"\n")?;
        rootless.say(&["import", "-q", &rootless.home.text("rootfs.tar"), IMAGE])?.done();
        Ok(Some(rootless))
    }

    fn runtime(&self) -> std::path::PathBuf {
        self.home.path("bin").join(Product::under_test().name())
    }

    fn say(&self, args: &[&str]) -> Result<Said> {
        let folder = self.home.path("user");
        let mut command = Command::new("runuser");
        command
            .args(["-u", USER, "--", "env", "XDG_RUNTIME_DIR=/run/user/1000"])
            .arg("DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus")
            .arg(format!("HOME={}", folder.display()))
            .arg(format!("CONTAINERS_CONF={}", self.home.text("containers.conf")))
            .arg("podman")
            .arg("--root")
            .arg(folder.join("storage"))
            .arg("--runroot")
            .arg(folder.join("run"))
            .args(["--storage-driver", "vfs", "--events-backend", "file", "--cgroup-manager", self.manager])
            .arg("--runtime")
            .arg(self.runtime())
            .args(args)
            .current_dir(&folder)
            .stdin(Stdio::null());
        run(&mut command).with_context(|| format!("podman {args:?}"))
    }
}

impl Drop for Rootless {
    fn drop(&mut self) {
        // Ends the process that keeps the user's namespaces.
        drop(self.say(&["system", "migrate"]));
    }
}

fn walk(podman: &Rootless) -> Result<()> {
    let script = "id -u; cat /proc/self/uid_map";
    let said = podman.say(&["run", "--rm", IMAGE, "sh", "-c", script])?.done();
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words.get(..5), Some(["0", "0", "1000", "1", "1"].as_slice()), "{said}");
    ended(&podman.say(&["run", "--rm", IMAGE, "nosuch"])?, 127);
    podman.say(&["run", "-d", "--name", "there", "--memory", "64m", IMAGE, "sleep", "1000"])?.done();
    let said = podman.say(&["exec", "there", "sh", "-c", "echo in; exit 3"])?;
    ended(&said, 3);
    assert_eq!(said.out, "in\n");
    if podman.manager == "systemd" {
        let stats = podman.say(&["stats", "--no-stream", "--format", "{{.MemUsage}}", "there"])?.done();
        assert!(stats.contains("/ 67.11MB"), "{stats}");
    }
    podman.say(&["rm", "-f", "-t", "0", "there"])?.done();
    Ok(())
}

#[test]
fn podman_runs_without_root_and_without_systemd() -> Result<()> {
    let Some(podman) = Rootless::new("cgroupfs")? else { return Ok(()) };
    walk(&podman)
}

#[test]
fn podman_runs_without_root_in_scopes_of_the_users_systemd() -> Result<()> {
    let Some(podman) = Rootless::new("systemd")? else { return Ok(()) };
    walk(&podman)
}
