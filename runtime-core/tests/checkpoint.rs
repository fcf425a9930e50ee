//! Checkpoint and restore, with a real CRIU on the real kernel. Runs as root; without a CRIU that works here (see
//! `scripts/peers`) every test says so and does nothing.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod bundle;

use std::io::{BufRead as _, BufReader, Lines};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use bundle::{Bundle, captured, config, push, silent, text, wait};
use runtime_core::{
    Afterwards, Checkpoint, Container, Create, CriuOptions, Error, Exec, ExitStatus, Extent, Kind, Process, Restore,
    Status, Stdio,
};
use serde_json::{Value, json};

/// Counts, a line every twentieth of a second.
const COUNT: &str = "i=0; while :; do i=$((i+1)); echo $i; busybox sleep 0.05; done";

/// Runs the test of this name where CRIU is to be found; `true` is the answer there. CRIU on its own decides whether this
/// kernel is enough.
fn with_criu(test: &str) -> bool {
    if std::env::var_os("TARE_TEST_CRIU").is_some() {
        return true;
    }
    let peer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/peers/criu-4.2/bin/criu");
    let criu = std::env::var_os("TARE_CRIU").map_or(peer, PathBuf::from);
    let checked = Command::new(&criu).arg("check").output();
    match checked {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            println!("skipped: {} check: {}", criu.display(), String::from_utf8_lossy(&output.stderr));
            return false;
        }
        Err(error) => {
            println!("skipped: {}: {error}", criu.display());
            return false;
        }
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env("TARE_TEST_CRIU", "1").env("TARE_CRIU", criu);
    assert!(command.status().unwrap().success(), "{test}");
    false
}

fn checkpoint(bundle: &Bundle, afterwards: Afterwards) -> Checkpoint {
    Checkpoint {
        images: bundle.0.join("image"),
        work: Some(bundle.0.join("work")),
        parent: None,
        extent: Extent::Whole,
        afterwards,
        page_server: None,
        status: None,
        options: CriuOptions::default(),
    }
}

fn restore(bundle: &Bundle, config: &Value, stdio: Stdio) -> Result<(Container, Process), Error> {
    restore_from(bundle, bundle, config, stdio)
}

fn restore_from(image: &Bundle, bundle: &Bundle, config: &Value, stdio: Stdio) -> Result<(Container, Process), Error> {
    std::fs::write(bundle.0.join("config.json"), config.to_string()).unwrap();
    let spec = serde_json::from_value(config.clone()).unwrap();
    Container::restore(Restore {
        create: Create::new(bundle.id(), bundle.0.clone(), spec, bundle.0.clone(), stdio),
        images: image.0.join("image"),
        work: Some(bundle.0.join("work")),
        lsm_profile: None,
        lsm_mount_context: None,
        options: CriuOptions::default(),
    })
}

/// Makes it, with its specification where a dump looks for it.
fn create(bundle: &Bundle, config: &Value, stdio: Stdio) -> (Container, Process) {
    std::fs::write(bundle.0.join("config.json"), config.to_string()).unwrap();
    bundle.create(config, stdio).unwrap()
}

/// Runs it, until it has said `said`.
fn start(bundle: &Bundle, config: &Value, said: &str) -> (Container, Process, Lines<BufReader<std::fs::File>>) {
    let (reader, stdio) = captured();
    let (container, process) = create(bundle, config, stdio);
    container.start().unwrap();
    let mut lines = lines(reader);
    assert!(lines.any(|line| line.unwrap() == said));
    (container, process, lines)
}

fn lines(reader: OwnedFd) -> Lines<BufReader<std::fs::File>> {
    BufReader::new(std::fs::File::from(reader)).lines()
}

fn end(container: &Container, process: &Process) {
    process.signal(9).unwrap();
    assert_eq!(wait(process), ExitStatus::Signal(9));
    container.delete().unwrap();
}

fn exec(container: &Container, script: &str) -> String {
    let (reader, stdio) = captured();
    let process =
        json!({ "cwd": "/", "args": ["sh", "-c", script], "env": ["PATH=/bin"], "user": { "uid": 0, "gid": 0 } });
    let process = serde_json::from_value(process).unwrap();
    let process = container.exec(Exec::new(process, stdio)).unwrap();
    let output = text(reader);
    assert_eq!(wait(&process), ExitStatus::Code(0), "{output}");
    output
}

