//! The runtime configuration: each field that containerd and its clients write, seen from inside the container.

use anyhow::Result;
use integration::{Client, Product, machine, message, shared, spec};
use serde_json::{Value, json};

/// Runs a shell script in a changed container; it must end well.
async fn sh(client: &Client, id: &str, script: &str, edit: impl FnOnce(&mut Value)) -> Result<String> {
    let output = client.run(id, &["sh", "-c", script], edit).await?;
    anyhow::ensure!(output.code == 0, "{script}: {output:?}");
    Ok(output.stdout)
}

/// A check in two literals: the script, and what it shall print.
async fn check(id: &str, script: &str, edit: impl FnOnce(&mut Value), expected: &str) -> Result<()> {
    let client = shared()?.client().await?;
    assert_eq!(sh(&client, id, script, edit).await?, expected, "{id}");
    Ok(())
}

const STATUS: &str = "grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status";

#[tokio::test]
async fn the_default_capabilities_are_exactly_those_of_the_spec() -> Result<()> {
    let expected = "CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\n\
                    CapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t0\n";
    check("caps-default", STATUS, |_| {}, expected).await
}

#[tokio::test]
async fn each_of_the_five_capability_sets_is_its_own() -> Result<()> {
    let edit = |config: &mut Value| {
        config["process"]["noNewPrivileges"] = json!(false);
        config["process"]["capabilities"] = json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SYS_TIME"],
            "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
            "effective": ["CAP_CHOWN", "CAP_KILL"],
            "inheritable": ["CAP_CHOWN", "CAP_NET_RAW"],
            "ambient": ["CAP_CHOWN"],
        });
        // An ordinary user: for root, execve would fill the sets again.
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    };
    let expected = "CapInh:\t0000000000002001\nCapPrm:\t0000000000000001\nCapEff:\t0000000000000001\n\
                    CapBnd:\t0000000002002021\nCapAmb:\t0000000000000001\nNoNewPrivs:\t0\nSeccomp:\t0\n";
    check("caps-sets", STATUS, edit, expected).await
}

#[tokio::test]
async fn no_capabilities_means_none() -> Result<()> {
    let edit = |config: &mut Value| config["process"]["capabilities"] = json!({});
    let client = shared()?.client().await?;
    let status = sh(&client, "caps-none", STATUS, edit).await?;
    assert_eq!(status.matches("\t0000000000000000\n").count(), 5, "{status}");
    Ok(())
}

#[tokio::test]
async fn ids_and_groups_are_exactly_those_of_the_spec() -> Result<()> {
    let user = |config: &mut Value| {
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1001, "additionalGids": [5, 2000] });
    };
    check("ids-user", "id -u; id -g; id -G", user, "1000\n1001\n1001 5 2000\n").await?;
    // A root without additional groups has none of the runtime's.
    check("ids-root", "id -G; grep Groups: /proc/self/status", |_| {}, "0\nGroups:\t \n").await?;
    let umask = |config: &mut Value| config["process"]["user"]["umask"] = json!(0o27);
    check("umask", "umask", umask, "0027\n").await
}

