//! Whose things are touched when a container is made or ends: nobody else's, and all of its own. Runs as root.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod bundle;

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use bundle::{Bundle, config, push, silent, wait};
use runtime_core::{Container, Create, ExitStatus, Kind, RootfsMount};
use serde_json::{Value, json};

/// A process of somebody else's, in a cgroup of somebody else's.
struct Stranger {
    process: Child,
    cgroup: PathBuf,
}

impl Stranger {
    fn new(cgroup: &str) -> Self {
        let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let hierarchy = Path::new(if unified { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/memory" });
        let cgroup = hierarchy.join(cgroup.trim_start_matches('/'));
        std::fs::create_dir_all(&cgroup).unwrap();
        let process = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = process.id().to_string();
        let stranger = Self { process, cgroup };
        std::fs::write(stranger.cgroup.join("cgroup.procs"), pid).unwrap();
        stranger
    }

    fn lives(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::fs::remove_dir(&self.cgroup).unwrap();
    }
}

/// A hook of the host's that adds a word to a file.
fn says(word: &str, file: &Path) -> Value {
    json!([{ "path": "/bin/sh", "args": ["sh", "-c", format!("echo {word} >> {}", file.display())] }])
}

#[test]
fn a_create_that_is_refused_its_cgroup_kills_nobody_in_it() {
    let bundle = Bundle::new("stranger");
    let path = format!("/tare-stranger-{}", std::process::id());
    let mut stranger = Stranger::new(&path);
    let mut config = config("true");
    config["linux"]["cgroupsPath"] = json!(path);
    let told = bundle.0.join("told");
    config["hooks"] = json!({ "poststop": [{ "path": "/bin/touch", "args": ["touch", told] }] });
    let error = bundle.create(&config, silent()).unwrap_err();
    assert_eq!(error.kind(), Kind::Exists, "{error}");
    assert!(!told.exists(), "a hook has heard of a container that there never was");
    assert!(!bundle.0.join("state.json").exists());
    assert_eq!(runtime_core::remove(&bundle.0).unwrap(), None);
    assert!(stranger.lives(), "killed by a create that was refused");
}

#[test]
fn a_create_that_fails_before_it_has_its_cgroup_kills_nobody_in_it() {
    let bundle = Bundle::new("stranger-meanwhile");
    let path = format!("/tare-meanwhile-{}", std::process::id());
    let mut config = config("true");
    config["linux"]["cgroupsPath"] = json!(path);
    let state = bundle.0.join("state");
    std::fs::create_dir(&state).unwrap();
    let mut stranger = Stranger::new(&path);
    let mount = RootfsMount {
        kind: "no-such-filesystem".to_owned(),
        source: "none".to_owned(),
        target: String::new(),
        options: Vec::new(),
    };
    let record = state.join("state.json");
    let request = Create { rootfs: vec![mount], state, ..bundle.request(&config, silent()) };
    let error = Container::create(request).map(drop).unwrap_err();
    assert!(error.to_string().contains("no-such-filesystem"), "{error}");
    assert!(!record.exists());
    assert!(stranger.lives(), "killed by a create that failed");
}

#[test]
fn a_second_create_leaves_the_first_container_alone() {
    let bundle = Bundle::new("twice");
    let (container, init) = bundle.create(&config("busybox sleep 1000"), silent()).unwrap();
    container.start().unwrap();
    let record = std::fs::read(bundle.0.join("state.json")).unwrap();
    let mut elsewhere = config("true");
    elsewhere["linux"]["cgroupsPath"] = json!(format!("/tare/{}-elsewhere", bundle.id()));
    for second in [config("true"), elsewhere] {
        let error = bundle.create(&second, silent()).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (Kind::Exists, "container with given ID already exists")
        );
    }
    assert_eq!(init.try_wait().unwrap(), None, "killed by a create that was refused");
    assert_eq!(container.pids().unwrap(), [init.pid()]);
    assert_eq!(std::fs::read(bundle.0.join("state.json")).unwrap(), record);
    init.signal(9).unwrap();
    assert_eq!(wait(&init), ExitStatus::Signal(9));
    container.delete().unwrap();
}

#[test]
fn poststop_hooks_run_after_a_create_that_failed_behind_its_hooks() {
    let bundle = Bundle::new("poststop-failed");
    let said = bundle.0.join("said");
    let mut config = config("");
    config["process"]["args"] = json!(["/nope"]);
    config["hooks"] = json!({ "prestart": says("prestart", &said), "poststop": says("poststop", &said) });
    let error = bundle.create(&config, silent()).unwrap_err();
    assert!(error.to_string().contains("/nope"), "{error}");
    assert_eq!(std::fs::read_to_string(&said).unwrap(), "prestart\npoststop\n");
    assert!(!bundle.0.join("state.json").exists());
}

#[test]
fn poststop_hooks_run_when_a_container_is_removed_by_its_record_alone() {
    let bundle = Bundle::new("poststop-crash");
    let said = bundle.0.join("said");
    let mut config = config("busybox sleep 1000");
    let mut hooks = says("poststop", &said);
    // The state on standard input comes from the record too.
    push(&mut hooks, json!({ "path": "/bin/sh", "args": ["sh", "-c", format!("cat >> {}", said.display())] }));
    config["hooks"] = json!({ "poststop": hooks });
    config["annotations"] = json!({ "colour": "blue" });
    let (container, init) = bundle.create(&config, silent()).unwrap();
    container.start().unwrap();
    drop(container);
    assert!(!said.exists());
    let removed = runtime_core::remove(&bundle.0).unwrap().unwrap();
    assert_eq!((removed.pid, removed.exit), (init.pid(), None));
    assert_eq!(wait(&init), ExitStatus::Signal(9));
    let said = std::fs::read_to_string(&said).unwrap();
    let state: Value = serde_json::from_str(said.strip_prefix("poststop\n").unwrap()).unwrap();
    assert_eq!((&state["status"], &state["id"]), (&json!("stopped"), &json!(bundle.id())));
    assert_eq!(state["annotations"], json!({ "colour": "blue" }));
}
