//! Lists of writes as golden text, for both versions.

use std::path::PathBuf;

use oci_spec::runtime::LinuxResources;

use super::{Absent, OtherHalf, Resources, plan, update};
use crate::{CgroupLayout, Hierarchy, Host};

fn host(cgroups: CgroupLayout) -> Host {
    let (last_capability, euid) = (40, 0);
    Host {
        cgroups,
        last_capability,
        euid,
        egid: 0,
        setgroups_denied: false,
        apparmor: false,
        selinux: false,
        in_user_namespace: false,
    }
}

fn v1() -> Host {
    let names = ["cpu", "cpuset", "memory", "devices", "blkio", "pids", "hugetlb", "net_cls", "net_prio", "rdma"];
    let hierarchy = |name: &&str| Hierarchy {
        controllers: vec![(*name).to_owned()],
        mountpoint: PathBuf::from(format!("/sys/fs/cgroup/{name}")),
        own: PathBuf::from("/"),
    };
    host(CgroupLayout::Legacy { hierarchies: names.iter().map(hierarchy).collect(), unified: None })
}

fn v2() -> Host {
    let controllers = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma"].map(str::to_owned).to_vec();
    host(CgroupLayout::Unified { mountpoint: PathBuf::from("/sys/fs/cgroup"), controllers })
}

fn read(json: &str) -> LinuxResources {
    serde_json::from_str(json).unwrap()
}

fn text(resources: &Resources) -> String {
    let line = |write: &super::Write| {
        let absent = match &write.absent {
            Absent::Refuse => String::new(),
            Absent::PassOver => " | -".to_owned(),
            Absent::Instead { file, value } => format!(" | {file} {value}"),
        };
        let floor = write.floor.map(|floor| format!(" > {} {}", floor.file, floor.limit)).unwrap_or_default();
        let other_half = match write.other_half {
            None => String::new(),
            Some(OtherHalf::Less(file)) => format!(" less {file}"),
            Some(OtherHalf::FirstWord) => " after its first word".to_owned(),
        };
        format!("{} {}{absent}{floor}{other_half}", write.file, write.value)
    };
    resources.writes.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The writes of an update, one a line.
fn check(json: &str, host: &Host, expected: &str) {
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(text(&update(&read(json), host).unwrap()), expected.join("\n"), "{json}");
}

fn refused(json: &str, host: &Host, expected: &str) {
    assert_eq!(plan(&read(json), host).unwrap_err().to_string(), expected);
}

const EVERYTHING: &str = r#"{
    "memory": {"limit": 67108864, "swap": 134217728, "reservation": 33554432, "checkBeforeUpdate": true},
    "cpu": {"shares": 512, "quota": 50000, "period": 100000, "burst": 1000, "idle": 0, "cpus": "0-1", "mems": "0"},
    "pids": {"limit": 32},
    "blockIO": {"weight": 500, "weightDevice": [{"major": 8, "minor": 0, "weight": 10}],
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1024}],
        "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 0}]},
    "hugepageLimits": [{"pageSize": "2MB", "limit": 2097152}],
    "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}, "mlx4_0": {"hcaObjects": 7}}
}"#;

#[test]
fn version_1_has_a_file_for_each_limit() {
    check(
        EVERYTHING,
        &v1(),
        "
        memory.limit_in_bytes 67108864
        memory.memsw.limit_in_bytes 134217728
        memory.soft_limit_in_bytes 33554432
        cpuset.cpus 0-1
        cpuset.mems 0
        cpu.shares 512
        cpu.cfs_burst_us 1000
        cpu.cfs_period_us 100000
        cpu.cfs_quota_us 50000
        cpu.idle 0
        pids.max 32
        blkio.bfq.weight 500 | blkio.weight 500
        blkio.bfq.weight_device 8:0 10 | blkio.weight_device 8:0 10
        blkio.throttle.read_bps_device 8:0 1024
        blkio.throttle.write_iops_device 8:0 0
        hugetlb.2MB.limit_in_bytes 2097152
        hugetlb.2MB.rsvd.limit_in_bytes 2097152 | -
        rdma.max mlx4_0 hca_object=7
        rdma.max mlx5_1 hca_handle=3 hca_object=10000
    ",
    );
}

