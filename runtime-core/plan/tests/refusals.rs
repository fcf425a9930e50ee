//! What a specification may not ask for: each row changes one place of containerd's default specification, and the
//! refusal has to name the place and the reason.

use std::error::Error;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tare_plan::{CgroupLayout, Choices, Host, Plan, container};

fn host() -> Host {
    Host {
        cgroups: CgroupLayout::Unified { mountpoint: PathBuf::from("/sys/fs/cgroup"), controllers: Vec::new() },
        last_capability: 40,
        euid: 0,
        egid: 0,
        setgroups_denied: false,
        apparmor: false,
        selinux: false,
        in_user_namespace: false,
    }
}

/// The default specification with the value at `pointer` replaced by `value`, planned on a host with cgroup version 2.
fn planned(pointer: &str, value: &str) -> Result<Plan, Box<dyn Error>> {
    planned_on(pointer, value, &host())
}

fn planned_on(pointer: &str, value: &str, host: &Host) -> Result<Plan, Box<dyn Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/containerd-default.json");
    let mut spec: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let (parent, key) = pointer.rsplit_once('/').ok_or("a pointer has a slash")?;
    let key = key.replace("~1", "/");
    match spec.pointer_mut(parent).ok_or("no such place")? {
        Value::Object(object) => drop(object.insert(key, serde_json::from_str(value)?)),
        Value::Array(array) => array.push(serde_json::from_str(value)?),
        _ => return Err("not a place with members".into()),
    }
    let choices = Choices {
        id: "c1".to_owned(),
        bundle: PathBuf::from("/run/bundle"),
        default_cgroup_parent: PathBuf::from("/tare"),
        systemd: None,
    };
    Ok(container(&serde_json::from_value(spec)?, &choices, host)?)
}

fn check(table: &[(&str, &str, &str)]) {
    for (pointer, value, expected) in table {
        let outcome = planned(pointer, value).map_or_else(|refusal| refusal.to_string(), |_| "planned".to_owned());
        assert_eq!(outcome, *expected, "{pointer} = {value}");
    }
}

