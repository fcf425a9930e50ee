//! Attacks by an image or a configuration. Each has a canary on the host that must not change.
//!
//! Named after the probes of the security map. `control` notes what a peer known to be weak does with the same attack:
//! run with `TARE_UNDER_TEST=runc` (1.1.5) or `crun` (1.8.1), the notes show that the attacks bite.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use integration::{Client, Output, Pipes, Product, Stdio, machine, message, pace, shared, spec, unpack_image};
use serde_json::{Value, json};

/// A folder of the host that an attack would like to change, and a root file system to attack from.
struct Scene {
    client: Client,
    id: String,
    canary: PathBuf,
    rootfs: PathBuf,
    before: BTreeMap<String, String>,
    /// Outside of /dev, which some attacks replace.
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn new(id: &str) -> Result<Self> {
        let client = shared()?.client().await?;
        let folder = tempfile::Builder::new().prefix("tare-hostile-").tempdir_in("/var/tmp")?;
        let (canary, rootfs) = (folder.path().join("canary"), folder.path().join("rootfs"));
        fs::create_dir_all(&canary)?;
        fs::create_dir_all(&rootfs)?;
        fs::write(canary.join("file"), "host\n")?;
        unpack_image(&rootfs)?;
        let before = listing(&canary)?;
        Ok(Self { client, id: id.to_owned(), canary, rootfs, before, _folder: folder })
    }

    /// A link in the root file system, instead of what is there, to the canary folder on the host.
    fn link(&self, inside: &str, target: &Path) -> Result<()> {
        let path = self.rootfs.join(inside);
        if path.is_dir() {
            fs::remove_dir_all(&path)?;
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        symlink(target, &path).with_context(|| format!("link {}", path.display()))
    }

    /// Runs the attack; being refused is as good as being harmless.
    async fn run(&self, args: &[&str], edit: impl FnOnce(&mut Value)) -> Result<Output> {
        let edit = |config: &mut Value| {
            spec::args(config, args);
            edit(config);
        };
        self.client.container_on(&self.id, &self.rootfs, edit).await?.run().await
    }

    /// The canary must be as it was.
    fn check(&self, run: &Result<Output>, weak: &[Product]) -> Result<()> {
        let after = listing(&self.canary)?;
        self.judge((after != self.before).then(|| format!("{after:?} was {:?}; {run:?}", self.before)), weak);
        Ok(())
    }

    /// An attack that bites (with what it did) is a failure, or, for a product known to be weak, the proof that the
    /// test can fail.
    fn judge(&self, bite: Option<String>, weak: &[Product]) {
        if !weak.contains(&Product::under_test()) {
            assert_eq!(bite, None, "{}", self.id);
        } else if let Some(harm) = bite {
            println!("positive control {}: the attack bit: {harm}", self.id);
        } else {
            println!("positive control {}: the attack did NOT bite", self.id);
        }
    }
}

/// Every name in a folder, with its kind, owner, mode and content.
fn listing(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let content = if metadata.is_file() { fs::read_to_string(entry.path())? } else { String::new() };
        let text = format!("{:o} {}:{} {content}", metadata.mode(), metadata.uid(), metadata.gid());
        found.insert(entry.file_name().to_string_lossy().into_owned(), text);
    }
    Ok(found)
}

fn without_dev(config: &mut Value) {
    for path in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        spec::without_mount(config, path);
    }
}

#[tokio::test]
async fn dev_symlink() -> Result<()> {
    let scene = Scene::new("dev-symlink").await?;
    scene.link("dev", &scene.canary)?;
    let run = scene.run(&["true"], without_dev).await;
    scene.check(&run, &[Product::Runc, Product::Crun])
}

#[tokio::test]
async fn dev_symlink_rel() -> Result<()> {
    let scene = Scene::new("dev-symlink-rel").await?;
    let up = "../".repeat(12);
    scene.link("dev", Path::new(&format!("{up}{}", scene.canary.display())))?;
    let run = scene.run(&["true"], without_dev).await;
    scene.check(&run, &[Product::Runc, Product::Crun])
}

