//! Attacks by an image, by a process of a container, or by an argument, through the command line. Each has a canary that
//! must not change; `weak` names the peers that the attack bites, which proves that it can.
//!
//! The same core is attacked through the shim in `suite/hostile.rs`; here is what a command line adds.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Result;
use integration::oci::{Host, Said, run};
use integration::{Product, machine, spec};
use serde_json::{Value, json};

use crate::eventually;

/// An attack that bites (with what it did) is a failure, or, for a product known to be weak, the proof that it can.
fn judge(name: &str, bite: Option<String>, weak: &[Product]) {
    if !weak.contains(&Product::under_test()) {
        assert_eq!(bite, None, "{name}");
    } else if let Some(harm) = bite {
        println!("positive control {name}: the attack bit: {harm}");
    } else {
        println!("positive control {name}: the attack did NOT bite");
    }
}

/// A folder of the host with one file, and what it looks like from outside.
fn canary(host: &Host) -> Result<PathBuf> {
    let folder = host.folder().join("canary");
    fs::create_dir(&folder)?;
    fs::write(folder.join("file"), "host\n")?;
    Ok(folder)
}

fn harmed(canary: &Path) -> Option<String> {
    let mut names: Vec<_> = fs::read_dir(canary).ok()?.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    let metadata = fs::metadata(canary.join("file")).ok()?;
    let content = fs::read_to_string(canary.join("file")).ok()?;
    let intact = names == ["file"] && content == "host\n" && metadata.uid() == 0 && metadata.mode() & 0o7777 == 0o644;
    (!intact).then(|| format!("{names:?} {content:?} {metadata:?}"))
}

/// Runs a container in the foreground. Being refused is as good as being harmless.
fn attack(host: &Host, id: &str, args: &[&str], edit: impl FnOnce(&mut Value)) -> Result<Said> {
    let bundle = host.bundle(id, |config| {
        spec::args(config, args);
        edit(config);
    })?;
    host.say(&["run", "--bundle", &bundle.to_string_lossy(), id])
}

fn without_dev(config: &mut Value) {
    for path in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        spec::without_mount(config, path);
    }
}

/// Instead of what is there.
fn link(host: &Host, inside: &str, target: &Path) -> Result<()> {
    let path = host.rootfs().join(inside);
    if path.is_dir() {
        fs::remove_dir_all(&path)?;
    }
    Ok(symlink(target, path)?)
}

