//! Hooks of all six kinds: their order, what they are given, and what a failing one means (runtime-spec 1.3, runtime.md
//! "Lifecycle"). Runs as root.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod bundle;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use bundle::{Bundle, config, silent, wait};
use runtime_core::ExitStatus;
use serde_json::{Value, json};

const KINDS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

fn shell(script: &str) -> Value {
    json!({ "path": "/bin/sh", "args": ["sh", "-c", script, "0", "arg"], "env": ["PATH=/bin:/usr/bin", "MARK=x y"] })
}

/// Where a hook of this kind leaves what it has to say: those inside the container see another root.
fn notes(bundle: &Bundle, kind: &str) -> (String, PathBuf) {
    let host = bundle.0.join("rootfs/tmp").join(kind);
    match kind {
        "startContainer" => ("/tmp/startContainer".to_owned(), host),
        _ => (host.to_str().unwrap().to_owned(), host),
    }
}

/// A hook that notes the kinds before it, its arguments, environment and state.
fn noting(bundle: &Bundle, kind: &str) -> Value {
    let (path, _) = notes(bundle, kind);
    let folder = Path::new(&path).parent().unwrap().to_str().unwrap();
    shell(&format!("n=$(cd {folder}; echo *); {{ echo \"$n\"; echo $1; busybox env; busybox cat; }} > {path}"))
}

fn with_hooks(bundle: &Bundle, script: &str) -> Value {
    let mut config = config(script);
    config["annotations"] = json!({ "org.example": "1" });
    config["process"]["env"] = json!(["PATH=/bin", "SECRET=of the image"]);
    for kind in KINDS {
        config["hooks"][kind] = json!([noting(bundle, kind)]);
    }
    config
}

#[test]
fn each_kind_runs_in_its_turn_with_the_state_and_nothing_of_the_image() {
    let bundle = Bundle::new("hooks");
    let (container, init) = bundle.create(&with_hooks(&bundle, "busybox sleep 1000"), silent()).unwrap();
    let (id, path, pid) = (bundle.id().to_owned(), bundle.0.clone(), init.pid());
    container.start().unwrap();
    container.delete().unwrap();
    wait(&init);
    let statuses = ["creating", "creating", "creating", "created", "running", "stopped"];
    for (index, (kind, status)) in KINDS.into_iter().zip(statuses).enumerate() {
        let text = std::fs::read_to_string(notes(&bundle, kind).1).unwrap();
        let (state, lines): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with('{'));
        let mut before = KINDS[..index].to_vec();
        before.sort_unstable();
        let before = if before.is_empty() { "*".to_owned() } else { before.join(" ") };
        assert_eq!(lines[..2], [before.as_str(), "arg"], "{kind}: {text}");
        assert!(lines.contains(&"MARK=x y") && !text.contains("SECRET"), "{kind}: {text}");
        let mut expected = json!({ "ociVersion": "1.3.0", "id": id, "status": status, "pid": pid, "bundle": path,
            "annotations": { "org.example": "1" } });
        if status == "stopped" {
            expected.as_object_mut().unwrap().remove("pid");
        }
        assert_eq!(serde_json::from_str::<Value>(state[0]).unwrap(), expected, "{kind}");
    }
}

#[test]
fn a_hook_that_fails_before_creation_fails_the_create_and_poststop_hooks_run() {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let bundle = Bundle::new(&format!("hooks-fail-{kind}"));
        let mut config = with_hooks(&bundle, "exit 0");
        config["hooks"][kind] = json!([shell("echo went wrong; exit 7"), noting(&bundle, kind)]);
        let error = bundle.create(&config, silent()).unwrap_err().to_string();
        assert!(error.contains(&format!("error running {kind} hook #0: exit status 7, output: went wrong")), "{error}");
        assert!(!notes(&bundle, kind).1.exists(), "a hook ran after one that failed");
        assert!(notes(&bundle, "poststop").1.exists(), "{kind}: poststop hooks have not run");
        assert!(!bundle.0.join("state.json").exists());
    }
}

#[test]
fn a_hook_that_fails_at_start_stops_the_container() {
    for kind in ["startContainer", "poststart"] {
        let bundle = Bundle::new(&format!("hooks-fail-{kind}"));
        let mut config = with_hooks(&bundle, "busybox touch /tmp/ran; busybox sleep 1000");
        config["hooks"][kind] = json!([shell("exit 7"), noting(&bundle, kind)]);
        let (container, init) = bundle.create(&config, silent()).unwrap();
        let error = container.start().unwrap_err().to_string();
        assert!(error.contains(&format!("error running {kind} hook #0: exit status 7")), "{error}");
        assert_eq!(wait(&init), ExitStatus::Signal(9), "{kind}");
        assert!(!notes(&bundle, kind).1.exists(), "a hook ran after one that failed");
        assert!(kind != "startContainer" || !bundle.0.join("rootfs/tmp/ran").exists(), "the program has run");
        container.delete().unwrap();
        assert!(notes(&bundle, "poststop").1.exists(), "{kind}");
    }
}

/// The warnings of this process.
fn warnings() -> &'static Mutex<Vec<String>> {
    static HEARD: OnceLock<Mutex<Vec<String>>> = OnceLock::new();
    let heard = HEARD.get_or_init(Mutex::default);
    runtime_core::on_warning(|message| HEARD.get_or_init(Mutex::default).lock().unwrap().push(message.to_owned()));
    heard
}

#[test]
fn a_poststop_hook_that_fails_is_told_and_the_others_run() {
    let heard = warnings();
    let bundle = Bundle::new("hooks-poststop");
    let mut config = config("exit 0");
    config["hooks"] =
        json!({ "poststop": [noting(&bundle, "first"), shell("echo late; exit 9"), noting(&bundle, "last")] });
    assert_eq!(bundle.run(&config).0, ExitStatus::Code(0));
    assert!(notes(&bundle, "first").1.exists() && notes(&bundle, "last").1.exists());
    let heard = heard.lock().unwrap();
    let of_this: Vec<&String> = heard.iter().filter(|warning| warning.contains(bundle.id())).collect();
    let expected = format!("container {}: error running poststop hook #1: exit status 9, output: late", bundle.id());
    assert_eq!(of_this, [&expected]);
}

#[test]
fn a_hook_that_takes_too_long_is_killed() {
    let bundle = Bundle::new("hooks-timeout");
    let mut config = config("exit 0");
    let mut slow = shell("exec sleep 1000");
    slow["timeout"] = json!(1);
    config["hooks"] = json!({ "createRuntime": [slow] });
    let began = Instant::now();
    let error = bundle.create(&config, silent()).unwrap_err().to_string();
    assert!(error.contains("createRuntime hook #0: hook ran past timeout of 1s"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}