#[tokio::test]
async fn user_minus_one_is_refused() -> Result<()> {
    let client = shared()?.client().await?;
    for (id, user) in
        [("uid-minus1", json!({ "uid": u32::MAX, "gid": 0 })), ("gid-minus1", json!({ "uid": 0, "gid": u32::MAX }))]
    {
        let run = client.run(id, &["id", "-u"], |config| config["process"]["user"] = user).await;
        if Product::under_test() == Product::Crun {
            println!("positive control: crun runs {id} as {run:?}");
        } else {
            assert!(run.is_err(), "{id}: {run:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn limits_are_set() -> Result<()> {
    let edit = |config: &mut Value| {
        config["process"]["rlimits"] = json!([
            { "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 },
            { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
            { "type": "RLIMIT_NPROC", "soft": 300, "hard": 300 },
        ]);
    };
    let script = "ulimit -Sn; ulimit -Hn; ulimit -c; grep processes /proc/self/limits | awk '{print $3, $4}'";
    check("rlimits", script, edit, "100\n200\n0\n300 300\n").await
}

#[tokio::test]
async fn new_namespaces_are_new_and_the_others_the_hosts() -> Result<()> {
    let client = shared()?.client().await?;
    let all = client.sleeper("ns-all", |_| {}).await?;
    let none = client
        .sleeper("ns-host", |config| {
            for kind in ["pid", "ipc", "uts", "network", "cgroup"] {
                spec::without_namespace(config, kind);
            }
            spec::without_mount(config, "/dev/mqueue");
            spec::without_mount(config, "/sys");
        })
        .await?;
    for namespace in ["pid", "ipc", "uts", "net", "cgroup", "mnt"] {
        let of = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/{namespace}"));
        let host = of(std::process::id())?;
        assert_ne!(of(all.pid)?, host, "{namespace} is the host's");
        assert_eq!(of(none.pid)? == host, namespace != "mnt", "{namespace}");
    }
    all.destroy().await?;
    none.destroy().await?;
    Ok(())
}

#[tokio::test]
async fn a_namespace_can_be_joined_by_its_path() -> Result<()> {
    let client = shared()?.client().await?;
    let first = client.sleeper("join-first", |config| config["hostname"] = json!("together")).await?;
    let second = client
        .sleeper("join-second", |config| {
            for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")] {
                spec::join_namespace(config, kind, &format!("/proc/{}/ns/{file}", first.pid));
            }
        })
        .await?;
    for namespace in ["net", "ipc", "uts", "pid"] {
        let of = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/{namespace}"));
        assert_eq!(of(first.pid)?, of(second.pid)?, "{namespace}");
    }
    assert_eq!(second.run("name", &["hostname"]).await?.stdout, "together\n");
    // A member of a foreign pid namespace is not its init: it must still end alone and be reaped.
    second.kill(9).await?;
    assert_eq!(second.wait_for(10).await?, 137);
    second.delete().await?;
    second.container.remove().await?;
    assert_eq!(first.phase().await?, integration::Phase::Running);
    first.destroy().await?;
    Ok(())
}

#[tokio::test]
async fn the_default_mounts_are_there() -> Result<()> {
    let client = shared()?.client().await?;
    let table = sh(&client, "mounts-default", "cat /proc/self/mounts", |_| {}).await?;
    for expected in [
        "proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0",
        "tmpfs /dev tmpfs rw,nosuid,size=65536k,mode=755",
        "devpts /dev/pts devpts rw,nosuid,noexec,relatime,gid=5,mode=620,ptmxmode=666",
        "shm /dev/shm tmpfs rw,nosuid,nodev,noexec,relatime,size=65536k",
        "mqueue /dev/mqueue mqueue rw,nosuid,nodev,noexec,relatime",
        "sysfs /sys sysfs ro,nosuid,nodev,noexec,relatime",
        "tmpfs /run tmpfs rw,nosuid,size=65536k,mode=755",
        "proc /proc/sys proc ro,nosuid,nodev,noexec,relatime",
        "tmpfs /proc/acpi tmpfs ro",
    ] {
        let present = table.lines().any(|line| line.starts_with(expected));
        let absent_on_host = expected.contains("/proc/acpi") && !std::path::Path::new("/proc/acpi").exists();
        assert!(present || absent_on_host, "{expected} is not in\n{table}");
    }
    assert!(!table.contains("/oldroot") && !table.contains(" /mnt/"), "host mounts are visible:\n{table}");
    Ok(())
}

#[tokio::test]
async fn the_devices_are_exactly_the_defaults() -> Result<()> {
    let script = "cd /dev; for f in null zero full random urandom tty; do stat -c '%n %t:%T %a %F' $f; done; \
                  for f in fd stdin stdout stderr ptmx; do echo $f $(readlink $f); done; ls | tr '\\n' ' '";
    let expected = "null 1:3 666 character special file\nzero 1:5 666 character special file\n\
                    full 1:7 666 character special file\nrandom 1:8 666 character special file\n\
                    urandom 1:9 666 character special file\ntty 5:0 666 character special file\n\
                    fd /proc/self/fd\nstdin /proc/self/fd/0\nstdout /proc/self/fd/1\nstderr /proc/self/fd/2\n\
                    ptmx pts/ptmx\n";
    let client = shared()?.client().await?;
    let printed = sh(&client, "devices", script, |_| {}).await?;
    assert!(printed.starts_with(expected), "{printed}");
    let listed: Vec<&str> = printed[expected.len()..].split_whitespace().filter(|name| *name != "core").collect();
    let names = ["fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty"];
    assert_eq!(listed, [&names[..], &["urandom", "zero"]].concat());
    Ok(())
}

#[tokio::test]
async fn a_device_of_the_spec_is_made_and_allowed_and_others_are_not() -> Result<()> {
    let edit = |config: &mut Value| {
        config["linux"]["devices"] = json!([{ "path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 7, "gid": 8 }]);
    };
    let script = "stat -c '%t:%T %a %u:%g' /dev/mine; echo x > /dev/mine && echo written; \
                  mknod /tmp/loop b 7 0; dd if=/tmp/loop of=/dev/null count=0 2>&1 | grep -c 'not permitted'";
    check("device-spec", script, edit, "1:3 640 7:8\nwritten\n1\n").await
}

#[tokio::test]
async fn masked_paths_cannot_be_read_and_readonly_paths_not_written() -> Result<()> {
    // A masked file reads as empty, a masked folder lists nothing, and some are not there on every kernel.
    let script = "for f in /proc/keys /proc/timer_list /proc/kcore; do head -c 9 $f 2>/dev/null | wc -c; done; \
                  ls /sys/firmware /proc/acpi /proc/scsi 2>/dev/null | grep -v ':$' | grep -c .; \
                  for f in /proc/sys/kernel/hostname /proc/sysrq-trigger; do echo x 2>/dev/null > $f || echo no $f; done";
    check("masked", script, |_| {}, "0\n0\n0\n0\nno /proc/sys/kernel/hostname\nno /proc/sysrq-trigger\n").await
}

#[tokio::test]
async fn a_missing_masked_path_is_passed_over() -> Result<()> {
    let edit = |config: &mut Value| {
        spec::push(&mut config["linux"]["maskedPaths"], json!("/no/such/path"));
        spec::push(&mut config["linux"]["readonlyPaths"], json!("/no/such/other"));
    };
    check("masked-missing", "ls -d /no 2>/dev/null || echo absent", edit, "absent\n").await
}

#[tokio::test]
async fn mounts_are_made_with_their_options() -> Result<()> {
    let client = shared()?.client().await?;
    let source = client.daemon.home().join("bind-source");
    std::fs::create_dir_all(&source)?;
    std::fs::write(source.join("file"), "content\n")?;
    let edit = |config: &mut Value| {
        spec::mount(
            config,
            json!({ "destination": "/data", "type": "bind", "source": source, "options": ["rbind", "ro", "nosuid"] }),
        );
        spec::mount(
            config,
            json!({ "destination": "/deep/er/file", "type": "bind", "source": source.join("file"), "options": ["bind"] }),
        );
        spec::mount(
            config,
            json!({ "destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m", "noexec", "mode=1770"] }),
        );
    };
    let script = "cat /data/file; touch /data/x 2>/dev/null || echo read-only; cat /deep/er/file; \
                  stat -c %a /scratch; grep -c ' /scratch tmpfs rw,noexec' /proc/self/mounts";
    let printed = sh(&client, "mounts-options", script, edit).await?;
    assert_eq!(printed, "content\nread-only\ncontent\n1770\n1\n");
    Ok(())
}

#[tokio::test]
async fn f33_a_hundred_mounts_are_made() -> Result<()> {
    let edit = |config: &mut Value| {
        for number in 0..100 {
            let destination = format!("/m/{number}");
            spec::mount(config, json!({ "destination": destination, "type": "tmpfs", "source": "tmpfs" }));
        }
    };
    check("mounts-many", "grep -c ' /m/' /proc/self/mounts", edit, "100\n").await
}

#[tokio::test]
async fn a_readonly_root_cannot_be_written_but_its_tmpfs_can() -> Result<()> {
    let edit = |config: &mut Value| config["root"]["readonly"] = json!(true);
    check("readonly-root", "touch /x 2>/dev/null || echo no; touch /run/x && echo yes", edit, "no\nyes\n").await
}

#[tokio::test]
async fn the_working_directory_is_made_when_it_is_missing() -> Result<()> {
    check("cwd", "pwd", |config| config["process"]["cwd"] = json!("/tmp"), "/tmp\n").await?;
    check("cwd-missing", "pwd", |config| config["process"]["cwd"] = json!("/not/yet/there"), "/not/yet/there\n").await
}

#[tokio::test]
async fn names_sysctls_and_the_oom_score_are_set() -> Result<()> {
    let edit = |config: &mut Value| {
        config["hostname"] = json!("tare-host");
        config["process"]["oomScoreAdj"] = json!(321);
        config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1" });
    };
    let script =
        "hostname; cat /proc/self/oom_score_adj /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced";
    check("names", script, edit, "tare-host\n321\n1\n1\n").await
}

#[tokio::test]
async fn sysctl_guard_a_host_wide_sysctl_is_refused() -> Result<()> {
    let client = shared()?.client().await?;
    for (id, key) in [("sysctl-core", "kernel.core_pattern"), ("sysctl-dots", "net/../kernel/core_pattern")] {
        let before = std::fs::read_to_string("/proc/sys/kernel/core_pattern")?;
        let run = client.run(id, &["true"], |config| config["linux"]["sysctl"] = json!({ key: before.trim() })).await;
        if Product::under_test() == Product::Crun {
            println!("positive control: {id} {run:?}");
        } else {
            assert!(run.is_err(), "{key} was set");
        }
        assert_eq!(std::fs::read_to_string("/proc/sys/kernel/core_pattern")?, before);
    }
    Ok(())
}

#[tokio::test]
async fn environment_and_arguments_arrive_as_they_are() -> Result<()> {
    let edit = |config: &mut Value| {
        config["process"]["args"] = json!(["sh", "-c", "echo \"$A|$B|$HOME\"; echo \"$@\"", "zero", "a b", "", "ü"]);
        config["process"]["env"] = json!([spec::PATH, "A=1", "B=with = and space", "A=2"]);
    };
    let client = shared()?.client().await?;
    let output = client.run("environment", &["true"], edit).await?;
    assert_eq!(output.stdout, "2|with = and space|/root\na b  ü\n");
    Ok(())
}

#[tokio::test]
async fn memory_and_cpu_limits_are_in_the_control_group() -> Result<()> {
    let client = shared()?.client().await?;
    let task = client
        .sleeper("limits", |config| {
            let resources = &mut config["linux"]["resources"];
            resources["memory"] = json!({ "limit": 64 << 20, "reservation": 32 << 20 });
            resources["cpu"] = json!({ "shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0" });
            resources["pids"] = json!({ "limit": 77 });
        })
        .await?;
    let group = task.container.cgroup();
    let expected: &[(&str, &str, &str)] = if machine::unified() {
        &[("memory", "memory.max", "67108864"), ("cpu", "cpu.max", "50000 100000"), ("pids", "pids.max", "77")]
    } else {
        &[
            ("memory", "memory.limit_in_bytes", "67108864"),
            ("memory", "memory.soft_limit_in_bytes", "33554432"),
            ("cpu", "cpu.shares", "512"),
            ("cpu", "cpu.cfs_quota_us", "50000"),
            ("cpu", "cpu.cfs_period_us", "100000"),
            ("cpuset", "cpuset.cpus", "0"),
            ("pids", "pids.max", "77"),
        ]
    };
    for (controller, file, value) in expected {
        assert_eq!(machine::cgroup_file(&group, controller, file).as_deref(), Some(*value), "{file}");
    }
    assert_eq!(machine::cgroup_processes(&group), vec![task.pid]);
    task.destroy().await?;
    assert_eq!(machine::cgroups(&group), Vec::<std::path::PathBuf>::new());
    Ok(())
}

#[tokio::test]
async fn a_control_group_may_be_named_and_nested() -> Result<()> {
    let client = shared()?.client().await?;
    let path = format!("/{}/pod/inner", client.daemon.namespace());
    let task = client.sleeper("cgroup-nested", |config| config["linux"]["cgroupsPath"] = json!(path)).await?;
    assert_eq!(machine::cgroup_processes(&path), vec![task.pid]);
    task.destroy().await?;
    assert!(machine::cgroups(&path).is_empty());
    let parents = machine::cgroups(&format!("/{}/pod", client.daemon.namespace()));
    parents.iter().for_each(|folder| drop(std::fs::remove_dir(folder)));
    Ok(())
}

#[tokio::test]
async fn seccomp_filters_with_its_own_errno() -> Result<()> {
    let edit = |config: &mut Value| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
            "syscalls": [
                { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28 },
                { "names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
                  "args": [{ "index": 1, "value": 12, "op": "SCMP_CMP_EQ" }] },
            ],
        });
    };
    let script = "mkdir /x 2>&1; kill -0 $$ && echo alive; kill -12 $$ 2>&1; grep ^Seccomp: /proc/self/status";
    let client = shared()?.client().await?;
    let printed = sh(&client, "seccomp", script, edit).await?;
    assert!(printed.contains("No space left on device"), "{printed}");
    assert!(printed.contains("alive\n") && printed.contains("not permitted"), "{printed}");
    assert!(printed.ends_with("Seccomp:\t2\n"), "{printed}");
    Ok(())
}

#[tokio::test]
async fn an_exec_has_the_filter_of_init() -> Result<()> {
    let client = shared()?.client().await?;
    let task = client
        .sleeper("seccomp-exec", |config| {
            config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28 }],
            });
        })
        .await?;
    let output = task.run("filtered", &["mkdir", "/x"]).await?;
    assert!(output.stderr.contains("No space left on device"), "{output:?}");
    task.destroy().await?;
    Ok(())
}

