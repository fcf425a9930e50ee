//! Containers whose control groups systemd makes, as with the CRI's `SystemdCgroup = true`. Without systemd or on cgroup
//! version 1 each test says so and is passed over; `scripts/vm run` has both.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use integration::{
    CgroupDriver, Client, Container, Happening, Recorder, Stdio, machine, shared, skip_unless_tare, spec,
};
use serde_json::{Value, json};

/// A client whose containers are units; `None`, and why, where there is no systemd.
async fn client() -> Result<Option<Client>> {
    if !Path::new("/run/systemd/system").is_dir() || !machine::unified() {
        eprintln!("SKIPPED: no systemd with cgroup version 2 alone");
        return Ok(None);
    }
    let mut client = shared()?.client().await?;
    client.runtime.cgroup_driver = CgroupDriver::Systemd;
    Ok(Some(client))
}

/// What `systemctl show` says of a unit.
fn shown(unit: &str, property: &str) -> Result<String> {
    let output = Command::new("systemctl").args(["show", "--value", "-p", property, unit]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn unit(id: &str) -> String {
    format!("cri-containerd-{id}.scope")
}

fn folder(id: &str) -> PathBuf {
    Path::new("/sys/fs/cgroup/taretest.slice/taretest-pod1.slice").join(unit(id))
}

fn read(id: &str, file: &str) -> Result<String> {
    Ok(std::fs::read_to_string(folder(id).join(file)).context(file.to_owned())?.trim().to_owned())
}

/// A container in a pod's slice, named as the CRI names it.
async fn pods_container(client: &Client, id: &str, args: &[&str]) -> Result<Container> {
    let edit = |config: &mut Value| {
        config["linux"]["cgroupsPath"] = json!(format!("taretest-pod1.slice:cri-containerd:{id}"));
        config["linux"]["resources"]["memory"] = json!({ "limit": 32 << 20, "swap": 32 << 20 });
        config["linux"]["resources"]["cpu"] = json!({ "shares": 102, "quota": 20_000, "period": 100_000 });
        spec::args(config, args);
    };
    client.container(id, edit).await
}

#[tokio::test]
async fn a_pods_container_is_a_scope_in_its_slice() -> Result<()> {
    let Some(client) = client().await? else { return Ok(()) };
    let id = "scope";
    let task = pods_container(&client, id, &["sleep", "1000"]).await?.start(&Stdio::null()).await?;
    let unit = unit(id);
    assert_eq!(shown(&unit, "ActiveState")?, "active");
    assert_eq!(shown(&unit, "Slice")?, "taretest-pod1.slice");
    assert_eq!(shown(&unit, "MemoryMax")?, "33554432");
    for (file, expected) in [("memory.max", "33554432"), ("cpu.max", "20000 100000")] {
        assert_eq!(read(id, file)?, expected, "{file}");
    }
    // An exec of a probe is in the same cgroup, and a device that nobody has allowed is refused there.
    let script = "cat /proc/self/cgroup; mknod /dev/log c 1 11 && ! head -c 1 /dev/log >/dev/null && echo refused";
    let said = task.run("probe", &["sh", "-c", script]).await?;
    let below = format!("0::/taretest.slice/taretest-pod1.slice/{unit}\n");
    assert!(said.stdout == format!("{below}refused\n") || said.stdout == "0::/\nrefused\n", "{said:?}");
    task.update(&json!({ "memory": { "limit": 48 << 20, "swap": 48 << 20 }, "cpu": { "quota": 30_000 } })).await?;
    assert_eq!(shown(&unit, "MemoryMax")?, "50331648");
    assert_eq!((read(id, "memory.max")?, read(id, "cpu.max")?), ("50331648".to_owned(), "30000 100000".to_owned()));
    task.pause().await?;
    assert!(read(id, "cgroup.events")?.contains("frozen 1"));
    task.resume().await?;
    assert!(!task.metrics().await?.value.is_empty());
    task.destroy().await?;
    assert!(!folder(id).exists());
    assert_eq!(shown(&unit, "LoadState")?, "not-found");
    Ok(())
}

#[tokio::test]
async fn a_scope_that_runs_out_of_memory_is_told_of_and_forgotten() -> Result<()> {
    let Some(client) = client().await? else { return Ok(()) };
    let id = "scope-oom";
    let recorder = Recorder::start(&client).await?;
    let container = pods_container(&client, id, &["tail", "/dev/zero"]).await?;
    let task = container.start(&Stdio::null()).await?;
    assert_eq!(task.wait_for(20).await?, 137);
    recorder.expect(10, id, |what| matches!(what, Happening::Exit { .. })).await?;
    if !skip_unless_tare("an oom event of init itself is often lost by containerd's own shim") {
        let told = recorder.of(id);
        let oom = told.iter().position(|what| *what == Happening::Oom);
        let exit = told.iter().position(|what| matches!(what, Happening::Exit { .. }));
        assert!(oom.is_some() && oom < exit, "{told:?}");
    }
    task.delete().await?;
    container.remove().await?;
    // A unit whose process was killed has failed; nobody else would let systemd forget it.
    assert_eq!(shown(&unit(id), "LoadState")?, "not-found");
    Ok(())
}