/// Only what a process inherits on purpose is open in a created container: crun leaves its caller's files open.
#[test]
fn fd_leak_a_created_container_has_none_of_its_callers_files() -> Result<()> {
    let host = Host::new()?;
    let bundle = host.bundle("leak", |_| {})?;
    let (runtime, state) = (host.runtime().display(), host.state());
    let script =
        format!("exec {runtime} --root {} create --bundle {} leak 57</etc/passwd", state.display(), bundle.display());
    let created = std::process::Command::new("bash")
        .args(["-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    assert!(created.success());
    let mut open = Vec::new();
    for entry in fs::read_dir(format!("/proc/{}/fd", host.pid("leak")?))? {
        open.push(fs::read_link(entry?.path())?.to_string_lossy().into_owned());
    }
    host.say(&["delete", "--force", "leak"])?.done();
    let plain = ["/dev/null", "pipe:", "socket:", "anon_inode:", "/memfd:"];
    let strange: Vec<_> = open
        .into_iter()
        .filter(|target| !plain.iter().any(|kind| target.starts_with(kind)) && !target.ends_with("/exec.fifo"))
        .collect();
    judge("fd_leak", (!strange.is_empty()).then(|| format!("{strange:?}")), &[Product::Runc, Product::Crun]);
    Ok(())
}

/// What a container's programs see is what the caller gave: the three streams.
#[test]
fn fd_leak_programs_have_the_streams_alone() -> Result<()> {
    let host = Host::new()?;
    let seen = |args: &str| -> Result<String> {
        let script =
            format!("exec {} --root {} {args} 57</etc/passwd", host.runtime().display(), host.state().display());
        Ok(run(std::process::Command::new("bash").args(["-c", &script]).stdin(Stdio::null()))?.done())
    };
    let bundle = host.bundle("program", |config| spec::args(config, &["ls", "/proc/self/fd"]))?;
    assert_eq!(
        seen(&format!("run --bundle {} program", bundle.display()))?,
        "0\n1\n2\n3\n",
        "the fourth is that of ls"
    );
    host.start("exec", |_| {})?;
    assert_eq!(seen("exec exec ls /proc/self/fd")?, "0\n1\n2\n3\n");
    host.say(&["delete", "--force", "exec"])?.done();
    Ok(())
}

/// CVE-2024-21626: a working directory that is one of the runtime's own files.
#[test]
fn cwd_fd_no_working_directory_leads_to_the_host() -> Result<()> {
    let host = Host::new()?;
    let canary = canary(&host)?;
    let probe = format!("cat ../../../../../..{}/file 2>/dev/null; true", canary.display());
    host.start("target", |_| {})?;
    for descriptor in 3..16 {
        let plain = format!("/proc/self/fd/{descriptor}");
        let linked = format!("fd{descriptor}");
        symlink(&plain, host.rootfs().join(&linked))?;
        for cwd in [plain, format!("/{linked}")] {
            let said = attack(&host, "cwd", &["sh", "-c", &probe], |config| config["process"]["cwd"] = json!(cwd))?;
            assert_ne!(said.out, "host\n", "run with {cwd}");
            let said = host.say(&["exec", "--cwd", &cwd, "target", "sh", "-c", &probe])?;
            assert_ne!(said.out, "host\n", "exec with {cwd}");
        }
    }
    host.say(&["delete", "--force", "target"])?.done();
    Ok(())
}

/// CVE-2019-5736: a program that has the runtime's own file executed, and written, from inside.
#[test]
fn self_exe_the_runtimes_file_is_neither_executed_nor_written() -> Result<()> {
    let host = Host::new()?;
    let own = fs::metadata(host.runtime()).map(|file| (file.ino(), file.len(), file.mtime_nsec())).ok();
    // The attacker's shell opens the program of whatever process comes to execute the script, and would write to it.
    let attacker =
        "while true; do for p in /proc/[0-9]*; do [ $p = /proc/1 ] || exec 9>>$p/exe && echo written; done; done";
    let bait = host.rootfs().join("bin/bait");
    fs::write(&bait, "#!/proc/self/exe\n")?;
    fs::set_permissions(&bait, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    host.start("bait", |config| spec::args(config, &["sh", "-c", &format!("({attacker}) 2>/dev/null; sleep 1000")]))?;
    let mut shown = String::new();
    for program in ["/bin/bait", "/proc/self/exe"] {
        for _ in 0..10 {
            let said = host.say(&["exec", "bait", program, "--version"])?;
            shown.push_str(&said.out);
        }
    }
    host.say(&["delete", "--force", "bait"])?.done();
    assert_eq!(own, fs::metadata(host.runtime()).map(|file| (file.ino(), file.len(), file.mtime_nsec())).ok());
    let ran = shown.contains("version");
    judge("self_exe", ran.then_some(shown), &[Product::Runc, Product::Crun]);
    Ok(())
}

/// `(uid_t)-1` and numbers that wrap are nobody's; runc and crun make root of them.
#[test]
fn exec_user_no_number_wraps_to_root() -> Result<()> {
    let host = Host::new()?;
    host.start("users", |_| {})?;
    for user in ["4294967296", "-1", "4294967295", "1000:4294967296"] {
        let said = host.say(&["exec", "--user", user, "users", "id"])?;
        let root = said.out.contains("uid=0") || said.out.contains("gid=0");
        judge(&format!("exec_user {user}"), root.then(|| said.out.clone()), &[Product::Runc, Product::Crun]);
    }
    host.say(&["delete", "--force", "users"])?.done();
    Ok(())
}

/// An exec that would leave the container's control group for its parent.
#[test]
fn cgroup_escape_an_exec_stays_below_its_container() -> Result<()> {
    let host = Host::new()?;
    host.start("group", |_| {})?;
    for path in ["..", "../..", "/../..", "memory:../..", "a/../../.."] {
        let said = host.say(&["exec", "--cgroup", path, "group", "cat", "/proc/self/cgroup"])?;
        judge(&format!("cgroup_escape {path}"), (said.code == Some(0)).then_some(said.out), &[Product::Crun]);
    }
    host.say(&["delete", "--force", "group"])?.done();
    Ok(())
}

/// An id is a name, never a path.
#[test]
fn id_traversal_no_id_leads_out_of_the_root() -> Result<()> {
    let host = Host::new()?;
    let canary = canary(&host)?;
    let bundle = host.bundle("plain", |_| {})?;
    fs::create_dir_all(host.state())?;
    for id in ["../canary", "..", ".", "a/../../canary", "", "a/b", "/canary"] {
        let created = host.create(id, &bundle)?;
        assert_ne!(created.code, Some(0), "{id:?} was created");
        for verb in [&["delete", "--force"][..], &["delete"], &["state"], &["kill", "--all"], &["start"]] {
            let mut command = verb.to_vec();
            command.push(id);
            host.say(&command)?;
            let bite = if canary.exists() { harmed(&canary) } else { Some("the folder is gone".to_owned()) };
            judge(&format!("id_traversal {command:?}"), bite, &[Product::Crun]);
            fs::create_dir_all(&canary)?;
            fs::write(canary.join("file"), "host\n")?;
        }
    }
    Ok(())
}

/// Bundles whose text is made to confuse.
#[test]
fn json_hostile_bundles_are_refused() -> Result<()> {
    let host = Host::new()?;
    let bundle = host.folder().join("bundle-json");
    fs::create_dir(&bundle)?;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let plain: Value = spec::default(&host.name(), "json");
    let mut cut = plain.clone();
    cut["root"]["path"] = json!(format!("{}\u{0}/x", host.rootfs().display()));
    cut["process"]["args"] = json!(["true"]);
    for (name, text) in [
        ("empty", String::new()),
        ("null", "null".to_owned()),
        ("a list", "[]".to_owned()),
        ("depth", format!("{{\"annotations\":{deep}}}")),
        ("a number beyond", plain.to_string().replace("\"uid\":0", "\"uid\":1e400")),
        ("nul in root.path", cut.to_string()),
    ] {
        fs::write(bundle.join("config.json"), &text)?;
        let said = host.say(&["run", "--bundle", &bundle.to_string_lossy(), "json"])?;
        let clean = said.code == Some(1) && !said.err.contains("panic");
        judge(&format!("json_hostile {name}"), (!clean).then(|| format!("{said:?}")), &[Product::Runc, Product::Crun]);
        host.say(&["delete", "--force", "json"])?;
    }
    Ok(())
}

/// CVE-2026-41579, CVE-2026-88264, CVE-2026-88265: links of the image where devices are to be.
#[test]
fn dev_symlinks_make_nothing_on_the_host() -> Result<()> {
    let up = "../".repeat(12);
    for (name, inside, climb) in [("abs", "dev", ""), ("rel", "dev", up.as_str())] {
        let host = Host::new()?;
        let canary = canary(&host)?;
        link(&host, inside, Path::new(&format!("{climb}{}", canary.display())))?;
        attack(&host, "dev", &["true"], without_dev)?;
        judge(&format!("dev_symlink {name}"), harmed(&canary), &[Product::Runc, Product::Crun]);
    }
    let host = Host::new()?;
    let canary = canary(&host)?;
    link(&host, "dev/null", Path::new("/victim/file"))?;
    let volume = json!({ "destination": "/victim", "type": "bind", "source": canary, "options": ["rbind"] });
    attack(&host, "null", &["sh", "-c", "echo written"], |config| {
        without_dev(config);
        spec::mount(config, volume);
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    })?;
    judge("devnull_symlink_stdio", harmed(&canary), &[Product::Runc, Product::Crun]);
    Ok(())
}

/// CVE-2025-31133: what hides a path must be the null device.
#[test]
fn mask_devnull_symlink_hides_nevertheless() -> Result<()> {
    let host = Host::new()?;
    let volume = host.folder().join("volume");
    fs::create_dir(&volume)?;
    symlink("/proc/sys/kernel/core_pattern", volume.join("null"))?;
    fs::write(host.rootfs().join("secret"), "secret\n")?;
    let said = attack(&host, "mask", &["cat", "/secret"], |config| {
        without_dev(config);
        spec::mount(config, json!({ "destination": "/dev", "type": "bind", "source": volume, "options": ["rbind"] }));
        config["linux"]["maskedPaths"] = json!(["/secret"]);
    })?;
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern")?;
    let bite = said.out == "secret\n" || said.out == pattern;
    judge("mask_devnull_symlink", bite.then_some(said.out), &[Product::Runc]);
    Ok(())
}

/// CVE-2025-52881: an exec into a container whose procfs is a fake must not write its label, or anything, there.
#[test]
fn exec_fakeproc_no_file_of_a_false_procfs_is_written() -> Result<()> {
    let host = Host::new()?;
    let fake = host.folder().join("fake");
    for folder in ["self/attr/apparmor", "thread-self/attr/apparmor", "self/fd", "thread-self/fd", "sys/kernel"] {
        fs::create_dir_all(fake.join(folder))?;
    }
    let files = [
        "self/attr/exec",
        "self/attr/apparmor/exec",
        "thread-self/attr/exec",
        "thread-self/attr/apparmor/exec",
        "self/oom_score_adj",
        "self/setgroups",
        "self/uid_map",
        "sys/kernel/cap_last_cap",
    ];
    for file in files {
        fs::write(fake.join(file), "untouched\n")?;
    }
    let pid = host.start("fake", |config| {
        config["process"]["capabilities"] = json!({});
        let caps = json!(["CAP_SYS_ADMIN"]);
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set] = caps.clone();
        }
        let source = json!({ "destination": "/fake", "type": "bind", "source": fake, "options": ["rbind"] });
        spec::mount(config, source);
        spec::args(config, &["sh", "-c", "mount --bind /fake /proc && exec sleep 1000"]);
    })?;
    let covered = || {
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        mounts.lines().filter(|line| line.split(' ').nth(4) == Some("/proc")).count() > 1
    };
    assert!(eventually(covered), "the false procfs is not mounted");
    for extra in [&[][..], &["--apparmor", "unconfined"], &["--process-label", "a:b:c:d"]] {
        let mut command = vec!["exec"];
        command.extend_from_slice(extra);
        command.extend_from_slice(&["fake", "true"]);
        host.say(&command)?;
    }
    host.say(&["delete", "--force", "fake"])?.done();
    for file in files {
        assert_eq!(fs::read_to_string(fake.join(file))?, "untouched\n", "{file}");
    }
    Ok(())
}

/// CVE-2021-30465: a folder that turns into a link while mounts are made below it.
#[test]
fn race_mount_no_mount_is_made_through_a_link() -> Result<()> {
    let host = Host::new()?;
    let canary = canary(&host)?;
    let volume = host.rootfs().join("volume");
    fs::create_dir_all(volume.join("x"))?;
    symlink(&canary, volume.join("y"))?;
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let cwd = rustix::fs::CWD;
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let _ = rustix::fs::renameat_with(cwd, volume.join("x"), cwd, volume.join("y"), flags);
            }
        });
        let tried = (0..40).try_for_each(|number| {
            let mount = json!({ "destination": format!("/volume/x/{number}"), "type": "tmpfs", "source": "tmpfs" });
            attack(&host, "race", &["true"], |config| spec::mount(config, mount)).map(drop)
        });
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        tried
    })?;
    judge("race_mount", harmed(&canary), &[Product::Runc, Product::Crun]);
    Ok(())
}