#[tokio::test]
async fn a_privileged_container_sees_the_machine() -> Result<()> {
    // A capability that this machine itself has dropped cannot be given.
    let own = machine::status(std::process::id(), "CapBnd").unwrap_or_default();
    let own = u64::from_str_radix(&own, 16)?;
    let all: Vec<String> = (0..64).filter(|bit| own >> bit & 1 == 1).filter_map(capability).collect();
    let edit = |config: &mut Value| {
        config["process"]["capabilities"] = json!({ "bounding": all, "effective": all, "permitted": all });
        config["process"]["noNewPrivileges"] = json!(false);
        config["linux"]["maskedPaths"] = json!([]);
        config["linux"]["readonlyPaths"] = json!([]);
        config["linux"]["resources"]["devices"] = json!([{ "allow": true, "access": "rwm" }]);
        config["mounts"][5]["options"] = json!(["nosuid", "noexec", "nodev"]);
    };
    let script = "mkdir /tmp/m && mount -t tmpfs tmpfs /tmp/m && echo mounted; \
                  mknod /tmp/loop b 7 0 && dd if=/tmp/loop of=/dev/null count=0 2>/dev/null && echo opened; \
                  grep -c ' /sys sysfs rw' /proc/self/mounts";
    check("privileged", script, edit, "mounted\nopened\n1\n").await
}

