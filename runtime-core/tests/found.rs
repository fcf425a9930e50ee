//! A container that one process makes and others find by its record: what the command line lives from.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod bundle;

use bundle::{Bundle, captured, config, silent, text, wait};
use runtime_core::{Container, Create, Exec, ExitStatus, Gate, Kind, Status, Stdio};
use serde_json::Value;

/// A state folder beside the bundle, as the command line has one.
fn create(bundle: &Bundle, config: &Value, stdio: Stdio) -> (std::path::PathBuf, runtime_core::Process) {
    let state = bundle.folder("state");
    let spec = serde_json::from_value(config.clone()).unwrap();
    let request =
        Create { gate: Gate::Anywhere, ..Create::new(bundle.id(), bundle.0.clone(), spec, state.clone(), stdio) };
    let (_, process) = Container::create(request).unwrap();
    (state, process)
}

fn open(state: &std::path::Path) -> Container {
    Container::open(state).unwrap().unwrap()
}

#[test]
fn who_finds_a_container_can_do_what_its_maker_could() {
    let bundle = Bundle::new("found");
    let (reader, stdio) = captured();
    let (state, process) = create(&bundle, &config("echo started; exec sleep 1000"), stdio);
    assert_eq!(open(&state).status().unwrap(), Status::Created);
    assert_eq!(open(&state).about().pid, process.pid());
    // It is a container before it is started, too.
    let mut exec: runtime_core::oci::Process = open(&state).process_of_spec().unwrap().unwrap();
    exec.set_args(Some(["sh", "-c", "echo joined"].map(str::to_owned).to_vec()));
    let (joined, stdio_of_exec) = captured();
    let request = Exec::new(exec, stdio_of_exec);
    let member = open(&state).exec(request).unwrap();
    assert_eq!(text(joined), "joined\n");
    wait(&member);
    open(&state).start().unwrap();
    let mut said = [0; 8];
    std::io::Read::read_exact(&mut std::fs::File::from(reader), &mut said).unwrap();
    assert_eq!(&said, b"started\n");
    assert_eq!(open(&state).status().unwrap(), Status::Running);
    let again = open(&state).start().unwrap_err();
    assert_eq!(again.to_string(), "cannot start an already running container");
    open(&state).pause().unwrap();
    assert_eq!(open(&state).status().unwrap(), Status::Paused);
    // What is frozen dies all the same.
    open(&state).signal(libc::SIGKILL).unwrap();
    wait(&process);
    assert_eq!(open(&state).status().unwrap(), Status::Stopped);
    assert_eq!(open(&state).signal(libc::SIGTERM).unwrap_err().kind(), Kind::Finished);
    let late = open(&state).start().unwrap_err();
    assert_eq!(late.to_string(), "cannot start a container that has stopped");
    open(&state).delete().unwrap();
    assert!(Container::open(&state).unwrap().is_none());
    assert_eq!(std::fs::read_dir(&state).unwrap().count(), 0, "the state folder is empty");
}

#[test]
fn whoever_starts_it_hears_why_it_could_not_be_executed() {
    let bundle = Bundle::new("unfit");
    std::fs::write(bundle.0.join("rootfs/bin/unfit"), "no program\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bundle.0.join("rootfs/bin/unfit"), mode).unwrap();
    let mut config = config("");
    config["process"]["args"] = serde_json::json!(["/bin/unfit"]);
    let (state, process) = create(&bundle, &config, silent());
    let refused = open(&state).start().unwrap_err();
    assert_eq!(refused.to_string(), "exec /bin/unfit: exec format error");
    wait(&process);
    open(&state).delete().unwrap();
}

#[test]
fn what_would_end_a_program_ends_a_container_that_has_none_yet() {
    let bundle = Bundle::new("unstarted");
    let (state, process) = create(&bundle, &config("exit 0"), silent());
    open(&state).signal(libc::SIGWINCH).unwrap();
    assert_eq!(open(&state).status().unwrap(), Status::Created);
    // As somebody does who has its pidfd alone.
    process.signal(libc::SIGTERM).unwrap();
    assert_eq!(wait(&process), ExitStatus::Code(128 + 15));
    assert_eq!(open(&state).status().unwrap(), Status::Stopped);
    open(&state).delete().unwrap();
}

#[test]
fn a_program_finds_every_signal_as_it_was_born_with() {
    let bundle = Bundle::new("signals");
    let (state, process) = create(
        &bundle,
        &config("grep -q '^SigCgt:\\s*0*$' /proc/self/status || exit 1; kill -TERM $$; exit 7"),
        silent(),
    );
    open(&state).start().unwrap();
    assert_eq!(wait(&process), ExitStatus::Code(7), "the first process is spared what it does not handle");
    open(&state).delete().unwrap();
}

#[test]
fn a_plan_needs_nothing_of_what_it_would_make() {
    let bundle = Bundle::new("dry");
    let mut config = config("exit 0");
    let cgroups = serde_json::json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup" });
    let sysfs = serde_json::json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs" });
    bundle::push(&mut config["mounts"], sysfs);
    bundle::push(&mut config["mounts"], cgroups);
    let spec = serde_json::from_value(config).unwrap();
    let request = Create::new(bundle.id(), bundle.0.clone(), spec, bundle.0.clone(), silent());
    let steps = runtime_core::dry_run(request).unwrap();
    assert!(steps.iter().any(|step| step.about.contains("/sys/fs/cgroup")), "{steps:?}");
    assert_eq!(steps.last().unwrap().about, "execute sh");
    assert!(Container::open(&bundle.0).unwrap().is_none());
}

#[test]
fn of_two_who_start_it_one_does() {
    let bundle = Bundle::new("race");
    let (state, process) = create(&bundle, &config("exec sleep 1000"), silent());
    let starters = [(); 4].map(|()| {
        let state = state.clone();
        std::thread::spawn(move || open(&state).start().is_ok())
    });
    let started = starters.into_iter().map(|starter| starter.join().unwrap());
    assert_eq!(started.filter(|started| *started).count(), 1);
    open(&state).signal(libc::SIGKILL).unwrap();
    wait(&process);
    open(&state).delete().unwrap();
}

#[test]
fn a_container_in_the_foreground_ends_with_its_thread() {
    let bundle = Bundle::new("foreground");
    let path = (bundle.0.clone(), bundle.id().to_owned());
    let thread = std::thread::spawn(move || {
        let spec = serde_json::from_value(config("exec sleep 1000")).unwrap();
        let request =
            Create { die_with_caller: true, ..Create::new(&path.1, path.0.clone(), spec, path.0.clone(), silent()) };
        let (container, process) = Container::create(request).unwrap();
        container.start().unwrap();
        process
    });
    let process = thread.join().unwrap();
    assert_eq!(wait(&process), runtime_core::ExitStatus::Signal(libc::SIGKILL));
}