#[tokio::test]
async fn console_symlink() -> Result<()> {
    let scene = Scene::new("console-symlink").await?;
    scene.link("dev/console", &scene.canary.join("console"))?;
    let container = scene
        .client
        .container_on(&scene.id, &scene.rootfs, |config| {
            without_dev(config);
            spec::args(config, &["true"]);
            config["process"]["terminal"] = json!(true);
        })
        .await?;
    let pipes = Pipes::new(&scene.client.daemon)?;
    let stdio = Stdio { stdout: pipes.stdout.path(), terminal: true, ..Stdio::default() };
    if let Ok(task) = container.start(&stdio).await {
        task.wait_for(10).await?;
    }
    container.abandon().await;
    let after = listing(&scene.canary)?;
    scene.judge((after != scene.before).then(|| format!("{after:?}")), &[Product::Crun]);
    Ok(())
}

#[tokio::test]
async fn devnull_symlink_stdio() -> Result<()> {
    let scene = Scene::new("devnull-symlink").await?;
    // The link leads to a volume; whoever takes it for the null device gives the victim away to the user.
    scene.link("dev/null", Path::new("/victim/file"))?;
    let volume = json!({ "destination": "/victim", "type": "bind", "source": scene.canary, "options": ["rbind"] });
    let run = scene
        .run(&["sh", "-c", "echo written"], |config| {
            without_dev(config);
            spec::mount(config, volume);
            config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        })
        .await;
    scene.check(&run, &[Product::Runc, Product::Crun])
}

#[tokio::test]
async fn mask_devnull_symlink() -> Result<()> {
    let scene = Scene::new("mask-devnull").await?;
    // A /dev of the attacker's, as a volume: the runtime makes no devices there.
    scene.link("../volume/null", Path::new("/proc/sys/kernel/core_pattern"))?;
    let volume = json!({ "destination": "/dev", "type": "bind", "source": scene.rootfs.join("../volume").canonicalize()?, "options": ["rbind"] });
    fs::write(scene.rootfs.join("secret"), "secret\n")?;
    let run = scene
        .run(&["cat", "/secret"], |config| {
            without_dev(config);
            spec::mount(config, volume);
            config["linux"]["maskedPaths"] = json!(["/secret"]);
        })
        .await;
    let shown = run.as_ref().map_or("", |output| output.stdout.as_str());
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern")?;
    scene.judge((shown == pattern || shown == "secret\n").then(|| format!("{run:?}")), &[Product::Runc]);
    Ok(())
}

#[tokio::test]
async fn proc_symlink_and_sys_symlink() -> Result<()> {
    for name in ["proc", "sys"] {
        let scene = Scene::new(&format!("{name}-symlink")).await?;
        fs::create_dir(scene.rootfs.join("elsewhere"))?;
        scene.link(name, Path::new("/elsewhere"))?;
        let run = scene.run(&["true"], |_| {}).await;
        scene.judge(run.is_ok().then(|| format!("mounted through a link: {run:?}")), &[Product::Crun]);
        scene.check(&run, &[])?;
    }
    Ok(())
}

