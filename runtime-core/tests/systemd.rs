//! The systemd cgroup driver against a real systemd: as root, and again as a user with a manager of their own (a login, or
//! `loginctl enable-linger`). Without systemd or on cgroup version 1 each test says so and is passed over;
//! `scripts/vm run` has both.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by panicking")]

mod bundle;

use std::path::{Path, PathBuf};
use std::process::Command;

use bundle::{Bundle, captured, config, silent, text, wait, with_user_namespace};
use runtime_core::{CgroupDriver, Container, Create, Error, Exec, ExitStatus, Kind, Process, Stdio};
use serde_json::{Value, json};

const TOP: &str = "/sys/fs/cgroup";

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Who runs a test.
#[derive(PartialEq)]
enum For {
    Root,
    User,
}

/// Whether there is what this test needs; says why not.
fn host_has_systemd(whom: For) -> bool {
    let missing = if !Path::new("/run/systemd/system").is_dir() {
        "no systemd is running"
    } else if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        "this host has cgroup version 1"
    } else if whom == For::Root && !is_root() {
        "it is for root"
    } else if whom == For::User && is_root() {
        "it is for a user with a service manager"
    } else {
        return true;
    };
    println!("skipped: {missing}");
    false
}

/// Runs a test of this name again, as the first user whose service manager is running.
fn as_a_user_with_a_manager(test: &str) {
    let folders = std::fs::read_dir("/run/user").into_iter().flatten();
    let mut users = folders.filter_map(|folder| folder.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let Some(user) = users.find(|user| *user != 0 && Path::new(&format!("/run/user/{user}/systemd/private")).exists())
    else {
        println!("skipped: no user has a service manager");
        return;
    };
    // Where this program lies may be root's alone.
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let program = place.path().join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".to_owned()]).arg(program);
    command.args(["--exact", test, "--nocapture"]).env("XDG_RUNTIME_DIR", format!("/run/user/{user}"));
    assert!(command.env_remove("DBUS_SESSION_BUS_ADDRESS").current_dir("/").status().unwrap().success(), "{test}");
}

fn create(bundle: &Bundle, config: &Value, stdio: Stdio) -> Result<(Container, Process), Error> {
    create_with(bundle, config, stdio, CgroupDriver::Systemd)
}

fn create_with(
    bundle: &Bundle,
    config: &Value,
    stdio: Stdio,
    cgroup_driver: CgroupDriver,
) -> Result<(Container, Process), Error> {
    let spec = serde_json::from_value(config.clone()).unwrap();
    let request = Create::new(bundle.id(), bundle.0.clone(), spec, bundle.0.clone(), stdio);
    Container::create(Create { cgroup_driver, ..request })
}

/// What `systemctl show` says of a unit.
fn shown(unit: &str, property: &str) -> String {
    let mut command = Command::new("systemctl");
    if !is_root() {
        command.arg("--user");
    }
    let output = command.args(["show", "--value", "-p", property, unit]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn unit_of(bundle: &Bundle) -> String {
    format!("tare-{}.scope", bundle.id())
}

fn is_gone(unit: &str) -> bool {
    shown(unit, "LoadState") == "not-found"
}

fn cgroup_of(pid: i32) -> PathBuf {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    Path::new(TOP).join(text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap())
}

fn read(folder: &Path, file: &str) -> String {
    std::fs::read_to_string(folder.join(file)).unwrap().trim().to_owned()
}

/// A container of this shell script in `tare-core.slice`.
fn scoped(bundle: &Bundle, script: &str) -> Value {
    let mut config = config(script);
    config["linux"]["cgroupsPath"] = json!(format!("tare-core.slice:tare:{}", bundle.id()));
    config
}

fn joined(container: &Container, config: &Value, script: &str) -> (i32, String) {
    let mut member = config["process"].clone();
    member["args"] = json!(["sh", "-c", script]);
    let (reader, stdio) = captured();
    let process = container.exec(Exec::new(serde_json::from_value(member).unwrap(), stdio)).unwrap();
    let pid = process.pid();
    let said = text(reader);
    wait(&process);
    (pid, said)
}

#[test]
fn a_container_is_a_scope_with_its_limits() {
    if !host_has_systemd(For::Root) {
        return;
    }
    let bundle = Bundle::new("scope");
    let mut config = scoped(&bundle, "exec sleep 1000");
    config["linux"]["resources"] = json!({
        "memory": { "limit": 67_108_864, "reservation": 33_554_432 },
        "cpu": { "shares": 512, "quota": 12_345, "period": 100_000, "cpus": "0" },
        "pids": { "limit": 32 },
        "unified": { "memory.high": "50331648", "cpu.max.burst": "1000" },
    });
    config["annotations"] = json!({ "org.systemd.property.TimeoutStopSec": "uint64 123" });
    let (container, process) = create(&bundle, &config, silent()).unwrap();
    let (unit, folder) = (unit_of(&bundle), cgroup_of(process.pid()));
    assert_eq!(folder, Path::new(TOP).join("tare.slice/tare-core.slice").join(&unit));
    for (property, expected) in [
        ("Description", format!("tare container {}", bundle.id()).as_str()),
        ("ActiveState", "active"),
        ("Slice", "tare-core.slice"),
        ("Delegate", "yes"),
        ("DefaultDependencies", "no"),
        ("MemoryAccounting", "yes"),
        ("MemoryMax", "67108864"),
        ("MemoryLow", "33554432"),
        ("MemoryHigh", "50331648"),
        ("TasksMax", "32"),
        ("CPUWeight", "59"),
        ("CPUQuotaPerSecUSec", "130ms"),
        ("CPUQuotaPeriodUSec", "100ms"),
        ("AllowedCPUs", "0"),
        ("TimeoutStopUSec", "2min 3s"),
    ] {
        assert_eq!(shown(&unit, property), expected, "{property}");
    }
    for (file, expected) in [
        ("memory.max", "67108864"),
        ("memory.low", "33554432"),
        ("memory.high", "50331648"),
        ("pids.max", "32"),
        ("cpu.weight", "59"),
        ("cpu.max", "13000 100000"),
        ("cpu.max.burst", "1000"),
        ("cpuset.cpus", "0"),
    ] {
        assert_eq!(read(&folder, file), expected, "{file}");
    }
    container.start().unwrap();
    assert_eq!(container.pids().unwrap(), [process.pid()], "the stub has left");
    container.stats().unwrap();
    assert_eq!(joined(&container, &config, "cat /proc/self/cgroup").1.trim(), format!("0::{}", below(&folder)));
    container.delete().unwrap();
    wait(&process);
    assert!(!folder.exists());
    assert!(is_gone(&unit));
}

fn below(folder: &Path) -> String {
    format!("/{}", folder.strip_prefix(TOP).unwrap().display())
}

#[test]
fn an_update_changes_the_unit_and_the_files() {
    if !host_has_systemd(For::Root) {
        return;
    }
    let bundle = Bundle::new("update");
    let (container, process) = create(&bundle, &scoped(&bundle, "exec sleep 1000"), silent()).unwrap();
    let (unit, folder) = (unit_of(&bundle), cgroup_of(process.pid()));
    let update = |limits: Value| container.update(&serde_json::from_value(limits).unwrap());
    update(json!({ "memory": { "limit": 67_108_864 }, "cpu": { "quota": 50_000 }, "pids": { "limit": 7 } })).unwrap();
    assert_eq!(shown(&unit, "MemoryMax"), "67108864");
    assert_eq!(shown(&unit, "CPUQuotaPerSecUSec"), "500ms");
    assert_eq!(shown(&unit, "TasksMax"), "7");
    assert_eq!((read(&folder, "memory.max"), read(&folder, "pids.max")), ("67108864".to_owned(), "7".to_owned()));
    update(json!({ "memory": { "limit": -1 }, "cpu": { "quota": -1, "period": 100_000 } })).unwrap();
    assert_eq!(shown(&unit, "MemoryMax"), "infinity");
    assert_eq!(shown(&unit, "CPUQuotaPerSecUSec"), "infinity");
    assert_eq!(shown(&unit, "TasksMax"), "7", "what is not named stays");
    // A quota alone has the period of before, and both say the same of it.
    update(json!({ "cpu": { "quota": 500_000, "period": 900_000 } })).unwrap();
    update(json!({ "cpu": { "quota": 600_000 } })).unwrap();
    assert_eq!(
        (shown(&unit, "CPUQuotaPerSecUSec").as_str(), read(&folder, "cpu.max").as_str()),
        ("670ms", "603000 900000")
    );
    // What systemd writes again is what it was told.
    assert!(Command::new("systemctl").arg("daemon-reload").status().unwrap().success());
    assert_eq!((read(&folder, "memory.max"), read(&folder, "pids.max")), ("max".to_owned(), "7".to_owned()));
    let refused = update(json!({ "memory": { "limit": 4096, "checkBeforeUpdate": true } })).unwrap_err();
    assert_eq!(refused.kind(), Kind::Invalid, "{refused}");
    assert_eq!(shown(&unit, "MemoryMax"), "infinity");
    container.delete().unwrap();
    wait(&process);
}

/// The first process is alone in the scope: the stub that forked it never was there.
#[test]
fn a_limit_of_one_process_is_enough_to_be_born() {
    if !host_has_systemd(For::Root) {
        return;
    }
    let bundle = Bundle::new("one");
    let mut config = scoped(&bundle, "echo alone");
    config["linux"]["resources"] = json!({ "pids": { "limit": 1 } });
    let (reader, stdio) = captured();
    let (container, process) = create(&bundle, &config, stdio).unwrap();
    container.start().unwrap();
    assert_eq!(text(reader), "alone\n");
    assert_eq!(wait(&process), ExitStatus::Code(0));
    container.delete().unwrap();
    assert!(is_gone(&unit_of(&bundle)));
}

/// What makes a create fail.
type Spoil = fn(&mut Value);

#[test]
fn a_create_that_fails_leaves_no_unit() {
    if !host_has_systemd(For::Root) {
        return;
    }
    let bundle = Bundle::new("half");
    let folder = Path::new(TOP).join("tare.slice/tare-core.slice").join(unit_of(&bundle));
    // It fails before the unit is started, at it, after it, and in the container.
    let cases: [(&str, Spoil); 4] = [
        ("mount", |config| bundle::push(&mut config["mounts"], json!({"destination": "/x", "type": "no-such-type"}))),
        ("systemd", |config| config["annotations"] = json!({ "org.systemd.property.CollectMode": "'no-such-mode'" })),
        ("limits", |config| config["linux"]["resources"] = json!({ "unified": { "memory.no_such_file": "1" } })),
        ("hook", |config| config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/false" }] })),
    ];
    for (name, spoil) in cases {
        let mut config = scoped(&bundle, "exec sleep 1000");
        spoil(&mut config);
        let error = create(&bundle, &config, silent()).map(drop).expect_err(name);
        println!("{name}: {error}");
        assert!(is_gone(&unit_of(&bundle)), "{name}");
        assert!(!folder.exists(), "{name}");
        assert!(!bundle.0.join("state.json").exists(), "{name}");
    }
}

#[test]
fn a_unit_that_is_in_use_is_refused_and_left_alone() {
    if !host_has_systemd(For::Root) {
        return;
    }
    let bundle = Bundle::new("used");
    let unit = unit_of(&bundle);
    // Of the same name, in another slice: nothing in our own path says that it is there.
    let mut command = Command::new("systemd-run");
    let mut other = command.args(["--scope", "-q", "--unit", &unit, "sleep", "1000"]).spawn().unwrap();
    while shown(&unit, "ActiveState") != "active" {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let refused = create(&bundle, &scoped(&bundle, "exit 0"), silent()).map(drop).unwrap_err();
    assert_eq!(refused.kind(), Kind::Exists, "{refused}");
    assert_eq!(shown(&unit, "ActiveState"), "active");
    assert_eq!(other.try_wait().unwrap(), None, "the stranger lives");
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_container_in_a_user_namespace_owns_its_cgroup() {
    if !host_has_systemd(For::Root) {
        return;
    }
    for (name, driver) in [("owner", CgroupDriver::Systemd), ("owner-fs", CgroupDriver::Cgroupfs)] {
        let bundle = Bundle::new(name);
        std::fs::create_dir_all(bundle.0.join("rootfs/sys/fs/cgroup")).unwrap();
        let mut config = scoped(&bundle, "mkdir /sys/fs/cgroup/mine && cat /proc/self/cgroup; exec sleep 1000");
        if driver == CgroupDriver::Cgroupfs {
            config["linux"]["cgroupsPath"] = json!(format!("/tare-core-test/{}", bundle.id()));
        }
        with_user_namespace(&mut config);
        bundle::push(&mut config["linux"]["namespaces"], json!({ "type": "cgroup" }));
        let options = json!(["nosuid", "noexec", "nodev"]);
        let mount =
            json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options });
        bundle::push(&mut config["mounts"], mount);
        let (reader, stdio) = captured();
        let (container, process) = create_with(&bundle, &config, stdio, driver).unwrap();
        container.start().unwrap();
        assert_eq!(bundle::line(&reader), "0::/\n", "{name}: its cgroup is the top of its namespace, and its own");
        // An exec gets in although the host's root does not own the place any more.
        let (_, said) = joined(&container, &config, "cat /proc/self/cgroup; stat -c %u /sys/fs/cgroup");
        assert_eq!(said, "0::/\n0\n", "{name}");
        // Once its init has moved into a child and controllers are enabled for those, an exec goes there, too.
        let inner = "cd /sys/fs/cgroup; echo 1 >mine/cgroup.procs; echo $$ >mine/cgroup.procs; echo +pids >cgroup.subtree_control";
        assert_eq!(joined(&container, &config, inner).1, "", "{name}");
        assert_eq!(joined(&container, &config, "cat /proc/self/cgroup").1, "0::/mine\n", "{name}");
        container.delete().unwrap();
        wait(&process);
        assert!(driver == CgroupDriver::Cgroupfs || is_gone(&unit_of(&bundle)));
    }
    let _ = std::fs::remove_dir(Path::new(TOP).join("tare-core-test"));
}

/// The directory it shall see is made only when there is a process to put into it.
#[test]
fn without_a_cgroup_namespace_a_container_sees_its_scope() {
    if !host_has_systemd(For::Root) {
        return;
    }
    for (name, prepare) in [("seen", (|_| {}) as fn(&mut Value)), ("seen-userns", with_user_namespace)] {
        let bundle = Bundle::new(name);
        std::fs::create_dir_all(bundle.0.join("rootfs/sys/fs/cgroup")).unwrap();
        let mut config = scoped(&bundle, "cat /sys/fs/cgroup/pids.max; mkdir /sys/fs/cgroup/mine || echo refused");
        prepare(&mut config);
        config["linux"]["resources"] = json!({ "pids": { "limit": 42 } });
        let mount = json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"] });
        bundle::push(&mut config["mounts"], mount);
        let (status, said) = scoped_run(&bundle, &config);
        assert!(said.starts_with("42\n") && said.ends_with("refused\n"), "{name}: {status:?} {said}");
    }
}

fn scoped_run(bundle: &Bundle, config: &Value) -> (ExitStatus, String) {
    let (reader, stdio) = captured();
    let (container, process) = create(bundle, config, stdio).unwrap();
    container.start().unwrap();
    let said = text(reader);
    let status = wait(&process);
    container.delete().unwrap();
    (status, said)
}

#[test]
fn a_record_is_enough_to_take_a_unit_away() {
    if !host_has_systemd(For::Root) {
        return;
    }
    let bundle = Bundle::new("record");
    let (container, process) = create(&bundle, &scoped(&bundle, "exec sleep 1000"), silent()).unwrap();
    let folder = cgroup_of(process.pid());
    container.start().unwrap();
    drop(container);
    let found = Container::open(&bundle.0).unwrap().unwrap();
    assert_eq!(found.pids().unwrap(), [process.pid()]);
    drop(found);
    assert_eq!(runtime_core::remove(&bundle.0).unwrap().unwrap().pid, process.pid());
    wait(&process);
    assert!(is_gone(&unit_of(&bundle)) && !folder.exists());
}

#[test]
fn without_a_cgroups_path_it_is_in_the_system_slice() {
    if !host_has_systemd(For::Root) {
        return;
    }
    let bundle = Bundle::new("default");
    let (container, process) = create(&bundle, &config("exec sleep 1000"), silent()).unwrap();
    assert_eq!(cgroup_of(process.pid()), Path::new(TOP).join("system.slice").join(unit_of(&bundle)));
    container.delete().unwrap();
    wait(&process);
}

/// A user's own manager: the unit lies below it, and only it can move an exec's process in.
#[test]
fn a_users_container_is_a_unit_of_the_users_manager() {
    if is_root() {
        return as_a_user_with_a_manager("a_users_container_is_a_unit_of_the_users_manager");
    }
    if !host_has_systemd(For::User) {
        return;
    }
    let bundle = Bundle::new("user");
    let mut config = config("exec sleep 1000");
    let spaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    spaces.retain(|space| space["type"] != "network");
    spaces.push(json!({ "type": "user" }));
    let own = |id: u32| json!([{ "containerID": 0, "hostID": id, "size": 1 }]);
    config["linux"]["uidMappings"] = own(rustix::process::geteuid().as_raw());
    config["linux"]["gidMappings"] = own(rustix::process::getegid().as_raw());
    config["linux"]["resources"] = json!({ "memory": { "limit": 67_108_864 }, "pids": { "limit": 20 } });
    let (container, process) = create(&bundle, &config, silent()).unwrap();
    let (unit, folder) = (unit_of(&bundle), cgroup_of(process.pid()));
    assert!(folder.ends_with(Path::new("user.slice").join(&unit)), "{}", folder.display());
    assert!(folder.to_string_lossy().contains("/user@"), "{}", folder.display());
    assert_eq!((read(&folder, "memory.max"), read(&folder, "pids.max")), ("67108864".to_owned(), "20".to_owned()));
    container.start().unwrap();
    assert_eq!(joined(&container, &config, "cat /proc/self/cgroup").1.trim(), format!("0::{}", below(&folder)));
    container.update(&serde_json::from_value(json!({ "pids": { "limit": 21 } })).unwrap()).unwrap();
    assert_eq!(shown(&unit, "TasksMax"), "21");
    container.delete().unwrap();
    wait(&process);
    assert!(is_gone(&unit) && !folder.exists());
}

#[test]
fn on_cgroup_version_1_it_is_refused() {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        println!("skipped: this host has cgroup version 2 alone");
        return;
    }
    let bundle = Bundle::new("version1");
    let refused = create(&bundle, &scoped(&bundle, "exit 0"), silent()).map(drop).unwrap_err();
    assert_eq!(refused.kind(), Kind::Unsupported);
    assert!(refused.to_string().contains("cgroup v2"), "{refused}");
    assert!(!bundle.0.join("state.json").exists());
}

/// Nothing is made, nothing is limited; what only a cgroup could do is refused.
#[test]
fn without_a_cgroup_it_stays_in_the_callers() {
    let bundle = Bundle::new("disabled");
    let mut config = config("exec sleep 1000");
    config["linux"]["resources"] = json!({ "pids": { "limit": 1 } });
    let (container, process) = create_with(&bundle, &config, silent(), CgroupDriver::Disabled).unwrap();
    let cgroups = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(cgroups(&process.pid().to_string()), cgroups("self"));
    container.start().unwrap();
    assert_eq!(joined(&container, &config, "echo here").1, "here\n");
    let refusals = [
        container.pids().map(drop),
        container.stats().map(drop),
        container.pause(),
        container.update(&serde_json::from_value(json!({ "pids": { "limit": 2 } })).unwrap()),
        container.signal_all(libc::SIGTERM),
    ];
    for refused in refusals {
        assert_eq!(refused.unwrap_err().kind(), Kind::Unsupported);
    }
    assert_eq!(container.status().unwrap(), runtime_core::Status::Running);
    container.signal_all(libc::SIGKILL).unwrap();
    assert_eq!(wait(&process), ExitStatus::Signal(libc::SIGKILL));
    container.delete().unwrap();
}

/// Nobody but init can be found then, and that one is.
#[test]
fn without_a_cgroup_and_a_pid_namespace_all_of_it_is_init() {
    let bundle = Bundle::new("disabled-shared");
    let mut config = config("exec sleep 1000");
    config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "pid");
    let (container, process) = create_with(&bundle, &config, silent(), CgroupDriver::Disabled).unwrap();
    container.start().unwrap();
    container.signal_all(libc::SIGKILL).unwrap();
    assert_eq!(wait(&process), ExitStatus::Signal(libc::SIGKILL));
    assert_eq!(container.signal_all(libc::SIGKILL).unwrap_err().kind(), runtime_core::Kind::Finished);
    container.delete().unwrap();
}
