//! What runc does, its own suite checks, and clients have come to rely on. Each test passes against runc 1.3, too, unless
//! it says why not.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use anyhow::{Context as _, Result};
use integration::oci::{Host, Said};
use integration::{Product, machine, spec};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Runs a container in the foreground.
fn run(host: &Host, id: &str, args: &[&str], edit: impl FnOnce(&mut Value)) -> Result<Said> {
    let bundle = host.bundle(id, |config| {
        spec::args(config, args);
        edit(config);
    })?;
    host.say(&["run", "--bundle", &bundle.to_string_lossy(), id])
}

fn tmpfs(target: &str) -> Value {
    json!({ "destination": target, "type": "tmpfs", "source": "tmpfs" })
}

#[test]
fn a_tmpfs_has_the_mode_of_the_folder_it_covers() -> Result<()> {
    let host = Host::new()?;
    let folder = host.rootfs().join("covered");
    fs::create_dir(&folder)?;
    for mode in [0o710, 0o7777, 0o000] {
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode))?;
        let shown = run(&host, "mode", &["stat", "-c", "%a", "/covered"], |c| spec::mount(c, tmpfs("/covered")))?;
        assert_eq!(shown.done().trim(), format!("{mode:o}"));
    }
    let fresh = run(&host, "mode", &["stat", "-c", "%a", "/fresh"], |config| spec::mount(config, tmpfs("/fresh")))?;
    assert_eq!(fresh.done().trim(), "1777", "what is not there yet has no mode");
    let mut own = tmpfs("/covered");
    own["options"] = json!(["mode=1500"]);
    let own = run(&host, "mode", &["stat", "-c", "%a", "/covered"], |config| spec::mount(config, own))?;
    assert_eq!(own.done().trim(), "1500");
    Ok(())
}

#[test]
fn a_mount_point_behind_links_that_lead_nowhere_is_made_inside() -> Result<()> {
    let host = Host::new()?;
    let file = host.folder().join("hosts");
    fs::write(&file, "mounted\n")?;
    fs::create_dir_all(host.rootfs().join("etc"))?;
    symlink("/tmp/foo/bar", host.rootfs().join("jump"))?;
    symlink("/jump/baz/hosts", host.rootfs().join("etc/hosts"))?;
    symlink("../../../../elsewhere", host.rootfs().join("etc/up"))?;
    symlink("/round", host.rootfs().join("round"))?;
    let mount = |target: &str| json!({ "destination": target, "type": "bind", "source": file, "options": ["bind"] });
    for (target, real) in [("/etc/hosts", "/tmp/foo/bar/baz/hosts"), ("/etc/up/file", "/elsewhere/file")] {
        let shown = run(&host, "links", &["cat", real], |config| spec::mount(config, mount(target)))?;
        assert_eq!(shown.done(), "mounted\n", "{target}");
    }
    let round = run(&host, "links", &["true"], |config| spec::mount(config, mount("/round")))?;
    assert_ne!(round.code, Some(0), "a link to itself leads nowhere at all");
    Ok(())
}

#[test]
fn a_start_container_hook_without_an_environment_has_that_of_the_process() -> Result<()> {
    let host = Host::new()?;
    let hook = |script: &str, environment: Option<Value>| {
        let mut hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script] });
        if let Some(environment) = environment {
            hook["env"] = environment;
        }
        json!({ "startContainer": [hook] })
    };
    let rows =
        [("test \"$ONE\" = two && test -n \"$HOME\"", None), ("test \"$ONE\" = three", Some(json!(["ONE=three"])))];
    for (script, environment) in rows {
        let said = run(&host, "environment", &["true"], |config| {
            config["process"]["env"] = json!([spec::PATH, "ONE=two"]);
            config["hooks"] = hook(script, environment);
        })?;
        assert_eq!(said.code, Some(0), "{script}: {said:?}");
    }
    Ok(())
}