/// The names of the capabilities that this kernel and every runtime know.
fn capability(number: usize) -> Option<String> {
    const NAMES: &str = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE \
        NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE \
        SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE \
        AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF \
        CHECKPOINT_RESTORE";
    NAMES.split_whitespace().nth(number).map(|name| format!("CAP_{name}"))
}

#[tokio::test]
async fn a_user_namespace_maps_ids() -> Result<()> {
    let client = shared()?.client().await?;
    let rootfs = client.daemon.home().join("userns-root");
    integration::unpack_image(&rootfs)?;
    std::fs::create_dir_all(&rootfs)?;
    let open = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    std::fs::set_permissions(client.daemon.home(), open)?;
    let edit = |config: &mut Value| {
        spec::args(
            config,
            &["sh", "-c", "id -u; cat /proc/self/uid_map; touch /tmp/f; stat -c %u /tmp/f; stat -c %u /etc"],
        );
        spec::push(&mut config["linux"]["namespaces"], json!({ "type": "user" }));
        config["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
        config["linux"]["gidMappings"] = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    };
    let output = client.container_on("userns", &rootfs, edit).await?.run().await?;
    let words: Vec<&str> = output.stdout.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "100000", "65536", "0", "65534"], "{output:?}");
    Ok(())
}

#[tokio::test]
async fn hooks_run_in_their_order_with_the_state_on_stdin() -> Result<()> {
    let client = shared()?.client().await?;
    let log = client.daemon.home().join("hooks.log");
    let hook = |name: &str| {
        let script =
            format!("echo {name} $(cat | tr -d ' \\n' | grep -o '\"status\":\"[a-z]*\"') >> {}", log.display());
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] }])
    };
    let kinds = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
    let hooks: serde_json::Map<String, Value> = kinds.iter().map(|kind| ((*kind).to_owned(), hook(kind))).collect();
    let output = client.run("hooks", &["true"], |config| config["hooks"] = Value::Object(hooks)).await?;
    assert_eq!(output.code, 0);
    let told = std::fs::read_to_string(&log)?;
    let names: Vec<&str> = told.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, kinds, "{told}");
    assert!(told.lines().last().is_some_and(|line| line.contains("stopped")), "{told}");
    Ok(())
}