#[test]
fn a_restored_container_goes_on_where_it_was() {
    if !with_criu("a_restored_container_goes_on_where_it_was") {
        return;
    }
    let bundle = Bundle::new("goes-on");
    let config = config(COUNT);
    let (container, process, said) = start(&bundle, &config, "3");
    container.checkpoint(checkpoint(&bundle, Afterwards::Ends)).unwrap();
    assert_eq!(wait(&process), ExitStatus::Signal(9));
    // It may have been stopped before it said anything after the 3 that was waited for.
    let last: u32 = said.last().map_or(3, |line| line.unwrap().parse().unwrap());
    assert_eq!(container.status().unwrap(), Status::Stopped);
    container.delete().unwrap();
    let (reader, stdio) = captured();
    let (container, process) = restore(&bundle, &config, stdio).unwrap();
    let mut said = lines(reader);
    let next: u32 = said.next().unwrap().unwrap().parse().unwrap();
    assert_eq!(next, last + 1);
    assert_eq!(container.status().unwrap(), Status::Running);
    assert_eq!(container.about().pid, process.pid());
    // An exec finds the same namespaces: init is 1, and of the host's mounts there is nothing.
    let found = exec(&container, "busybox ps; busybox cat /proc/mounts; busybox cat /proc/self/cgroup");
    assert!(found.contains("    1 0        sh -c i=0"), "{found}");
    assert!(!found.contains("criu-root") && found.contains(bundle.id()), "{found}");
    container.pause().unwrap();
    assert_eq!(container.status().unwrap(), Status::Paused);
    container.resume().unwrap();
    end(&container, &process);
    assert!(!bundle.0.join("criu-root").exists());
}

/// As `place::a_cgroup_that_has_been_killed_before_takes_a_container_and_its_execs`: here CRIU is born into it.
#[test]
fn a_cgroup_that_has_been_killed_before_takes_a_restored_container() {
    if !with_criu("a_cgroup_that_has_been_killed_before_takes_a_restored_container") {
        return;
    }
    let bundle = Bundle::new("killed-before");
    let path = format!("/tare-core-{}", bundle.id());
    let mut config = config(COUNT);
    config["linux"]["cgroupsPath"] = json!(path);
    let (container, process, _) = start(&bundle, &config, "3");
    container.checkpoint(checkpoint(&bundle, Afterwards::Ends)).unwrap();
    wait(&process);
    container.delete().unwrap();
    let layout = runtime_core::cgroup::layout().unwrap();
    runtime_core::cgroup::Cgroup::plan(&layout, Path::new(&path)).unwrap().create().unwrap();
    let mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
    let kill =
        mounts.map(|mount| format!("{mount}{path}/cgroup.kill")).into_iter().find(|file| Path::new(file).exists());
    let Some(kill) = kill else { return println!("skipped: no cgroup2 hierarchy is mounted") };
    std::fs::write(kill, "1").unwrap();
    let (container, process) = restore(&bundle, &config, silent()).unwrap();
    assert_eq!(container.status().unwrap(), Status::Running);
    end(&container, &process);
}

#[test]
fn a_container_that_is_left_running_runs_on() {
    if !with_criu("a_container_that_is_left_running_runs_on") {
        return;
    }
    let bundle = Bundle::new("left");
    let (container, process, mut said) = start(&bundle, &config(COUNT), "2");
    container.checkpoint(checkpoint(&bundle, Afterwards::RunsOn)).unwrap();
    assert_eq!(container.status().unwrap(), Status::Running);
    let next: u32 = said.next().unwrap().unwrap().parse().unwrap();
    assert!(said.any(|line| line.unwrap() == (next + 3).to_string()));
    // A paused one stays paused.
    container.pause().unwrap();
    container.checkpoint(checkpoint(&bundle, Afterwards::RunsOn)).unwrap();
    assert_eq!(container.status().unwrap(), Status::Paused);
    container.resume().unwrap();
    end(&container, &process);
}

#[test]
fn only_what_runs_can_be_written() {
    if !with_criu("only_what_runs_can_be_written") {
        return;
    }
    let bundle = Bundle::new("states");
    let (container, process) = create(&bundle, &config("exit 0"), silent());
    let error = container.checkpoint(checkpoint(&bundle, Afterwards::Ends)).unwrap_err();
    assert_eq!(error.to_string(), "Container cannot be checkpointed in created state");
    assert_eq!(error.kind(), Kind::State);
    container.start().unwrap();
    wait(&process);
    let error = container.checkpoint(checkpoint(&bundle, Afterwards::Ends)).unwrap_err();
    assert_eq!(error.to_string(), "Container cannot be checkpointed in stopped state");
    assert!(!bundle.0.join("image").exists());
    container.delete().unwrap();
}

