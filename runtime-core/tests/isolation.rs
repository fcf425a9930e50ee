//! What a container cannot reach, and what it gets of its own instead. Runs as root.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod bundle;

use std::collections::BTreeSet;

use bundle::{
    Bundle, alone_with_shared_mounts, captured, config, mount, mount_away, push, silent, text, wait, with_capability,
    with_user_namespace,
};
use runtime_core::{Exec, ExitStatus};
use serde_json::{Value, json};

/// The peer groups of a mount table, `shared:1`, each with a mount point.
fn peers(process: &str) -> BTreeSet<(String, String)> {
    let table = std::fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap();
    let mut found = BTreeSet::new();
    for line in table.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let groups = fields.iter().skip(6).take_while(|field| **field != "-");
        found.extend(
            groups.filter(|tag| tag.starts_with("shared:")).map(|tag| ((*tag).to_owned(), fields[4].to_owned())),
        );
    }
    found
}

#[test]
fn no_mount_of_a_container_is_in_a_peer_group_of_the_hosts() {
    if !alone_with_shared_mounts("no_mount_of_a_container_is_in_a_peer_group_of_the_hosts") {
        return;
    }
    let host: BTreeSet<String> = peers("self").into_iter().map(|(group, _)| group).collect();
    assert!(!host.is_empty(), "the host shares nothing");
    for (name, user_namespace) in [("peers", false), ("peers-user", true)] {
        let bundle = Bundle::new(name);
        let mut config = config("busybox sleep 1000");
        for (destination, source) in
            [("/mnt", bundle.folder("source").to_str().unwrap()), ("/dev/full-too", "/dev/full")]
        {
            let volume = json!({ "destination": destination, "type": "bind", "source": source, "options": ["rbind"] });
            push(&mut config["mounts"], volume);
        }
        push(&mut config["linux"]["maskedPaths"], json!("/bin/busybox-too"));
        std::fs::write(bundle.0.join("rootfs/bin/busybox-too"), "").unwrap();
        if user_namespace {
            with_user_namespace(&mut config);
        }
        let (container, init) = bundle.create(&config, silent()).unwrap();
        container.start().unwrap();
        let table = std::fs::read_to_string(format!("/proc/{}/mountinfo", init.pid())).unwrap();
        for point in [" /mnt ", " /dev/full-too ", " /bin/busybox-too "] {
            assert!(table.contains(point), "{point}: {table}");
        }
        assert_eq!(table.contains(" /dev/null "), user_namespace, "devices are bound in a user namespace: {table}");
        let common: Vec<_> =
            peers(&init.pid().to_string()).into_iter().filter(|(group, _)| host.contains(group)).collect();
        container.delete().unwrap();
        assert_eq!(wait(&init), ExitStatus::Signal(9));
        assert_eq!(common, [], "{name}: {table}");
    }
}

/// What the kernel lets a process do, and where it is accounted.
const RIGHTS: &str = "/bin/busybox grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|CoreDump)' /proc/self/status; \
                      /bin/busybox cat /proc/self/cgroup /proc/self/oom_score_adj; \
                      /bin/busybox grep -E 'open files|core file' /proc/self/limits";

fn start_container_hook(script: &str) -> Value {
    json!({ "startContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", script] }] })
}

#[test]
fn a_start_container_hook_has_the_rights_of_the_containers_own_process() {
    let bundle = Bundle::new("hook-rights");
    let mut config = config(&format!("{RIGHTS}; echo hook:; busybox cat /tmp/hook"));
    config["hooks"] = start_container_hook(&format!("{{ {RIGHTS}; }} > /tmp/hook 2>&1"));
    config["process"]["user"] = json!({ "uid": 1000, "gid": 1001, "additionalGids": [5, 20] });
    config["process"]["noNewPrivileges"] = json!(true);
    config["process"]["oomScoreAdj"] = json!(321);
    config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "hard": 77, "soft": 66 }]);
    config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" }],
    });
    let (status, output) = bundle.run(&config);
    assert_eq!(status, ExitStatus::Code(0), "{output}");
    let (init, hook) = output.split_once("hook:\n").unwrap();
    assert_eq!(hook, init);
    for wanted in ["Uid:\t1000\t1000\t1000\t1000", "NoNewPrivs:\t1", "Seccomp:\t2", "\n321\n", bundle.id()] {
        assert!(hook.contains(wanted), "{wanted}: {hook}");
    }
    assert!(hook.contains("CapEff:\t0000000000000000"), "{hook}");
}