#[test]
fn the_frame() {
    check(&[
        ("/ociVersion", "\"1.3.0\"", "planned"),
        ("/ociVersion", "\"2.0.0\"", "ociVersion: \"2.0.0\" is not a version 1 of the specification"),
        ("/ociVersion", "\"\"", "ociVersion: \"\" is not a version 1 of the specification"),
        ("/root", "null", "root: is missing"),
        ("/root", r#"{"path":""}"#, "root.path: is empty"),
        ("/root", r#"{"path":"a\u0000b"}"#, "root.path: contains a NUL byte"),
        ("/linux", "null", "linux: is missing"),
        ("/process", "null", "process: is missing"),
        ("/annotations", r#"{"":"x"}"#, "annotations: a key is empty"),
        ("/hostname", "\"\"", "planned"),
        ("/hostname", "\"a\\u0000\"", "hostname: contains a NUL byte"),
        ("/hooks", r#"{"poststop":[{"path":"bin/x"}]}"#, "hooks.poststop[0].path: bin/x is not an absolute path"),
        (
            "/hooks",
            r#"{"prestart":[{"path":"/x","timeout":0}]}"#,
            "hooks.prestart[0].timeout: 0 is not greater than zero",
        ),
    ]);
}

#[test]
fn the_process() {
    check(&[
        ("/process/args", "[]", "process.args: is empty"),
        ("/process/args", "[\"a\\u0000\"]", "process.args: contains a NUL byte"),
        ("/process/env", "[\"A\"]", "process.env: \"A\" has no ="),
        ("/process/cwd", "\"tmp\"", "process.cwd: \"tmp\" is not an absolute path"),
        ("/process/cwd", "\"\"", "process.cwd: \"\" is not an absolute path"),
        ("/process/user", r#"{"uid":4294967295,"gid":0}"#, "process.user.uid: 4294967295 is not an id"),
        ("/process/user", r#"{"uid":0,"gid":4294967295}"#, "process.user.gid: 4294967295 is not an id"),
        (
            "/process/user",
            r#"{"uid":0,"gid":0,"additionalGids":[1,4294967295]}"#,
            "process.user.additionalGids: 4294967295 is not an id",
        ),
        ("/process/user", r#"{"uid":0,"gid":0,"umask":512}"#, "process.user.umask: 0o1000 is more than 0o777"),
        ("/process/oomScoreAdj", "1001", "process.oomScoreAdj: 1001 is not between -1000 and 1000"),
        ("/process/apparmorProfile", "\"p\"", "process.apparmorProfile: apparmor is not enabled on the system"),
        ("/process/selinuxLabel", "\"l\"", "process.selinuxLabel: selinux is not enabled on the system"),
        ("/process/selinuxLabel", "\"\"", "planned"),
        (
            "/process/capabilities",
            r#"{"effective":["CAP_KILL"]}"#,
            "process.capabilities.effective: holds a capability that is not in permitted",
        ),
        (
            "/process/rlimits",
            r#"[{"type":"RLIMIT_CPU","hard":1,"soft":1},{"type":"RLIMIT_CPU","hard":2,"soft":1}]"#,
            "process.rlimits[1]: RLIMIT_CPU is already listed",
        ),
        (
            "/process/ioPriority",
            r#"{"class":"IOPRIO_CLASS_RT","priority":8}"#,
            "process.ioPriority.priority: 8 is not between 0 and 7",
        ),
    ]);
}

#[test]
fn the_namespaces() {
    check(&[
        (
            "/linux/namespaces/-",
            r#"{"type":"pid"}"#,
            "linux.namespaces[5].type: a namespace of this type is already listed",
        ),
        (
            "/linux/namespaces/-",
            r#"{"type":"time","path":"ns"}"#,
            "linux.namespaces[5].path: ns is not an absolute path",
        ),
        ("/linux/namespaces/-", r#"{"type":"user"}"#, "linux.uidMappings: a new user namespace needs mappings"),
        ("/linux/namespaces/-", r#"{"type":"user","path":"/proc/1/ns/user"}"#, "planned"),
        ("/linux/namespaces", "[]", "linux.namespaces: a container needs a mount namespace apart from the host's"),
        (
            "/linux/uidMappings",
            r#"[{"containerID":0,"hostID":0,"size":1}]"#,
            "linux.uidMappings: mappings need a user namespace",
        ),
        ("/linux/timeOffsets", r#"{"boottime":{"secs":1}}"#, "linux.timeOffsets: offsets need a new time namespace"),
        ("/linux/timeOffsets", "{}", "planned"),
        ("/linux/cgroupsPath", "\"/a/../../b\"", "linux.cgroupsPath: contains .."),
        ("/linux/personality", r#"{"domain":"LINUX","flags":["X"]}"#, "linux.personality.flags: no flag is supported"),
        ("/linux/rootfsPropagation", "\"loud\"", "linux.rootfsPropagation: \"loud\" is not a propagation"),
        ("/linux/mountLabel", "\"l\"", "linux.mountLabel: selinux is not enabled on the system"),
        ("/linux/maskedPaths", "[\"proc\"]", "linux.maskedPaths[0]: proc is not an absolute path"),
        ("/linux/netDevices", r#"{"eth0":{"name":"eth1"},"eth2":{"name":""}}"#, "planned"),
        ("/linux/netDevices", r#"{"eth0":{"name":"a/b"}}"#, "linux.netDevices: invalid network device name \"a/b\""),
        (
            "/linux/netDevices",
            r#"{"eth0":{"name":"x"},"x":{}}"#,
            "linux.netDevices: two network devices are to be called \"x\"",
        ),
        ("/linux/devices", r#"[{"path":"/dev/x","type":"a"}]"#, "linux.devices[0].type: a is not the type of a node"),
        (
            "/linux/devices",
            r#"[{"path":"/dev/x","type":"c","major":-1}]"#,
            "linux.devices[0].major: -1 is not a device number",
        ),
        ("/linux/sysctl", r#"{"kernel.msgmax":"1"}"#, "planned"),
        (
            "/linux/sysctl",
            r#"{"kernel.core_pattern":"|/x"}"#,
            "linux.sysctl[\"kernel.core_pattern\"]: is not in a separate kernel namespace",
        ),
        (
            "/linux/sysctl",
            r#"{"net/../kernel/core_pattern":"|/x"}"#,
            "linux.sysctl[\"net/../kernel/core_pattern\"]: is not the name of a kernel parameter",
        ),
    ]);
}

#[test]
fn the_mounts() {
    let inside_proc = "mounts[7].destination: \"/proc/sys\" cannot be mounted because it is inside /proc";
    check(&[
        ("/mounts/-", r#"{"destination":""}"#, "mounts[7].destination: is empty"),
        (
            "/mounts/-",
            r#"{"destination":"/../.","type":"tmpfs"}"#,
            "mounts[7].destination: mountpoint is on the top of rootfs",
        ),
        ("/mounts/-", r#"{"destination":"/proc/sys","type":"tmpfs"}"#, inside_proc),
        ("/mounts/-", r#"{"destination":"/x/../proc//sys/","source":"/x","options":["bind"]}"#, inside_proc),
        ("/mounts/-", r#"{"destination":"/proc/sys","type":"proc"}"#, inside_proc),
        (
            "/mounts/-",
            r#"{"destination":"/proc","type":"tmpfs"}"#,
            "mounts[7].destination: \"/proc\" cannot be mounted because it is inside /proc",
        ),
        ("/mounts/-", r#"{"destination":"/proc","source":"/proc","options":["rbind"]}"#, "planned"),
        ("/mounts/-", r#"{"destination":"/proc/uptime","source":"/x","options":["bind"]}"#, "planned"),
        ("/mounts/-", r#"{"destination":"/procs","type":"tmpfs"}"#, "planned"),
        ("/mounts/-", r#"{"destination":"/x"}"#, "mounts[7].type: is missing, and the options do not say bind"),
        ("/mounts/-", r#"{"destination":"/x","options":["bind"]}"#, "mounts[7].source: is empty"),
        (
            "/mounts/-",
            r#"{"destination":"/x","source":"/y","options":["bind","size=1"]}"#,
            "mounts[7].options: bind mounts cannot have any filesystem-specific options applied",
        ),
        ("/mounts/-", r#"{"destination":"/run","options":["remount","size=1m"]}"#, "planned"),
        (
            "/mounts/-",
            r#"{"destination":"/run","options":["remount","bind","size=1m"]}"#,
            "mounts[7].options: bind mounts cannot have any filesystem-specific options applied",
        ),
        (
            "/mounts/-",
            r#"{"destination":"/x","type":"ext4","options":["tmpcopyup"]}"#,
            "mounts[7].options: tmpcopyup is for a new tmpfs",
        ),
        ("/mounts/-", r#"{"destination":"/x","type":"t\u0000"}"#, "mounts[7].type: contains a NUL byte"),
    ]);
}

#[test]
fn idmapped_mounts_are_binds_with_both_maps() {
    let only_binds = "mounts[7]: id-mapped mounts are only supported for bind-mounts";
    let both = "mounts[7]: id-mapped mounts must have both uid and gid mappings specified";
    let ids = r#"[{"containerID":0,"hostID":1000,"size":10}]"#;
    let mount = |rest: &str| format!(r#"{{"destination":"/x","source":"/y",{rest}}}"#);
    for (rest, expected) in [
        (format!(r#""options":["bind"],"uidMappings":{ids},"gidMappings":{ids}"#), "planned"),
        (format!(r#""options":["rbind","ridmap"],"uidMappings":{ids},"gidMappings":{ids}"#), "planned"),
        (format!(r#""options":["bind"],"uidMappings":{ids}"#), both),
        (format!(r#""options":["bind"],"gidMappings":{ids}"#), both),
        (r#""options":["bind","idmap"]"#.to_owned(), both),
        (format!(r#""type":"tmpfs","uidMappings":{ids},"gidMappings":{ids}"#), only_binds),
        (r#""type":"cgroup","options":["idmap"]"#.to_owned(), only_binds),
        (r#""options":["remount","bind","idmap"]"#.to_owned(), only_binds),
        (
            format!(
                r#""options":["bind"],"uidMappings":[{{"containerID":1,"hostID":1,"size":0}}],"gidMappings":{ids}"#
            ),
            "mounts[7].uidMappings[0]: size is 0",
        ),
    ] {
        let outcome = planned("/mounts/-", &mount(&rest));
        assert_eq!(outcome.map_or_else(|refusal| refusal.to_string(), |_| "planned".to_owned()), expected, "{rest}");
    }
    let rootless = Host { euid: 1000, ..host() };
    let refusal = planned_on("/mounts/-", &mount(r#""options":["bind","idmap"]"#), &rootless).unwrap_err();
    assert_eq!(refusal.to_string(), "mounts[7]: id-mapped mounts are not supported for rootless containers");
}

#[test]
fn a_bound_dev_stays_as_the_host_has_it() {
    let plan = planned("/mounts/-", r#"{"destination":"/dev/","source":"/dev","options":["rbind"]}"#).expect("a plan");
    assert!(plan.devices.is_empty() && plan.symlinks.is_empty());
}

#[test]
fn a_mount_label_is_the_context_of_what_takes_one() {
    let host = Host { selinux: true, ..host() };
    let plan = planned_on("/linux/mountLabel", "\"u:r:t:c1,c2\"", &host).expect("a plan").to_string();
    let labelled: Vec<&str> = plan.lines().filter(|line| line.contains(" context=u:r:t:c1,c2")).collect();
    let targets: Vec<&str> = labelled.iter().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(targets, ["/dev", "/dev/pts", "/dev/shm", "/run"]);
}

#[test]
fn the_working_directory_is_cleaned() {
    let plan = planned("/process/cwd", "\"/a//../b/./\"").expect("a plan");
    assert_eq!(plan.process.cwd.to_str(), Ok("/b"));
}