#[test]
fn version_2_counts_swap_apart_and_weighs_on_other_scales() {
    check(
        EVERYTHING,
        &v2(),
        "
        memory.swap.max 67108864 > memory.current 134217728
        memory.max 67108864 > memory.current 67108864
        memory.low 33554432
        cpuset.cpus 0-1
        cpuset.mems 0
        cpu.weight 59
        cpu.max.burst 1000
        cpu.max 50000 100000
        cpu.idle 0
        pids.max 32
        io.bfq.weight 500 | io.weight 4950
        io.bfq.weight 8:0 10 | io.weight 8:0 1
        io.max 8:0 rbps=1024
        io.max 8:0 wiops=max
        hugetlb.2MB.max 2097152
        hugetlb.2MB.rsvd.max 2097152 | -
        rdma.max mlx4_0 hca_object=7
        rdma.max mlx5_1 hca_handle=3 hca_object=10000
    ",
    );
}

#[test]
fn memory_without_a_limit_lifts_the_limit_of_swap_too() {
    check(
        r#"{"memory": {"limit": -1}}"#,
        &v1(),
        "
        memory.limit_in_bytes -1
        memory.memsw.limit_in_bytes -1 | -
    ",
    );
    check(
        r#"{"memory": {"limit": -1}}"#,
        &v2(),
        "
        memory.swap.max max | -
        memory.max max
    ",
    );
    check(
        r#"{"memory": {"limit": 4096, "swap": 4096}}"#,
        &v2(),
        "
        memory.swap.max 0 | -
        memory.max 4096
    ",
    );
    check(r#"{"memory": {"limit": 0, "swap": 0, "kernel": 9, "useHierarchy": true}}"#, &v1(), "");
}

#[test]
fn what_only_version_1_has_is_written_there_and_refused_elsewhere() {
    let rows = [
        (r#"{"memory": {"swappiness": 60}}"#, "memory.swappiness 60", "memory.swappiness"),
        (r#"{"memory": {"disableOOMKiller": true}}"#, "memory.oom_control 1", "memory.disableOOMKiller"),
        (r#"{"memory": {"kernelTCP": 4096}}"#, "memory.kmem.tcp.limit_in_bytes 4096", "memory.kernelTCP"),
        (r#"{"cpu": {"realtimePeriod": 1000000}}"#, "cpu.rt_period_us 1000000", "cpu.realtimePeriod"),
        (r#"{"cpu": {"realtimeRuntime": 950000}}"#, "cpu.rt_runtime_us 950000", "cpu.realtimeRuntime"),
        (r#"{"blockIO": {"leafWeight": 10}}"#, "blkio.leaf_weight 10", "blockIO.leafWeight"),
        (r#"{"network": {"classID": 1048577}}"#, "net_cls.classid 1048577", "network.classID"),
        (
            r#"{"network": {"priorities": [{"name": "lo", "priority": 3}]}}"#,
            "net_prio.ifpriomap lo 3",
            "network.priorities",
        ),
    ];
    for (json, write, field) in rows {
        check(json, &v1(), write);
        let expected = format!("linux.resources.{field}: has no counterpart in cgroup v2, which this host uses");
        refused(json, &v2(), &expected);
    }
}

#[test]
fn pids_of_zero_let_nobody_fork_and_minus_one_lets_all() {
    check(r#"{"pids": {"limit": 0}}"#, &v1(), "pids.max 1");
    check(r#"{"pids": {"limit": -1}}"#, &v2(), "pids.max max");
}

#[test]
fn unified_names_files_of_version_2_and_comes_last() {
    let json = r#"{"pids": {"limit": 5}, "unified": {"memory.high": "1\n", "io.max": "8:0 rbps=1\n8:16 rbps=2", "cpu.idle": "1"}}"#;
    check(
        json,
        &v2(),
        "
        pids.max 5
        cpu.idle 1
        io.max 8:0 rbps=1
        io.max 8:16 rbps=2
        memory.high 1
    ",
    );
    refused(
        r#"{"unified": {"memory.high": "1"}}"#,
        &v1(),
        "linux.resources.unified[memory.high]: invalid configuration: needs cgroup v2 alone, and this host uses version 1",
    );
    for key in ["../memory.high", "..", "a/b.c", "memory", ""] {
        let json = format!(r#"{{"unified": {{"{key}": "1"}}}}"#);
        refused(&json, &v2(), &format!("linux.resources.unified[{key}]: is not the name of a control file"));
    }
    refused(
        r#"{"unified": {"cgroup.procs": "1"}}"#,
        &v2(),
        "linux.resources.unified[cgroup.procs]: is ruled by the runtime",
    );
}

#[test]
fn nonsense_is_refused_by_its_field() {
    let rows = [
        (r#"{"memory": {"limit": -2}}"#, "memory.limit: -2 is no limit; -1 is none"),
        (r#"{"memory": {"swap": 5}}"#, "memory.swap: needs a memory limit, which it includes"),
        (r#"{"memory": {"limit": 9, "swap": 5}}"#, "memory.swap: 5 is below the memory limit 9, which it includes"),
        (r#"{"cpu": {"idle": 2}}"#, "cpu.idle: 2 is neither 0 nor 1"),
        (r#"{"blockIO": {"weight": 5}}"#, "blockIO.weight: 5 is not between 10 and 1000"),
        (
            r#"{"hugepageLimits": [{"pageSize": "../x", "limit": 1}]}"#,
            "hugepageLimits[0]: \"../x\" is not a page size such as 2MB",
        ),
        // Fields are called what the specification calls them, to the letter.
        (r#"{"hugepageLimits": [{"limit": 1}]}"#, "hugepageLimits[0]: \"\" is not a page size such as 2MB"),
        (
            r#"{"devices": [{"allow": true, "type": "c", "major": 5000, "access": "r"}]}"#,
            "devices[0]: 5000 is not a device number",
        ),
    ];
    for (json, expected) in rows {
        for host in [v1(), v2()] {
            refused(json, &host, &format!("linux.resources.{expected}"));
        }
    }
    refused(r#"{"cpu": {"shares": 1}}"#, &v1(), "linux.resources.cpu.shares: the minimum allowed cpu-shares is 2");
    refused(
        r#"{"cpu": {"shares": 262145}}"#,
        &v1(),
        "linux.resources.cpu.shares: the maximum allowed cpu-shares is 262144",
    );
}

#[test]
fn an_update_of_one_half_keeps_the_other() {
    let rows = [
        (r#"{"cpu": {"period": 1000}}"#, "cpu.cfs_period_us 1000", "cpu.max 1000 after its first word"),
        (r#"{"cpu": {"quota": 500}}"#, "cpu.cfs_quota_us 500", "cpu.max 500"),
        (r#"{"cpu": {"quota": -1}}"#, "cpu.cfs_quota_us -1", "cpu.max max"),
        (r#"{"memory": {"swap": 8192}}"#, "memory.memsw.limit_in_bytes 8192", "memory.swap.max 8192 less memory.max"),
        (r#"{"memory": {"swap": -1}}"#, "memory.memsw.limit_in_bytes -1 | -", "memory.swap.max max | -"),
    ];
    for (json, legacy, unified) in rows {
        check(json, &v1(), legacy);
        check(json, &v2(), unified);
    }
    let create = plan(&read(r#"{"cpu": {"period": 1000}}"#), &v2()).unwrap();
    assert_eq!(text(&create), "cpu.max max 1000");
}

#[test]
fn a_limit_whose_controller_is_missing_is_refused() {
    let host = host(CgroupLayout::Unified { mountpoint: PathBuf::from("/"), controllers: vec!["pids".to_owned()] });
    refused(
        r#"{"memory": {"limit": 4096}}"#,
        &host,
        "linux.resources.memory.limit: this host has no memory controller in cgroup v2",
    );
    refused(
        r#"{"blockIO": {"weight": 500}}"#,
        &host,
        "linux.resources.blockIO.weight: this host has no io controller in cgroup v2",
    );
}

#[test]
fn version_1_devices_are_a_verdict_and_exceptions() {
    let json = r#"{"devices": [{"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
        {"allow": true, "type": "b", "major": 8, "minor": 1, "access": "r"}]}"#;
    let lines = "devices.deny a
        devices.allow b 8:1 r
        devices.allow c *:* m
        devices.allow b *:* m
        devices.allow c 1:3 rwm
        devices.allow c 1:5 rwm
        devices.allow c 1:7 rwm
        devices.allow c 1:8 rwm
        devices.allow c 1:9 rwm
        devices.allow c 5:0 rwm
        devices.allow c 5:1 rwm
        devices.allow c 5:2 rwm
        devices.allow c 136:* rwm
        devices.allow c 10:200 rwm";
    let expected: Vec<&str> = lines.lines().map(str::trim).collect();
    assert_eq!(text(&plan(&read(json), &v1()).unwrap()), expected.join("\n"));
    let privileged = plan(&read(r#"{"devices": [{"allow": true, "access": "rwm"}]}"#), &v1()).unwrap();
    assert_eq!(text(&privileged), "devices.allow a");
    let hole = r#"{"devices": [{"allow": true, "type": "c", "access": "rw"}, {"allow": false, "type": "c", "major": 10, "minor": 1, "access": "w"}]}"#;
    refused(hole, &v1(), "linux.resources.devices: cgroup v1 cannot except c 10:1 w from c *:* rw");
    assert!(plan(&read(hole), &v2()).unwrap().device_program.is_some());
}

#[test]
fn inside_a_user_namespace_devices_are_not_ruled() {
    let host = Host { in_user_namespace: true, ..v2() };
    assert_eq!(plan(&LinuxResources::default(), &host).unwrap(), Resources::default());
}