#[test]
fn a_hook_that_a_filter_kills_is_told_by_the_signals_words() -> Result<()> {
    let host = Host::new()?;
    let said = run(&host, "filter", &["true"], |config| {
        config["hooks"] = json!({ "startContainer": [{ "path": "/bin/mkdir", "args": ["mkdir", "/tmp/x"] }] });
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS" }],
        });
    })?;
    assert_ne!(said.code, Some(0));
    assert!(said.err.contains("error running startContainer hook #0: signal: bad system call"), "{}", said.err);
    Ok(())
}

#[test]
fn a_program_that_the_kernel_refuses_is_told_in_one_line_of_its_own() -> Result<()> {
    let host = Host::new()?;
    let script = host.rootfs().join("bin/script");
    fs::write(&script, "#!/no/such/interpreter\n")?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let said = run(&host, "refused", &["/bin/script"], |_| {})?;
    assert_ne!(said.code, Some(0));
    assert_eq!(said.err, "exec /bin/script: no such file or directory\n");
    Ok(())
}

#[test]
fn kill_with_signal_0_asks_whether_it_runs() -> Result<()> {
    let host = Host::new()?;
    host.start("alive", |_| {})?;
    host.say(&["kill", "alive", "0"])?.done();
    host.say(&["kill", "alive", "KILL"])?.done();
    let pid = host.pid("alive").unwrap_or(0);
    while pid != 0 && machine::alive(pid) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let said = host.say(&["kill", "alive", "0"])?;
    assert!(said.code == Some(1) && said.err.contains("container not running"), "{said:?}");
    host.say(&["kill", "--all", "alive", "0"])?.done();
    host.say(&["delete", "alive"])?.done();
    Ok(())
}

#[test]
fn a_used_or_frozen_cgroup_is_refused_in_runcs_words() -> Result<()> {
    if machine::unified() {
        return Ok(());
    }
    let host = Host::new()?;
    host.start("first", |_| {})?;
    let path = format!("/{}/first", host.name());
    let bundle = host.bundle("second", |config| config["linux"]["cgroupsPath"] = json!(path))?;
    let said = host.create("second", &bundle)?;
    assert!(said.err.contains("container's cgroup is not empty"), "{said:?}");
    host.say(&["delete", "--force", "first"])?.done();
    let frozen = std::path::Path::new("/sys/fs/cgroup/freezer").join(path.trim_start_matches('/'));
    fs::create_dir_all(&frozen)?;
    fs::write(frozen.join("freezer.state"), "FROZEN")?;
    let said = host.create("second", &bundle)?;
    fs::write(frozen.join("freezer.state"), "THAWED")?;
    assert!(said.err.contains("container's cgroup unexpectedly frozen"), "{said:?}");
    Ok(())
}

#[test]
fn swap_is_limited_without_naming_memory_again() -> Result<()> {
    let host = Host::new()?;
    if machine::unified() || machine::cgroup_file("/", "memory", "memory.memsw.limit_in_bytes").is_none() {
        return Ok(());
    }
    host.start("swap", |config| config["linux"]["resources"]["memory"] = json!({ "limit": 33_554_432 }))?;
    host.say(&["update", "swap", "--memory-swap", "64M"])?.done();
    let limit = machine::cgroup_file(&format!("/{}/swap", host.name()), "memory", "memory.memsw.limit_in_bytes");
    assert_eq!(limit.as_deref(), Some("67108864"));
    Ok(())
}

#[test]
fn a_process_file_without_a_user_is_roots() -> Result<()> {
    let host = Host::new()?;
    host.start("user", |_| {})?;
    let process = host.folder().join("process.json");
    let text = json!({ "args": ["id", "-u"], "cwd": "/", "env": [spec::PATH] });
    fs::write(&process, text.to_string())?;
    assert_eq!(host.say(&["exec", "--process", &process.to_string_lossy(), "user"])?.done(), "0\n");
    Ok(())
}

