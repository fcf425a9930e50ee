//! Podman looks after containers that run on, alone and in pods, and writes one to disk.

use std::process::Command;

use anyhow::Result;
use integration::machine;
use integration::podman::{IMAGE, Podman};

use crate::soon;

fn inspected(podman: &Podman, format: &str) -> Result<String> {
    Ok(podman.say(&["inspect", "--format", format, "there"])?.done().trim().to_owned())
}

#[test]
fn podman_watches_and_limits() -> Result<()> {
    let Some(podman) = Podman::new()? else { return Ok(()) };
    let limits = ["-d", "--name", "there", "--memory", "64m", "--pids-limit", "50"];
    podman.run(&limits, &["sh", "-c", "echo started; exec sleep 1000"])?.done();
    soon(|| Ok(podman.say(&["logs", "there"])?.out), |logs| logs == "started\n")?;
    assert!(podman.say(&["top", "there"])?.done().contains("sleep 1000"));
    let stats = podman.say(&["stats", "--no-stream", "--format", "{{.PIDs}} {{.MemUsage}}", "there"])?.done();
    assert!(stats.starts_with("1 ") && stats.contains("/ 67.11MB"), "{stats}");
    podman.say(&["update", "--memory", "128m", "there"])?.done();
    let cgroup = format!("{}/libpod-{}", podman.home.cgroup(), inspected(&podman, "{{.Id}}")?);
    let memory = if machine::unified() { "memory.max" } else { "memory.limit_in_bytes" };
    assert_eq!(machine::cgroup_file(&cgroup, "memory", memory).as_deref(), Some("134217728"));
    podman.say(&["pause", "there"])?.done();
    assert_eq!(inspected(&podman, "{{.State.Status}}")?, "paused");
    podman.say(&["unpause", "there"])?.done();
    podman.say(&["restart", "-t", "0", "there"])?.done();
    assert_eq!(podman.say(&["exec", "there", "echo", "again"])?.done(), "again\n");
    podman.say(&["stop", "-t", "0", "there"])?.done();
    assert_eq!(inspected(&podman, "{{.State.Status}} {{.State.ExitCode}}")?, "exited 137");
    podman.say(&["rm", "there"])?.done();
    assert!(machine::cgroups(&cgroup).is_empty(), "the control group is still there");
    assert_eq!(std::fs::read_dir(podman.home.path("state"))?.count(), 0);
    Ok(())
}

#[test]
fn podman_runs_pods() -> Result<()> {
    let Some(podman) = Podman::new()? else { return Ok(()) };
    let parent = podman.home.cgroup();
    for shared in ["ipc,uts,net", "ipc,uts,net,pid"] {
        let pod = ["pod", "create", "--name", "pod", "--infra-image", IMAGE, "--infra-command", "sleep 1000"];
        podman.say(&[&pod[..], &["--cgroup-parent", &parent, "--network", "none", "--share", shared]].concat())?.done();
        for name in ["one", "two"] {
            podman.say(&["run", "-d", "--pod", "pod", "--name", name, IMAGE, "sleep", "1000"])?.done();
        }
        let network =
            |name| podman.say(&["exec", name, "readlink", "/proc/self/ns/net"]).map(integration::oci::Said::done);
        assert_eq!(network("one")?, network("two")?);
        let seen = podman.say(&["exec", "one", "ps"])?.done().matches("sleep 1000").count();
        assert_eq!(seen, if shared.contains("pid") { 3 } else { 1 });
        assert_eq!(podman.say(&["pod", "top", "pod"])?.done().matches("sleep 1000").count(), 3);
        let stats = podman.say(&["pod", "stats", "--no-stream", "--format", "{{.Name}} {{.PIDS}}", "pod"])?.done();
        assert!(stats.contains("one 1") && stats.contains("two 1"), "{stats}");
        podman.say(&["pod", "pause", "pod"])?.done();
        podman.say(&["pod", "unpause", "pod"])?.done();
        podman.say(&["pod", "stop", "-t", "0", "pod"])?.done();
        // Podman fails over the control groups it made of controllers that are mounted nowhere; the pod is gone all the same.
        podman.say(&["pod", "rm", "-f", "pod"])?;
        assert_eq!(podman.say(&["pod", "exists", "pod"])?.code, Some(1));
        assert_eq!(std::fs::read_dir(podman.home.path("state"))?.count(), 0);
    }
    Ok(())
}

/// With the CRIU that `scripts/peers` has unpacked; Debian 12's own fails on new kernels.
#[test]
fn podman_checkpoints_and_restores() -> Result<()> {
    let peer = concat!(env!("CARGO_MANIFEST_DIR"), "/../.cache/peers/criu-4.2/bin");
    if !std::path::Path::new(peer).is_dir() {
        eprintln!("SKIPPED: no CRIU that works on new kernels (scripts/peers)");
        return Ok(());
    }
    checkpoint(peer)
}

fn checkpoint(criu: &str) -> Result<()> {
    let Some(podman) = Podman::new()? else { return Ok(()) };
    let path = format!("{criu}:{}", std::env::var("PATH").unwrap_or_default());
    let say = |args: &[&str]| integration::oci::run(with_path(podman.command().args(args), &path));
    let count = "i=0; while sleep 0.1; do i=$((i+1)); echo $i > /tmp/n; done";
    podman.run(&["-d", "--name", "there"], &["sh", "-c", count])?.done();
    soon(|| Ok(podman.say(&["exec", "there", "cat", "/tmp/n"])?.out), |number| number.trim().len() > 1)?;
    say(&["container", "checkpoint", "there"])?.done();
    assert_eq!(inspected(&podman, "{{.State.Status}}")?, "exited");
    say(&["container", "restore", "there"])?.done();
    // It goes on counting where it was: a new one would begin at 1. While it writes, the file is empty.
    let number = soon(|| Ok(podman.say(&["exec", "there", "cat", "/tmp/n"])?.out), |number| !number.trim().is_empty())?;
    assert!(number.trim().parse::<u32>()? >= 10, "{number}");
    podman.say(&["rm", "-f", "-t", "0", "there"])?.done();
    Ok(())
}

fn with_path<'a>(command: &'a mut Command, path: &str) -> &'a mut Command {
    command.env("PATH", path)
}