/// What lies on disk about containers is closed to other users.
#[test]
fn state_on_disk_is_closed_to_others() -> Result<()> {
    let host = Host::new()?;
    host.start("modes", |_| {})?;
    let folder = host.state().join("modes");
    let mut readable = Vec::new();
    for entry in fs::read_dir(&folder)?.flatten() {
        let metadata = entry.metadata()?;
        if metadata.mode() & 0o044 != 0 {
            readable.push(format!("{:o} {}", metadata.mode(), entry.path().display()));
        }
    }
    let alive = machine::alive(host.pid("modes")?);
    host.say(&["delete", "--force", "modes"])?.done();
    assert!(alive);
    judge("state_on_disk", (!readable.is_empty()).then(|| format!("{readable:?}")), &[]);
    Ok(())
}

/// A volume whose source lies in the rootfs, where the image has put a link to the host's files, or to the kernel's.
#[test]
fn a_link_of_the_image_leads_no_source_out() -> Result<()> {
    let host = Host::new()?;
    let canary = canary(&host)?;
    for (target, shown) in [(canary.as_path(), "file"), (Path::new("/proc/sys"), "kernel")] {
        link(&host, "data", target)?;
        let said = attack(&host, "source", &["ls", "/volume"], |config| {
            let source = host.rootfs().join("data");
            spec::mount(config, json!({ "destination": "/volume", "source": source, "options": ["rbind"] }));
        })?;
        let bite = said.out.contains(shown).then(|| format!("{said:?}"));
        judge(&format!("link to {}", target.display()), bite, &[Product::Runc, Product::Crun]);
    }
    Ok(())
}
