//! The rarer fields of `config.json` on the real kernel: what the process is given is what was asked for. Runs as root.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod bundle;

use bundle::{Bundle, captured, config, line, push, text, wait, with_user_namespace};
use runtime_core::{Exec, ExitStatus};
use serde_json::json;

#[test]
fn the_memory_policy_holds_for_init_and_for_an_exec() {
    let bundle = Bundle::new("memory-policy");
    let mut config = config("busybox head -n 1 /proc/self/numa_maps; busybox sleep 1000");
    config["linux"]["memoryPolicy"] = json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"] });
    let (reader, stdio) = captured();
    let (container, init) = bundle.create(&config, stdio).unwrap();
    container.start().unwrap();
    let of_init = line(&reader);
    let mut process = config["process"].clone();
    process["args"] = json!(["/bin/busybox", "head", "-n", "1", "/proc/self/numa_maps"]);
    let (exec_reader, stdio) = captured();
    let exec = container.exec(Exec::new(serde_json::from_value(process).unwrap(), stdio)).unwrap();
    assert_eq!(wait(&exec), ExitStatus::Code(0));
    let of_exec = text(exec_reader);
    container.delete().unwrap();
    wait(&init);
    for line in [of_init, of_exec] {
        assert!(line.contains(" bind=static:0 "), "{line}");
    }
}

#[test]
fn a_memory_policy_that_the_kernel_refuses_is_named() {
    let bundle = Bundle::new("memory-refused");
    let mut config = config("exit 0");
    config["linux"]["memoryPolicy"] = json!({ "mode": "MPOL_BIND", "nodes": "1000" });
    let error = bundle.create(&config, bundle::silent()).unwrap_err().to_string();
    assert!(error.contains("set memory policy 0x2: invalid argument (EINVAL)"), "{error}");
}

/// The number in field `index` (from 1) of /proc/PID/stat, past the program's name.
fn stat(pid: i32, index: usize) -> i64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(index - 3).unwrap().parse().unwrap()
}

const NICE: usize = 19;
const POLICY: usize = 41;

#[test]
fn what_a_process_is_told_to_be_is_what_the_kernel_says_of_it() {
    let script = "busybox uname -m; busybox cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname; umask; \
                  busybox cat /proc/self/oom_score_adj /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_forward; \
                  busybox ionice; ulimit -n; ulimit -H -n; busybox cut -d . -f 1 /proc/uptime; busybox sleep 1000";
    let bundle = Bundle::new("told");
    let mut config = config(script);
    config["hostname"] = json!("box");
    config["domainname"] = json!("example.org");
    config["linux"]["personality"] = json!({ "domain": "LINUX32" });
    config["linux"]["sysctl"] = json!({ "kernel.shm_rmid_forced": "1", "net/ipv4/ip_forward": "1" });
    push(&mut config["linux"]["namespaces"], json!({ "type": "time" }));
    config["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 1_000_000_000 } });
    config["process"]["user"]["umask"] = json!(0o27);
    config["process"]["oomScoreAdj"] = json!(777);
    config["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 });
    config["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 7 });
    config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 55, "hard": 66 }]);
    let (reader, stdio) = captured();
    let (container, init) = bundle.create(&config, stdio).unwrap();
    container.start().unwrap();
    for expected in ["i686", "box", "example.org", "0027", "777", "1", "1", "best-effort: prio 6", "55", "66"] {
        assert_eq!(line(&reader).trim_end(), expected);
    }
    let uptime: u64 = line(&reader).trim_end().parse().unwrap();
    assert!((1_000_000_000..2_000_000_000).contains(&uptime), "{uptime}");
    assert_eq!((stat(init.pid(), POLICY), stat(init.pid(), NICE)), (3, 7));
    let mut process = config["process"].clone();
    process["args"] =
        json!(["/bin/sh", "-c", "busybox grep Cpus_allowed_list /proc/self/status; busybox uname -m; umask"]);
    process["execCPUAffinity"] = json!({ "initial": "0-1", "final": "1" });
    process["scheduler"] = json!({ "policy": "SCHED_IDLE" });
    process["user"]["umask"] = json!(0o77);
    let (reader, stdio) = captured();
    let exec = container.exec(Exec::new(serde_json::from_value(process).unwrap(), stdio)).unwrap();
    assert_eq!(text(reader), "Cpus_allowed_list:\t1\ni686\n0077\n");
    assert_eq!(wait(&exec), ExitStatus::Code(0));
    container.delete().unwrap();
    wait(&init);
}

#[test]
fn a_umask_that_is_not_said_stays() {
    let bundle = Bundle::new("umask");
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("Umask:")).unwrap().trim().to_owned();
    assert_eq!(bundle.run(&config("umask")).1.trim_end(), own);
}

#[test]
fn a_users_namespace_has_its_own_limits_of_namespaces() {
    let bundle = Bundle::new("user-sysctl");
    let mut config = config("busybox cat /proc/sys/user/max_net_namespaces");
    with_user_namespace(&mut config);
    config["linux"]["sysctl"] = json!({ "user.max_net_namespaces": "3" });
    let (status, output) = bundle.run(&config);
    assert_eq!((status, output.as_str()), (ExitStatus::Code(0), "3\n"));
}

#[test]
fn intel_rdt_without_its_file_system_is_refused() {
    if std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(" - resctrl ") {
        return;
    }
    let bundle = Bundle::new("rdt");
    let mut config = config("exit 0");
    config["linux"]["intelRdt"] = json!({ "l3CacheSchema": "L3:0=f" });
    let error = bundle.create(&config, bundle::silent()).unwrap_err().to_string();
    assert!(error.contains("Intel RDT is not supported or enabled"), "{error}");
}

#[test]
fn a_deadline_on_some_cpus_is_refused_in_words() {
    let bundle = Bundle::new("deadline");
    let mut config = config("exit 0");
    config["linux"]["resources"] = json!({ "cpu": { "cpus": "0" } });
    let deadline = json!({ "policy": "SCHED_DEADLINE", "runtime": 42000, "deadline": 1_000_000, "period": 1_000_000 });
    config["process"]["scheduler"] = deadline;
    let error = bundle.create(&config, bundle::silent()).unwrap_err().to_string();
    assert!(error.contains("process scheduler can't be used together with AllowedCPUs"), "{error}");
}