#[tokio::test]
async fn mount_target_symlinks() -> Result<()> {
    for (id, link, destination) in
        [("target-abs", "data", "/data"), ("target-inner", "data", "/data/new"), ("target-dangling", "a/b", "/a/b/c")]
    {
        let scene = Scene::new(id).await?;
        let target = if id == "target-dangling" { scene.canary.join("not-there") } else { scene.canary.clone() };
        scene.link(link, &target)?;
        let source = scene.canary.with_file_name("source");
        fs::create_dir_all(&source)?;
        let mount = json!({ "destination": destination, "type": "bind", "source": source, "options": ["rbind"] });
        let run = scene.run(&["true"], |config| spec::mount(config, mount)).await;
        scene.check(&run, &[])?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn race_mount() -> Result<()> {
    let scene = Scene::new("race-mount").await?;
    // An accomplice exchanges a folder for a link to the host all the time while mounts below it are made.
    let volume = scene.rootfs.join("volume");
    fs::create_dir_all(volume.join("x"))?;
    symlink(&scene.canary, volume.join("y"))?;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let accomplice = std::thread::spawn({
        let (stop, volume) = (std::sync::Arc::clone(&stop), volume.clone());
        move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let cwd = rustix::fs::CWD;
                let _ = rustix::fs::renameat_with(cwd, volume.join("x"), cwd, volume.join("y"), flags);
            }
        }
    });
    let tries = if Product::under_test() == Product::Tare { pace::rounds(60) } else { pace::rounds(25) };
    for number in 0..tries {
        let mount = json!({ "destination": format!("/volume/x/{number}"), "type": "tmpfs", "source": "tmpfs" });
        let container = scene
            .client
            .container_on(&format!("race-{number}"), &scene.rootfs, |config| spec::mount(config, mount))
            .await?;
        let _ = container.create(&Stdio::null()).await;
        container.abandon().await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    drop(accomplice.join());
    let after = listing(&scene.canary)?;
    scene.judge((after != scene.before).then(|| format!("{after:?}")), &[Product::Runc, Product::Crun]);
    Ok(())
}

#[tokio::test]
async fn cwd_fd() -> Result<()> {
    let scene = Scene::new("cwd-fd").await?;
    let probe = format!("cat ../../../../../..{}/file 2>/dev/null; true", scene.canary.display());
    for descriptor in 3..16 {
        for through_link in [true, false] {
            let link = format!("fd{descriptor}");
            let target = format!("/proc/self/fd/{descriptor}");
            let _ = symlink(&target, scene.rootfs.join(&link));
            let cwd = if through_link { format!("/{link}") } else { target };
            let id = format!("{}-{descriptor}-{through_link}", scene.id);
            let container = scene
                .client
                .container_on(&id, &scene.rootfs, |config| {
                    spec::args(config, &["sh", "-c", &probe]);
                    config["process"]["cwd"] = json!(cwd);
                })
                .await?;
            let run = container.run().await;
            let shown = run.as_ref().map_or("", |output| output.stdout.as_str());
            assert_ne!(shown, "host\n", "{cwd} is a folder of the host");
        }
    }
    Ok(())
}

#[tokio::test]
async fn exec_fd_path() -> Result<()> {
    let scene = Scene::new("exec-fd-path").await?;
    for descriptor in 3..12 {
        let program = format!("/proc/self/fd/{descriptor}/bin/busybox");
        let id = format!("{}-{descriptor}", scene.id);
        let run = scene
            .client
            .container_on(&id, &scene.rootfs, |config| spec::args(config, &[program.as_str(), "true"]))
            .await?
            .run()
            .await;
        assert!(run.is_err(), "{program} could be executed: {run:?}");
    }
    Ok(())
}

#[tokio::test]
async fn fd_leak_into_the_program() -> Result<()> {
    let client = shared()?.client().await?;
    let output = client.run("fd-program", &["ls", "/proc/self/fd"], |_| {}).await?;
    assert_eq!(output.stdout, "0\n1\n2\n3\n", "the fourth is that of ls");
    let task = client.sleeper("fd-exec", |_| {}).await?;
    assert_eq!(task.run("list", &["ls", "/proc/self/fd"]).await?.stdout, "0\n1\n2\n3\n");
    task.destroy().await?;
    Ok(())
}

#[tokio::test]
async fn fd_leak_into_the_created_state() -> Result<()> {
    let client = shared()?.client().await?;
    let container = client.container("fd-created", |_| {}).await?;
    let task = container.create(&Stdio::null()).await?;
    let mut targets = Vec::new();
    for entry in fs::read_dir(format!("/proc/{}/fd", task.pid))? {
        targets.push(fs::read_link(entry?.path())?.to_string_lossy().into_owned());
    }
    task.delete().await?;
    container.remove().await?;
    let allowed = |target: &str| {
        let kinds = ["/dev/null", "pipe:", "socket:", "anon_inode:", "/memfd:"];
        kinds.iter().any(|kind| target.starts_with(kind)) || target.ends_with("/exec.fifo")
    };
    let leaked: Vec<_> = targets.iter().filter(|target| !allowed(target)).collect();
    if Product::under_test() == Product::Crun {
        println!("positive control: crun leaves {leaked:?} open");
    } else {
        assert!(leaked.is_empty(), "{leaked:?} of {targets:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_shim_is_not_what_waits_in_the_container() -> Result<()> {
    let client = shared()?.client().await?;
    let group = |config: &mut Value| config["annotations"] = json!({ "io.containerd.runc.v2.group": "secrets" });
    let canary = "CANARY-7f3c1b52-3f0e-4f0a-9a55";
    let first = client
        .sleeper("secret-first", |config| {
            group(config);
            config["process"]["env"] = json!([spec::PATH, format!("TOKEN={canary}")]);
        })
        .await?;
    let second = client.container("secret-second", group).await?;
    let task = second.create(&Stdio::null()).await?;
    let hits = occurrences(task.pid, canary.as_bytes())?;
    let shim = machine::status(first.pid, "PPid").context("the shim is gone")?;
    let same =
        fs::metadata(format!("/proc/{}/exe", task.pid))?.ino() == fs::metadata(format!("/proc/{shim}/exe"))?.ino();
    task.delete().await?;
    second.remove().await?;
    first.destroy().await?;
    assert_eq!(hits, 0, "another container's environment is in the memory of a created one");
    assert!(!same, "the shim's own program is the container's first process");
    Ok(())
}

/// How often a text occurs in the memory of a process.
fn occurrences(pid: u32, text: &[u8]) -> Result<usize> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let memory = fs::File::open(format!("/proc/{pid}/mem"))?;
    let mut found = 0;
    for line in maps.lines().filter(|line| line.contains(" r") && !line.contains("[v")) {
        let Some((from, to)) = line.split(' ').next().and_then(|range| range.split_once('-')) else { continue };
        let (from, to) = (u64::from_str_radix(from, 16)?, u64::from_str_radix(to, 16)?);
        let mut bytes = vec![0; usize::try_from((to - from).min(64 << 20))?];
        let Ok(count) = memory.read_at(&mut bytes, from) else { continue };
        found += bytes[..count].windows(text.len()).filter(|window| *window == text).count();
    }
    Ok(found)
}

#[tokio::test]
async fn self_exe_cannot_be_executed_as_the_runtime() -> Result<()> {
    let client = shared()?.client().await?;
    let run = client.run("self-exe", &["/proc/self/exe", "--version"], |_| {}).await;
    let text = run.map_or_else(|refused| message(&refused), |output| output.stdout + &output.stderr);
    if Product::under_test() == Product::Tare {
        assert!(!text.contains("tare"), "the container runs the runtime's program: {text}");
    } else {
        println!("positive control: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn mount_in_proc() -> Result<()> {
    let scene = Scene::new("mount-in-proc").await?;
    let mount =
        json!({ "destination": "/proc/self/attr", "type": "bind", "source": scene.canary, "options": ["rbind"] });
    let run = scene.run(&["true"], |config| spec::mount(config, mount)).await;
    scene.judge(run.is_ok().then(|| "a mount below /proc was made".to_owned()), &[Product::Crun]);
    Ok(())
}

#[tokio::test]
async fn json_hostile_a_nul_byte_is_refused_everywhere() -> Result<()> {
    let client = shared()?.client().await?;
    type Edit = fn(&mut Value);
    let edits: [(&str, Edit); 4] = [
        ("nul-arg", |config| config["process"]["args"] = json!(["true\u{0}x"])),
        ("nul-env", |config| spec::push(&mut config["process"]["env"], json!("A=b\u{0}c"))),
        ("nul-cwd", |config| config["process"]["cwd"] = json!("/tmp\u{0}/x")),
        ("nul-mount", |config| {
            spec::mount(config, json!({ "destination": "/tmp\u{0}x", "type": "tmpfs", "source": "tmpfs" }));
        }),
    ];
    for (id, edit) in edits {
        let run = client.run(id, &["true"], edit).await;
        if Product::under_test() == Product::Tare {
            assert!(run.is_err(), "{id}: {run:?}");
        } else {
            println!("positive control {id}: {run:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn control_groups_cannot_be_mounted_by_the_container() -> Result<()> {
    let client = shared()?.client().await?;
    let script =
        "mkdir /tmp/c; mount -t cgroup -o memory cgroup /tmp/c 2>&1; mount -t cgroup2 cgroup /tmp/c 2>&1; ls /tmp/c";
    let output = client.run("cgroup-mount", &["sh", "-c", script], |_| {}).await?;
    assert_eq!(output.stdout.matches("permission denied").count(), 2, "{output:?}");
    Ok(())
}

#[tokio::test]
async fn state_on_disk_is_closed_to_others() -> Result<()> {
    let client = shared()?.client().await?;
    let task = client.sleeper("modes", |_| {}).await?;
    let bundle = client.daemon.bundle("modes");
    let mut open = Vec::new();
    for folder in [bundle, client.daemon.home().join("runtime").join(client.daemon.namespace())] {
        if let Ok(metadata) = fs::metadata(&folder)
            && metadata.mode() & 0o066 != 0
        {
            open.push(format!("{:o} {}", metadata.mode(), folder.display()));
        }
    }
    task.destroy().await?;
    assert!(open.is_empty(), "{open:?}");
    Ok(())
}
