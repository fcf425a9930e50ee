//! What a container can see of the shim that rules it: nothing that it could read memory from.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use integration::{machine, pace, shared, skip_unless_tare, spec};

/// What was seen of the processes of a container, other than its init, by whoever looks through its own /proc.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Processes that still run the stub, which the runtime keeps in memory.
    stubs: usize,
    /// Processes that run a program of the image.
    programs: usize,
    /// Processes that run the shim's program, and so share or copy its memory.
    shims: usize,
}

/// Which file a process executes.
fn program(exe: &Path) -> Option<(u64, u64)> {
    fs::metadata(exe).ok().map(|file| (file.dev(), file.ino()))
}

/// Looks as fast as it can until it is told to stop.
fn watch(proc: &Path, shim: (u64, u64), stop: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    while !stop.load(Ordering::Relaxed) {
        let Ok(entries) = fs::read_dir(proc) else { break };
        let names = entries.flatten().map(|entry| entry.file_name());
        for name in names.filter(|name| name.to_str().is_some_and(|name| name != "1" && name.parse::<u32>().is_ok())) {
            let exe = proc.join(name).join("exe");
            if program(&exe) == Some(shim) {
                seen.shims += 1;
            } else if let Ok(target) = fs::read_link(&exe) {
                let is_stub = target.to_string_lossy().starts_with("/memfd:");
                *(if is_stub { &mut seen.stubs } else { &mut seen.programs }) += 1;
            }
        }
    }
    seen
}

/// Somebody who watches the pid namespace of a container while something is done to it.
struct Watcher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

impl Watcher {
    /// The container's own procfs lists what lives in its pid namespace and nothing else.
    fn new(init: u32) -> Result<Self> {
        let shim = machine::status(init, "PPid").context("init is gone")?;
        let shim = program(Path::new(&format!("/proc/{shim}/exe"))).context("the shim's program")?;
        let proc = PathBuf::from(format!("/proc/{init}/root/proc"));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        Ok(Self { stop, thread: std::thread::spawn(move || watch(&proc, shim, &stopped)) })
    }

    /// No shim may have been seen, and something must have been.
    fn judge(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.thread.join().ok().context("the watcher panicked")?;
        println!("{seen:?}");
        assert_eq!(seen.shims, 0, "{seen:?}");
        assert!(seen.stubs > 0 && seen.programs > 0, "the watcher saw nothing: {seen:?}");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_process_in_a_container_ever_runs_the_shims_program() -> Result<()> {
    if skip_unless_tare("what runc executes beside a container is not the shim") {
        return Ok(());
    }
    let client = shared()?.client().await?;
    let task = client.sleeper("exec-memory", |_| {}).await?;
    let watcher = Watcher::new(task.pid)?;
    for number in 0..pace::rounds(200) {
        assert_eq!(task.run(&format!("exec-{number}"), &["true"]).await?.code, 0);
    }
    watcher.judge()?;
    task.destroy().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_process_that_joins_a_pid_namespace_ever_runs_the_shims_program() -> Result<()> {
    if skip_unless_tare("what runc executes beside a container is not the shim") {
        return Ok(());
    }
    let client = shared()?.client().await?;
    let task = client.sleeper("join-memory", |_| {}).await?;
    let namespace = format!("/proc/{}/ns/pid", task.pid);
    let watcher = Watcher::new(task.pid)?;
    for number in 0..pace::rounds(30) {
        let joined = client
            .run(&format!("joins-{number}"), &["sleep", "0.05"], |config| {
                spec::join_namespace(config, "pid", &namespace);
            })
            .await?;
        assert_eq!(joined.code, 0, "{joined:?}");
    }
    watcher.judge()?;
    task.destroy().await?;
    Ok(())
}