#[test]
fn a_fresh_rootfs_gets_the_mount_points_and_the_hosts_folders_are_found_again() {
    if !with_criu("a_fresh_rootfs_gets_the_mount_points_and_the_hosts_folders_are_found_again") {
        return;
    }
    let (old, new) = (Bundle::new("mounts-old"), Bundle::new("mounts-new"));
    let data = old.folder("data");
    std::fs::write(old.0.join("hosts"), "hosts\n").unwrap();
    let mut config = config("echo kept > /run/kept; echo ready; while :; do busybox sleep 0.05; done");
    for (destination, source) in [("/data/deep", data.clone()), ("/data/deep/hosts", old.0.join("hosts"))] {
        let options = ["bind", "rprivate"];
        push(
            &mut config["mounts"],
            json!({ "destination": destination, "source": source, "type": "bind", "options": options }),
        );
    }
    push(&mut config["mounts"], json!({ "destination": "/run", "type": "tmpfs", "source": "tmpfs" }));
    push(
        &mut config["mounts"],
        json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"] }),
    );
    push(
        &mut config["mounts"],
        json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"] }),
    );
    config["linux"]["readonlyPaths"] = json!(["/proc/sys", "/proc/bus"]);
    push(&mut config["linux"]["maskedPaths"], json!("/sys/firmware"));
    config["root"]["readonly"] = json!(true);
    let (container, process, _) = start(&old, &config, "ready");
    container.checkpoint(checkpoint(&old, Afterwards::Ends)).unwrap();
    wait(&process);
    container.delete().unwrap();
    let (container, process) = restore_from(&old, &new, &config, silent()).unwrap();
    // Other tests mount beside this one.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let left: Vec<_> = mounts.lines().filter(|line| [old.id(), new.id()].iter().any(|id| line.contains(id))).collect();
    assert_eq!(left, Vec::<&str>::new());
    assert!(new.0.join("rootfs/data/deep").is_dir() && data.join("hosts").is_file());
    std::fs::write(data.join("new"), "new\n").unwrap();
    let found = exec(
        &container,
        "busybox cat /run/kept /data/deep/new /data/deep/hosts; busybox cat /proc/keys; busybox touch /x || echo sealed",
    );
    assert_eq!(found, "kept\nnew\nhosts\ntouch: /x: Read-only file system\nsealed\n");
    end(&container, &process);
}

#[test]
fn a_terminal_is_made_anew() {
    if !with_criu("a_terminal_is_made_anew") {
        return;
    }
    let bundle = Bundle::new("terminal");
    let mut config = config("while read line; do echo got $line; done");
    config["process"]["terminal"] = json!(true);
    config["process"]["consoleSize"] = json!({ "height": 30, "width": 91 });
    let (container, mut process) = create(&bundle, &config, Stdio::Terminal);
    let console = process.take_console().unwrap();
    container.start().unwrap();
    rustix::io::write(&console, b"one\n").unwrap();
    let mut screen = BufReader::new(std::fs::File::from(console)).lines();
    assert!(screen.any(|line| line.unwrap().trim() == "got one"));
    container.checkpoint(checkpoint(&bundle, Afterwards::Ends)).unwrap();
    wait(&process);
    container.delete().unwrap();
    drop(screen);
    let (container, mut process) = restore(&bundle, &config, Stdio::Terminal).unwrap();
    let console = process.take_console().unwrap();
    let size = rustix::termios::tcgetwinsize(&console).unwrap();
    assert_eq!((size.ws_row, size.ws_col), (30, 91));
    rustix::io::write(&console, b"two\n").unwrap();
    let mut screen = BufReader::new(std::fs::File::from(console)).lines();
    assert!(screen.any(|line| line.unwrap().trim() == "got two"));
    end(&container, &process);
}