#[test]
fn an_ambient_capability_that_cannot_be_raised_is_warned_of() -> Result<()> {
    let host = Host::new()?;
    let said = run(&host, "ambient", &["true"], |config| {
        config["process"]["capabilities"]["inheritable"] = json!(["CAP_KILL"]);
        config["process"]["capabilities"]["ambient"] = json!(["CAP_KILL", "CAP_CHOWN"]);
    })?;
    assert_eq!(said.code, Some(0));
    // crun takes it in silence.
    if Product::under_test() != Product::Crun {
        assert!(said.err.contains("can't raise ambient capability CAP_CHOWN: "), "{said:?}");
    }
    Ok(())
}

/// A host may have its disks mounted `noexec`; kubelet's volumes on them come with `rw`.
#[test]
fn a_bind_that_names_an_attribute_loses_what_it_does_not_name() -> Result<()> {
    let host = Host::new()?;
    let source = host.folder().join("strict");
    fs::create_dir(&source)?;
    let strict = rustix::mount::MountFlags::NOEXEC | rustix::mount::MountFlags::NOSUID;
    rustix::mount::mount("tmpfs", &source, "tmpfs", strict, None)?;
    for (options, lost) in
        [(&["rbind", "rprivate", "rw"][..], true), (&["rbind", "ro"], true), (&["rbind", "rprivate"], false)]
    {
        let mount = json!({ "destination": "/strict", "type": "bind", "source": source, "options": options });
        let args = ["awk", "$2 == \"/strict\" { print $4 }", "/proc/self/mounts"];
        let shown = run(&host, "attributes", &args, |config| spec::mount(config, mount))?.done();
        assert_eq!(!shown.contains("noexec") && !shown.contains("nosuid"), lost, "{options:?}: {shown}");
    }
    Ok(())
}

/// runc looks for a source when its turn comes, among the container's mounts.
#[test]
fn a_source_may_lie_in_what_an_earlier_mount_has_brought() -> Result<()> {
    if Product::under_test() == Product::Crun {
        return Ok(());
    }
    let host = Host::new()?;
    let outer = host.folder().join("outer");
    fs::create_dir_all(outer.join("inner"))?;
    fs::write(outer.join("inner/file"), "found\n")?;
    fs::create_dir(host.rootfs().join("target"))?;
    let bind = |source: &std::path::Path, to: &std::path::Path, kind: &str| json!({ "destination": to, "source": source, "options": [kind] });
    let inside = |path: &str| host.rootfs().join(path);
    let script = "cat /second/file /third/inner/file; stat -c %u /single";
    for namespace in [false, true] {
        let shown = run(&host, "order", &["sh", "-c", script], |config| {
            if namespace {
                spec::push(&mut config["linux"]["namespaces"], json!({ "type": "user" }));
                let all = json!([{ "containerID": 0, "hostID": 0, "size": 65536 }]);
                config["linux"]["uidMappings"] = all.clone();
                config["linux"]["gidMappings"] = all;
            }
            spec::mount(config, bind(&outer, "/target".as_ref(), "bind"));
            spec::mount(config, bind(&inside("target/inner"), "/second".as_ref(), "bind"));
            // A target may be called as the host calls it, too.
            spec::mount(config, bind(&inside("target"), &inside("third"), "rbind"));
            let mut single = bind(&inside("target/inner/file"), "/single".as_ref(), "bind");
            // Root's file belongs to 5, as this mount has it.
            let map = json!([{ "containerID": 0, "hostID": 5, "size": 65536 }]);
            single["options"] = json!(["bind", "idmap"]);
            (single["uidMappings"], single["gidMappings"]) = (map.clone(), map);
            spec::mount(config, single);
        })?;
        assert_eq!(shown.done(), "found\nfound\n5\n");
    }
    let missing = run(&host, "order", &["true"], |config| {
        spec::mount(config, bind(&inside("absent"), "/second".as_ref(), "bind"));
    })?;
    assert!(missing.err.contains("no such file or directory"), "{missing:?}");
    Ok(())
}

