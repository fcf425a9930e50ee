//! A checkpoint that comes back as a unit of systemd: as root, with systemd, cgroup version 2 and CRIU. Elsewhere the test
//! says so and is passed over; `scripts/vm run` has all of it.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod bundle;

use std::path::Path;
use std::process::Command;

use bundle::{Bundle, config, silent, wait};
use runtime_core::{Afterwards, CgroupDriver, Checkpoint, Container, Create, CriuOptions, Extent, Restore};
use serde_json::{Value, json};

const TEST: &str = "a_restored_container_is_a_scope_again";

/// Whether there is what this test needs; says why not.
fn has_all() -> bool {
    if !Path::new("/run/systemd/system").is_dir() || !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        println!("skipped: no systemd with cgroup version 2 alone");
        return false;
    }
    if std::env::var_os("TARE_CRIU").is_some() {
        return true;
    }
    let criu = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/peers/criu-4.2/bin/criu");
    if !Command::new(&criu).arg("check").output().is_ok_and(|checked| checked.status.success()) {
        println!("skipped: no CRIU that works (scripts/peers)");
        return false;
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    assert!(again.args(["--exact", TEST, "--nocapture"]).env("TARE_CRIU", criu).status().unwrap().success());
    false
}

fn request(bundle: &Bundle, config: &Value) -> Create {
    let spec = serde_json::from_value(config.clone()).unwrap();
    let request = Create::new(bundle.id(), bundle.0.clone(), spec, bundle.0.clone(), silent());
    Create { cgroup_driver: CgroupDriver::Systemd, ..request }
}

fn shown(unit: &str, property: &str) -> String {
    let output = Command::new("systemctl").args(["show", "--value", "-p", property, unit]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// systemd makes the unit around CRIU, which leaves it to what it has restored.
#[test]
fn a_restored_container_is_a_scope_again() {
    if !has_all() {
        return;
    }
    let bundle = Bundle::new("unit");
    let unit = format!("tare-{}.scope", bundle.id());
    let mut config = config("while :; do sleep 1; done");
    config["linux"]["cgroupsPath"] = json!(format!("tare-core.slice:tare:{}", bundle.id()));
    config["linux"]["resources"] = json!({ "pids": { "limit": 42 } });
    std::fs::write(bundle.0.join("config.json"), config.to_string()).unwrap();
    let (container, process) = Container::create(request(&bundle, &config)).unwrap();
    container.start().unwrap();
    let (images, work, options) = (bundle.0.join("image"), Some(bundle.0.join("work")), CriuOptions::default());
    let written = Checkpoint {
        images: images.clone(),
        work: work.clone(),
        parent: None,
        extent: Extent::Whole,
        afterwards: Afterwards::Ends,
        page_server: None,
        status: None,
        options: options.clone(),
    };
    container.checkpoint(written).unwrap();
    wait(&process);
    container.delete().unwrap();
    assert_eq!(shown(&unit, "LoadState"), "not-found");
    let create = request(&bundle, &config);
    let restore = Restore { create, images, work, lsm_profile: None, lsm_mount_context: None, options };
    let (container, process) = Container::restore(restore).unwrap();
    let inside = std::fs::read_to_string(format!("/proc/{}/cgroup", process.pid())).unwrap();
    assert_eq!(inside.trim(), format!("0::/tare.slice/tare-core.slice/{unit}"));
    assert_eq!((shown(&unit, "ActiveState").as_str(), shown(&unit, "TasksMax").as_str()), ("active", "42"));
    assert!(container.pids().unwrap().contains(&process.pid()));
    container.delete().unwrap();
    wait(&process);
    assert_eq!(shown(&unit, "LoadState"), "not-found");
}