#[tokio::test]
async fn a_failing_hook_fails_the_create_and_leaves_nothing() -> Result<()> {
    let client = shared()?.client().await?;
    let hooks = json!({ "createRuntime": [{ "path": "/bin/false", "args": ["false"] }] });
    let refused = client.run("hook-fails", &["true"], |config| config["hooks"] = hooks).await;
    let text = message(&refused.expect_err("the hook failed"));
    assert!(text.contains("hook"), "{text}");
    let group = format!("/{}/hook-fails", client.daemon.namespace());
    assert!(machine::cgroups(&group).is_empty(), "a cgroup is left");
    Ok(())
}

#[tokio::test]
async fn hook_env_the_image_does_not_reach_host_hooks() -> Result<()> {
    let client = shared()?.client().await?;
    let log = client.daemon.home().join("hook-env.log");
    let script = format!("env > {0}; pwd >> {0}", log.display());
    let hooks = json!({ "createContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", script] }] });
    let edit = |config: &mut Value| {
        config["process"]["env"] = json!([spec::PATH, "LD_PRELOAD=/evil.so", "EVIL=1"]);
        config["hooks"] = hooks;
    };
    client.run("hook-env", &["true"], edit).await?;
    let seen = std::fs::read_to_string(&log)?;
    let leaked = seen.contains("EVIL");
    if Product::under_test() == Product::Runc {
        println!("positive control: runc 1.1.5 leaks the image's environment into a host hook: {leaked}");
    } else {
        assert!(!leaked, "{seen}");
    }
    Ok(())
}