/// What mount(2) makes of them in a remount, and runc with it.
#[test]
fn access_times_of_a_bind_are_the_sources_until_something_is_asked_for() -> Result<()> {
    let host = Host::new()?;
    let source = host.folder().join("quiet");
    fs::create_dir(&source)?;
    let quiet = rustix::mount::MountFlags::NOATIME | rustix::mount::MountFlags::NODIRATIME;
    rustix::mount::mount("tmpfs", &source, "tmpfs", quiet, None)?;
    let rows: [(&[&str], &[&str]); 8] = [
        (&["bind"], &["noatime", "nodiratime"]),
        (&["bind", "atime"], &["noatime", "nodiratime"]),
        (&["bind", "ro", "norelatime"], &["noatime", "nodiratime"]),
        (&["bind", "rw", "diratime"], &["noatime", "nodiratime"]),
        (&["bind", "relatime"], &["relatime"]),
        (&["bind", "strictatime"], &[]),
        (&["bind", "noatime"], &["noatime"]),
        (&["bind", "nodiratime", "norelatime"], &["nodiratime", "relatime"]),
    ];
    for (options, expected) in rows {
        let mount = json!({ "destination": "/quiet", "type": "bind", "source": source, "options": options });
        let args = ["awk", "$2 == \"/quiet\" { print $4 }", "/proc/self/mounts"];
        let shown = run(&host, "times", &args, |config| spec::mount(config, mount))?.done();
        let mut times: Vec<&str> = shown.trim().split(',').filter(|word| word.ends_with("atime")).collect();
        times.sort_unstable();
        assert_eq!(times, expected, "{options:?}");
    }
    Ok(())
}

#[test]
fn a_mount_that_cannot_be_made_is_said_in_runcs_words() -> Result<()> {
    let host = Host::new()?;
    fs::create_dir_all(host.rootfs().join("folder"))?;
    let init = "unable to start container process: error during container init: ";
    let rows = [
        (
            json!({ "destination": "/folder", "source": "/etc/passwd", "options": ["bind"] }),
            "error mounting \"/etc/passwd\" to rootfs at \"/folder\": ",
            "not a directory",
        ),
        (
            json!({ "destination": "/folder", "source": "none", "type": "tmpfs", "options": ["siz=1"] }),
            "error mounting \"none\" to rootfs at \"/folder\": ",
            "invalid argument",
        ),
        (
            json!({ "destination": "/folder", "source": "/nowhere", "options": ["bind"] }),
            "",
            "/nowhere: no such file or directory",
        ),
    ];
    for (mount, what, why) in rows {
        let said = run(&host, "mount", &["true"], |config| spec::mount(config, mount))?;
        crate::refused(&said, &format!(" run failed: {init}{what}"));
        crate::refused(&said, why);
    }
    Ok(())
}

#[test]
fn a_letter_of_a_device_rule_that_means_nothing_is_passed_over() -> Result<()> {
    // crun leaves the judgement to the kernel.
    if Product::under_test() == Product::Crun {
        return Ok(());
    }
    let host = Host::new()?;
    let rules = json!([{ "allow": false, "access": "rwm" },
        { "allow": false, "type": "c", "major": 1, "minor": 11, "access": "rwa" }]);
    let said = run(&host, "letter", &["echo", "runs"], |config| config["linux"]["resources"]["devices"] = rules)?;
    assert_eq!(said.clone().done(), "runs\n");
    assert_eq!(said.err.contains("ignoring 'a' in an access"), Product::under_test() == Product::Tare, "{said:?}");
    Ok(())
}

/// Whoever has its pidfd (`--pidfd-socket`) or its number ends it, started or not.
#[test]
fn a_container_that_is_not_started_ends_by_a_signal_from_anybody() -> Result<()> {
    // crun's waits as what the kernel spares.
    if Product::under_test() == Product::Crun {
        return Ok(());
    }
    let host = Host::new()?;
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let bundle = host.bundle("unstarted", |_| {})?;
        host.create("unstarted", &bundle)?.done();
        let pid = i32::try_from(host.pid("unstarted")?)?;
        kill_process(Pid::from_raw(pid).context("a pid")?, signal)?;
        let stopped = || host.say(&["state", "unstarted"]).is_ok_and(|said| said.out.contains("stopped"));
        assert!(crate::eventually(stopped), "{signal:?}");
        host.say(&["delete", "unstarted"])?.done();
    }
    Ok(())
}