#[test]
fn init_that_was_never_started_does_not_end_with_status_0() {
    let bundle = Bundle::new("never-started");
    let mut config = config("exit 0");
    config["hooks"] = start_container_hook("echo a word; exit 5");
    let (container, init) = bundle.create(&config, silent()).unwrap();
    let error = container.start().unwrap_err();
    assert!(error.to_string().contains("startContainer hook #0"), "{error}");
    assert!(error.to_string().contains("exit status 5, output: a word"), "{error}");
    assert_eq!(wait(&init), ExitStatus::Signal(9));
    container.delete().unwrap();
}

#[test]
fn what_the_host_has_set_on_a_mount_stays_set_in_a_user_namespace() {
    if bundle::skipped_before(6, 3, "an idmapped tmpfs") {
        return;
    }
    if !alone_with_shared_mounts("what_the_host_has_set_on_a_mount_stays_set_in_a_user_namespace") {
        return;
    }
    let script = "busybox mount -t tmpfs tmpfs /tmp && echo may-mount; \
                  busybox mount -o remount,bind,rw,suid,dev /mnt && echo undone; \
                  busybox mount -o remount,bind,rw,nosuid,nodev /mnt && echo writable; \
                  busybox umount /mnt/cover && echo uncovered";
    for (name, user_namespace, option) in
        [("locked-not", false, "rbind"), ("locked", true, "rbind"), ("locked-and-mapped", true, "ridmap")]
    {
        let bundle = Bundle::new(name);
        let source = bundle.folder("source");
        mount(&["-t", "tmpfs", "tmpfs"], &source);
        mount(&["-t", "tmpfs", "tmpfs"], &bundle.folder("source/cover"));
        mount(&["-o", "remount,bind,ro,nosuid,nodev"], &source);
        let mut config = config(script);
        with_capability(&mut config, "CAP_SYS_ADMIN");
        let volume = json!({ "destination": "/mnt", "type": "bind", "source": source, "options": ["rbind", option] });
        push(&mut config["mounts"], volume);
        if user_namespace {
            with_user_namespace(&mut config);
        }
        let (_, output) = bundle.run(&config);
        mount_away(&source);
        let done = |word: &str| output.lines().any(|line| line == word);
        assert!(done("may-mount"), "{output}");
        // Without a user namespace there is nothing to lock, and CAP_SYS_ADMIN is what it is.
        for word in ["undone", "writable", "uncovered"] {
            assert_eq!(done(word), !user_namespace, "{name}: {word}: {output}");
        }
    }
}

#[test]
fn a_volume_whose_target_leads_into_proc_is_refused() {
    for (number, target) in ["/proc/sys/kernel", "/proc/self/attr", "../proc", "/proc/1"].into_iter().enumerate() {
        let bundle = Bundle::new(&format!("into-proc-{number}"));
        std::os::unix::fs::symlink(target, bundle.0.join("rootfs/data")).unwrap();
        let mut config = config("true");
        let source = bundle.folder("source");
        let volume = json!({ "destination": "/data", "type": "bind", "source": source, "options": ["rbind"] });
        push(&mut config["mounts"], volume);
        let error = bundle.create(&config, silent()).unwrap_err();
        assert!(error.to_string().contains("/data"), "{target}: {error}");
        assert!(!bundle.0.join("state.json").exists());
    }
}

#[test]
fn a_limit_on_open_files_does_not_hinder_the_making_of_a_container() {
    for (name, user_namespace) in [("nofile", false), ("nofile-user", true)] {
        let bundle = Bundle::new(name);
        let mut config = config("ulimit -n; ulimit -Hn");
        config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "hard": 10, "soft": 9 }]);
        if user_namespace {
            with_user_namespace(&mut config);
        }
        assert_eq!(bundle.run(&config), (ExitStatus::Code(0), "9\n10\n".to_owned()), "{name}");
    }
}

#[test]
fn an_ipc_namespace_in_a_user_namespace_belongs_to_its_root() {
    let bundle = Bundle::new("mqueue-owner");
    let mut config = config("busybox stat -c %u:%g /dev/mqueue; echo 42 > /proc/sys/kernel/msgmni && echo mine");
    with_user_namespace(&mut config);
    assert_eq!(bundle.run(&config), (ExitStatus::Code(0), "0:0\nmine\n".to_owned()));
}

#[test]
fn a_time_namespace_has_its_offsets() {
    let bundle = Bundle::new("time");
    let mut config = config("busybox cat /proc/self/timens_offsets /proc/uptime");
    push(&mut config["linux"]["namespaces"], json!({ "type": "time" }));
    config["linux"]["timeOffsets"] =
        json!({ "monotonic": { "secs": 172_800, "nanosecs": 5 }, "boottime": { "secs": 1_000_000_000 } });
    let (status, output) = bundle.run(&config);
    assert_eq!(status, ExitStatus::Code(0), "{output}");
    let words: Vec<&str> = output.split_whitespace().collect();
    assert_eq!(words[..6], ["monotonic", "172800", "5", "boottime", "1000000000", "0"], "{output}");
    assert!(words[6].parse::<f64>().unwrap() > 1e9, "{output}");
}