#[test]
fn output_into_a_file_of_the_hosts_goes_on_where_it_was() {
    if !with_criu("output_into_a_file_of_the_hosts_goes_on_where_it_was") {
        return;
    }
    let bundle = Bundle::new("file");
    let config = config(COUNT);
    let path = bundle.0.join("output");
    let stdio = || {
        let file = std::fs::File::options().create(true).append(true).open(&path).unwrap();
        Stdio::Streams { stdin: None, stdout: Some(file.into()), stderr: None }
    };
    let lines = || std::fs::read_to_string(&path).unwrap().lines().count();
    let grow_to = |count| {
        while lines() < count {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    };
    let (container, process) = create(&bundle, &config, stdio());
    container.start().unwrap();
    grow_to(3);
    container.checkpoint(checkpoint(&bundle, Afterwards::Ends)).unwrap();
    wait(&process);
    container.delete().unwrap();
    let (container, process) = restore(&bundle, &config, stdio()).unwrap();
    grow_to(lines() + 3);
    end(&container, &process);
    let said = std::fs::read_to_string(&path).unwrap();
    assert!(said.lines().zip(1..).all(|(line, number)| line == number.to_string()), "{said}");
}

#[test]
fn hooks_see_the_namespaces_before_they_are_filled() {
    if !with_criu("hooks_see_the_namespaces_before_they_are_filled") {
        return;
    }
    let bundle = Bundle::new("hooks");
    let log = bundle.0.join("log");
    let hook = |name: &str| {
        let script = format!("echo {name} >> {}; grep -o '\"status\":\"[a-z]*\"' >> {0}", log.display());
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }])
    };
    let mut config = config(COUNT);
    let kinds = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"];
    config["hooks"] =
        kinds.iter().map(|kind| ((*kind).to_owned(), hook(kind))).collect::<serde_json::Map<_, _>>().into();
    config["hooks"]["startContainer"] = json!([]);
    let (container, process, _) = start(&bundle, &config, "1");
    container.checkpoint(checkpoint(&bundle, Afterwards::Ends)).unwrap();
    wait(&process);
    container.delete().unwrap();
    std::fs::write(&log, "").unwrap();
    let (container, process) = restore(&bundle, &config, silent()).unwrap();
    let creating = "\"status\":\"creating\"";
    assert_eq!(std::fs::read_to_string(&log).unwrap(), format!("prestart\n{creating}\ncreateRuntime\n{creating}\n"));
    end(&container, &process);
    // One that fails fails the restore, and nothing is left.
    config["hooks"]["createRuntime"] = json!([{ "path": "/bin/sh", "args": ["sh", "-c", "echo no; exit 3"] }]);
    let error = restore(&bundle, &config, silent()).unwrap_err().to_string();
    assert!(error.contains("error running createRuntime hook #0: exit status 3, output: no"), "{error}");
    assert!(!bundle.0.join("state.json").exists() && !bundle.0.join("criu-root").exists());
}

#[test]
fn what_cannot_be_restored_leaves_nothing() {
    if !with_criu("what_cannot_be_restored_leaves_nothing") {
        return;
    }
    let bundle = Bundle::new("broken");
    let config = config(COUNT);
    let missing = restore(&bundle, &config, silent()).unwrap_err();
    assert_eq!(missing.kind(), Kind::NotFound);
    let image = bundle.folder("image");
    let missing = restore(&bundle, &config, silent()).unwrap_err();
    assert!(missing.to_string().ends_with("image/descriptors.json not found: not a checkpoint"), "{missing}");
    std::os::unix::fs::symlink("/etc/passwd", image.join("descriptors.json")).unwrap();
    let link = restore(&bundle, &config, silent()).unwrap_err();
    assert!(link.to_string().ends_with("(ELOOP)"), "{link}");
    std::fs::remove_dir_all(&image).unwrap();
    let (container, process, _) = start(&bundle, &config, "1");
    container.checkpoint(checkpoint(&bundle, Afterwards::Ends)).unwrap();
    wait(&process);
    container.delete().unwrap();
    for entry in image.read_dir().unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("core-") {
            std::fs::write(entry.path(), "nothing").unwrap();
        }
    }
    let error = restore(&bundle, &config, silent()).unwrap_err().to_string();
    let log = bundle.0.join("work/restore.log");
    assert!(
        error.starts_with("criu restore: criu failed") && error.contains(&format!("{}: (", log.display())),
        "{error}"
    );
    assert!(!bundle.0.join("state.json").exists() && !bundle.0.join("criu-root").exists());
    let cgroups = Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-name", bundle.id()]).output().unwrap();
    assert_eq!(String::from_utf8(cgroups.stdout).unwrap(), "");
}