#[test]
fn a_time_namespace_beside_a_joined_pid_namespace_has_its_offsets_for_execs_too() {
    let first = Bundle::new("time-first");
    let (sandbox, init) = first.create(&config("busybox sleep 1000"), silent()).unwrap();
    sandbox.start().unwrap();
    let second = Bundle::new("time-second");
    let mut joining = config("busybox sleep 1000");
    joining["linux"]["namespaces"] = json!([{ "type": "pid", "path": format!("/proc/{}/ns/pid", init.pid()) }, { "type": "mount" }, { "type": "time" }]);
    joining["mounts"] = json!([joining["mounts"][0]]);
    joining["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 1_000_000_000 } });
    let (container, joined) = second.create(&joining, silent()).unwrap();
    container.start().unwrap();
    let (reader, stdio) = captured();
    let process = serde_json::from_value(config("busybox cat /proc/uptime")["process"].clone()).unwrap();
    let exec = container.exec(Exec::new(process, stdio)).unwrap();
    let output = text(reader);
    assert_eq!(wait(&exec), ExitStatus::Code(0), "{output}");
    assert!(output.starts_with("1000"), "{output}");
    for (container, process) in [(container, joined), (sandbox, init)] {
        container.delete().unwrap();
        assert_eq!(wait(&process), ExitStatus::Signal(9));
    }
}

#[test]
fn an_overlay_may_have_more_lower_layers_than_fit_in_255_bytes() {
    let bundle = Bundle::new("overlay");
    let layers: Vec<String> = (0..9)
        .map(|number| {
            let layer = bundle.folder(&format!("{number}-{}", "long".repeat(20)));
            std::fs::write(layer.join(format!("file-{number}")), "").unwrap();
            layer.to_str().unwrap().to_owned()
        })
        .collect();
    let (upper, work) = (bundle.folder("upper"), bundle.folder("work"));
    let options = json!([
        format!("lowerdir={}", layers.join(":")),
        format!("upperdir={}", upper.display()),
        format!("workdir={}", work.display()),
    ]);
    let mut config = config("cd /mnt && echo *; echo text > written");
    let overlay = json!({ "destination": "/mnt", "type": "overlay", "source": "overlay", "options": options });
    push(&mut config["mounts"], overlay);
    if bundle::older_than(6, 8) {
        let error = bundle.create(&config, captured().1).unwrap_err().to_string();
        assert!(
            error.contains("mount overlay on /mnt (layers whose names are longer than 255 bytes need Linux 6.8)"),
            "{error}"
        );
        return;
    }
    let names: Vec<String> = (0..9).map(|number| format!("file-{number}")).collect();
    assert_eq!(bundle.run(&config), (ExitStatus::Code(0), format!("{}\n", names.join(" "))));
    assert_eq!(std::fs::read_to_string(upper.join("written")).unwrap(), "text\n");
}

/// A file system that nobody serves, on /etc of a container: who looks up something in it waits until it is gone.
struct Silent(std::process::Child);

impl Silent {
    fn mount(init: i32) -> Self {
        let script = format!(
            "exec 3<>/dev/fuse && nsenter -t {init} -m /bin/busybox mount -t fuse -o \
             fd=3,rootmode=40000,user_id=0,group_id=0 none /etc && echo mounted && exec sleep 1000 >/dev/null 2>&1"
        );
        let mut command = std::process::Command::new("sh");
        let mut silent = Self(command.args(["-c", &script]).stdout(std::process::Stdio::piped()).spawn().unwrap());
        let mut said = [0; 8];
        std::io::Read::read_exact(silent.0.stdout.as_mut().unwrap(), &mut said).unwrap();
        silent
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_file_system_in_a_container_that_does_not_answer_is_given_up() {
    if !std::path::Path::new("/dev/fuse").exists() {
        println!("SKIPPED: there is no /dev/fuse");
        return;
    }
    let bundle = Bundle::new("silent-fuse");
    let config = config("exec sleep 1000");
    let (container, process) = bundle.create(&config, silent()).unwrap();
    container.start().unwrap();
    let fuse = Silent::mount(process.pid());
    let mut member = config["process"].clone();
    member["args"] = json!(["busybox", "true"]);
    let exec = |member: &Value| container.exec(Exec::new(serde_json::from_value(member.clone()).unwrap(), silent()));
    let error = exec(&member).unwrap_err();
    assert_eq!(error.kind(), runtime_core::Kind::Timeout);
    assert!(error.to_string().contains("the container's file system hangs"), "{error}");
    // Who has a HOME needs nothing of it.
    push(&mut member["env"], json!("HOME=/"));
    wait(&exec(&member).unwrap());
    drop(fuse);
    container.delete().unwrap();
    wait(&process);
}