#[test]
fn what_cannot_be_written_runs_on_and_leaves_the_log_alone() {
    if !with_criu("what_cannot_be_written_runs_on_and_leaves_the_log_alone") {
        return;
    }
    let bundle = Bundle::new("unwritten");
    // Half of a connection, whose other half is here.
    let (theirs, _ours) = std::os::unix::net::UnixStream::pair().unwrap();
    let stdio = Stdio::Streams { stdin: Some(theirs.into()), stdout: None, stderr: None };
    let (container, process) = create(&bundle, &config(COUNT), stdio);
    container.start().unwrap();
    let request = Checkpoint { work: None, ..checkpoint(&bundle, Afterwards::Ends) };
    let error = container.checkpoint(request).unwrap_err().to_string();
    let log = bundle.0.join("image/dump.log");
    assert!(error.starts_with(&format!("criu dump: criu failed: {}: (", log.display())), "{error}");
    assert!(error.contains("unix"), "{error}");
    let left: Vec<_> = bundle.0.join("image").read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["dump.log"]);
    assert_eq!(container.status().unwrap(), Status::Running);
    end(&container, &process);
}

#[test]
fn a_joined_network_namespace_is_left_alone() {
    if !with_criu("a_joined_network_namespace_is_left_alone") {
        return;
    }
    let bundle = Bundle::new("network");
    let mut holder = Command::new("unshare").args(["--net", "sleep", "1000"]).spawn().unwrap();
    let namespace = format!("/proc/{}/ns/net", holder.id());
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    while std::fs::read_link(&namespace).unwrap() == own {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let mut config = config(COUNT);
    for kind in config["linux"]["namespaces"].as_array_mut().unwrap() {
        if kind["type"] == "network" {
            kind["path"] = json!(namespace);
        }
    }
    let (container, process, _) = start(&bundle, &config, "1");
    container.checkpoint(checkpoint(&bundle, Afterwards::Ends)).unwrap();
    wait(&process);
    container.delete().unwrap();
    let (container, process) = restore(&bundle, &config, silent()).unwrap();
    let joined = std::fs::read_link(format!("/proc/{}/ns/net", process.pid())).unwrap();
    assert_eq!(joined, std::fs::read_link(&namespace).unwrap());
    end(&container, &process);
    holder.kill().unwrap();
    holder.wait().unwrap();
}

#[test]
fn memory_is_written_ahead_where_the_kernel_follows_changes() {
    if !with_criu("memory_is_written_ahead_where_the_kernel_follows_changes") {
        return;
    }
    let bundle = Bundle::new("ahead");
    let config = config(COUNT);
    let (container, process, mut said) = start(&bundle, &config, "1");
    let ahead = Checkpoint {
        images: bundle.0.join("ahead"),
        extent: Extent::Memory,
        ..checkpoint(&bundle, Afterwards::RunsOn)
    };
    match container.checkpoint(ahead) {
        Err(error) if error.kind() == Kind::Unsupported => {
            assert_eq!(error.to_string(), "criu is missing features: [MemTrack]");
            println!("skipped: {error}");
            return end(&container, &process);
        }
        other => other.unwrap(),
    }
    assert!(said.next().is_some());
    let parent = Some("../ahead".into());
    container.checkpoint(Checkpoint { parent, ..checkpoint(&bundle, Afterwards::Ends) }).unwrap();
    wait(&process);
    container.delete().unwrap();
    let (container, process) = restore(&bundle, &config, silent()).unwrap();
    end(&container, &process);
}

#[test]
fn an_earlier_image_is_named_relative_to_the_new_one() {
    if !with_criu("an_earlier_image_is_named_relative_to_the_new_one") {
        return;
    }
    let bundle = Bundle::new("parent");
    let (container, process, _) = start(&bundle, &config(COUNT), "1");
    for (parent, wanted) in [
        ("/abs", "--parent-path must be relative"),
        ("../nothing", "invalid --parent-path: no such file or directory (ENOENT)"),
        ("earlier", "invalid --parent-path: no such file or directory (ENOENT)"),
        ("../config.json", "invalid --parent-path: not a directory (ENOTDIR)"),
    ] {
        let request = Checkpoint { parent: Some(parent.into()), ..checkpoint(&bundle, Afterwards::Ends) };
        let error = container.checkpoint(request).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.kind()), (wanted, Kind::Invalid));
    }
    end(&container, &process);
}
